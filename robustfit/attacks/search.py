"""What every attack of the ensemble needs: survivors, targets, batches."""

from collections.abc import Callable, Iterator

import torch

from robustfit._utils.sample_random import with_stream
from robustfit._utils.torch_bridge import batch_slices

__all__ = [
    "Survivors",
    "is_fooled",
    "keys_of_start",
    "logits_in_batches",
    "search_survivors",
]


def is_fooled(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return which predictions differ from ``y``; no finite answer is a wrong one."""
    return (logits.argmax(1) != y) | ~torch.isfinite(logits).all(1)


def logits_in_batches(
    logits_fn: Callable, x: torch.Tensor, batch_size: int
) -> torch.Tensor:
    """Return the logits of ``x``, at most ``batch_size`` samples at a time."""
    with torch.no_grad():
        parts = [logits_fn(x[rows]) for rows in batch_slices(len(x), batch_size)]
    return torch.cat(parts)


class Survivors:
    """Which samples still stand, and the adversarial input of those that fell.

    Parameters
    ----------
    x : torch.Tensor of shape (n_samples, ...)
    fooled : torch.Tensor of shape (n_samples,), bool
        Samples that are not attacked at all.
    """

    def __init__(self, x, fooled):
        self.x_adv = x.detach().clone()
        self.fooled = fooled.clone()

    def record(self, rows, x_adv, fooled):
        """Note attempts on samples ``rows``; return which rows are still worth one.

        A sample may appear in several rows (one a target): when one of them fools the
        model, none of the others is worth another step.
        """
        if fooled.any():
            self.x_adv[rows[fooled]] = x_adv[fooled].detach()
            self.fooled[rows[fooled]] = True
        return ~self.fooled[rows]

    def rows(self) -> torch.Tensor:
        """Return the indices of the samples that still stand."""
        return torch.nonzero(~self.fooled)[:, 0]

    def batches(self, batch_size: int) -> Iterator[torch.Tensor]:
        """Yield the indices of the samples that stand now, ``batch_size`` a time."""
        rows = self.rows()
        for batch in batch_slices(len(rows), batch_size):
            yield rows[batch]


def search_survivors(search, survivors, logits, y, *, n_targets, batch_size):
    """Run ``search(rows, targets)`` on the survivors.

    Parameters
    ----------
    search : callable
        Takes sample indices and the classes to aim at, or None; records in
        ``survivors``.
    survivors : Survivors
    logits : torch.Tensor of shape (n_samples, n_classes)
        Of the natural samples.
    y : torch.Tensor of shape (n_samples,)
    n_targets : int
        Most likely other classes to aim at; 0 aims at none.
    batch_size : int
        Most samples (and targets) in one call.
    """
    if n_targets:
        targets = _other_classes(logits, y)[:, :n_targets]
        _search_targets(search, survivors, targets, batch_size)
        return
    for rows in survivors.batches(batch_size):
        search(rows, None)


def _other_classes(logits, y):
    """Return the other classes of each sample, the most likely first."""
    logits = logits.scatter(1, y[:, None], -torch.inf)
    return logits.argsort(1, descending=True)[:, :-1]


def _search_targets(search, survivors, target_classes, batch_size):
    """Search target by target (n_samples, n_targets), the best first.

    While many samples stand, one target is tried at a time, so that a sample that
    falls costs no more; when few are left, several targets fill the batch.
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


def keys_of_start(keys, restart, targets):
    """Return the keys from which a restart (towards ``targets``, or None) draws."""
    if targets is None:
        return with_stream(keys, restart)
    return with_stream(keys, 1000 * (1 + targets) + restart)
