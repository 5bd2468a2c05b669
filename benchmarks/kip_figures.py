r"""Draw what ``kip.py`` measured: learned images, training curves, gradient norms.

    python benchmarks/kip_figures.py --data mnist

writes ``benchmarks/results/kip/<data>_{images,curves,gradients}.png``: the distilled
images with their labels (Figures 5 and 6 of the paper), natural and robust validation
accuracy of the kernel predictor over the outer steps (Figure 1) with the norm of its
input gradient (Figure 4), and loss and gradient of nets in training (Figure 2).
"""

import argparse
import json

import matplotlib.pyplot as plt
import numpy as np
from kip import RESULTS


def draw_images(cells):
    """Draw one learned image of each class, and the weight of its class."""
    figure, axes = plt.subplots(
        len(cells), 10, figsize=(10, 1.25 * len(cells)), squeeze=False
    )
    for line, (stem, cell) in zip(axes, cells.items(), strict=True):
        with np.load(RESULTS / f"pictures_{stem}.npz") as stored:
            images, labels = stored["X"].astype(float), stored["y"].astype(float)
        line[0].set_ylabel(cell["set"], fontsize=8)
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
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    for cell in cells.values():
        steps = [record["step"] for record in cell["history"]]
        for axis, key in zip(axes, ("natural", "robust", "gradient_norm"), strict=True):
            values = [record.get(key, np.nan) for record in cell["history"]]
            axis.plot(steps, values, label=cell["set"])
    titles = ("natural accuracy", "robust accuracy (PGD-10)", "input gradient, l2 norm")
    for axis, title in zip(axes, titles, strict=True):
        axis.set(xlabel="outer step", ylabel=title)
    axes[0].legend(fontsize=7)
    return figure


def draw_gradients(cells):
    """Draw loss and gradient norm of nets in training, right and wrong rows apart."""
    figure, axes = plt.subplots(
        len(cells), 2, figsize=(8, 2.6 * len(cells)), layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for line, cell in zip(axes, cells.values(), strict=True):
        model = "cnn" if "cnn" in cell["measured"] else "wide"
        curves = cell["measured"].get(model, {}).get("curves", [])
        for axis, what in zip(line, ("loss", "gradient"), strict=True):
            for kind, style in (("right", "C0-"), ("wrong", "C1--")):
                axis.plot(
                    [np.nan if p[f"{what}_{kind}"] is None else p[f"{what}_{kind}"]
                     for p in curves], style, label=f"{kind} rows",
                )  # fmt: skip
            axis.set(xlabel="epoch", ylabel=f"{what} ({cell['set']}, {model})")
    axes[0, 0].legend(fontsize=8)
    return figure


def main():
    """Draw all figures of one data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="mnist")
    data = parser.parse_args().data
    paths = sorted(RESULTS.glob(f"{data}_*.json"))
    cells = {path.stem: json.loads(path.read_text()) for path in paths}
    learned = {stem: cell for stem, cell in cells.items() if cell["history"]}
    for name, draw, chosen in (
        ("images", draw_images, cells),
        ("curves", draw_curves, learned),
        ("gradients", draw_gradients, cells),
    ):
        draw(chosen).savefig(RESULTS / f"{data}_{name}.png", dpi=110)


if __name__ == "__main__":
    main()
