"""Batches of training that never hold one row alone.

Batch norm has no variance of one row and raises; a row that is left over after the
last full batch joins that batch.
"""

from collections.abc import Mapping

import skorch
import torch
from torch.utils.data import DataLoader

__all__ = ["LoaderWithoutLoneRow", "spare_lone_rows", "split_rows"]


class LoaderWithoutLoneRow(DataLoader):
    """torch's loader, but a last batch of one row joins the one before it."""

    def __iter__(self):
        """Yield the batches."""
        last = self._last_full_batch()
        for number, batch in enumerate(super().__iter__()):
            if number == last:
                held = batch
            elif number - 1 == last:
                yield _join(held, batch)
            else:
                yield batch

    def _last_full_batch(self):
        """Return its number where one row is left over; -2, which none is, else."""
        size = self.batch_size
        if size in (None, 1) or self.drop_last or not hasattr(self.dataset, "__len__"):
            return -2
        n_full, n_left = divmod(len(self.dataset), size)
        return n_full - 1 if n_left == 1 and n_full else -2


def _join(first, second):
    if isinstance(first, torch.Tensor):
        return torch.cat([first, second])
    if isinstance(first, Mapping):
        return {name: _join(first[name], second[name]) for name in first}
    return [_join(a, b) for a, b in zip(first, second, strict=True)]


def spare_lone_rows(estimator):
    """Return ``estimator``; if it is a skorch net with torch's loader, with ours."""
    is_net = isinstance(estimator, skorch.NeuralNet)
    if is_net and estimator.iterator_train is DataLoader:
        estimator.set_params(iterator_train=LoaderWithoutLoneRow)
    return estimator


def split_rows(order, batch_size):
    """Return the tensor ``order`` in parts of ``batch_size``, no later one of one row.

    Parameters
    ----------
    order : torch.Tensor of shape (n_rows,)
    batch_size : int
    """
    parts = list(order.split(batch_size))
    if len(parts) > 1 and batch_size > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts
