"""The ReLU layer of an infinitely wide net, in closed form.

With ``t`` the cosine between two inputs and ``theta = arccos(t)``, the arc-cosine
kernels of order 0 and 1 (Cho & Saul, "Kernel Methods for Deep Learning", NeurIPS 2009)
are ``k0 = (pi - theta) / pi`` and ``k1 = (sin(theta) + (pi - theta) t) / pi``.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.polynomial import Chebyshev, Polynomial

__all__ = ["ReluLayer", "compose", "fit_polynomials", "snap_below"]


def snap_below(dtype):
    """Return the ``1 - t`` below which two rows count as parallel.

    It is above the rounding of t, so that duplicates get the value and the gradient
    of the diagonal.
    """
    return 6 * torch.finfo(dtype).eps


def compose(u, depth, kind):
    """Return the kernel of ``depth`` ReLU layers, without bias, on unit rows.

    Parameters
    ----------
    u : array of float64
        ``sqrt((1 - t) / 2) = sin(theta / 2)``, in [0, 1].
    depth : int
        Number of ReLU layers.
    kind : {"ntk", "nngp"}

    Returns
    -------
    array
        ``t_L`` for the NNGP; ``sum_l t_l prod_{j >= l} k0(t_j)`` for the NTK, where
        ``t_{l+1} = k1(t_l)``.
    """
    half_versine = np.square(u)  # (1 - t) / 2, which keeps its digits near t = 1
    total = 1 - 2 * half_versine
    for _ in range(depth):
        theta = 2 * np.arcsin(np.sqrt(half_versine))
        k0 = 1 - theta / math.pi
        half_versine = half_versine - (np.sin(theta) - theta * np.cos(theta)) / (
            2 * math.pi
        )
        t = 1 - 2 * half_versine
        total = t + k0 * total if kind == "ntk" else t
    return total


@lru_cache(maxsize=64)
def fit_polynomials(depth, kind, dtype):
    """Return the coefficients of the kernel as polynomials, lowest degree first.

    The kernel of any depth is smooth in ``u = sqrt((1 - t) / 2)`` for t >= 0 and in
    ``v = sqrt((1 + t) / 2)`` for t <= 0, so a polynomial of each replaces all layers.

    Parameters
    ----------
    depth : int
    kind : {"ntk", "nngp"}
    dtype : torch.dtype
        Sets how exact the fit is.

    Returns
    -------
    near, far : tuple of float
        For t >= 0, with the exact value at t = 1, and for t < 0.
    """
    tolerance = 2e-8 if dtype == torch.float32 else 1e-14
    near = _fit(lambda u: compose(u, depth, kind), tolerance)
    far = _fit(lambda v: compose(np.sqrt(1 - v * v), depth, kind), tolerance)
    return near, far


def _fit(function, tolerance):
    """Fit on [0, sqrt(1/2)] with the exact value at 0; degree as needed."""
    end = math.sqrt(0.5)
    first = float(function(np.zeros(1))[0])
    grid = end * np.sin(np.linspace(1e-3, math.pi / 2, 2000)) ** 2
    exact = function(grid)
    scale = np.abs(exact).max()
    best, best_error = None, math.inf
    for degree in range(4, 40):
        quotient = Chebyshev.interpolate(
            lambda u: (function(u) - first) / u, degree, domain=[0, end]
        ).convert(kind=Polynomial)
        fitted = Polynomial([first, *quotient.coef])
        error = np.abs(fitted(grid) - exact).max() / scale
        if error < best_error:
            best, best_error = fitted, error
        if best_error < tolerance:
            break
    return tuple(float(c) for c in best.coef)


class ReluLayer(torch.autograd.Function):
    """Covariance and derivative covariance after a ReLU, with a finite gradient.

    ``forward(covariance, q_x, q_y)`` returns ``E[relu(f) relu(g)]`` and
    ``E[relu'(f) relu'(g)]`` for centred Gaussian (f, g) of that covariance and
    variances. ``q_x`` and ``q_y`` broadcast against ``covariance``. Where rows are
    parallel the derivative covariance has a cusp, and its gradient counts as zero.
    """

    @staticmethod
    def forward(ctx, covariance, q_x, q_y):
        """Return both moments."""
        scale, t, theta, sine = _angles(covariance, q_x, q_y)
        moment = scale * (sine + (math.pi - theta) * t) / (2 * math.pi)
        ctx.save_for_backward(covariance, q_x, q_y)
        return moment, (math.pi - theta) / (2 * math.pi)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_moment, grad_dot):
        """Return the gradients of the covariance and of the variances."""
        covariance, q_x, q_y = ctx.saved_tensors
        scale, t, theta, sine = _angles(covariance, q_x, q_y)
        cosecant = torch.where(sine > 0, 1 / sine, 0.0)
        grad = grad_moment * (math.pi - theta)
        grad += grad_dot * cosecant * torch.where(scale > 0, 1 / scale, 0.0)
        grad_log_q = grad_moment * scale * sine - grad_dot * t * cosecant
        grad_log_q /= 4 * math.pi
        return (
            grad / (2 * math.pi),
            _sum_to(grad_log_q, q_x) * torch.where(q_x > 0, 1 / q_x, 0.0),
            _sum_to(grad_log_q, q_y) * torch.where(q_y > 0, 1 / q_y, 0.0),
        )


def _angles(covariance, q_x, q_y):
    scale = (q_x * q_y).sqrt()
    t = torch.where(scale > 0, covariance / scale, 0.0)
    # Rounding takes |t| past 1, where arccos has no value; both ends are snapped.
    snap = snap_below(t.dtype)
    t = torch.where(1 - t < snap, 1.0, torch.where(1 + t < snap, -1.0, t))
    return scale, t, torch.arccos(t), ((1 - t) * (1 + t)).sqrt()


def _sum_to(values, like):
    return values.sum_to_size(like.shape)
