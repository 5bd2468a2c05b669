"""One polynomial for all layers of a ReLU net without bias.

On unit rows with cosine t the kernel of such a net is a function kappa(t) alone. It is
smooth in ``u = sqrt((1 - t) / 2)`` for t >= 0 and in ``v = sqrt((1 + t) / 2)`` for
t <= 0, whatever the depth, so low degrees are exact to within rounding.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.polynomial import Chebyshev, Polynomial

__all__ = ["KernelPolynomials", "compose", "fit_polynomials"]

END = math.sqrt(0.5)  # u and v of t = 0


@dataclass(frozen=True)
class KernelPolynomials:
    """Coefficients, lowest degree first.

    Attributes
    ----------
    near, far : tuple of float
        kappa as a polynomial in u for t >= 0 and in v for t < 0.
    near_slope, far_slope : tuple of float
        Their derivatives in u and v.
    inverse : tuple of float or None
        ``w kappa'(t)`` as a polynomial in ``w = 1 - kappa(t) / kappa(1)``, for t >= 0:
        the derivative from the value alone. None for the NNGP, whose w is quadratic in
        u: there rounding of the value would show.
    w_end : float
        The w of t = 0. Every t < 0 has a larger one.
    """

    near: tuple
    far: tuple
    near_slope: tuple
    far_slope: tuple
    inverse: tuple | None
    w_end: float


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
        bent = np.sin(theta) - theta * np.cos(theta)
        half_versine = half_versine - bent / (2 * math.pi)
        t = 1 - 2 * half_versine
        total = t + k0 * total if kind == "ntk" else t
    return total


@lru_cache(maxsize=64)
def fit_polynomials(depth, kind, dtype):
    """Return the :class:`KernelPolynomials` that are exact to rounding of ``dtype``.

    Parameters
    ----------
    depth : int
    kind : {"ntk", "nngp"}
    dtype : torch.dtype
    """
    tolerance = 2e-8 if dtype == torch.float32 else 1e-14
    near, near_exact = (
        _fit(lambda u: compose(u, depth, kind), END, limit)
        for limit in (tolerance, 1e-15)
    )
    far, far_exact = (
        _fit(lambda v: compose(np.sqrt(1 - v * v), depth, kind), END, limit)
        for limit in (tolerance, 1e-15)
    )
    # The slope is fitted anew: the derivative of a fit is less exact than the fit.
    # In float32 rounding leaves it no more than six digits.
    tolerance = max(tolerance, 2e-7) if dtype == torch.float32 else tolerance
    slopes = (_fit(exact.deriv(), END, tolerance) for exact in (near_exact, far_exact))
    w_end = float(1 - near_exact(END) / near_exact(0.0))
    inverse = _fit_inverse(near_exact, w_end, tolerance) if kind == "ntk" else None
    return KernelPolynomials(
        *(tuple(fit.coef) for fit in (near, far, *slopes)),
        None if inverse is None else tuple(inverse.coef),
        w_end,
    )


def _fit(function, end, tolerance):
    """Fit on [0, end] with the exact value at 0; the degree as needed."""
    first = float(function(np.zeros(1))[0])
    grid = end * np.sin(np.linspace(1e-3, math.pi / 2, 1000)) ** 2
    exact = function(grid)
    best, best_error = Polynomial([first]), math.inf
    for degree in range(4, 30):
        quotient = Chebyshev.interpolate(
            lambda u: (function(u) - first) / u, degree, domain=[0, end]
        ).convert(kind=Polynomial)
        fitted = Polynomial([first, *quotient.coef])
        error = np.abs(fitted(grid) - exact).max() / np.abs(exact).max()
        if error < best_error:
            best, best_error = fitted, error
        if best_error < tolerance:
            break
    return best


def _fit_inverse(near, w_end, tolerance):
    """Fit ``w kappa'(t) = -w kappa'(u) / (4 u)`` as a function of w."""
    slope, peak = near.deriv(), near(0.0)

    def weighted_slope(w):
        u = _solve(lambda u: 1 - near(u) / peak, w)
        ratio = np.where(u > 0, w / np.where(u > 0, u, 1.0), -slope(0.0) / peak)
        return -ratio * slope(u) / 4

    return _fit(weighted_slope, w_end, tolerance)


def _solve(increasing, values):
    """Return u in [0, END] with ``increasing(u) = values``, by bisection."""
    low, high = np.zeros_like(values), np.full_like(values, END)
    for _ in range(60):
        middle = (low + high) / 2
        is_below = increasing(middle) < values
        low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
    return np.where(values > 0, (low + high) / 2, 0.0)
