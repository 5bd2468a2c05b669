"""
Cross-validated AutoAttack
==========================

One test split and one seed say little about a robust accuracy: folds easily differ by
ten points. :class:`~robustfit.RobustnessReport` is a scorer for ``cross_validate`` and
returns natural, PGD and AutoAttack accuracy of every fold from one call.

Data: scikit-learn's digits (8x8 pixels in [0, 1]); every seed is 0.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedShuffleSplit, cross_validate
from sklearn.pipeline import Pipeline

from robustfit import NoisyDataset, RobustnessReport
from robustfit.nets import default_classifier

EPS = 0.1
torch.set_num_threads(1)  # nets this small gain nothing from more

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32").reshape(-1, 1, 8, 8)

# %%
# Two estimators, the same folds
# ------------------------------
# The net, and the net behind a robustifier: noise, the cheapest one and the baseline
# that a learned set has to beat. Every fold makes its own set, from its own training
# rows: nothing of a test row reaches the set.

net = default_classifier((1, 8, 8), 10, max_epochs=35)
models = {
    "natural set": net,
    "noisy set": Pipeline([("noise", NoisyDataset(EPS, random_state=0)), ("clf", net)]),
}
folds = StratifiedShuffleSplit(3, train_size=1000, test_size=40, random_state=0)
scores = {}
for name, model in models.items():
    torch.manual_seed(0)
    scores[name] = cross_validate(
        model, X, y, cv=folds, scoring=RobustnessReport(eps=EPS), error_score="raise"
    )

# %%
# The table
# ---------
# Mean and standard deviation over three folds of 40 test images each.
measures = ("natural_accuracy", "pgd_accuracy", "autoattack_accuracy")
print(f"{'in %':<14}" + "".join(f"{m.split('_')[0]:>16}" for m in measures))
for name, found in scores.items():
    cells = [100 * found[f"test_{measure}"] for measure in measures]
    print(f"{name:<14}" + "".join(f"{c.mean():>9.1f} ±{c.std():5.1f}" for c in cells))

# %%
# And the folds themselves
# ------------------------
# A line is a fold. Whether the order of the two models is the same in each, the error
# bars of the table do not show.
_, axes = plt.subplots(1, 3, figsize=(8, 3.2), sharey=True, layout="constrained")
places = np.arange(len(models))
for ax, measure in zip(axes, measures, strict=True):
    lines = np.array([found[f"test_{measure}"] for found in scores.values()])
    ax.plot(places, lines, color="0.6", linewidth=1)
    for place, line in zip(places, lines, strict=True):
        ax.plot([place] * len(line), line, "o")
    ax.set_xticks(places, list(models))
    ax.set(title=measure.replace("_", " "), xlim=(-0.4, 1.4), ylim=(0, 1.02))
axes[0].set_ylabel("Share of test images")
plt.show()
