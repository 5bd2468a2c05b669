"""Draw the picture that explains the idea, for the landing page and the README.

    python docs/figures/idea.py

Three steps from left to right: a naturally trained net is fooled by a perturbation that
hardly anybody sees; the training set is rewritten; the same net, naturally trained on
the rewritten set, stands. Everything is measured when the script runs, on
scikit-learn's digits (seed 0, linf eps 0.1, one thread, half a minute).
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib import rc_context
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline

from robustfit import RobustDatasetLearner, attack_estimator
from robustfit.nets import default_classifier

TARGET = Path(__file__).parents[1] / "_static" / "generated"
EPS = 0.1
BUDGETS = np.linspace(0, 0.2, 5)
INK = {"light": "#222832", "dark": "#ced6dd"}
COLORS = {
    "light": ("#D55E00", "#0072B2"),
    "dark": ("#FF9E4A", "#56B4E9"),
}


def measure():
    """Train both nets and return what the picture shows."""
    torch.set_num_threads(1)
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype("float32").reshape(-1, 1, 8, 8)
    X, X_test, y, y_test = train_test_split(
        X, y, test_size=400, random_state=0, stratify=y
    )
    net = default_classifier((1, 8, 8), 10, max_epochs=60)
    torch.manual_seed(0)
    natural = default_classifier((1, 8, 8), 10, max_epochs=60).fit(X, y)
    learner = RobustDatasetLearner(eps=EPS, estimator=net, random_state=0)
    robust = Pipeline([("robustify", learner), ("clf", net)]).fit(X, y)
    curves = []
    for model in (natural, robust):
        results = [
            attack_estimator(
                model, X_test, y_test, eps=eps, n_steps=20, loss="margin"
            ).robust_accuracy
            for eps in BUDGETS
        ]
        curves.append(results)
    return {
        "rows": (X[:15], robust["robustify"].X_robust_[:15]),
        "attack": find_example(natural, robust, X_test, y_test),
        "curves": curves,
    }


def find_example(natural, robust, X, y):
    """Return an image that the attack turns for one net and not for the other."""
    common = {"eps": EPS, "n_steps": 20, "loss": "margin"}
    fooled = attack_estimator(natural, X, y, **common)
    stands = attack_estimator(robust, X, y, **common)
    row = np.flatnonzero(fooled.natural_correct & ~fooled.robust & stands.robust)[0]
    return {
        "natural": X[row, 0],
        "adversarial": fooled.X_adv[row, 0],
        "label": y[row],
        "predicted": natural.predict(fooled.X_adv[row : row + 1])[0],
    }


def show_image(ax, image, title):
    """Show one digit, larger pixels darker, with a title."""
    ax.imshow(image, cmap="gray_r", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=10)


def draw(measured, theme, *, tall=False):
    """Return the figure in the colours of a theme; tall is for telephones."""
    ink, (bad, good) = INK[theme], COLORS[theme]
    look = {
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "font.size": 10,
    }
    with rc_context(look):
        size, heights = ((4.6, 8.8), [1, 1, 1.2]) if tall else ((11, 3.1), [1])
        shape, widths = ((3, 1), [1]) if tall else ((1, 3), [1, 1.25, 1.15])
        figure = plt.figure(figsize=size, layout="constrained")
        parts = figure.subfigures(
            *shape, width_ratios=widths, height_ratios=heights, wspace=0.04, hspace=0.05
        )
        draw_attack(parts[0], measured["attack"], bad)
        draw_rewriting(parts[1], measured["rows"], good)
        draw_curves(parts[2], measured["curves"], (bad, good), ink)
    return figure


def draw_attack(part, attack, bad):
    """One image before and after the attack."""
    part.suptitle("1  A natural net is fooled", fontsize=12, fontweight="bold")
    left, right = part.subplots(1, 2)
    show_image(left, attack["natural"], f"test image\npredicted: {attack['label']}")
    title = f"each pixel ≤ {EPS} off\npredicted: {attack['predicted']}"
    show_image(right, attack["adversarial"], title)
    right.title.set_color(bad)


def draw_rewriting(part, rows, good):
    """Training images above, the rewritten ones below."""
    part.suptitle("2  The training set is rewritten", fontsize=12, fontweight="bold")
    titles = ("X", "fit_transform(X, y)")
    for images, title, side in zip(rows, titles, part.subfigures(1, 2), strict=True):
        side.suptitle(title, fontsize=10, family="monospace")
        axes = side.subplots(3, 3, gridspec_kw={"wspace": 0.03, "hspace": 0.03})
        for ax, image in zip(axes.flat, images[:, 0], strict=False):
            show_image(ax, image, "")
            if images is rows[1]:
                ax.spines[:].set_color(good)


def draw_curves(part, curves, colors, ink):
    """Robust accuracy of both nets against the budget."""
    part.suptitle("3  The same net stands longer", fontsize=12, fontweight="bold")
    ax = part.subplots()
    ax.set_facecolor("none")
    names = ("trained on X", "trained on the rewritten set")
    for curve, name, color, marker in zip(curves, names, colors, "os", strict=True):
        ax.plot(BUDGETS, curve, color=color, marker=marker, linewidth=2, label=name)
    ax.plot([EPS, EPS], [0, 1], color=ink, linewidth=0.8, linestyle=":")
    ax.set(xlabel="Budget eps (linf, pixels in [0, 1])", ylabel="Robust accuracy")
    ax.set(ylim=(0, 1.22), yticks=[0, 0.25, 0.5, 0.75, 1])
    ax.set(xlim=(0, BUDGETS[-1]), xticks=BUDGETS)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="upper center", frameon=False, fontsize=9, labelcolor=ink)


def main(readme=None):
    """Draw the picture for both themes of the site, and for the README."""
    TARGET.mkdir(parents=True, exist_ok=True)
    measured = measure()
    for theme in INK:
        figure = draw(measured, theme)
        figure.savefig(TARGET / f"idea_{theme}.png", dpi=130, transparent=True)
        tall = draw(measured, theme, tall=True)
        tall.savefig(TARGET / f"idea_tall_{theme}.png", dpi=130, transparent=True)
        if theme == "light" and readme is not None:
            figure.savefig(readme, dpi=110, facecolor="white")
        plt.close("all")


if __name__ == "__main__":
    main(readme=TARGET.parent / "idea.png")
