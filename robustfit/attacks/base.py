"""What an attack is: the contract that every attack keeps and every caller relies on.

A subclass writes :meth:`Attack.run`. Users call the attack itself, which checks, runs
and returns the adversarial inputs; the evaluation asks ``run`` and never writes to the
attack, so that one object may serve many threads at once.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from robustfit._utils.content_identity import identify
from robustfit._utils.sample_random import sample_keys
from robustfit.attacks.direct_call import admit_tensors
from robustfit.attacks.model_checks import check_model
from robustfit.attacks.search import is_fooled, logits_in_batches
from robustfit.sklearn_to_torch.probabilities import recover_logits
from robustfit.threat_model import ThreatModel

__all__ = ["Attack", "AttackOutcome", "as_attack"]


@dataclass(frozen=True)
class AttackOutcome:
    """What one run of an attack found.

    Attributes
    ----------
    x_adv : torch.Tensor of shape (n_samples, ...)
        Adversarial inputs.
    robust_after : dict of str to torch.Tensor of shape (n_samples,), bool
        For ensembles: the samples that survived up to and with each attack.

    See Also
    --------
    Attack : Its ``run`` returns one.

    Examples
    --------
    >>> import torch
    >>> from robustfit.attacks import AttackOutcome
    >>> AttackOutcome(torch.zeros(1, 2)).robust_after
    {}
    """

    x_adv: torch.Tensor
    robust_after: dict[str, torch.Tensor] = field(default_factory=dict)


class Start(NamedTuple):
    """What a search begins with: predictions, and random keys of the samples."""

    logits: torch.Tensor
    fooled: torch.Tensor
    keys: torch.Tensor
    seed: int


class Attack(ABC):
    """Base class of attacks: tensors and a logits function in, tensors out.

    A subclass writes :meth:`run`, asks the threat model where it may go, draws from the
    generator only, and does not write to itself while it runs.

    Attributes
    ----------
    needs_gradients : bool, default=True
        Whether the model has to be differentiable. False lets the attack be used on
        anything with ``predict``.
    wants_logits : bool, default=True
        Whether what a model returns is to be turned into logits, probabilities too,
        before the attack sees it, and labels are to be columns of them.
    batches_by_itself : bool, default=False
        Whether the attack is to be given all samples at once, not in chunks.
    batch_size : int, default=128
        Samples that it sends through the model together.
    loss : {"cross-entropy", "margin", "dlr"}, default="margin"
        What it maximises, for the warnings about gradients.
    robust_after_ : dict of str to torch.Tensor of shape (n_samples,), bool
        After a call, for ensembles: the samples that survived up to and with each
        attack. Evaluations return it in their result instead.

    See Also
    --------
    AttackOutcome : What ``run`` returns.
    robustfit.attack_estimator : Runs an attack on a fitted estimator.

    Examples
    --------
    >>> import torch
    >>> from robustfit import ThreatModel
    >>> from robustfit.attacks import Attack, AttackOutcome
    >>> class Brighten(Attack):
    ...     def run(self, logits_fn, x, y, threat_model, generator=None):
    ...         brighter = threat_model.move_to_sphere(x, torch.ones_like(x))
    ...         return AttackOutcome(brighter)
    >>> net = torch.nn.Linear(2, 2)
    >>> x, y = torch.tensor([[0.5, 0.25]]), torch.tensor([0])
    >>> Brighten()(net, x, y, ThreatModel("linf", eps=0.25))
    tensor([[0.7500, 0.5000]])
    """

    needs_gradients: bool = True
    wants_logits: bool = True
    batches_by_itself: bool = False
    batch_size: int = 128
    loss: str = "margin"
    robust_after_: dict[str, torch.Tensor]

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "__call__" in vars(cls):
            raise TypeError(
                f"{cls.__name__} overrides __call__, which evaluations do not use; "
                "write run(logits_fn, x, y, threat_model, generator), which returns "
                "an AttackOutcome."
            )

    def __call__(
        self,
        logits_fn: Callable[[torch.Tensor], torch.Tensor],
        x: torch.Tensor,
        y: torch.Tensor,
        threat_model: ThreatModel,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Return adversarial inputs of the shape of ``x`` (n_samples, ...).

        Parameters
        ----------
        logits_fn : TorchClassifier, torch.nn.Module or callable
            Maps inputs (n_samples, ...) to logits (n_samples, n_classes), or to what
            they can be made of, see :class:`robustfit.TorchClassifier`. Put a module in
            eval mode first.
        x : torch.Tensor of shape (n_samples, ...)
            In the threat model's ``clip_range``.
        y : torch.Tensor of shape (n_samples,)
            Columns of the logits, 0 to n_classes - 1.
        threat_model : ThreatModel
        generator : torch.Generator or None, default=None
            What random numbers depend on.

        Raises
        ------
        TypeError
            For a fitted estimator or arrays, which
            :func:`robustfit.attack_estimator` takes.
        PixelRangeError
            For inputs outside ``clip_range``.
        ValueError
            For an output that is no logits, and labels that are no columns of them.
        """
        outcome = AttackOutcome(x)
        if len(x):
            if self.wants_logits:
                logits_fn, x, y = admit_tensors(logits_fn, x, y, threat_model)
            self.check_model(logits_fn, x, y)
            if self.needs_gradients and self.wants_logits:
                logits_fn = recover_logits(logits_fn, x[:2])
            with self.ready() as attack:
                outcome = attack.run(logits_fn, x, y, threat_model, generator)
            self.check_result(outcome.robust_after)
        self.robust_after_ = outcome.robust_after
        return outcome.x_adv

    @abstractmethod
    def run(
        self,
        logits_fn: Callable[[torch.Tensor], torch.Tensor],
        x: torch.Tensor,
        y: torch.Tensor,
        threat_model: ThreatModel,
        generator: torch.Generator | None = None,
    ) -> AttackOutcome:
        """Attack at least one sample; see :meth:`__call__` for what is given."""

    def check_model(
        self, logits_fn: Callable, x: torch.Tensor, y: torch.Tensor
    ) -> list[type[Warning]]:
        """Warn where the model may feign robustness; return the warnings' classes.

        Called once, before the first run. By default an attack asks on one batch
        whether outputs are noise, NaN, or depend on the batch, and, if it needs
        gradients, whether the loss that it maximises has any.
        """
        rows = slice(0, self.batch_size)
        loss = self.loss if self.needs_gradients else None
        return check_model(logits_fn, x[rows], y[rows], loss=loss)

    def check_result(self, robust_after: dict) -> None:  # noqa: B027 (a hook)
        """Warn where the survivors of an ensemble look suspicious.

        Called once, after the last run, with ``robust_after`` of all samples.
        """

    @contextmanager
    def ready(self) -> Iterator["Attack"]:
        """Yield the attack as several threads may run it at once.

        Entered once around all runs: the place to freeze models that they share.
        """
        yield self

    @property
    def part_names(self) -> tuple[str, ...]:
        """For ensembles: what ``robust_after`` tells the survivors of, in order."""
        return ()

    def identity(self) -> tuple:
        """Return what tells this attack from others, for the names of checkpoints.

        Raises
        ------
        ValueError
            If it cannot be told, as for a lambda.
        """
        parameters = {k: v for k, v in vars(self).items() if not k.endswith("_")}
        return identify(type(self)), identify(parameters)

    def _start(self, logits_fn, x, y, generator) -> Start:
        """Predict all samples, and give each random keys of its own."""
        seed = 0 if generator is None else generator.initial_seed()
        logits = logits_in_batches(logits_fn, x, self.batch_size)
        return Start(logits, is_fooled(logits, y), sample_keys(x, seed), seed)


class _FunctionAttack(Attack):
    """A function, or another callable of the user, as an attack.

    What it says about itself, as an attribute of the name that an attack has, holds.
    """

    def __init__(self, function: Callable):
        self.function = function
        for name in ("needs_gradients", "batches_by_itself", "batch_size"):
            setattr(self, name, getattr(function, name, getattr(self, name)))

    def run(self, logits_fn, x, y, threat_model, generator=None):
        return AttackOutcome(self.function(logits_fn, x, y, threat_model, generator))


def as_attack(attack: Any) -> Attack:
    """Return an attack as it is, and another callable wrapped as one."""
    return attack if isinstance(attack, Attack) else _FunctionAttack(attack)
