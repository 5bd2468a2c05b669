"""
Looking inside: loss landscapes and saliency maps
=================================================

What adversarial training does to a net, in the three pictures of "Towards Deep Learning
Models Resistant to Large Perturbations": the loss between the weights before and after
training (Figure 3), the loss around one input (Figure 5), and the pixels the loss hangs
on (Figure 6).

Data: scikit-learn's digits; a small CNN; linf, eps 0.15; every seed is 0.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from robustfit import (
    AdversarialClassifier,
    LossLandscapeDisplay,
    RobustnessReport,
    SaliencyDisplay,
)
from robustfit.nets import default_classifier

EPS = 0.15
torch.set_num_threads(1)  # nets this small gain nothing from more

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32").reshape(-1, 1, 8, 8)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=400, random_state=0, stratify=y
)

torch.manual_seed(0)
start = default_classifier((1, 8, 8), 10).initialize()  # random weights
torch.manual_seed(0)  # training begins at the same ones
natural = default_classifier((1, 8, 8), 10, max_epochs=25).fit(X_train, y_train)
robust = AdversarialClassifier(EPS, n_steps=4, n_epochs=25, random_state=0)
robust.fit(X_train, y_train)

report = RobustnessReport(eps=EPS)
for name, model in {"natural": natural, "robust": robust}.items():
    accuracy = report(model, X_test[:50], y_test[:50])
    print(
        f"{name}: natural accuracy {accuracy['natural_accuracy']:.0%}, PGD "
        f"{accuracy['pgd_accuracy']:.0%}, AutoAttack "
        f"{accuracy['autoattack_accuracy']:.0%} (linf, eps={EPS}, 50 test images)"
    )

# %%
# Between two weights
# -------------------
# The loss along the straight line from random weights to trained ones, without an
# adversary and with two. Natural training goes down steadily; its end is no place to be
# under attack. Between the natural and the robust weights lies a barrier.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
budgets = (0.0, EPS / 2, EPS)
for axis, (title, ends) in zip(
    axes,
    {
        "random to natural": (start, natural),
        "natural to robust": (natural, robust),
    }.items(),
    strict=True,
):
    LossLandscapeDisplay.from_estimators(
        *ends, X_train[:200], y_train[:200], eps=budgets, n_points=11, ax=axis
    )
    axis.set_title(title)
plt.show()

# %%
# Around an input
# ---------------
# One test image, moved along the gradient of its loss and along a random direction.
# The scales differ: the robust net's loss rises far less. Smooth surfaces speak against
# masked gradients; :func:`~robustfit.check_gradient_masking` tests it.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for axis, (name, model) in zip(
    axes, {"natural": natural, "robust": robust}.items(), strict=True
):
    LossLandscapeDisplay.from_input(
        model, X_test[0], y_test[0], eps=EPS, n_points=25, ax=axis
    )
    axis.set_title(name)
plt.show()

# %%
# Saliency maps
# -------------
# The gradient of the loss at images that PGD has moved, and the move itself.

nets = {"natural": natural, "robust": robust}
SaliencyDisplay.from_estimators(nets, X_test[:3], y_test[:3], eps=EPS)
SaliencyDisplay.from_estimators(
    nets, X_test[:3], y_test[:3], eps=EPS, kind="perturbation"
)
plt.show()
