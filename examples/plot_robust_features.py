"""
Robust and non-robust features as training sets
===============================================

"Adversarial Examples Are Not Bugs, They Are Features" (Ilyas et al., 2019) takes a data
set apart. :class:`~robustfit.RobustFeatureExtractor` replaces every image by one that a
*robust* net's representation layer sees as the same, found from another image: D_R
keeps what that net looks at and nothing else.
:class:`~robustfit.NonRobustFeatureExtractor` does it with a naturally trained net
(D_NR). :class:`~robustfit.AdversarialRelabeler` perturbs images towards another class
and labels them so: to a person every label of D_det is wrong.

Then nets are trained on these sets, naturally and from scratch, and tested on the
original test images. On the digits the paper's large effect for D_R is not there (a few
images' difference in so small a test is noise), its effect for D_det is: see the user
guide, and ``benchmarks/robust_features.py`` for
MNIST and CIFAR-10.

Data: scikit-learn's digits (1397 images to train, 30 to test); l2; every seed is 0.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from robustfit import (
    AdversarialClassifier,
    AdversarialRelabeler,
    NonRobustFeatureExtractor,
    RobustFeatureExtractor,
    RobustifiedClassifier,
    RobustnessReport,
)
from robustfit.nets import default_classifier

EPS = 0.5
torch.set_num_threads(1)  # nets this small gain nothing from more

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32").reshape(-1, 1, 8, 8)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=400, random_state=0, stratify=y
)
X_test, y_test = X_test[:30], y_test[:30]
net = default_classifier((1, 8, 8), 10, max_epochs=25)

# %%
# Two nets to take features from
# ------------------------------
# A fitted net that goes into a meta-estimator is frozen: ``clone`` would forget what
# it has learned.

torch.manual_seed(0)
natural = default_classifier((1, 8, 8), 10, max_epochs=25).fit(X_train, y_train)
robust = AdversarialClassifier(1.0, "l2", n_steps=4, n_epochs=25, random_state=0)
robust.fit(X_train, y_train)

common = {"n_steps": 40, "random_state": 0}
rewriters = {
    "D_R": RobustFeatureExtractor(estimator=FrozenEstimator(robust), **common),
    "D_NR": NonRobustFeatureExtractor(estimator=FrozenEstimator(natural), **common),
    "D_det": AdversarialRelabeler(
        1.5, "l2", estimator=FrozenEstimator(natural), target="next", **common
    ),
}
models = {"natural net, D": natural, "robust net, D": robust}
for name, rewriter in rewriters.items():
    model = RobustifiedClassifier(rewriter, net, random_state=1)
    models[f"trained on {name}"] = model.fit(X_train, y_train)

# %%
# Accuracy on the original test images
# ------------------------------------

report = RobustnessReport(eps=EPS, norm="l2")
print(f"{'accuracy in %':<18}{'natural':>9}{'PGD':>7}{'AutoAttack':>12}")
for name, model in models.items():
    accuracy = report(model, X_test, y_test)
    print(
        f"{name:<18}{accuracy['natural_accuracy']:>9.0%}"
        f"{accuracy['pgd_accuracy']:>7.0%}{accuracy['autoattack_accuracy']:>12.0%}"
    )
print(f"l2, eps={EPS}; {len(X_test)} test images, seed 0")

# %%
# What the sets look like
# -----------------------
# A hundred features nearly determine 64 pixels, so inverted digits resemble the
# originals, D_R more than D_NR. The labels of D_det are above its images.

rows = {"D, the original": X_train} | {
    name: models[f"trained on {name}"].robustifier_.X_robust_ for name in rewriters
}
labels = models["trained on D_det"].robustifier_.y_robust_
figure, axes = plt.subplots(len(rows), 8, figsize=(8, 4.6), layout="constrained")
for (name, images), line in zip(rows.items(), axes, strict=True):
    line[0].set_ylabel(name, fontsize=9)
    for k, axis in enumerate(line):
        axis.imshow(images[k, 0], cmap="gray", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
        axis.set_title(labels[k] if name == "D_det" else y_train[k], fontsize=8)
plt.show()
