"""Differentiable forms of scikit-learn's kernel machines and Gaussian naive Bayes.

Sums over training samples are taken in float64, which the estimators use too.
"""

from itertools import combinations

import numpy as np
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC, NuSVC
from sklearn.utils.validation import check_is_fitted
from torch import nn

from robustfit._utils.sklearn_private import svm_gamma, svm_support_rows
from robustfit._utils.torch_bridge import to_tensor
from robustfit.exceptions import NotDifferentiableError
from robustfit.kernels.base import NeuralKernel
from robustfit.sklearn_to_torch.linear_models import TwoLogits
from robustfit.sklearn_to_torch.torch_classifier import TorchClassifier, as_torch


class _KernelExpansion(nn.Module):
    """``kernel(x, points) @ weights + bias``."""

    def __init__(self, kernel, points, weights, bias):
        super().__init__()
        self.kernel = kernel
        for name, values in (("points", points), ("weights", weights), ("bias", bias)):
            self.register_buffer(name, to_tensor(values, dtype=torch.float64))

    def forward(self, x):
        kernel = self.kernel(x.flatten(1).double(), self.points).to(self.weights.dtype)
        return (kernel @ self.weights + self.bias).to(x.dtype)


class _Kernel(nn.Module):
    """A kernel function of scikit-learn by its name."""

    def __init__(self, name, gamma, degree, coef0):
        super().__init__()
        self.name, self.gamma, self.degree, self.coef0 = name, gamma, degree, coef0

    def forward(self, x, points):
        product = x @ points.T
        if self.name == "linear":
            return product
        if self.name == "poly":
            return (self.gamma * product + self.coef0) ** self.degree
        if self.name == "sigmoid":
            return torch.tanh(self.gamma * product + self.coef0)
        squares = (x**2).sum(1)[:, None] + (points**2).sum(1) - 2 * product
        return torch.exp(-self.gamma * squares.clamp_min(0))


_ALIASES = {"polynomial": "poly"}


def _make_kernel(estimator, gamma):
    if isinstance(estimator.kernel, NeuralKernel):
        return estimator.kernel
    name = _ALIASES.get(estimator.kernel, estimator.kernel)
    if name not in ("linear", "poly", "rbf", "sigmoid"):
        raise NotDifferentiableError(
            f"{type(estimator).__name__}(kernel={estimator.kernel!r}) has no "
            "differentiable form in torch; use 'linear', 'poly', 'rbf', 'sigmoid' or a "
            "kernel of robustfit.kernels."
        )
    return _Kernel(name, gamma, estimator.degree, estimator.coef0)


@as_torch.register(SVC)
@as_torch.register(NuSVC)
def _(estimator):
    check_is_fitted(estimator)
    kernel = _make_kernel(estimator, svm_gamma(estimator))
    points = svm_support_rows(estimator)
    if len(estimator.classes_) == 2:
        expansion = _KernelExpansion(
            kernel, points, estimator.dual_coef_.T, estimator.intercept_
        )
        return TorchClassifier(
            nn.Sequential(expansion, TwoLogits()), estimator.classes_
        )
    expansion = _KernelExpansion(
        kernel, points, _pair_weights(estimator), estimator.intercept_
    )
    votes = _OneAgainstOne(len(estimator.classes_))
    return TorchClassifier(nn.Sequential(expansion, votes), estimator.classes_)


def _pair_weights(estimator):
    """Return the weights (n_support, n_pairs) of libsvm's one-against-one machines."""
    ends = np.cumsum(estimator.n_support_)
    blocks = [slice(b - n, b) for b, n in zip(ends, estimator.n_support_, strict=True)]
    pairs = list(combinations(range(len(blocks)), 2))
    weights = np.zeros((ends[-1], len(pairs)))
    for column, (i, j) in enumerate(pairs):
        weights[blocks[i], column] = estimator.dual_coef_[j - 1, blocks[i]]
        weights[blocks[j], column] = estimator.dual_coef_[i, blocks[j]]
    return weights


class _OneAgainstOne(nn.Module):
    """Votes of the pairs plus their bounded confidences, as ``decision_function``.

    Gradients flow through the confidences; votes are constant almost everywhere.
    """

    first: torch.Tensor
    second: torch.Tensor

    def __init__(self, n_classes):
        super().__init__()
        pairs = torch.tensor(list(combinations(range(n_classes), 2)))
        sides = nn.functional.one_hot(pairs, n_classes).float()
        self.register_buffer("first", sides[:, 0])
        self.register_buffer("second", sides[:, 1])

    def forward(self, values):
        first, second = self.first.to(values), self.second.to(values)
        confidence = values @ (first - second)
        wins = (values >= 0).to(values.dtype)
        votes = wins @ first + (1 - wins) @ second
        return votes + confidence / (3 * (confidence.abs() + 1))


@as_torch.register
def _(estimator: KernelRidge):
    check_is_fitted(estimator)
    if np.ndim(estimator.dual_coef_) != 2 or estimator.dual_coef_.shape[1] < 2:
        raise NotDifferentiableError(
            "KernelRidge was fitted on one number a sample, which names no classes; "
            "fit it on one-hot labels (n_samples, n_classes)."
        )
    gamma = estimator.gamma
    if gamma is None:
        gamma = 1.0 / estimator.n_features_in_
    bias = np.zeros(estimator.dual_coef_.shape[1])
    kernel = _make_kernel(estimator, gamma)
    return TorchClassifier(
        _KernelExpansion(kernel, estimator.X_fit_, estimator.dual_coef_, bias)
    )


class _JointLogLikelihood(nn.Module):
    """Log prior plus Gaussian log density, up to a constant a sample."""

    def __init__(self, mean, variance, prior):
        super().__init__()
        constant = np.log(prior) - 0.5 * np.log(variance).sum(1)
        for name, values in (
            ("mean", mean),
            ("precision", 1 / variance),
            ("constant", constant),
        ):
            self.register_buffer(name, to_tensor(values, dtype=torch.float64))

    def forward(self, x):
        deviation = x.flatten(1).double()[:, None] - self.mean
        logits = self.constant - 0.5 * (self.precision * deviation**2).sum(2)
        # Less the largest: what is left is exact in float32, and softmax is the same.
        return (logits - logits.detach().amax(1, keepdim=True)).to(x.dtype)


@as_torch.register
def _(estimator: GaussianNB):
    check_is_fitted(estimator)
    module = _JointLogLikelihood(
        estimator.theta_, estimator.var_, estimator.class_prior_
    )
    return TorchClassifier(module, estimator.classes_, softmax_is_probability=True)
