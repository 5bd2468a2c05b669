"""Which rows of the natural set are learned, and which are held out."""

import math
from typing import NamedTuple

import numpy as np

from robustfit._utils.row_splits import stratified_share

__all__ = ["Rows", "select_rows"]


class Rows(NamedTuple):
    """Sorted row numbers; ``learned`` are among ``kept``, ``held_out`` are not."""

    learned: np.ndarray
    kept: np.ndarray
    held_out: np.ndarray

    def natural(self, array):
        """Return the kept rows of ``array``, itself where none are held out."""
        return array[self.kept] if len(self.held_out) else array


def select_rows(y, seed, fraction, validation_fraction):
    """Hold rows out for validation and choose those of the rest that are learned.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Classes; both parts are drawn within each.
    seed : int
    fraction : float
        Share of the rows that are not held out, in (0, 1]; at least one of each class.
    validation_fraction : float
        In [0, 1); at least one of each class is kept.

    Returns
    -------
    Rows
    """
    held_out = _hold_out(y, validation_fraction, seed)
    kept = np.setdiff1d(np.arange(len(y)), held_out)
    return Rows(kept[_choose_rows(y[kept], fraction, seed)], kept, held_out)


def _choose_rows(y, fraction, seed):
    """Return sorted rows: ``fraction`` of each class, at least one of each."""
    if fraction == 1:
        return np.arange(len(y))
    return stratified_share(y, lambda n: max(1, round(fraction * n)), seed)


def _hold_out(y, fraction, seed):
    """Return sorted rows: ``fraction`` of each class, never all of it."""
    return stratified_share(y, lambda n: min(math.ceil(fraction * n), n - 1), [seed, 1])
