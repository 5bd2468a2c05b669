"""Brute force: random points on the sphere, by scores only."""

import torch

from robustfit._utils.argument_checks import check_count
from robustfit._utils.sample_random import sample_normal, sample_uniform, with_stream
from robustfit.attacks.base import Attack, AttackOutcome
from robustfit.attacks.search import Survivors, is_fooled

__all__ = ["SignAttack"]


class SignAttack(Attack):
    """Brute force: every feature moves by plus or minus eps at random.

    Parameters
    ----------
    n_queries : int, default=1000
        Random perturbations tried for a sample that is not fooled.
    batch_size : int, default=128
        Samples in one call of the model.

    Raises
    ------
    ValueError
        For a count below one.

    Notes
    -----
    Called as ``attack(logits_fn, x, y, threat_model, generator=None)``. It needs
    predictions only. On a model with honest gradients it finds far less than a gradient
    attack; where it finds more, the gradients are masked. For l2 and l1 the direction
    is that of a normal vector.

    References
    ----------
    A. Shaeiri, R. Nobahari, M. H. Rohban. "Towards deep learning models resistant to
    large perturbations", 2020 (appendix C, item 8).

    Examples
    --------
    >>> import torch
    >>> from robustfit import ThreatModel
    >>> from robustfit.attacks import SignAttack
    >>> weight = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    >>> x, y = torch.tensor([[0.6, 0.4]]), torch.tensor([0])
    >>> SignAttack(n_queries=50)(
    ...     lambda x: x @ weight.T, x, y, ThreatModel("linf", eps=0.2))
    tensor([[0.4000, 0.6000]])
    """

    needs_gradients = False

    def __init__(self, n_queries: int = 1000, *, batch_size: int = 128):
        check_count("n_queries", n_queries)
        check_count("batch_size", batch_size)
        self.n_queries = n_queries
        self.batch_size = batch_size

    def run(self, logits_fn, x, y, threat_model, generator=None):
        """Return what fools the model; robust samples unchanged."""
        start = self._start(logits_fn, x, y, generator)
        survivors = Survivors(x, start.fooled)
        for rows in survivors.batches(self.batch_size):
            with torch.no_grad():
                self._try_signs(
                    logits_fn, x, y, threat_model, survivors, start.keys, rows
                )
        return AttackOutcome(survivors.x_adv)

    def _try_signs(self, logits_fn, x, y, threat_model, survivors, keys, rows):
        for query in range(self.n_queries):
            stream = with_stream(keys[rows], query)
            if threat_model.norm == "linf":
                noise = (sample_uniform(stream, x[rows].shape) < 0.5).to(
                    x.dtype
                ) * 2 - 1
            else:
                noise = sample_normal(stream, x[rows].shape).to(x.dtype)
            x_adv = threat_model.move_to_sphere(x[rows], noise)
            fooled = is_fooled(logits_fn(x_adv), y[rows])
            rows = rows[survivors.record(rows, x_adv, fooled)]
            if len(rows) == 0:
                return
