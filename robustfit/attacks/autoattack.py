"""AutoAttack: four attacks, each on the samples that the ones before left standing."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from robustfit._utils.argument_checks import check_count
from robustfit.attacks.apgd import APGD
from robustfit.attacks.base import AttackOutcome
from robustfit.attacks.ensemble import Ensemble
from robustfit.attacks.fab import FAB
from robustfit.attacks.losses import margin
from robustfit.attacks.search import is_fooled, logits_in_batches
from robustfit.attacks.square import Square
from robustfit.sklearn_to_torch.fast_copy import bfloat16_copy
from robustfit.sklearn_to_torch.probabilities import recover_logits
from robustfit.threat_model import ThreatModel

__all__ = ["AutoAttack"]

_PRECISIONS = ("float32", "bfloat16")
# Margins below this many times the rounding of the logits are near the boundary.
_NEAR = 16


class AutoAttack(Ensemble):
    """The parameter-free ensemble of Croce & Hein (2020), for linf, l2 and l1.

    Parameters
    ----------
    version : {"standard", "plus", "rand"} or sequence of str, default="standard"
        "standard" runs "apgd-ce", "apgd-t", "fab-t" and "square"; "rand" averages
        gradients for models that randomise; or the attacks to run in turn, from those
        and "apgd-dlr" and "fab".
    batch_size : int, default=128
        Samples (and targets) in one call of the model; 64 to 128 is fastest on a CPU.
    precision : {"float32", "bfloat16"}, default="float32"
        "bfloat16" runs the ensemble in reduced precision first, see the notes. No
        sample is called robust, or fooled, on less than full precision.
    n_steps : int, default=100
        Steps of each gradient attack.
    n_queries : int, default=5000
        Queries of Square.

    Attributes
    ----------
    robust_after_ : dict of str to torch.Tensor of shape (n_samples,)
        After a call: which samples (bool) survived up to and with each attack.

    Raises
    ------
    ValueError
        For an unknown version, attack or precision, or a count below one.

    See Also
    --------
    AutoAttackReference : The authors' package behind the same interface.

    Notes
    -----
    Called as ``attack(logits_fn, x, y, threat_model, generator=None)``. The algorithms
    and their settings are the paper's; what differs is only what they cost: a fooled
    sample is left alone at once, targets share batches when few samples are left, the
    hyperplane projections of FAB need no sorting, and the gradients of the losses are
    written down. With two or three classes, where the paper's targeted loss is not
    defined, it is the margin. Random numbers
    belong to a sample, not to its batch. Probabilities are turned back into logits,
    with a ``ProbabilityOutputWarning``.

    With ``precision="bfloat16"`` what the search finds counts only if the model in full
    precision is fooled. Every sample left is then attacked in full precision by
    Auto-PGD on cross-entropy and on the margin, which shows how near the decision
    boundary it can be pushed. Where the margin falls below 16 times what rounding to
    bfloat16 changes in the logits there, the search may have been misled, and the whole
    ensemble attacks again in full precision. The others are robust by the whole
    ensemble in bfloat16 and these two attacks in full precision. Ensembles of Square
    alone, and "rand", whose models have no fixed margin, attack every sample left again
    as a whole.

    References
    ----------
    F. Croce, M. Hein. "Reliable evaluation of adversarial robustness with an ensemble
    of diverse parameter-free attacks", ICML 2020.

    Examples
    --------
    >>> import torch
    >>> from robustfit import ThreatModel
    >>> from robustfit.attacks import AutoAttack
    >>> net = torch.nn.Linear(6, 4)
    >>> x = torch.rand(2, 6)
    >>> attack = AutoAttack()
    >>> x_adv = attack(net, x, net(x).argmax(1), ThreatModel(eps=0.3),
    ...                torch.Generator().manual_seed(0))
    >>> list(attack.robust_after_)
    ['apgd-ce', 'apgd-t', 'fab-t', 'square']
    """

    def __init__(
        self,
        version: str | Sequence[str] = "standard",
        *,
        batch_size: int = 128,
        precision: str = "float32",
        n_steps: int = 100,
        n_queries: int = 5000,
    ):
        super().__init__(version, batch_size)
        check_count("n_steps", n_steps)
        check_count("n_queries", n_queries)
        if precision not in _PRECISIONS:
            raise ValueError(
                f"precision is {precision!r}; expected one of {_PRECISIONS}."
            )
        self.precision = precision
        self.n_steps = n_steps
        self.n_queries = n_queries

    def run(self, logits_fn, x, y, threat_model, generator=None):
        """Return what fools the model, and who survived which attack."""
        x = x.detach()
        logits_fn = recover_logits(logits_fn, x[:2])
        robust = ~self._fooled(logits_fn, x, y)
        after = {name: robust.clone() for name in self.attacks}
        state = _State(
            logits_fn, x, y, threat_model, generator, x.clone(), robust, after
        )
        doubtful = robust.clone()
        if self.precision == "bfloat16" and robust.any():
            reduced_fn = _in_bfloat16(logits_fn, x.device.type)
            self._run_ensemble(state, reduced_fn, doubtful)
            doubtful = self._doubtful(state, reduced_fn)
        self._run_ensemble(state, logits_fn, doubtful)
        return AttackOutcome(state.x_adv, state.robust_after)

    def _run_ensemble(self, state, search_fn, candidates):
        """Attack after attack on those of ``candidates`` (bool) that still stand."""
        for place, name in enumerate(self.attacks):
            attack = self._build(name, state.threat_model.norm)
            self._apply(attack, state, search_fn, candidates & state.robust)
            self._note(state, place)

    def _note(self, state, place):
        """Let samples that are not robust have fallen to the attack at ``place``.

        Those that fell to an earlier one, in a search of either precision, did so.
        """
        for name in self.attacks[place:]:
            state.robust_after[name] &= state.robust

    def _apply(self, attack, state, search_fn, chosen):
        """Attack the samples ``chosen`` (bool); return where and how others ended."""
        rows = torch.nonzero(chosen)[:, 0]
        x, y = state.x[rows], state.y[rows]
        if len(rows) == 0:
            return rows, x
        outcome = attack.run(search_fn, x, y, state.threat_model, state.generator)
        found = outcome.x_adv
        fell = self._fooled(state.logits_fn, found, y)
        state.x_adv[rows[fell]] = found[fell]
        state.robust[rows[fell]] = False
        return rows[~fell], found[~fell]

    def _doubtful(self, state, reduced_fn):
        """Attack in full precision; return which samples reduced precision may miss."""
        norm = state.threat_model.norm
        if self.version == "rand" or set(self.attacks) <= {"square"}:
            return state.robust.clone()
        self._apply(self._build("apgd-ce", norm), state, state.logits_fn, state.robust)
        nearest = APGD(
            self.n_steps, "margin", batch_size=self.batch_size, best_loss=True
        )
        rows, points = self._apply(nearest, state, state.logits_fn, state.robust)
        self._note(state, 0)
        doubtful = torch.zeros_like(state.robust)
        if len(rows):
            full = logits_in_batches(state.logits_fn, points, self.batch_size)
            reduced = logits_in_batches(reduced_fn, points, self.batch_size)
            rounding = (full - reduced).abs().amax(1)
            gap = margin(full, state.y[rows], value_only=True)
            doubtful[rows] = gap > -_NEAR * rounding
        return doubtful & state.robust

    def _fooled(self, logits_fn, x, y):
        return is_fooled(logits_in_batches(logits_fn, x, self.batch_size), y)

    def _build(self, name, norm):
        """Return the attack of a name with the paper's settings for the norm."""
        size, n_steps = self.batch_size, self.n_steps
        n_restarts = 5 if self.version == "plus" or norm == "l1" else 1
        n_averaged = 20 if self.version == "rand" else 1
        if name in ("apgd-ce", "apgd-dlr"):
            loss = "cross-entropy" if name == "apgd-ce" else "dlr"
            n_restarts = 1 if self.version == "rand" else n_restarts
            return APGD(
                n_steps, loss, n_restarts=n_restarts, n_averaged=n_averaged,
                batch_size=size,
            )  # fmt: skip
        if name == "apgd-t":
            n_targets = 5 if norm == "l1" else 9
            return APGD(n_steps, "dlr", n_targets=n_targets, batch_size=size)
        if name == "fab-t":
            return FAB(n_steps, n_targets=9, batch_size=size)
        if name == "fab":
            n_restarts = 5 if self.version == "plus" else 1
            return FAB(n_steps, n_targets=0, n_restarts=n_restarts, batch_size=size)
        return Square(self.n_queries, batch_size=size)


class _State(NamedTuple):
    """The samples of a run and what has been found; the last three change in place."""

    logits_fn: Callable
    x: torch.Tensor
    y: torch.Tensor
    threat_model: ThreatModel
    generator: torch.Generator | None
    x_adv: torch.Tensor
    robust: torch.Tensor
    robust_after: dict[str, torch.Tensor]


def _in_bfloat16(logits_fn, device_type):
    """Return ``logits_fn`` computed in bfloat16, with float32 logits."""
    logits_fn = bfloat16_copy(logits_fn)

    def search_fn(x):
        with torch.autocast(device_type, torch.bfloat16):
            return logits_fn(x).float()

    return search_fn
