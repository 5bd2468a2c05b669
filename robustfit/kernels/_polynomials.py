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

__all__ = [
    "CENTRE",
    "KernelPolynomials",
    "SlopeFromValue",
    "compose",
    "fit_polynomials",
    "is_exact",
]

END = math.sqrt(0.5)  # u and v of t = 0
# Powers of u itself would cancel, which costs a digit in float32.
CENTRE = END / 2


@dataclass(frozen=True)
class SlopeFromValue:
    """kappa'(t) for t >= 0 as a function of ``k = kappa(t) / kappa(1)`` alone.

    ``s kappa'(t)`` is a polynomial in ``s - centre``, with s either ``1 - k`` or
    ``1 / sqrt(k) - 1``. Both grow as t falls, and are of the order of u near t = 1.

    Attributes
    ----------
    is_root : bool
        Whether s is ``1 / sqrt(k) - 1``.
    coefficients : tuple of float
        Lowest degree first.
    centre, end : float
        Middle of the range and the s of t = 0; every t < 0 has a larger one.
    scale : float
        ds/du at t = 1.
    """

    is_root: bool
    coefficients: tuple
    centre: float
    end: float
    scale: float


@dataclass(frozen=True)
class KernelPolynomials:
    """Coefficients, lowest degree first.

    Attributes
    ----------
    peak : float
        kappa(1).
    near, far : tuple of float
        kappa as a polynomial in ``u - CENTRE`` for t >= 0, ``v - CENTRE`` for t < 0.
    near_slope, far_slope : tuple of float
        Their derivatives in u and v.
    from_value : SlopeFromValue or None
        Only in float32 and for the NTK (the value of the NNGP is quadratic in u near
        t = 1: rounding would show), and only where it is exact to rounding.
    """

    peak: float
    near: tuple
    far: tuple
    near_slope: tuple
    far_slope: tuple
    from_value: SlopeFromValue | None


def compose(u, v, depth, kind):
    """Return the kernel of ``depth`` ReLU layers, without bias, on unit rows.

    Both halves of the angle are given, so that no digit is lost near t = 1, where v is
    1 whatever u, nor near t = -1.

    Parameters
    ----------
    u, v : array of float64
        ``sqrt((1 - t) / 2) = sin(theta / 2)`` and ``sqrt((1 + t) / 2)``, in [0, 1].
    depth : int
        Number of ReLU layers.
    kind : {"ntk", "nngp"}

    Returns
    -------
    array
        ``t_L`` for the NNGP; ``sum_l t_l prod_{j >= l} k0(t_j)`` for the NTK, where
        ``t_{l+1} = k1(t_l)``.
    """
    total = v * v - u * u
    for _ in range(depth):
        theta, k0 = 2 * np.arctan2(u, v), 2 * np.arctan2(v, u) / math.pi
        bent = 2 * u * v - theta * (v * v - u * u)  # sin(theta) - theta cos(theta)
        half_versine = u * u - bent / (2 * math.pi)
        u, v = np.sqrt(half_versine), np.sqrt(1 - half_versine)
        t = 1 - 2 * half_versine
        total = t + k0 * total if kind == "ntk" else t
    return total


def _compose_near(u, depth, kind):
    """Return the kernel for t >= 0 as a function of u."""
    return compose(u, np.sqrt(1 - u * u), depth, kind)


def _compose_far(v, depth, kind):
    """Return the kernel for t <= 0 as a function of v."""
    return compose(np.sqrt(1 - v * v), v, depth, kind)


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
        _fit(lambda u: _compose_near(u, depth, kind), END, limit)
        for limit in (tolerance, 1e-15)
    )
    far, far_exact = (
        _fit(lambda v: _compose_far(v, depth, kind), END, limit)
        for limit in (tolerance, 1e-15)
    )
    # The slope is fitted anew: the derivative of a fit is less exact than the fit.
    # In float32 rounding leaves it no more than six digits.
    is_float32 = dtype == torch.float32
    tolerance = 2e-7 if is_float32 else tolerance
    slopes = [_fit(exact.deriv(), END, tolerance) for exact in (near_exact, far_exact)]
    from_value = None
    if kind == "ntk" and is_float32:
        from_value = _fit_from_value(near_exact, tolerance)
    peak = float(compose(0.0, 1.0, depth, kind))
    names = ("near", "far", "near_slope", "far_slope")
    fits = zip(names, (near, far, *slopes), strict=True)
    coefficients = {name: _centred(fit, CENTRE) for name, fit in fits}
    return KernelPolynomials(peak, from_value=from_value, **coefficients)


