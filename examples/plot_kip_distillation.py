"""
Kernel inducing points: robust against PGD, and then?
=====================================================

Kernel regression has no training to harden: it is its training set. *Kernel inducing
points* (KIP) are rows learned so that regression from them predicts natural rows well;
*adv-KIP* learns them against an adversary (N. Tsilivis, J. Su, J. Kempe, "Can we
achieve robustness from data alone?", 2022). Here both are learned on the digits, looked
at, and attacked, first as the paper does, then with AutoAttack.
"""

# %%
# Learn both sets
# ---------------
# Eighty images and their labels, on which the neural tangent kernel of a net with
# three hidden layers predicts the other rows.

import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from robustfit import (
    AdvKIPDistiller,
    KernelRegressionClassifier,
    KIPDistiller,
    RobustifiedClassifier,
    as_torch,
    attack_estimator,
)
from robustfit.exceptions import GradientMaskingWarning, RobustnessWarning
from robustfit.nets import default_classifier

EPS = 0.2
torch.set_num_threads(1)

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32").reshape(-1, 1, 8, 8)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=400, random_state=0, stratify=y
)
common = {
    "eps": EPS, "n_support": 80, "learn_labels": True, "n_outer_steps": 50,
    "n_targets": 100, "validate_every": 10, "random_state": 0,
}  # fmt: skip
kip = KIPDistiller(**common).fit(X_train, y_train)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", GradientMaskingWarning)
    paper = AdvKIPDistiller(**common, inner_loss="cross-entropy", n_checked=15)
    paper.fit(X_train, y_train)
print(*(w.message for w in caught), sep="\n")
adv_kip = AdvKIPDistiller(**common, n_checked=0).fit(X_train, y_train)

# %%
# Attack the kernel predictor
# ---------------------------
# The outputs of kernel regression lie between 0 and 1, where the softmax is nearly
# flat. PGD on these raw outputs, as in the paper, sees little;
# :func:`robustfit.as_torch` scales them, and PGD comes close to AutoAttack, which never
# cared.

natural = KernelRegressionClassifier().fit(
    X_train[kip.sample_indices_], y_train[kip.sample_indices_]
)
models = {
    "80 natural rows": natural,
    "KIP": kip.kernel_classifier_,
    "adv-KIP, paper's inner loss": paper.kernel_classifier_,
    "adv-KIP, margin inner loss": adv_kip.kernel_classifier_,
}


def robust(model, attack, n):
    warnings.simplefilter("ignore", RobustnessWarning)
    return attack_estimator(
        model, X_test[:n], y_test[:n], attack=attack, eps=EPS, n_steps=10
    ).robust_accuracy


def with_raw_outputs(model):
    raw = as_torch(model)
    raw.module.scale = 1.0
    return raw


print(
    f"{'kernel predictor':<29}{'natural':>9}{'PGD raw':>9}{'PGD':>7}{'AutoAttack':>12}"
)
for name, model in models.items():
    accuracies = (
        model.score(X_test, y_test),
        robust(with_raw_outputs(model), "pgd", 200),
        robust(model, "pgd", 200),
        robust(model, "autoattack", 25),
    )
    print("{:<29}{:>9.1%}{:>9.1%}{:>7.1%}{:>12.1%}".format(name, *accuracies))
print(f"linf, eps={EPS}; PGD-10 on 200 test images, AutoAttack on the first 25")

# %%
# Train a net on the set
# ----------------------
# A convolutional net, naturally trained on the learned rows and labels, has seen no
# adversary; AutoAttack leaves little of it.

net = default_classifier((1, 8, 8), 10, max_epochs=100)
pair = RobustifiedClassifier(AdvKIPDistiller(**common, n_checked=0), net)
pair.robustifier_, pair.classes_ = adv_kip, adv_kip.classes_  # learned above
torch.manual_seed(0)
pair.classifier_ = net.fit(adv_kip.X_robust_, adv_kip.y_robust_)
print(
    f"net on the adv-KIP set: natural {pair.score(X_test, y_test):.1%}, "
    f"PGD-10 {robust(pair, 'pgd', 200):.1%}, "
    f"AutoAttack {robust(pair, 'autoattack', 25):.1%}"
)

# %%
# Look at the sets, and at the gradients
# --------------------------------------
# Learning against the adversary shrinks the gradient of the predictor on natural rows:
# in part this is robustness, in part it hides the adversary (Figure 4 of the paper).

figure = plt.figure(figsize=(10, 4.4), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1.2, 1])
sets = {"natural": None, "KIP": kip, "adv-KIP": adv_kip}
axes = left.subplots(len(sets), 7)
for (title, distiller), line in zip(sets.items(), axes, strict=True):
    rows = kip.sample_indices_[:7]
    images = X_train[rows] if distiller is None else distiller.X_robust_[:7]
    labels = np.eye(10)[y_train[rows]] if distiller is None else distiller.y_robust_
    line[0].set_ylabel(title, fontsize=9)
    for axis, image, label in zip(line, images[:, 0], labels, strict=False):
        axis.imshow(image, cmap="gray", vmin=-0.2, vmax=1.2)
        axis.set(xticks=[], yticks=[])
        axis.set_title(f"{label.argmax()}: {label.max():.2f}", fontsize=8)

top, bottom = right.subplots(2, 1, sharex=True)
curves = {
    "KIP": (kip, "k--"),
    "adv-KIP, paper's inner loss": (paper, "C1:"),
    "adv-KIP, margin": (adv_kip, "C0-"),
}
for name, (distiller, style) in curves.items():
    steps = [record["step"] for record in distiller.history_]
    for axis, key in ((top, "robust_accuracy"), (bottom, "gradient_norm")):
        axis.plot(steps, [record[key] for record in distiller.history_], style,
                  label=name)  # fmt: skip
top.set(ylabel="robust accuracy (PGD-10)", ylim=(0, 1))
bottom.set(ylabel="input gradient, l2 norm", xlabel="outer step")
top.legend(fontsize=8)
plt.show()
