"""Differentiable forms of scikit-learn's linear models and multilayer perceptron."""

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import (
    LogisticRegression,
    Perceptron,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.neural_network import MLPClassifier
from sklearn.svm import LinearSVC
from sklearn.utils.validation import check_is_fitted
from torch import nn

from robustfit._utils.torch_bridge import to_tensor
from robustfit.exceptions import NotDifferentiableError
from robustfit.sklearn_to_torch.torch_classifier import TorchClassifier, as_torch

__all__ = ["TwoLogits", "linear_layer"]

_ACTIVATIONS = {
    "identity": nn.Identity,
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
}


def linear_layer(weight, bias):
    """Return nn.Linear from scikit-learn's (n_outputs, n_inputs) coefficients."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(to_tensor(weight))
        layer.bias.copy_(to_tensor(bias))
    return layer


class TwoLogits(nn.Module):
    """One decision value per sample as the logits (0, value) of two classes."""

    is_affine = True  # what structures/affine.py asks

    def forward(self, value):
        """Return logits (n_samples, 2) of values (n_samples, 1)."""
        return torch.cat([torch.zeros_like(value), value], dim=1)


def _linear_classifier(estimator, *, has_probabilities):
    """Return the decision values of a fitted linear classifier as logits."""
    check_is_fitted(estimator)
    coefficients = np.atleast_2d(estimator.coef_)
    bias = np.broadcast_to(np.atleast_1d(estimator.intercept_), len(coefficients))
    layers = [nn.Flatten(), linear_layer(coefficients, bias)]
    if len(coefficients) == 1:
        layers.append(TwoLogits())
    return TorchClassifier(
        nn.Sequential(*layers),
        estimator.classes_,
        softmax_is_probability=has_probabilities,
    )


@as_torch.register(LogisticRegression)
@as_torch.register(LinearDiscriminantAnalysis)
def _(estimator):
    return _linear_classifier(estimator, has_probabilities=True)


@as_torch.register(LinearSVC)
@as_torch.register(RidgeClassifier)
@as_torch.register(SGDClassifier)
@as_torch.register(Perceptron)
def _(estimator):
    return _linear_classifier(estimator, has_probabilities=False)


@as_torch.register
def _(estimator: MLPClassifier):
    check_is_fitted(estimator)
    if estimator.out_activation_ == "logistic" and estimator.n_outputs_ > 1:
        raise NotDifferentiableError(
            "MLPClassifier was fitted on several labels a sample; attacks need one "
            "class a sample."
        )
    layers: list[nn.Module] = [nn.Flatten()]
    for weight, bias in zip(estimator.coefs_, estimator.intercepts_, strict=True):
        layers += [linear_layer(weight.T, bias), _ACTIVATIONS[estimator.activation]()]
    layers.pop()
    if estimator.out_activation_ == "logistic":
        layers.append(TwoLogits())
    return TorchClassifier(
        nn.Sequential(*layers), estimator.classes_, softmax_is_probability=True
    )
