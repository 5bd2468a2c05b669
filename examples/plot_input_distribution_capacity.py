"""
Robustness against the width of the net and the size of the training set
========================================================================

A wider net and more training images are the natural remedies where adversarial training
reaches too little (section 5.3 of "On the Sensitivity of Adversarial Robustness to
Input Data Distributions", Ding et al., 2019). Both are one call. Dotted curves are the
training images: a gap to the solid ones is overfitting, of accuracy or of robustness.

Data: scikit-learn's digits (1797 images of 8x8 pixels); every seed is 0.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import ShuffleSplit
from skorch import NeuralNetClassifier

from robustfit import (
    PredictionRobustnessReport,
    ThreatModel,
    TrainingSizeRobustnessDisplay,
    WidthRobustnessDisplay,
)
from robustfit.attacks import PGD
from robustfit.nets import LeNet5

EPS = 0.15

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32").reshape(-1, 1, 8, 8)


class AdversariallyTrainedNet(NeuralNetClassifier):
    """A skorch net that sees PGD examples of its batches."""

    def train_step_single(self, batch, **fit_params):
        x, labels = batch
        attack, threat_model = PGD(n_steps=3), ThreatModel("linf", EPS)
        x_adv = attack(self.module_, x, labels, threat_model)
        return super().train_step_single((x_adv, labels), **fit_params)


net = AdversariallyTrainedNet(
    LeNet5,
    module__image_shape=(1, 8, 8),
    module__widen_factor=0.25,
    criterion=torch.nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=3e-3,
    max_epochs=20,
    iterator_train__shuffle=True,
    train_split=None,
    verbose=0,
)
study = {
    "scoring": PredictionRobustnessReport(eps=EPS, n_steps=10),
    "cv": ShuffleSplit(1, train_size=800, test_size=300, random_state=0),
    "return_train_score": True,
}

# %%
# Width
# -----
# The factors multiply the channels and units of every layer of LeNet5.

_, ax = plt.subplots(figsize=(7, 4.2))
display = WidthRobustnessDisplay.from_estimator(
    net, X, y, widths=[0.0625, 0.125, 0.25, 0.5], ax=ax, **study
)
display.figure_.tight_layout()

# %%
# Size of the training set
# ------------------------
# The same study by the number of rows. ``sklearn.model_selection.learning_curve`` with
# ``scoring=RobustAccuracyScorer(...)`` draws one of these curves.

_, ax = plt.subplots(figsize=(7, 4.2))
display = TrainingSizeRobustnessDisplay.from_estimator(
    net, X, y, train_sizes=[100, 200, 400, 800], ax=ax, **study
)
display.figure_.tight_layout()
