"""Gradient attacks: the fast gradient sign method and projected gradient descent."""

from numbers import Real

import torch

from robustfit._utils.argument_checks import check_count
from robustfit.attacks.base import Attack, AttackOutcome
from robustfit.attacks.losses import (
    check_loss,
    input_gradient,
    loss_and_input_gradient,
    margin,
)

__all__ = ["FGSM", "PGD", "EveryStepPGD"]


class PGD(Attack):
    """Projected gradient descent (Madry et al., 2018), an adversary within a budget.

    Parameters
    ----------
    n_steps : int, default=40
        Gradient steps a restart.
    step_size : float or None, default=None
        Length of a step in the threat model's norm; None is ``2.5 * eps / n_steps``.
    n_restarts : int, default=1
        Random starts; a sample fooled by one is not attacked by the next.
    random_start : bool, default=True
        Start from a uniform point of the ball, else from the input itself.
    loss : {"cross-entropy", "margin", "dlr"}, default="cross-entropy"
        What the adversary maximises. With two classes, where it is not defined,
        "dlr" is the margin. Where logits are so large that the cross-entropy is
        rounded to zero, it is the margin, too; "plain-cross-entropy" is not.
    targeted : bool, default=False
        If True, ``y`` is the class the adversary wants to be predicted.

    Raises
    ------
    ValueError
        For an unknown loss or a count below one.

    Notes
    -----
    Called as ``attack(logits_fn, x, y, threat_model, generator=None)`` with tensors; it
    knows no scikit-learn object. The iterate with the largest margin is kept for each
    sample, a fooled sample is left alone, and gradients are taken with respect to the
    input only.

    Examples
    --------
    >>> import torch
    >>> from robustfit import ThreatModel
    >>> from robustfit.attacks import PGD
    >>> weight = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    >>> x, y = torch.tensor([[0.6, 0.4]]), torch.tensor([0])
    >>> x_adv = PGD(n_steps=5)(
    ...     lambda x: x @ weight.T, x, y, ThreatModel("linf", eps=0.2),
    ...     torch.Generator().manual_seed(0))
    >>> bool((x_adv @ weight.T).argmax(1) == 1)
    True
    """

    def __init__(
        self,
        n_steps: int = 40,
        step_size: float | None = None,
        *,
        n_restarts: int = 1,
        random_start: bool = True,
        loss: str = "cross-entropy",
        targeted: bool = False,
    ):
        check_count("n_steps", n_steps)
        check_count("n_restarts", n_restarts)
        if step_size is not None and not (
            isinstance(step_size, Real) and step_size > 0
        ):
            raise ValueError(
                f"step_size is {step_size!r}; expected a number > 0, or None for "
                "2.5 * eps / n_steps."
            )
        check_loss(loss)
        self.n_steps = n_steps
        self.step_size = step_size
        self.n_restarts = n_restarts
        self.random_start = random_start
        self.loss = loss
        self.targeted = targeted

    def run(self, logits_fn, x, y, threat_model, generator=None):
        """Return the point with the largest margin that was met for each sample."""
        best = _BestIterate(x, y, self.targeted)
        best.update(x, logits_fn(x).detach(), torch.arange(len(x), device=x.device))
        for _ in range(self.n_restarts):
            active = best.survivors()
            if len(active) == 0:
                break
            self._run_once(logits_fn, x, y, threat_model, generator, best, active)
        return AttackOutcome(best.x_adv)

    def _run_once(self, logits_fn, x, y, threat_model, generator, best, active):
        step_size = self.step_size or threat_model.default_step(self.n_steps)
        sign = -1 if self.targeted else 1
        x, y = x[active], y[active]
        x_adv = threat_model.random_start(x, generator) if self.random_start else x
        for _ in range(self.n_steps):
            _, gradient, logits = loss_and_input_gradient(
                logits_fn, x_adv, y, self.loss
            )
            alive = ~best.update(x_adv, logits, active)
            if not alive.all():
                x, y, active = x[alive], y[alive], active[alive]
                x_adv, gradient = x_adv[alive], gradient[alive]
                if len(active) == 0:
                    return
            x_adv = threat_model.ascent_step(x_adv, sign * gradient, step_size)
            x_adv = threat_model.project(x_adv, x)
        best.update(x_adv, logits_fn(x_adv).detach(), active)


