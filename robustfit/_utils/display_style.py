"""How the Displays look: one size, one colour-blind safe palette, the same labels.

How to use it in a Display's ``plot``::

    from robustfit._utils.display_style import (
        FIGURE_SIZE, add_legend, budget_label, color, get_axes, line_style, tidy,
    )

    def plot(self, ax=None):
        ax = get_axes(ax)                          # a new figure of the family's size
        for number, (name, values) in enumerate(self.curves.items()):
            ax.plot(self.eps, values, label=name, **line_style(number))
        ax.set(xlabel=budget_label(self.norm), ylabel="Robust accuracy")
        tidy(ax, share="y")                        # spines, grid, an axis from 0 to 1
        add_legend(ax, top=1)                      # last: it makes room above the data
        self.ax_, self.figure_ = ax, ax.figure
        return self

The rules behind it:

- Colours are Okabe and Ito's, which colour-blind readers tell apart; curves differ in
  marker as well, points in marker, so that a grey print is readable too. ``color(0)``
  is the natural model or the original data, ``NEUTRAL`` is for lines of reference.
- Labels start with a capital and name the unit in parentheses: "Budget eps (linf, in
  units of X)", "Training time (s)". Shares run from 0 to 1 and are drawn on the whole
  of it: an axis that is cut makes small differences look large.
- A legend never lies on the data: :func:`add_legend` puts it into room of its own
  above them, inside the axes, so that a title keeps its place.
- matplotlib is imported inside functions.
"""

import math

import numpy as np

__all__ = [
    "FIGURE_SIZE",
    "NEUTRAL",
    "PALETTE",
    "add_legend",
    "budget_label",
    "color",
    "get_axes",
    "get_axes_grid",
    "line_style",
    "norm_label",
    "tidy",
]

# Okabe & Ito, "Color Universal Design": blue, vermillion, green, purple, orange, sky
# blue, black. Their yellow is left out: it vanishes on white.
PALETTE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)
NEUTRAL = "#6E6E6E"
FIGURE_SIZE = (6.4, 4.0)  # inches, one pair of axes
MARKERS = "osD^vP*"

_NORMS = {"linf": "$\\ell_\\infty$", "l2": "$\\ell_2$", "l1": "$\\ell_1$"}


def get_axes_grid(axes, n_rows, n_columns, *, cell=1.7):
    """Return ``axes`` as an array, or those of a new figure of small pictures.

    Parameters
    ----------
    axes : array of matplotlib Axes or None
    n_rows, n_columns : int
    cell : float, default=1.7
        Inches of a picture's side.

    Returns
    -------
    ndarray of matplotlib Axes, shape (n_rows, n_columns)
    """
    if axes is None:
        import matplotlib.pyplot as plt

        _, axes = plt.subplots(
            n_rows, n_columns, squeeze=False, layout="constrained",
            figsize=(cell * n_columns, cell * n_rows + 0.5),
        )  # fmt: skip
    return np.asarray(axes).reshape(n_rows, n_columns)


def get_axes(ax=None, *, figsize=FIGURE_SIZE):
    """Return ``ax``, or the axes of a new figure of the family's size.

    Parameters
    ----------
    ax : matplotlib Axes or None, default=None
    figsize : tuple of (float, float), default=(6.4, 4.0)
        Inches.

    Returns
    -------
    matplotlib Axes
    """
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=figsize, layout="constrained")[1]


def color(number):
    """Return the colour of the ``number``-th curve; they repeat after seven."""
    return PALETTE[number % len(PALETTE)]


def line_style(number):
    """Return colour, marker and width of the ``number``-th curve, for ``Axes.plot``."""
    return {
        "color": color(number),
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 5,
        "linewidth": 1.8,
    }


def norm_label(norm):
    """Return the sign of ``norm`` as text for matplotlib."""
    return _NORMS.get(norm, norm)


def budget_label(norm, unit="units of X"):
    """Return the label of an axis of budgets in ``norm``, with its unit."""
    return f"Budget eps ({norm_label(norm)}, in {unit})"


def tidy(ax, *, share=""):
    """Draw a faint grid and two spines; axes named in ``share`` run from 0 to 1.

    Parameters
    ----------
    ax : matplotlib Axes
    share : {"", "x", "y", "xy"}, default=""
        Axes that show shares of samples or accuracies.
    """
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(visible=True, color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    if "y" in share:
        ax.set_ylim(-0.02, 1.02)
        ax.set_yticks(ticks)
    if "x" in share:
        ax.set_xlim(-0.02, 1.02)
        ax.set_xticks(ticks)


def add_legend(ax, *, top=None, **legend_kw):
    """Add a legend above the data, and extend the y axis to make room for it.

    As many columns as fit; nothing is drawn when no artist has a label. Call it last,
    and again after more curves were added: the room does not grow twice.

    Parameters
    ----------
    ax : matplotlib Axes
    top : float or None, default=None
        Where the data end: 1 for shares. None is the largest value drawn.
    **legend_kw
        Passed to ``Axes.legend``, such as ``title``.

    Returns
    -------
    matplotlib Legend or None
    """
    handles, _ = ax.get_legend_handles_labels()
    if not handles:
        return None
    ax.apply_aspect()  # its height is wrong before, where the aspect is equal
    look = {"fontsize": "small", "frameon": False, "borderaxespad": 0.2} | legend_kw
    for n_columns in range(min(4, len(handles)), 0, -1):
        legend = ax.legend(loc="upper center", ncols=n_columns, **look)
        size = legend.get_window_extent()
        if size.width <= ax.bbox.width:
            break
    if top is not None:
        ax.set_yticks([tick for tick in ax.get_yticks() if tick <= top])
    siblings = ax.get_shared_y_axes().get_siblings(ax)
    top = max(other.dataLim.y1 for other in siblings) if top is None else top
    if math.isfinite(top):
        _leave_room(ax, top, min(0.6, size.height / ax.bbox.height + 0.02))
    return legend


def _leave_room(ax, top, room):
    """Set the upper limit of y so that ``top`` lies the share ``room`` below it."""
    scale = ax.yaxis.get_transform()
    low, high = scale.transform([ax.get_ylim()[0], top])
    if low < high:
        high = low + (high - low) * 1.03 / (1 - room)
        ax.set_ylim(top=float(scale.inverted().transform([high])[0]))
