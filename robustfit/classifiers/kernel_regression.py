"""Kernel regression on tensors: Cholesky in place, with a ridge raised when needed."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from robustfit.exceptions import JitterWarning

__all__ = [
    "LOGIT_SCALE",
    "KernelRegression",
    "kernel_dtype",
    "one_hot",
    "solve_kernel_regression",
]

# Outputs lie between the labels 0 and 1, where a softmax is nearly flat and the
# cross-entropy hardly tells one rival class from another: PGD-10 on raw outputs left
# 57 % of 100 digits standing where AutoAttack left 36 %; on scaled outputs, 36 %.
LOGIT_SCALE = 30.0

_LARGEST_RIDGE = 1.0


class KernelRegression(NamedTuple):
    """The predictor ``kernel(x, points) @ dual`` and what it was solved with.

    Attributes
    ----------
    kernel : callable
    points : torch.Tensor of shape (n_points, n_features)
    dual : torch.Tensor of shape (n_points, n_classes)
        ``K^-1 Y``.
    factor : torch.Tensor of shape (n_points, n_points)
        Lower Cholesky factor of the kernel matrix with its ridge.
    ridge : float
        The ridge, as a share of the mean of the kernel's diagonal.
    """

    kernel: Callable
    points: torch.Tensor
    dual: torch.Tensor
    factor: torch.Tensor
    ridge: float

    def __call__(self, x):
        """Return the outputs (n_samples, n_classes) at the tensor ``x``."""
        return self.kernel(x, self.points) @ self.dual

    def logits(self, x):
        """Return the outputs as attacks want them: scaled."""
        return LOGIT_SCALE * self(x)

    def solve(self, y):
        """Return ``K^-1 y``, shape of ``y`` (n_points, n_classes)."""
        return _solve(self.factor, y)


def solve_kernel_regression(kernel, points, y, alpha):
    """Solve ``(K + alpha mean(diag K) I) dual = y`` and return the predictor.

    Parameters
    ----------
    kernel : callable
        Takes tensors (n, d) and (m, d) or None, returns (n, m).
    points : torch.Tensor of shape (n_points, n_features)
    y : torch.Tensor of shape (n_points, n_classes)
    alpha : float
        Ridge as a share of the mean of the diagonal. Where rounding makes the matrix
        indefinite it is raised tenfold until Cholesky succeeds, with a warning.

    Returns
    -------
    KernelRegression

    Raises
    ------
    ValueError
        If the kernel is not finite, or not positive semi-definite at any ridge.
    """
    points, ridge = points.detach(), alpha
    while ridge <= max(alpha, _LARGEST_RIDGE):
        factor = _factorise(kernel, points, ridge)
        if factor is not None:
            if ridge > alpha:
                _warn_of_ridge(alpha, ridge, points.dtype)
            dual = _solve(factor, y)
            return KernelRegression(kernel, points, dual, factor, ridge)
        ridge = max(10 * ridge, torch.finfo(points.dtype).eps)
    raise ValueError(
        f"The matrix of {kernel!r} on {len(points)} rows is not positive semi-definite "
        f"even with a ridge of its mean diagonal. Is it a kernel, and symmetric?"
    )


def _factorise(kernel, points, ridge):
    """Return the Cholesky factor of the matrix with its ridge; None if it has none."""
    with torch.no_grad():
        matrix = kernel(points).contiguous()
    diagonal = matrix.diagonal()
    scale = float(diagonal.mean())
    if not np.isfinite(scale):
        raise ValueError(
            f"{kernel!r} is not finite on the rows given; are their values too large?"
        )
    diagonal.add_(ridge * (scale or 1.0))
    # The transpose is laid out as LAPACK wants it, so the factor replaces the matrix.
    matrix = matrix.mT
    info = torch.empty((), dtype=torch.int32, device=points.device)
    torch.linalg.cholesky_ex(matrix, out=(matrix, info))
    return matrix if int(info) == 0 and _is_reliable(matrix, points) else None


def _is_reliable(factor, points):
    """Return whether rounding leaves the smallest pivot meaningful."""
    pivots = factor.diagonal()
    smallest = float(pivots.min() / pivots.max().clamp_min(1e-30)) ** 2
    return smallest > torch.finfo(points.dtype).eps / 10


def _solve(factor, y):
    half = torch.linalg.solve_triangular(factor, y, upper=False)
    return torch.linalg.solve_triangular(factor.mT, half, upper=True)


def _warn_of_ridge(alpha, ridge, dtype):
    name = str(dtype).removeprefix("torch.")
    warnings.warn(
        f"The kernel matrix is not positive definite in {name} with alpha={alpha:g}; "
        f"the ridge was raised to {ridge:g} of its mean diagonal. Near-duplicate rows "
        "do this; a float64 kernel or a larger alpha avoids it.",
        JitterWarning,
        stacklevel=4,
    )


def one_hot(y, n_classes):
    """Return centred one-hot rows: 1 - 1/n_classes for the class, else -1/n_classes.

    A constant added to all outputs changes no decision; centred, a kernel without a
    constant part need not spend itself on it.
    """
    return torch.eye(n_classes, device=y.device)[y] - 1 / n_classes


def kernel_dtype(kernel):
    """Return the torch dtype a kernel computes in; float32 if it does not say."""
    dtype = getattr(kernel, "dtype", None) or torch.float32
    return dtype if isinstance(dtype, torch.dtype) else getattr(torch, str(dtype))