def _centred(fitted, centre):
    """Return the coefficients in powers of ``u - centre``, the middle of the domain."""
    return tuple(float(c / centre**k) for k, c in enumerate(fitted.coef))


def _fit(function, end, tolerance):
    """Fit on [0, end] with the exact value at 0; the degree as needed.

    Powers are those of the domain's own variable, in [-1, 1]: in powers of u the
    coefficients would be large and cancel.
    """
    domain = [0, end]
    u = Polynomial.identity(domain=domain)
    first = float(function(np.zeros(1))[0])
    grid = end * np.sin(np.linspace(1e-3, math.pi / 2, 1000)) ** 2
    exact = function(grid)
    best, best_error = Polynomial([first], domain), math.inf
    for degree in range(4, 30):
        quotient = Chebyshev.interpolate(
            lambda u: (function(u) - first) / u, degree, domain=domain
        ).convert(kind=Polynomial, domain=domain)
        fitted = first + u * quotient
        error = np.abs(fitted(grid) - exact).max() / np.abs(exact).max()
        if error < best_error:
            best, best_error = fitted, error
        if best_error < tolerance:
            break
    return best


def _fit_from_value(near, tolerance):
    """Return the SlopeFromValue of the lowest degree, or None if none is exact."""
    for degree in range(8, 17, 2):
        for is_root in (False, True):
            found, error = _fit_one_from_value(near, is_root, degree)
            if error < 4 * tolerance:
                return found
    return None


def _fit_one_from_value(near, is_root, degree):
    slope, peak = near.deriv(), near(0.0)

    def value(u):
        k = near(u) / peak
        return k**-0.5 - 1 if is_root else 1 - k

    scale = -slope(0.0) / peak * (0.5 if is_root else 1.0)
    end = float(value(END))

    def weighted_slope(s):  # s kappa'(t) = -(s / u) kappa'(u) / 4
        u = _solve(value, s)
        return -np.where(u > 1e-7, s / np.maximum(u, 1e-7), scale) * slope(u) / 4

    domain = [0, end]
    fitted = Chebyshev.interpolate(weighted_slope, degree, domain=domain)
    grid = np.linspace(0, end, 500)
    exact = weighted_slope(grid)
    error = np.abs(fitted(grid) / exact - 1).max()
    coefficients = _centred(fitted.convert(kind=Polynomial, domain=domain), end / 2)
    return SlopeFromValue(is_root, coefficients, end / 2, end, float(scale)), error


def _solve(increasing, values):
    """Return u in [0, END] with ``increasing(u) = values``, by bisection."""
    low, high = np.zeros_like(values), np.full_like(values, END)
    for _ in range(60):
        middle = (low + high) / 2
        is_below = increasing(middle) < values
        low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
    return (low + high) / 2


@lru_cache(maxsize=64)
def is_exact(depth, kind, dtype):
    """Return whether the polynomials hold; they do not for very deep nets."""
    fit = fit_polynomials(depth, kind, dtype)
    u = np.linspace(0, END, 500)
    limit = 3e-7 if dtype == torch.float32 else 1e-13
    pairs = ((fit.near, _compose_near), (fit.far, _compose_far))
    return all(
        np.abs(Polynomial(coefficients)(u - CENTRE) - exact(u, depth, kind)).max()
        < limit * fit.peak
        for coefficients, exact in pairs
    )