class FGSM(PGD):
    """Fast gradient sign method (Goodfellow et al., 2015): one step of length eps.

    Parameters
    ----------
    loss : {"cross-entropy", "margin", "dlr"}, default="cross-entropy"
        What the adversary maximises.
    targeted : bool, default=False
        If True, ``y`` is the class the adversary wants to be predicted.

    See Also
    --------
    PGD : The same step, repeated. FGSM alone says little about robustness.

    Examples
    --------
    >>> import torch
    >>> from robustfit import ThreatModel
    >>> from robustfit.attacks import FGSM
    >>> weight = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    >>> x, y = torch.tensor([[0.6, 0.4]]), torch.tensor([0])
    >>> FGSM()(lambda x: x @ weight.T, x, y, ThreatModel("linf", eps=0.2))
    tensor([[0.4000, 0.6000]])
    """

    def __init__(self, *, loss: str = "cross-entropy", targeted: bool = False):
        super().__init__(n_steps=1, random_start=False, loss=loss, targeted=targeted)

    def _run_once(self, logits_fn, x, y, threat_model, generator, best, active):
        # A step longer than any ball and its projection: exactly eps in either norm.
        sign = -1 if self.targeted else 1
        x, y = x[active], y[active]
        _, gradient, _ = loss_and_input_gradient(logits_fn, x, y, self.loss)
        x_adv = threat_model.ascent_step(x, sign * gradient, threat_model.eps)
        x_adv = threat_model.project(x_adv, x)
        best.update(x_adv, logits_fn(x_adv).detach(), active)


class EveryStepPGD(Attack):
    """All steps of PGD on the cross-entropy, whether a sample is fooled or not.

    What makes training sets and training batches: its examples lie deep in the wrong
    class, where an evaluation's lie just behind the border; so they transfer to other
    models and carry features of their class.

    Parameters
    ----------
    n_steps : int
    step_size : float or None, default=None
        None is ``2.5 * eps / n_steps``.
    towards : bool, default=False
        Whether ``y`` is the class to reach, not the one to leave.
    random_start : bool, default=False
        Start from a uniform point of the ball, else from the input itself.
    """

    loss = "cross-entropy"

    def __init__(
        self,
        n_steps: int,
        step_size: float | None = None,
        *,
        towards: bool = False,
        random_start: bool = False,
    ):
        self.n_steps = n_steps
        self.step_size = step_size
        self.towards = towards
        self.random_start = random_start

    def run(self, logits_fn, x, y, threat_model, generator=None):
        """Return where the last step leads."""
        sign = -1 if self.towards else 1
        start = threat_model.random_start(x, generator) if self.random_start else x
        x_adv = threat_model.climb(
            lambda points: sign * input_gradient(logits_fn, points, y),
            start, x, n_steps=self.n_steps, step_size=self.step_size,
        )  # fmt: skip
        return AttackOutcome(x_adv)


class _BestIterate:
    """The most adversarial point seen so far, for every sample."""

    def __init__(self, x, y, targeted):
        self.x_adv = x.detach().clone()
        self._y = y
        self._sign = -1 if targeted else 1
        self._value = torch.full((len(x),), -torch.inf, device=x.device)

    def update(self, x_adv, logits, rows):
        """Keep improvements of ``rows``; return which of them are fooled by x_adv."""
        value = self._sign * margin(logits, self._y[rows], value_only=True)
        value = value.to(self._value.dtype)
        value = value.nan_to_num(nan=torch.inf)  # no answer is a wrong answer
        better = value > self._value[rows]
        self._value[rows[better]] = value[better]
        self.x_adv[rows[better]] = x_adv[better].detach()
        return value > 0

    def survivors(self):
        """Return the rows that no point seen so far fools."""
        return torch.nonzero(self._value <= 0)[:, 0]
