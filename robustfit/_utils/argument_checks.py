"""Checks of arguments: numbers, counts, vectors, covariances."""

import math
from numbers import Integral, Real

import numpy as np

__all__ = [
    "check_count",
    "check_covariance",
    "check_integer",
    "check_number",
    "check_signs",
    "check_vector",
]


def check_number(name, value, *, low=-math.inf, high=math.inf, open_low=False):
    """Return ``value`` as a float in [low, high] (or (low, high]), else raise.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    value : float
    low, high : float
        Bounds; ``high`` belongs to the range.
    open_low : bool, default=False
        Whether ``low`` itself is not allowed.

    Raises
    ------
    ValueError
        If the value is no finite real number in the range.
    """
    expected = f"expected a finite number {_describe_range(low, high, open_low)}"
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise ValueError(f"{name} is {value!r}; {expected}.")
    inside = (value > low if open_low else value >= low) and value <= high
    if not (math.isfinite(value) and inside):
        raise ValueError(f"{name} is {value!r}; {expected}.")
    return float(value)


def _describe_range(low, high, open_low):
    if math.isinf(low) and math.isinf(high):
        return "of any sign"
    sign = ">" if open_low else ">="
    if math.isinf(high):
        return f"{sign} {low:g}"
    return f"in {'(' if open_low else '['}{low:g}, {high:g}]"


def check_count(name, value):
    """Raise a ValueError naming the parameter unless it is an integer >= 1."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} is {value!r}; expected an integer >= 1.")


def check_integer(name, value, *, low=0, high=None):
    """Return ``value`` as an int in [low, high], else raise ValueError."""
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if is_integer and value >= low and (high is None or value <= high):
        return int(value)
    bounds = f">= {low}" if high is None else f"from {low} to {high}"
    raise ValueError(f"{name} is {value!r}; expected an integer {bounds}.")


def check_vector(name, value, *, length=None):
    """Return ``value`` as a finite float64 vector, else raise ValueError."""
    vector = np.asarray(value, dtype=float)
    if vector.ndim != 1 or len(vector) == 0:
        raise ValueError(
            f"{name} has shape {vector.shape}; expected a vector (n_features,)."
        )
    if length is not None and len(vector) != length:
        raise ValueError(f"{name} has length {len(vector)}; expected {length}.")
    if not np.isfinite(vector).all():
        raise ValueError(f"{name} holds NaN or infinity; expected finite numbers.")
    return vector


def check_covariance(name, value, *, length=None):
    """Return ``value`` as a symmetric positive semi-definite matrix, else raise.

    A vector is taken as the variances on the diagonal.
    """
    matrix = np.asarray(value, dtype=float)
    if matrix.ndim == 1:
        matrix = np.diag(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise ValueError(
            f"{name} has shape {matrix.shape}; expected (n_features, n_features), or "
            "a vector of variances."
        )
    if length is not None and len(matrix) != length:
        raise ValueError(
            f"{name} is for {len(matrix)} features; expected {length}, the length of "
            "the mean."
        )
    if not np.isfinite(matrix).all():
        raise ValueError(f"{name} holds NaN or infinity; expected finite numbers.")
    scale = np.abs(matrix).max()
    if not np.allclose(matrix, matrix.T, atol=1e-8 * scale, rtol=0):
        raise ValueError(f"{name} is not symmetric; pass (S + S.T) / 2.")
    smallest = np.linalg.eigvalsh(matrix)[0]
    if smallest < -1e-8 * max(scale, np.finfo(float).tiny):
        raise ValueError(
            f"{name} has the negative eigenvalue {smallest:.3g}; a covariance is "
            "positive semi-definite."
        )
    return matrix


def check_signs(name, value):
    """Return ``value`` as a vector of -1.0 and 1.0, else raise ValueError."""
    signs = check_vector(name, value)
    if not np.isin(signs, (-1, 1)).all():
        raise ValueError(f"{name} is {value!r}; expected entries -1 and 1.")
    return signs
