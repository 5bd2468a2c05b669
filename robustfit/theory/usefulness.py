"""Useful and robustly useful features, measured.

A feature is any function of the input to a number. It is useful if it is correlated
with the label, and robustly useful if it still is after an adversary has changed the
input to make it disagree ("Adversarial Examples Are Not Bugs, They Are Features",
Ilyas et al., 2019, section 2).
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from robustfit._utils.argument_checks import check_integer
from robustfit._utils.input_arrays import plain_array
from robustfit._utils.torch_bridge import (
    batch_slices,
    draw_seed,
    make_generator,
    per_sample,
    to_array,
    to_tensor,
)
from robustfit.threat_model import ThreatModel

__all__ = ["feature_usefulness", "robust_usefulness"]


def feature_usefulness(f: Callable, X: ArrayLike, y: ArrayLike) -> np.ndarray:
    """Return rho, the correlation of features with the label.

    Parameters
    ----------
    f : callable
        Maps a float32 tensor of shape (n_samples, ...) to the values of one feature
        (n_samples,), or of several (n_samples, n_features). Shifted and scaled to mean
        0 and variance 1 on ``X``; a constant feature is shifted only.
    X : array-like of shape (n_samples, ...)
    y : array-like of shape (n_samples,)
        Class labels of any type; at least two classes.

    Returns
    -------
    rho : ndarray of shape (n_features,) or (n_features, n_classes)
        ``E[y f(x)]``, in [-1, 1], with y = 1 for the second of two classes in sorted
        order and -1 for the first. With more classes one column a class, against the
        rest; then at most 0.6 for ten classes of equal size. Where it is negative the
        opposite feature ``-f`` is useful.

    Raises
    ------
    ValueError
        If y has one class, lengths differ, X has NaN, or f returns another shape.

    See Also
    --------
    robust_usefulness : The same under attack.

    References
    ----------
    Ilyas et al. (2019), Eq. 1.

    Examples
    --------
    The weak features of :func:`robustfit.datasets.make_robust_features`:

    >>> from robustfit.datasets import make_robust_features
    >>> from robustfit.theory import feature_usefulness
    >>> X, y = make_robust_features(20000, 100, p=0.95, random_state=0)
    >>> feature_usefulness(lambda x: x[:, :3], X, y).round(1).tolist()
    [0.9, 0.4, 0.4]
    """
    x, signs = _check_data(f, X, y)
    values, _, _ = _standardized(f, x)
    return _squeeze_binary(values.T @ signs / len(x))


def robust_usefulness(
    f: Callable,
    X: ArrayLike,
    y: ArrayLike,
    *,
    eps: float = 8 / 255,
    norm: str = "linf",
    clip_range: tuple[float, float] | None = (0.0, 1.0),
    n_steps: int = 20,
    step_size: float | None = None,
    n_restarts: int = 1,
    batch_size: int = 512,
    random_state: int | np.random.RandomState | None = None,
) -> np.ndarray:
    """Return gamma, the correlation of features with the label under attack.

    Every input is moved by projected gradient descent on ``y f(x)``, for each feature
    (and each class) on its own. Where a rectified feature is off and has no gradient,
    the first step follows its mean gradient on the other rows of the batch.

    Parameters
    ----------
    f : callable
        As in :func:`feature_usefulness`, differentiable by torch. Scaled by the mean
        and variance on the natural ``X``.
    X : array-like of shape (n_samples, ...)
    y : array-like of shape (n_samples,)
    eps : float, default=8/255
        Budget, ``>= 0``, in the units of X.
    norm : {"linf", "l2"}, default="linf"
    clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
        Valid values of X; None for unbounded features.
    n_steps : int, default=20
    step_size : float or None, default=None
        None is ``2.5 * eps / n_steps``.
    n_restarts : int, default=1
        The first starts at x, the others at random points of the ball.
    batch_size : int, default=512
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    gamma : ndarray of the shape that :func:`feature_usefulness` returns
        ``E[min y f(x + delta)]``, at most rho. PGD may miss the minimum, so it is an
        upper bound.

    Raises
    ------
    ValueError
        As :func:`feature_usefulness`, or for a bad threat model.
    PixelRangeError
        If X lies outside ``clip_range``.

    References
    ----------
    Ilyas et al. (2019), Eq. 2.

    Examples
    --------
    Any budget above 0.4 turns a weak feature against the label; the strong one keeps
    most of its correlation.

    >>> from robustfit.datasets import make_robust_features
    >>> from robustfit.theory import robust_usefulness
    >>> X, y = make_robust_features(2000, 100, p=0.95, random_state=0)
    >>> robust_usefulness(lambda x: x[:, :2], X, y, eps=0.5,
    ...                   clip_range=None).round(1).tolist()
    [0.4, -0.1]
    """
    threat_model = ThreatModel(norm, eps, clip_range)
    n_steps = check_integer("n_steps", n_steps, low=1)
    n_restarts = check_integer("n_restarts", n_restarts, low=1)
    batch_size = check_integer("batch_size", batch_size, low=1)
    X = threat_model.check_range(np.asarray(plain_array(X)))
    x, signs = _check_data(f, X, y)
    descent = _FeatureDescent(
        f, x, threat_model, n_steps, step_size, n_restarts, batch_size, random_state
    )
    n_features = descent.n_features
    columns = [
        descent.lowest_means(np.repeat(column[:, None], n_features, axis=1))
        for column in signs.T
    ]
    return _squeeze_binary(np.stack(columns, axis=1))


class _FeatureDescent:
    """Projected gradient descent on signed, standardized features, one by one."""

    def __init__(
        self, f, x, threat_model, n_steps, step_size, n_restarts, batch_size,
        random_state,
    ):  # fmt: skip
        self.f, self.x, self.threat_model = f, x, threat_model
        self.n_steps, self.n_restarts = n_steps, n_restarts
        self.step_size = step_size
        self.batch_size = batch_size
        self.generator = make_generator(draw_seed(random_state), x.device)
        values, self.mean, self.scale = _standardized(f, x)
        self.n_features = values.shape[1]

    def lowest_means(self, signs):
        """Return E[min sign * f] of every feature for signs (n_samples, n_features)."""
        means = np.zeros(self.n_features)
        for batch in batch_slices(len(self.x), self.batch_size):
            for feature in range(self.n_features):
                sign = to_tensor(signs[batch, feature], self.x.device)
                lowest = self._lowest(self.x[batch], sign, feature)
                means[feature] += float(lowest.double().sum())
        return means / len(self.x)

    def _signed(self, x, sign, feature):
        values = _as_columns(self.f(x), len(x))[:, feature]
        return sign * (values - float(self.mean[feature])) / float(self.scale[feature])

    def _lowest(self, x, sign, feature):
        with torch.no_grad():
            lowest = self._signed(x, sign, feature)

        def downhill(points):
            nonlocal lowest
            points = points.detach().requires_grad_(True)
            value = self._signed(points, sign, feature)
            lowest = torch.minimum(lowest, value.detach())
            return -_input_gradient(value, points, sign)

        for restart in range(self.n_restarts):
            start = x
            if restart > 0:
                start = self.threat_model.random_start(x, self.generator)
            x_adv = self.threat_model.climb(
                downhill, start, x, n_steps=self.n_steps, step_size=self.step_size
            )
            with torch.no_grad():
                lowest = torch.minimum(lowest, self._signed(x_adv, sign, feature))
        return lowest


def _input_gradient(value, x, sign):
    """Gradient of each value in its own row; zeros where f does not depend on x.

    A rectified feature that is off has no gradient, which hides how to turn it on:
    such rows borrow the direction in which the feature grows on the others.
    """
    gradient = None
    if value.requires_grad:
        (gradient,) = torch.autograd.grad(value.sum(), x, allow_unused=True)
    if gradient is None:
        return torch.zeros_like(x)
    off = (gradient == 0).flatten(1).all(dim=1)
    if off.any() and not off.all():
        sign = per_sample(sign, x)
        growth = (sign * gradient)[~off].mean(dim=0, keepdim=True)
        gradient = torch.where(off.reshape(sign.shape), sign * growth, gradient)
    return gradient


def _check_data(f, X, y):
    """Return X as a tensor where f lives, and one column of +-1 a class."""
    if not callable(f):
        raise ValueError(
            f"f is {type(f).__name__}; expected a function of a tensor (n_samples, "
            "...), for example lambda x: x[:, 0]."
        )
    X = np.asarray(X, dtype=np.float32)
    y = column_or_1d(y, warn=True)
    check_classification_targets(y)
    if len(X) != len(y) or len(X) == 0:
        raise ValueError(
            f"X has {len(X)} rows and y has {len(y)}; expected as many, at least one."
        )
    if X.ndim < 2:
        raise ValueError(
            f"X has shape {X.shape}; expected (n_samples, ...). Use X.reshape(-1, 1) "
            "for one number a row."
        )
    if not np.isfinite(X).all():
        raise ValueError("X holds NaN or infinity; expected finite numbers.")
    classes = np.unique(y)
    if len(classes) < 2:
        raise ValueError(
            f"y holds {len(classes)} class, {classes[0]!r}; expected at least two."
        )
    columns = classes[1:] if len(classes) == 2 else classes
    signs = np.where(y[:, None] == columns, 1.0, -1.0)
    return to_tensor(X, getattr(f, "device", "cpu")), signs


def _as_columns(values, n_samples):
    """Return feature values as (n_samples, n_features)."""
    if values.ndim == 1 and len(values) == n_samples:
        return values[:, None]
    if values.ndim != 2 or len(values) != n_samples:
        raise ValueError(
            f"f returned shape {tuple(values.shape)} for {n_samples} rows; expected "
            f"({n_samples},) or ({n_samples}, n_features)."
        )
    return values


def _standardized(f, x, batch_size=4096):
    """Return float64 values with mean 0 and variance 1, the mean and the scale."""
    with torch.no_grad():
        parts = [
            to_array(_as_columns(f(x[batch]), len(x[batch])))
            for batch in batch_slices(len(x), batch_size)
        ]
    values = np.concatenate(parts).astype(np.float64)
    mean, scale = values.mean(axis=0), values.std(axis=0)
    scale[scale <= 1e-7 * np.abs(values).max(axis=0)] = 1.0
    return (values - mean) / scale, mean, scale


def _squeeze_binary(rho):
    return rho[:, 0] if rho.shape[1] == 1 else rho
