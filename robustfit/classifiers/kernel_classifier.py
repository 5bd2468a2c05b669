"""``KernelRegressionClassifier``: one-hot regression with any torch kernel."""

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from robustfit._utils.image_validation import validate_images
from robustfit._utils.labels import (
    check_class_count,
    check_same_rows,
    validate_labels,
)
from robustfit._utils.sklearn_private import Interval
from robustfit._utils.torch_bridge import (
    batch_slices,
    resolve_device,
    to_array,
    to_tensor,
)
from robustfit.classifiers.kernel_regression import (
    LOGIT_SCALE,
    kernel_dtype,
    one_hot,
    solve_kernel_regression,
)
from robustfit.kernels import FullyConnectedNTK
from robustfit.sklearn_to_torch.torch_classifier import TorchClassifier, as_torch
from robustfit.threat_model import ThreatModel

__all__ = ["KernelRegressionClassifier"]

_UNBOUNDED = ThreatModel(clip_range=None)


class KernelRegressionClassifier(ClassifierMixin, BaseEstimator):
    """Classify by kernel regression on one-hot labels.

    With a neural tangent kernel this is the infinitely wide net at the end of its
    training ("Can we achieve robustness from data alone?", Eq. 4).

    Parameters
    ----------
    kernel : callable or None, default=None
        Takes torch tensors (n, d) and (m, d), or one of them, and returns (n, m),
        differentiable in both; None is :class:`robustfit.kernels.FullyConnectedNTK`.
        Its ``dtype``, if it has one, is what is computed in.
    alpha : float, default=1e-6
        Ridge added to the diagonal of the kernel matrix, as a share of the mean of
        that diagonal, >= 0. Raised with a
        :class:`~robustfit.exceptions.JitterWarning` where rounding makes the matrix
        indefinite.
    batch_size : int, default=1000
        Rows predicted together; bounds the memory of prediction.
    device : str, default="auto"
        "auto" is a GPU when there is one.

    Attributes
    ----------
    X_fit_ : ndarray of shape (n_samples, n_features)
        The training rows, flattened.
    dual_coef_ : ndarray of shape (n_samples, n_classes)
        ``K^-1 Y``, with Y centred in each row.
    ridge_ : float
        The share of the mean diagonal that was added.
    classes_ : ndarray of shape (n_classes,)
    image_shape_ : tuple of int
    n_features_in_ : int

    See Also
    --------
    KIPDistiller, AdvKIPDistiller : Learn the training set of such a classifier.

    Notes
    -----
    There is no ``predict_proba``: outputs are regression values, not probabilities.
    :func:`as_torch` multiplies them by 30. Decisions are the same, and the
    cross-entropy, nearly flat between 0 and 1, tells rival classes apart: PGD on raw
    outputs overstates robustness by tens of points, AutoAttack does not care.

    References
    ----------
    N. Tsilivis, J. Su, J. Kempe. "Can we achieve robustness from data alone?", 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from robustfit import KernelRegressionClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = KernelRegressionClassifier().fit(X[:500] / 16, y[:500])
    >>> model.score(X[1000:1500] / 16, y[1000:1500]) > 0.9
    True
    """

    _takes_soft_labels = True

    _parameter_constraints: dict = {
        "kernel": [None, callable],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, kernel=None, alpha=1e-6, *, batch_size=1000, device="auto"):
        self.kernel = kernel
        self.alpha = alpha
        self.batch_size = batch_size
        self.device = device

    def fit(self, X, y):
        """Solve for the dual coefficients.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Labels of any type, or soft labels: a weight for each of the classes
            0..n_classes-1.

        Returns
        -------
        self : KernelRegressionClassifier

        Raises
        ------
        ValueError
            With fewer than two classes, or a kernel that is none.
        """
        self._validate_params()
        device = resolve_device(self.device)
        X, _ = validate_images(self, X, _UNBOUNDED)
        self._kernel = FullyConnectedNTK() if self.kernel is None else self.kernel
        targets = self._encode(X, y)
        points = self._to_points(X, device)
        solved = solve_kernel_regression(
            self._kernel, points, targets.to(points), self.alpha
        )
        self.X_fit_ = to_array(points)
        self.dual_coef_ = to_array(solved.dual)
        self.ridge_ = solved.ridge
        return self

    def _encode(self, X, y):
        """Set ``classes_``; return centred targets (n_samples, n_classes)."""
        given = np.asarray(y)
        if given.ndim == 2 and given.shape[1] > 1:
            return self._check_soft_labels(X, given)
        y = validate_labels(self, X, y)
        self.classes_, encoded = np.unique(y, return_inverse=True)
        check_class_count(self.classes_)
        return one_hot(torch.as_tensor(encoded), len(self.classes_))

    def _check_soft_labels(self, X, y):
        check_same_rows(X, y)
        y = y.astype(np.float64)
        if not np.isfinite(y).all():
            raise ValueError("The soft labels y hold NaN or infinite values.")
        self.classes_ = np.arange(y.shape[1])
        return torch.as_tensor(y - y.mean(axis=1, keepdims=True))

    def _to_points(self, X, device):
        return to_tensor(X.reshape(len(X), -1), device, kernel_dtype(self._kernel))

    def decision_function(self, X):
        """Return the regression outputs, centred over the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)

        Returns
        -------
        ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
            For two classes, the output of ``classes_[1]`` less that of the other.
        """
        outputs = self._outputs(X)
        return outputs[:, 1] - outputs[:, 0] if outputs.shape[1] == 2 else outputs

    def predict(self, X):
        """Return the label with the largest output, shape (n_samples,)."""
        column = self._outputs(X).argmax(1)
        return self.classes_[column]

    def _outputs(self, X):
        check_is_fitted(self)
        X, _ = validate_images(self, X, _UNBOUNDED, reset=False)
        device = resolve_device(self.device)
        module = _KernelOutputs(self).to(device)
        with torch.no_grad():
            parts = [
                module(self._to_points(X[rows], device))
                for rows in batch_slices(len(X), self.batch_size)
            ]
        return to_array(torch.cat(parts))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


class _KernelOutputs(nn.Module):
    """``scale * kernel(x, points) @ dual`` of a fitted classifier."""

    def __init__(self, classifier, scale=1.0):
        super().__init__()
        self.kernel, self.scale = classifier._kernel, scale
        dtype = kernel_dtype(self.kernel)
        self.register_buffer("points", to_tensor(classifier.X_fit_, dtype=dtype))
        self.register_buffer("dual", to_tensor(classifier.dual_coef_, dtype=dtype))

    def forward(self, x):
        outputs = self.kernel(x.flatten(1).to(self.points.dtype), self.points)
        return (outputs @ (self.scale * self.dual)).to(x.dtype)

    def extra_repr(self):
        return f"kernel={self.kernel!r}, scale={self.scale}"


@as_torch.register
def _(estimator: KernelRegressionClassifier):
    check_is_fitted(estimator)
    device = resolve_device(estimator.device)
    module = _KernelOutputs(estimator, LOGIT_SCALE).to(device)
    return TorchClassifier(module, estimator.classes_, device)
