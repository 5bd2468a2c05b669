"""
Quick start: rewrite a training set, train as usual, measure with AutoAttack
============================================================================

A net trained on the digits in the usual way gets almost every test image right, and
four in ten once an adversary may change each pixel a little. Here the *training
set* is rewritten instead of the training: :class:`~robustfit.RobustDatasetLearner`
learns images on which the very same net, trained in the very same way, becomes robust.

Two protocols are shown. *From scratch* is what a ``Pipeline`` does: a new net sees the
learned set only. *Fine-tuned* starts from the naturally trained net and continues on
the learned set, the protocol of "Towards Robust Dataset Learning" (section 5.1). Beside
them stand what has to be beaten, noise, and the ceiling: a net that was trained
adversarially itself, which no other net gains from.

Data: scikit-learn's digits (1797 images of 8x8 pixels, 1397 to train and 400 to test);
every seed is 0 unless a line says otherwise.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline

from robustfit import (
    AdversarialClassifier,
    NoisyDataset,
    RobustDatasetLearner,
    RobustifiedClassifier,
    RobustnessReport,
    robust_accuracy_score,
)
from robustfit.nets import default_classifier

EPS = 0.1
torch.set_num_threads(1)  # nets this small gain nothing from more

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32").reshape(-1, 1, 8, 8)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=400, random_state=0, stratify=y
)
net = default_classifier((1, 8, 8), 10, max_epochs=60)

# %%
# Train naturally, on five sets
# -----------------------------
# No adversarial example is made during the training of any of these nets. The noise has
# the scale that was best of 0.15, 0.25, 0.35 and 0.5.

torch.manual_seed(0)
natural = default_classifier((1, 8, 8), 10, max_epochs=60).fit(X_train, y_train)

learner = RobustDatasetLearner(eps=EPS, estimator=net, random_state=0, verbose=1)
from_scratch = Pipeline([("robustify", learner), ("clf", clone(net))])
from_scratch.fit(X_train, y_train)

fine_tuned = RobustifiedClassifier(learner, net, fine_tune=True, random_state=0)
fine_tuned.fit(X_train, y_train)

# Labels that say how close an image is to other classes, from a robust teacher inside.
softly = RobustDatasetLearner(eps=EPS, estimator=net, soft_labels=True, random_state=0)
soft_labels = RobustifiedClassifier(softly, net, random_state=0).fit(X_train, y_train)

torch.manual_seed(0)
noise = NoisyDataset(scale=0.35, random_state=0)
noisy = Pipeline([("noise", noise), ("clf", clone(net))])
noisy.fit(X_train, y_train)

# %%
# And adversarially, for comparison

ceiling = AdversarialClassifier(eps=EPS, n_epochs=40, random_state=0)
ceiling.fit(X_train, y_train)

# %%
# Measure on the original test images
# -----------------------------------
# PGD is fast and only an upper bound; the number to report is AutoAttack's.

models = {
    "natural set": natural,
    "noise": noisy,
    "robust set, from scratch": from_scratch,
    "robust set, fine-tuned": fine_tuned,
    "robust set, soft labels": soft_labels,
    "adversarial training": ceiling,
}
report = RobustnessReport(eps=EPS)
print(f"{'accuracy in %':<26}{'natural':>9}{'PGD':>7}{'AutoAttack':>12}")
for name, model in models.items():
    accuracy = report(model, X_test[:200], y_test[:200])
    print(
        f"{name:<26}{accuracy['natural_accuracy']:>9.1%}"
        f"{accuracy['pgd_accuracy']:>7.1%}{accuracy['autoattack_accuracy']:>12.1%}"
    )
print(f"linf, eps={EPS}; first 200 of the 400 test images")

# %%
# Look at what was learned
# ------------------------
# Original images above, the learned ones below; robust accuracy against the budget
# (PGD with the margin loss, which is close to AutoAttack on these nets).

X_robust = {
    "from scratch": from_scratch["robustify"].X_robust_,
    "fine-tuned": fine_tuned.robustifier_.X_robust_,
}
figure = plt.figure(figsize=(10, 4.2), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1.15, 1])
rows = [("original", X_train), *X_robust.items()]
axes = left.subplots(len(rows), 7)
for (title, images), line in zip(rows, axes, strict=True):
    line[0].set_ylabel(title, fontsize=9)
    for axis, image in zip(line, images[:7, 0], strict=True):
        axis.imshow(image, cmap="gray", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])

STYLES = ("k--", "C7-", "C0-", "C1-", "C2-", "k:")
budgets = np.linspace(0, 0.25, 6)
axis = right.subplots()
for (name, model), style in zip(models.items(), STYLES, strict=True):
    curve = [
        robust_accuracy_score(model, X_test, y_test, eps=e, n_steps=20, loss="margin")
        for e in budgets
    ]
    axis.plot(budgets, curve, style, marker="o", markersize=3, label=name)
axis.axvline(EPS, color="0.7", linewidth=1, label="eps learned for")
axis.set(xlabel="eps (linf, pixels in [0, 1])", ylabel="robust accuracy", ylim=(0, 1))
axis.legend(fontsize=8)
figure.savefig("robustfit_quickstart.png", dpi=150)
print("Figure saved to robustfit_quickstart.png")
plt.show()
