"""Which rows are the support, which are attacked as targets, which only validate."""

from typing import NamedTuple

import numpy as np
import torch

from robustfit._utils.row_splits import stratified_order
from robustfit._utils.torch_bridge import stage_generator

__all__ = ["Rows", "choose_rows"]

_MOST_VALIDATION_ROWS = 500


class Rows(NamedTuple):
    """Indices into the training set.

    Attributes
    ----------
    support : ndarray of shape (n_support,)
        Where the learned rows start from, sorted.
    validation : ndarray of shape (n_validation,)
        Never a target.
    pool : ndarray
        What targets are drawn from.
    n_targets : int
        Targets of one outer step.
    """

    support: np.ndarray
    validation: np.ndarray
    pool: np.ndarray
    n_targets: int

    def draw_targets(self, seed, step):
        """Return the targets of an outer step, the same whenever it is asked for."""
        order = torch.randperm(len(self.pool), generator=stage_generator(seed, 1, step))
        return self.pool[order[: self.n_targets].numpy()]

    def support_without(self, rows):
        """Return which support rows (bool) are none of ``rows``.

        A row predicts itself, or what became of it, far too well: it is left out of the
        predictor that it is a target of.
        """
        return ~np.isin(self.support, rows)


def choose_rows(y, n_support, n_targets, validation_fraction, seed):
    """Split the rows, each part with the classes in proportion.

    Raises
    ------
    ValueError
        If ``n_support`` is more than there are rows or fewer than the classes.
    """
    n, n_classes = len(y), int(y.max()) + 1
    n_support = n if n_support is None else n_support
    if not n_classes <= n_support <= n:
        raise ValueError(
            f"n_support is {n_support}; expected at least one row for each of the "
            f"{n_classes} classes and no more than the {n} rows of X."
        )
    order = stratified_order(y, seed)
    n_validation = min(round(validation_fraction * n), _MOST_VALIDATION_ROWS)
    validation = np.sort(order[n - n_validation :])
    pool = order[n_support : n - n_validation]
    if len(pool) < n_targets:  # few rows: the support's own are targets too
        pool = order[: n - n_validation]
    n_targets = min(n_targets, max(1, len(pool) // 2))
    return Rows(np.sort(order[:n_support]), validation, np.sort(pool), n_targets)
