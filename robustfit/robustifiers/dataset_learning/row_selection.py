"""Which rows of the natural set are learned, and which are held out."""

import math
from typing import NamedTuple

import numpy as np
import torch

from robustfit._utils.row_splits import stratified_share
from robustfit._utils.torch_bridge import to_array

__all__ = ["VALIDATION_SHARE", "Rows", "select_rows", "split_for_search"]

# Most images that a candidate is attacked on, and their share where the set has to give
# them.
VALIDATION_ROWS = 1000
VALIDATION_SHARE = 0.25


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


def split_for_search(problem, n_rows, repeat=0):
    """Return what candidates are judged by: rows to train on, images to attack.

    Images that the set does not hold, where there are enough; else some of its own,
    which are then not trained on.

    Parameters
    ----------
    problem : LearningProblem
    n_rows : int
        Rows to train on, at most.
    repeat : int, default=0
        Number of the split.

    Returns
    -------
    rows : torch.Tensor
        Row numbers of ``problem.x``.
    X_held_out, y_held_out : ndarray
        Natural images and their classes.
    """
    rng = np.random.default_rng([problem.seed, 2, repeat])
    order = torch.tensor(rng.permutation(len(problem.x)), device=problem.x.device)
    if problem.X_held_out is not None:
        held_out = slice(None, VALIDATION_ROWS)
        X, y = problem.X_held_out[held_out], problem.y_held_out[held_out]
        return order[:n_rows], X, y
    n_held_out = min(VALIDATION_ROWS, int(VALIDATION_SHARE * len(order)))
    held_out, rest = order[:n_held_out], order[n_held_out:]
    return rest[:n_rows], to_array(problem.x[held_out]), to_array(problem.y[held_out])


def _choose_rows(y, fraction, seed):
    """Return sorted rows: ``fraction`` of each class, at least one of each."""
    if fraction == 1:
        return np.arange(len(y))
    return stratified_share(y, lambda n: max(1, round(fraction * n)), seed)


def _hold_out(y, fraction, seed):
    """Return sorted rows: ``fraction`` of each class, never all of it."""
    return stratified_share(y, lambda n: min(math.ceil(fraction * n), n - 1), [seed, 1])
