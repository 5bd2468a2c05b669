"""What is wrong with data for a budget and a range, and how to repair it, in words."""

import numpy as np

from robustfit._utils.feature_values import feature_array

__all__ = ["describe_excess", "describe_integers"]


def describe_excess(X, clip_range, excess):
    """Return what to say of X (n_samples, ...) that leaves its range.

    Parameters
    ----------
    X : ndarray or torch.Tensor
    clip_range : tuple of (low, high)
        Each a number or nested tuples of them.
    excess : ndarray of the shape of a sample
        By how much each feature does.
    """
    place, where = int(np.argmax(excess)), ""
    if any(isinstance(bound, tuple) for bound in clip_range):
        where = f" in {_feature_name(place, excess.shape)}"
        X = X.reshape(len(X), -1)[:, place]
    low, high = (feature_array(b, excess.shape).flat[place] for b in clip_range)
    smallest, largest = float(X.min()), float(X.max())
    return (
        f"X lies in [{smallest:g}, {largest:g}]{where}; expected "
        f"clip_range=({low:g}, {high:g}). {_range_advice(smallest, largest, high)}"
    )


def _feature_name(place, shape):
    if len(shape) == 1:
        return f"column {place}"
    return f"feature {tuple(int(i) for i in np.unravel_index(place, shape))}"


def describe_integers(columns):
    """Return what to say of ``columns`` of integers that a budget moves."""
    return (
        f"Columns {columns} of X hold integers, and eps lets the attack move them to "
        "fractions, and one-hot columns apart from each other. An adversary that has "
        "to keep integers can do less, so its robust accuracy may be higher than the "
        "number found here. Give columns that it cannot change the budget 0."
    )


def _range_advice(smallest, largest, high):
    if smallest >= 0 and 1 < largest <= 255 and high == 1:
        scale = 16 if largest <= 16 else 255
        return (
            f"Divide by the largest possible value first, for example X / {scale} "
            f"when pixels are 0..{scale}."
        )
    return "Rescale X, or pass the clip_range that holds (None for unbounded features)."
