"""How much memory a distillation needs, said before it starts."""

from robustfit._utils.memory import free_bytes
from robustfit.exceptions import MemoryBudgetError

__all__ = ["check_memory", "needed_bytes"]

_GIB = 2**30
# Copies of a block of a kernel matrix that are alive in its derivative.
_BLOCK_COPIES = 8
# The learned images, the best ones, two moments, gradients.
_IMAGE_COPIES = 8


def needed_bytes(
    n_support, *, n_rows, n_targets, n_features, n_classes, batch_size, itemsize
):
    """Return the bytes that one outer step holds at its peak.

    One kernel matrix of the support (its Cholesky factor replaces it), blocks of
    ``batch_size`` rows, and the images.
    """
    matrix = n_support**2
    blocks = _BLOCK_COPIES * min(batch_size, max(n_support, n_targets)) * n_support
    images = _IMAGE_COPIES * n_support * (n_features + n_classes)
    images += (n_rows + _BLOCK_COPIES * n_targets) * n_features
    return itemsize * (matrix + blocks + images)


def check_memory(n_support, device, **sizes):
    """Return what is needed in words; refuse what does not fit.

    Raises
    ------
    MemoryBudgetError
        With what is needed, what is free, and the largest support that fits.
    """
    needed, free = needed_bytes(n_support, **sizes), free_bytes(device)
    text = f"needs {needed / _GIB:.1f} GiB"
    if free is None:
        return text
    if needed > free:
        fits = _largest_support(n_support, free, sizes)
        raise MemoryBudgetError(
            f"A support of {n_support:,} rows {text} on {device}, where "
            f"{free / _GIB:.1f} GiB are free. Use n_support={fits} or fewer (with "
            "RobustifiedClassifier), a smaller batch_size, or another device."
        )
    return f"{text} of {free / _GIB:.1f} GiB free on {device}"


def _largest_support(n_support, free, sizes):
    """Return the largest support that fits, by bisection."""
    low, high = 0, n_support
    while high - low > 1:
        middle = (low + high) // 2
        fits = needed_bytes(middle, **sizes) <= free
        low, high = (middle, high) if fits else (low, middle)
    return low
