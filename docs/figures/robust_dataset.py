"""Draw what ``benchmarks/robust_dataset.py`` measured, for the page on its paper.

    python docs/figures/robust_dataset.py

Data, seeds, numbers of rows and of test images are in the results that are drawn:
``benchmarks/results/robust_dataset/results.csv``.
"""

import csv
from pathlib import Path

import matplotlib.pyplot as plt

from robustfit._utils.display_style import (
    NEUTRAL,
    add_legend,
    color,
    get_axes,
    line_style,
    tidy,
)

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "robust_dataset" / "results.csv"
TARGET = ROOT / "docs" / "_static" / "generated"
THREATS = ("linf-0.1", "linf-0.2", "l2-1.0", "l2-2.0")
SETS = ("natural", "noise", "adversarial-natural", "learned", "learned-soft")
# The main table: the whole training set, the learner's own net.
MAIN = {
    "data": "mnist", "n_train": "60000", "fraction": "1.0", "consumer": "small-cnn",
    "init": "0",
}  # fmt: skip


def read_cells():
    """Return the cells of the main table, as dicts of text."""
    with RESULTS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if all(row[k] == v for k, v in MAIN.items())]


def draw_sets(cells):
    """Draw each set's AutoAttack accuracy under each threat, a panel a protocol.

    The mean over seeds, and their range as a bar.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    lengths = {"scratch": "8", "fine-tune": "5"}
    for axis, (protocol, epochs) in zip(axes, lengths.items(), strict=True):
        chosen = [
            c for c in cells if (c["protocol"], c["epochs"]) == (protocol, epochs)
        ]
        for number, name in enumerate(SETS):
            values = {}
            for cell in (c for c in chosen if c["set"] == name):
                place = THREATS.index(cell["threat"]) + 0.12 * (number - 2)
                values.setdefault(place, []).append(float(cell["autoattack"]) / 100)
            style = line_style(number) | {"linestyle": "none", "markersize": 7}
            means = [sum(v) / len(v) for v in values.values()]
            axis.plot(list(values), means, **style, label=name)
            ends = [[f(v) for v in values.values()] for f in (min, max)]
            axis.vlines(list(values), *ends, color=color(number), linewidth=1)
        paper = [c for c in chosen if c["set"] == "learned" and c["seed"] == "0"]
        paper = [c for c in paper if c["paper"]]
        axis.plot(
            [THREATS.index(c["threat"]) + 0.12 for c in paper],
            [float(c["paper"]) / 100 for c in paper],
            linestyle="none", marker="_", markersize=22, color=NEUTRAL,
            label="learned, the paper" if protocol == "fine-tune" else None,
        )  # fmt: skip
        axis.set_xticks(range(len(THREATS)), THREATS)
        axis.set_xlim(-0.5, len(THREATS) - 0.5)
        title = "From scratch" if protocol == "scratch" else "Fine-tuned"
        axis.set(title=f"{title}, {epochs} epochs")
        tidy(axis, share="y")
    axes[0].set_ylabel("AutoAttack accuracy")
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def draw_lengths(cells):
    """Draw how long sets hold when nets are fine-tuned on them for longer."""
    axis = get_axes()
    wanted = {"set": "learned", "protocol": "fine-tune", "seed": "0"}
    learned = [c for c in cells if wanted.items() <= c.items()]
    for number, threat in enumerate(THREATS):
        points = sorted(
            (int(c["epochs"]), float(c["autoattack"]) / 100, float(c["natural"]) / 100)
            for c in learned if c["threat"] == threat
        )  # fmt: skip
        if len(points) < 2:
            continue
        epochs, robust, natural = zip(*points, strict=True)
        axis.plot(epochs, robust, label=f"{threat}, AutoAttack", **line_style(number))
        axis.plot(epochs, natural, color=color(number), linestyle=":")
    axis.plot([], [], color=NEUTRAL, linestyle=":", label="natural accuracy")
    axis.set(xlabel="Epochs of fine-tuning", ylabel="Accuracy", xticks=(3, 5, 10, 20))
    tidy(axis, share="y")
    add_legend(axis, top=1)
    return axis.figure


def main():
    """Draw both figures."""
    TARGET.mkdir(parents=True, exist_ok=True)
    cells = read_cells()
    for name, draw in (("sets", draw_sets), ("lengths", draw_lengths)):
        figure = draw(cells)
        figure.savefig(TARGET / f"robust_dataset_{name}.png", dpi=150)
        plt.close(figure)


if __name__ == "__main__":
    main()
