"""The Displays' family: a legend hides no data, shares run from 0 to 1."""

import numpy as np
import pytest

from robustfit._utils.display_style import (
    FIGURE_SIZE,
    PALETTE,
    add_legend,
    budget_label,
    color,
    get_axes,
    line_style,
    tidy,
)

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def lowest_pixel_of_legend(legend):
    return legend.get_window_extent().y0


@pytest.mark.parametrize("n_curves", [1, 3, 7])
@pytest.mark.parametrize("title", ["", "a title"])
def test_a_legend_lies_above_shares(n_curves, title):
    ax = get_axes()
    for number in range(n_curves):
        ax.plot([0, 1], [1, 0], label=f"a model {number}", **line_style(number))
    tidy(ax, share="y")
    legend = add_legend(ax, top=1)
    ax.set_title(title)
    ax.figure.canvas.draw()
    assert lowest_pixel_of_legend(legend) > ax.transData.transform((0, 1))[1]
    assert legend.get_window_extent().x0 >= ax.bbox.x0
    assert max(ax.get_yticks()) == 1.0
    if title:
        assert ax.title.get_window_extent().y0 >= legend.get_window_extent().y1 - 1


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_a_legend_lies_above_any_data(scale):
    ax = get_axes()
    ax.plot([1, 2, 3], [0.01, 7.0, 30.0], label="curve")
    ax.set_yscale(scale)
    legend = add_legend(ax)
    ax.figure.canvas.draw()
    assert lowest_pixel_of_legend(legend) > ax.transData.transform((3, 30.0))[1]


def test_the_room_does_not_grow_twice():
    ax = get_axes()
    ax.plot([0, 1], [0, 5], label="curve")
    add_legend(ax)
    once = ax.get_ylim()
    add_legend(ax)
    assert ax.get_ylim() == pytest.approx(once)


def test_no_label_no_legend():
    ax = get_axes()
    ax.plot([0, 1], [0, 1])
    before = ax.get_ylim()
    assert add_legend(ax) is None
    assert ax.get_ylim() == before


def test_axes_are_the_callers_or_of_the_familys_size():
    ax = get_axes()
    assert tuple(ax.figure.get_size_inches()) == FIGURE_SIZE
    assert get_axes(ax) is ax


def luminance(hexadecimal):
    values = np.array([int(hexadecimal[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(
        values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4
    )
    return linear @ [0.2126, 0.7152, 0.0722]


def test_colours_differ_and_are_seen_on_white():
    assert len(set(PALETTE)) == len(PALETTE)
    contrast = [1.05 / (luminance(value) + 0.05) for value in PALETTE]
    assert min(contrast) > 2
    assert color(0) == color(len(PALETTE))


def test_labels_name_norm_and_unit():
    assert budget_label("l2") == "Budget eps ($\\ell_2$, in units of X)"
    assert "mine" in budget_label("mine")
