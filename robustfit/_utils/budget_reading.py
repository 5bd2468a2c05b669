"""What users may say about a budget and a range, as a threat model keeps it."""

import numpy as np

from robustfit._utils.feature_values import feature_array, read_feature_values

__all__ = ["read_budget", "read_clip_range"]


def read_budget(eps, scale):
    """Return eps as one number, and the scale as tuples, or None for one for all."""
    eps = read_feature_values(
        "eps", eps,
        "one number >= 0 in the units of X (for pixels in [0, 1], for example 8/255), "
        "or one for each feature",
    )  # fmt: skip
    _check_budgets("eps", eps)
    if scale is not None:
        scale = read_feature_values("scale", scale, "one number >= 0 for each feature")
        _check_budgets("scale", scale)
        if isinstance(eps, tuple) or not isinstance(scale, tuple):
            raise ValueError(
                f"eps is {eps!r} and scale {scale!r}; expected one eps and a scale for "
                "each feature. Pass their product as eps, and no scale."
            )
    if not isinstance(eps, tuple):
        return eps, scale
    budgets = feature_array(eps)
    largest = float(budgets.max())
    share = budgets / largest if largest > 0 else budgets
    return largest, read_feature_values("eps", share, "")


def _check_budgets(name, values):
    numbers = feature_array(values)
    bad = ~(np.isfinite(numbers) & (numbers >= 0))
    if bad.any():
        raise ValueError(
            f"{name} is {float(numbers[bad][0])!r}; expected a finite number >= 0"
            f"{' for each feature' if numbers.ndim else ''}."
        )


def read_clip_range(clip_range):
    """Return (low, high), numbers or tuples of numbers, or None."""
    if clip_range is None:
        return None
    error = ValueError(
        f"clip_range is {clip_range!r}; expected (low, high) or None: two numbers, or "
        "two arrays of one for each feature."
    )
    if isinstance(clip_range, list | np.ndarray):
        is_flat = all(np.ndim(bound) == 0 for bound in clip_range)
        clip_range = tuple(np.asarray(clip_range).tolist() if is_flat else clip_range)
    if not isinstance(clip_range, tuple) or len(clip_range) != 2:
        raise error
    low, high = (read_feature_values("clip_range", b, "numbers") for b in clip_range)
    both = isinstance(low, tuple) and isinstance(high, tuple)
    if both and np.shape(low) != np.shape(high):
        raise error
    gap = feature_array(high) - feature_array(low)
    # A column that never varies has a range of one value.
    if not ((gap >= 0).all() if gap.ndim else gap > 0):
        raise ValueError(f"clip_range is {clip_range!r}; expected low < high.")
    return low, high
