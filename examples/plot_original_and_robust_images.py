"""
What a robust training set looks like
=====================================

The same ten digits in four training sets, and what a net that is trained on each of
them keeps under AutoAttack. Sets that help do not look better to us: they look *worse*,
in a way that leaves only what an adversary cannot change as a reason to say "seven".

Data: 1,000 training and 60 test images of scikit-learn's digits, pixels in [0, 1];
linf eps 0.1; every seed is 0.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from robustfit import (
    NoisyDataset,
    RobustDatasetLearner,
    RobustifiedClassifier,
    attack_estimator,
)
from robustfit.nets import default_classifier

EPS = 0.1
torch.set_num_threads(1)  # nets this small gain nothing from more

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32").reshape(-1, 1, 8, 8)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=1000, test_size=60, random_state=0, stratify=y
)
net = default_classifier((1, 8, 8), 10, max_epochs=40)

# %%
# Four sets
# ---------
# The last one is learned for fine-tuning and used for it; the others train a new net.
# No adversarial example is made while any of these nets is trained.

common = {"estimator": net, "random_state": 0}
sets = {
    "original": (NoisyDataset(scale=0.0), False),
    "noise": (NoisyDataset(EPS, random_state=0), False),
    "learned\nfrom scratch": (
        RobustDatasetLearner(EPS, n_candidates=3, **common),
        False,
    ),
    "learned\nfor fine-tuning": (
        RobustDatasetLearner(EPS, n_rounds=12, **common),
        True,
    ),
}
images, natural, robust = {}, {}, {}
for name, (robustifier, fine_tune) in sets.items():
    model = RobustifiedClassifier(robustifier, net, fine_tune=fine_tune, random_state=0)
    model.fit(X_train, y_train)
    images[name] = model.robustifier_.X_robust_
    result = attack_estimator(model, X_test, y_test, attack="autoattack", eps=EPS)
    natural[name], robust[name] = result.natural_accuracy, result.robust_accuracy

# %%
# What they look like, and what they buy
# --------------------------------------

rows = [np.flatnonzero(y_train == digit)[0] for digit in range(10)]
figure = plt.figure(figsize=(10, 3.8), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[2.3, 1])
axes = left.subplots(len(images), 10, gridspec_kw={"wspace": 0.02, "hspace": 0.02})
for line, (name, X_set) in zip(axes, images.items(), strict=True):
    for ax, row in zip(line, rows, strict=True):
        ax.imshow(X_set[row, 0], cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    line[0].set_ylabel(name, rotation=0, ha="right", va="center")

ax = right.subplots()
places = np.arange(len(images))
ax.barh(places, natural.values(), color="0.85", label="natural")
bars = ax.barh(places, robust.values(), height=0.5, label="under AutoAttack")
ax.bar_label(bars, [f"{value:.0%}" for value in robust.values()], padding=3)
ax.invert_yaxis()
ax.set(yticks=[], xlim=(0, 1), xlabel="Accuracy on 60 original test images")
ax.spines[["top", "right", "left"]].set_visible(False)
ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
plt.show()

# %%
# 60 test images and one seed: differences below ten points may be luck. On MNIST, with
# 1,000 test images: :doc:`/reproducing/robust_dataset_learning`.
for name in images:
    label = name.replace("\n", " ")
    print(f"{label:<34} natural {natural[name]:.0%}, AutoAttack {robust[name]:.0%}")
