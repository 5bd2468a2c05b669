"""
The same digits, another distribution of pixels, another robustness
===================================================================

Smoothed or binarized digits are as easy to read as the original ones, and naturally
trained nets are about as accurate on each of them. Their *robustness* differs, even
when each net is adversarially trained and attacked on its own variant: the finding of
"On the Sensitivity of Adversarial Robustness to Input Data Distributions" (Ding et al.,
2019).

Data: scikit-learn's digits (1797 images of 8x8 pixels); every seed is 0.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import ShuffleSplit
from sklearn.pipeline import make_pipeline
from skorch import NeuralNetClassifier

from robustfit import (
    PixelHistogramDisplay,
    PredictionRobustnessReport,
    ThreatModel,
    TransformRobustnessDisplay,
    attack_estimator,
    inter_class_distance,
    perturbable_volume,
)
from robustfit.attacks import PGD
from robustfit.image_transforms import BinarizeImages, SaturateImages, SmoothImages
from robustfit.nets import SmallCNN

EPS = 0.2

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32").reshape(-1, 1, 8, 8)
variants = {
    "binarized": BinarizeImages(),
    "saturated 4": SaturateImages(4),
    "original": None,
    "smooth 2": SmoothImages(2),
    "smooth 3": SmoothImages(3),
}
images = {
    name: X if transform is None else transform.fit_transform(X)
    for name, transform in variants.items()
}

# %%
# What changes and what does not
# ------------------------------
# The transforms keep the meaning and change where the pixels lie.

figure, axes = plt.subplots(3, 5, figsize=(7, 4.4))
for column, (name, X_variant) in zip(axes.T, images.items(), strict=True):
    for ax, image in zip(column, X_variant[:3, 0], strict=True):
        ax.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        ax.set_axis_off()
    column[0].set_title(name)
figure.tight_layout()

# %%
_, ax = plt.subplots(figsize=(7, 3.5))
shown = {name: images[name] for name in ("binarized", "original", "smooth 3")}
display = PixelHistogramDisplay.from_images(shown, bins=16, ax=ax)
display.figure_.tight_layout()

# %%
# Two numbers may explain a robustness before any net is trained: how much room the
# pixel range leaves to an adversary, and how far the classes are from each other.

print(f"{'variant':<14}{'log2 volume':>12}{'class distance':>16}")
for name, X_variant in images.items():
    volume = perturbable_volume(X_variant, EPS)
    distance = inter_class_distance(X_variant, y)
    print(f"{name:<14}{volume:>12.1f}{distance:>16.2f}")

# %%
# Robustness of adversarially trained nets
# ----------------------------------------
# Every net is trained on PGD examples and attacked by PGD, both in the pixels of its
# own variant. Robustness with respect to predictions counts the predictions, right or
# wrong, that the attack cannot change. It falls together with the robust accuracy: what
# is lost is lost to the adversary, not to images that are harder to read.


class AdversariallyTrainedNet(NeuralNetClassifier):
    """A skorch net that sees PGD examples of its batches."""

    def train_step_single(self, batch, **fit_params):
        x, labels = batch
        attack, threat_model = PGD(n_steps=4), ThreatModel("linf", EPS)
        x_adv = attack(self.module_, x, labels, threat_model)
        return super().train_step_single((x_adv, labels), **fit_params)


net = AdversariallyTrainedNet(
    SmallCNN,
    module__image_shape=(1, 8, 8),
    criterion=torch.nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=3e-3,
    max_epochs=12,
    iterator_train__shuffle=True,
    train_split=None,
    verbose=0,
)
split = ShuffleSplit(1, test_size=400, random_state=0)
_, ax = plt.subplots(figsize=(7, 4))
display = TransformRobustnessDisplay.from_estimator(
    net,
    variants,
    X,
    y,
    scoring=PredictionRobustnessReport(eps=EPS, n_steps=15),
    cv=split,
    ax=ax,
)
display.figure_.tight_layout()

# %%
# Attack the original pixels instead
# ----------------------------------
# A transform in front of a net can also be taken for a part of the model. Then the
# adversary changes the pixels that the pipeline is given, and the attack sees through
# the transform: the budget is the same, what it buys is not.

X_saturated = images["saturated 4"]
train, test = next(split.split(X))
torch.manual_seed(0)
pipe = make_pipeline(SaturateImages(4), net).fit(X[train], y[train])
through = attack_estimator(pipe, X[test], y[test], eps=EPS, n_steps=15)
behind = attack_estimator(pipe[-1], X_saturated[test], y[test], eps=EPS, n_steps=15)
print(f"attacked before the transform: {through.robust_accuracy:.1%} right")
print(f"attacked behind the transform: {behind.robust_accuracy:.1%} right")

# %%
# These are PGD's numbers, which are upper bounds: report AutoAttack's, with
# ``PredictionRobustnessReport(attack="autoattack")`` or ``RobustnessReport``.
