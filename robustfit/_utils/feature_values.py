"""One number for all features, or one for each: to compare and hash, and as tensors.

A frozen dataclass wants values that compare and hash, arithmetic wants tensors: numbers
of features are kept as (nested) tuples and become tensors where they meet a sample.
"""

import math
from functools import lru_cache
from numbers import Real
from typing import Any

import numpy as np
import torch

__all__ = [
    "check_feature_count",
    "feature_array",
    "integer_columns",
    "on_features",
    "read_feature_values",
]


def read_feature_values(name: str, value: Any, expected: str) -> Any:
    """Return a number as it is, and an array of them as nested tuples of floats.

    Parameters
    ----------
    name, expected : str
        Of the argument and what it has to be, for the message.
    value : float or array-like of shape (n_features,) or of a sample

    Raises
    ------
    ValueError
        For anything else, or a NaN.
    """
    if isinstance(value, Real) and not isinstance(value, bool | np.bool_):
        return value
    error = ValueError(f"{name} is {value!r}; expected {expected}.")
    if isinstance(value, bool | np.bool_ | str) or value is None:
        raise error
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise error from None
    if array.size == 0 or np.isnan(array).any():
        raise error
    return _as_tuples(array.tolist())


def _as_tuples(values):
    if isinstance(values, list):
        return tuple(_as_tuples(value) for value in values)
    return values


def feature_array(values: Any, shape: tuple = ()) -> np.ndarray:
    """Return a number, or one for each feature, as float64 of a sample's ``shape``."""
    array = np.asarray(values, dtype=float)
    if array.ndim == 0:
        return np.broadcast_to(array, shape)
    return array.reshape(shape) if shape else array


def on_features(values: Any, x: torch.Tensor) -> Any:
    """Return a number as it is, one for each feature as a tensor of a sample's shape.

    It broadcasts against ``x`` (n_samples, ...) and has its dtype and device.
    """
    if not isinstance(values, tuple):
        return values
    tensor = _as_tensor(values, x.dtype, x.device)
    if tensor.numel() != math.prod(x.shape[1:]):
        raise ValueError(
            f"eps or clip_range is for {tensor.numel()} features; a sample has "
            f"{math.prod(x.shape[1:])}."
        )
    return tensor.reshape(x.shape[1:])


@lru_cache(maxsize=64)
def _as_tensor(values, dtype, device):
    # Attacks ask for the same few in every step; nobody writes to them.
    return torch.tensor(values, dtype=dtype, device=device)


def check_feature_count(name: str, values: Any, X: Any) -> None:
    """Raise unless there is one value for each feature of ``X`` (n_samples, ...).

    Flat rows take values in the shape of an image too, whose numbers they are.

    Raises
    ------
    ValueError
        Naming both shapes.
    """
    if not isinstance(values, tuple):
        return
    shape, sample = np.shape(values), tuple(X.shape[1:])
    if len(shape) > 1 and len(sample) > 1:
        fits = shape == sample
    else:
        fits = math.prod(shape) == math.prod(sample)
    if not fits:
        raise ValueError(
            f"{name} has shape {shape}, but a sample of X has shape {sample}; expected "
            "one number, or one for each feature in the order of X's columns "
            "(0 in eps for those that the adversary cannot touch)."
        )


def integer_columns(X: np.ndarray) -> np.ndarray:
    """Return the columns (bool) of flat rows that hold two or more whole numbers only.

    Codes, counts and one-hot columns; a column that never varies tells nothing.
    """
    varies = X.min(axis=0) < X.max(axis=0)
    return varies & (np.round(X) == X).all(axis=0)
