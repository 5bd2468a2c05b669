"""What every attack of the ensemble needs: survivors, targets, batches."""

import torch

from robustfit._utils.torch_bridge import batch_slices

__all__ = ["Survivors", "is_fooled", "logits_in_batches", "search_targets"]


def is_fooled(logits, y):
    """Return which predictions differ from ``y``; no finite answer is a wrong one."""
    return (logits.argmax(1) != y) | ~torch.isfinite(logits).all(1)


def logits_in_batches(logits_fn, x, batch_size):
    """Return the logits of ``x``, at most ``batch_size`` samples at a time."""
    with torch.no_grad():
        parts = [logits_fn(x[rows]) for rows in batch_slices(len(x), batch_size)]
    return torch.cat(parts)


class Survivors:
    """Which samples still stand, and the adversarial input of those that fell.

    Parameters
    ----------
    x : torch.Tensor of shape (n_samples, ...)
    fooled : torch.Tensor of shape (n_samples,), bool, or None
        Samples that are not attacked at all.
    """

    def __init__(self, x, fooled=None):
        self.x_adv = x.detach().clone()
        self.fooled = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        if fooled is not None:
            self.fooled |= fooled

    def record(self, rows, x_adv, fooled):
        """Note attempts on samples ``rows``; return which rows are still worth one.

        A sample may appear in several rows (one a target): when one of them fools the
        model, none of the others is worth another step.
        """
        if fooled.any():
            self.x_adv[rows[fooled]] = x_adv[fooled].detach()
            self.fooled[rows[fooled]] = True
        return ~self.fooled[rows]

    def rows(self):
        """Return the indices of the samples that still stand."""
        return torch.nonzero(~self.fooled)[:, 0]


def search_targets(search, survivors, target_classes, batch_size):
    """Run ``search(rows, targets)`` on the survivors, best target first.

    While many samples stand, one target is tried at a time, so that a sample that
    falls costs no more; when few are left, several targets fill the batch.

    Parameters
    ----------
    search : callable
        Takes sample indices and their target classes; records in ``survivors``.
    survivors : Survivors
    target_classes : torch.Tensor of shape (n_samples, n_targets)
    batch_size : int
        Most (sample, target) pairs in one call.
    """
    n_targets, rank = target_classes.shape[1], 0
    while rank < n_targets:
        rows = survivors.rows()
        if len(rows) == 0:
            return
        width = max(1, min(n_targets - rank, batch_size // len(rows)))
        ranks = torch.arange(rank, rank + width, device=rows.device)
        pairs = torch.cartesian_prod(rows, ranks)
        for batch in batch_slices(len(pairs), batch_size):
            pair_rows, pair_ranks = pairs[batch].unbind(1)
            search(pair_rows, target_classes[pair_rows, pair_ranks])
        rank += width
