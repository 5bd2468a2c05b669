"""
Robust logistic regression by a convex argument
===============================================

For a learner with a convex loss the robust training set is no matter of luck: take the
weights of adversarial training, then move the images until the gradient of *natural*
training vanishes at these weights. Convexity does the rest: they are its optimum
(:ref:`theory_convex`). Fitted as usual, scikit-learn's ``LogisticRegression``
becomes as robust as if it had been trained adversarially.

Data: 600 training and 100 test images of scikit-learn's digits, pixels in [0, 1]; linf
eps 0.1; one split.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from robustfit import ConvexDatasetLearner, NoisyDataset, attack_estimator

EPS = 0.1
torch.set_num_threads(1)  # matrices this small gain nothing from more

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, train_size=600, test_size=100, random_state=0, stratify=y
)

# %%
# Learn a set for one learner
# ---------------------------
# The set is for *this* estimator, parameters included. ``gradient_norm_`` bounds how
# far from the robust weights the optimum of natural training is, relative to their
# length; ``weight_error_`` is how far from them scikit-learn's solver ends.

model = LogisticRegression(max_iter=1000, tol=1e-5)
learner = ConvexDatasetLearner(EPS, estimator=model).fit(X_train, y_train)
print(
    f"gradient {learner.gradient_norm_:.1e} after {learner.n_iter_} iterations, "
    f"weights off by {learner.weight_error_:.1%}, "
    f"pixels moved by {learner.distance_mean_:.3f} on average"
)

# %%
# Fit as usual, attack, compare
# -----------------------------

sets = {
    "natural set": X_train,
    "noise": NoisyDataset(EPS, random_state=0).fit_transform(X_train, y_train),
    "learned set": learner.X_robust_,
}
models = {name: clone(model).fit(images, y_train) for name, images in sets.items()}
models["adversarial\ntraining"] = learner.robust_estimator_
natural, robust = {}, {}
for name, fitted in models.items():
    result = attack_estimator(fitted, X_test, y_test, attack="autoattack", eps=EPS)
    natural[name], robust[name] = result.natural_accuracy, result.robust_accuracy
    label = name.replace("\n", " ")
    print(f"{label:<21} natural {natural[name]:.1%}, AutoAttack {robust[name]:.1%}")

# %%
# What was changed, and what the weights look like
# ------------------------------------------------
# Above three lines of images, below the weights for five of the digits. On the learned
# set more of them are zero: it is their l1 norm that an linf adversary gains by.

figure = plt.figure(figsize=(10, 4.6), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1.6, 1])
axes = left.subplots(5, 5, gridspec_kw={"wspace": 0.02, "hspace": 0.04})
rows = [np.flatnonzero(y_train == digit)[0] for digit in range(5)]
change = learner.X_robust_ - X_train
lines = [
    ("original", X_train[rows], "gray_r", (0, 1)),
    ("learned", learner.X_robust_[rows], "gray_r", (0, 1)),
    ("change", change[rows], "RdBu_r", (-0.5, 0.5)),
]
for name in ("natural set", "learned set"):
    weights = models[name].coef_[:5]
    largest = np.abs(weights).max()
    lines.append((f"weights,\n{name}", weights, "RdBu_r", (-largest, largest)))
for line, (title, images, colours, limits) in zip(axes, lines, strict=True):
    line[0].set_ylabel(title, rotation=0, ha="right", va="center")
    for ax, image in zip(line, images, strict=True):
        ax.imshow(image.reshape(8, 8), cmap=colours, vmin=limits[0], vmax=limits[1])
        ax.set(xticks=[], yticks=[])

ax = right.subplots()
places = np.arange(len(models))
ax.barh(places, natural.values(), color="0.85", label="natural")
bars = ax.barh(places, robust.values(), height=0.5, label="under AutoAttack")
ax.bar_label(bars, [f"{value:.0%}" for value in robust.values()], padding=3)
ax.invert_yaxis()
ax.set(xlim=(0, 1), xlabel="Accuracy on 100 test images")
ax.set_yticks(places, models)
ax.spines[["top", "right", "left"]].set_visible(False)
ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2, frameon=False)
plt.show()
