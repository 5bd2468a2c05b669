r"""Draw what ``benchmarks/kip.py`` measured, for the page on its paper.

    python docs/figures/kip.py

Learned images with their labels (Figures 5 and 6 of "Can we achieve robustness from
data alone?"), natural and robust validation accuracy of the kernel predictor over the
outer steps (Figure 1) with the norm of its input gradient (Figure 4), and loss and
gradient of nets in training (Figure 2). Seeds and numbers of rows are in the results
that are drawn: the largest sets that were learned on MNIST.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from robustfit._utils.display_style import add_legend, color, tidy

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "kip"
TARGET = ROOT / "docs" / "_static" / "generated"
MEASURED = ("natural_accuracy", "robust_accuracy", "gradient_norm")


def read_cells():
    """Return the cells with the most support rows, by the stem of their file."""
    paths = sorted(RESULTS.glob("mnist_*.json"))
    cells = {path.stem: json.loads(path.read_text()) for path in paths}
    largest = max(cell["n_support"] for cell in cells.values())
    return {k: cell for k, cell in cells.items() if cell["n_support"] == largest}


def name_of(cell):
    """Return what tells a cell from the others."""
    return f"{cell['set']}, {cell['kernel']}"


def draw_images(cells):
    """Draw one learned image of each class, and the weight of its class."""
    figure, axes = plt.subplots(
        len(cells), 10, figsize=(9, 1.15 * len(cells)), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for line, (stem, cell) in zip(axes, cells.items(), strict=True):
        with np.load(RESULTS / f"pictures_{stem}.npz") as stored:
            images, labels = stored["X"].astype(float), stored["y"].astype(float)
        line[0].set_ylabel(name_of(cell), fontsize=7)
        for axis, image, label in zip(line, images, labels, strict=False):
            shown = image.transpose(1, 2, 0).squeeze()
            shown = (shown - shown.min()) / max(float(np.ptp(shown)), 1e-6)
            axis.imshow(shown, cmap="gray")
            axis.set_title(f"{label.argmax()}: {label.max():.2f}", fontsize=7)
        for axis in line:
            axis.set(xticks=[], yticks=[])
    return figure


def draw_curves(cells):
    """Draw accuracies and gradient norms of the kernel predictors."""
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
    learned = [cell for cell in cells.values() if cell["history"]]
    for number, cell in enumerate(learned):
        steps = [record["step"] for record in cell["history"]]
        for axis, key in zip(axes, MEASURED, strict=True):
            values = [record.get(key, np.nan) for record in cell["history"]]
            axis.plot(steps, values, color=color(number), label=name_of(cell))
    titles = (
        "Natural accuracy",
        "Robust accuracy (PGD-10)",
        "Input gradient (l2 norm)",
    )
    for axis, title, share in zip(axes, titles, ("y", "y", ""), strict=True):
        axis.set(xlabel="Outer step", ylabel=title)
        tidy(axis, share=share)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def draw_gradients(cells):
    """Draw loss and gradient of the CNN in training, right and wrong rows apart."""
    trained = [c for c in cells.values() if "curves" in c["measured"].get("cnn", {})]
    figure, axes = plt.subplots(
        len(trained), 2, figsize=(8, 2.4 * len(trained)), layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for line, cell in zip(axes, trained, strict=True):
        curves = cell["measured"]["cnn"]["curves"]
        for axis, what in zip(line, ("loss", "gradient"), strict=True):
            for number, kind in enumerate(("right", "wrong")):
                values = [point[f"{what}_{kind}"] for point in curves]
                values = [np.nan if value is None else value for value in values]
                axis.plot(values, color=color(number), label=f"{kind} rows")
            axis.set(xlabel="Epoch", ylabel=f"{what.title()} ({name_of(cell)})")
            tidy(axis)
    add_legend(axes[0, 0])
    return figure


def main():
    """Draw all figures."""
    TARGET.mkdir(parents=True, exist_ok=True)
    cells = read_cells()
    for draw in (draw_images, draw_curves, draw_gradients):
        figure = draw(cells)
        name = draw.__name__.removeprefix("draw_")
        figure.savefig(TARGET / f"kip_{name}.png", dpi=130)
        plt.close(figure)


if __name__ == "__main__":
    main()
