"""Differentiable forms of scikit-learn's estimators, registered with ``as_torch``."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler
from sklearn.utils.validation import check_is_fitted
from torch import nn

from robustfit._torch_bridge import to_tensor
from robustfit.exceptions import NotDifferentiableError
from robustfit.torch_classifier import TorchClassifier, as_torch, transformer_as_torch

_ACTIVATIONS = {
    "identity": nn.Identity,
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
}


class _Affine(nn.Module):
    """``x * scale + offset``, column by column, on flattened rows."""

    def __init__(self, scale, offset):
        super().__init__()
        self.register_buffer("scale", to_tensor(scale))
        self.register_buffer("offset", to_tensor(offset))

    def forward(self, x):
        return x * self.scale + self.offset


@transformer_as_torch.register
def _(transformer: StandardScaler):
    check_is_fitted(transformer)
    n_features = transformer.n_features_in_
    scale = transformer.scale_ if transformer.with_std else np.ones(n_features)
    mean = transformer.mean_ if transformer.with_mean else np.zeros(n_features)
    return _Affine(1 / scale, -mean / scale)


@transformer_as_torch.register
def _(transformer: MinMaxScaler):
    check_is_fitted(transformer)
    if transformer.clip:
        raise NotDifferentiableError(
            "MinMaxScaler(clip=True) has zero gradients outside the training range; "
            "use clip=False."
        )
    return _Affine(transformer.scale_, transformer.min_)


@transformer_as_torch.register
def _(transformer: MaxAbsScaler):
    check_is_fitted(transformer)
    return _Affine(1 / transformer.scale_, np.zeros_like(transformer.scale_))


def _linear(weight, bias):
    """Return nn.Linear from scikit-learn's (n_outputs, n_inputs) coefficients."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(to_tensor(weight))
        layer.bias.copy_(to_tensor(bias))
    return layer


class _TwoLogits(nn.Module):
    """One decision value per sample as the logits (0, value) of two classes."""

    def forward(self, value):
        return torch.cat([torch.zeros_like(value), value], dim=1)


@as_torch.register
def _(estimator: LogisticRegression):
    check_is_fitted(estimator)
    bias = np.broadcast_to(estimator.intercept_, len(estimator.coef_))
    layers = [nn.Flatten(), _linear(estimator.coef_, bias)]
    if len(estimator.coef_) == 1:
        layers.append(_TwoLogits())
    return TorchClassifier(nn.Sequential(*layers), estimator.classes_)


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
        layers += [_linear(weight.T, bias), _ACTIVATIONS[estimator.activation]()]
    layers.pop()
    if estimator.out_activation_ == "logistic":
        layers.append(_TwoLogits())
    return TorchClassifier(nn.Sequential(*layers), estimator.classes_)
