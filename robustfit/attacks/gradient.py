"""Gradient attacks: the fast gradient sign method and projected gradient descent."""

from numbers import Real

import torch

from robustfit._utils.argument_checks import check_count
from robustfit.attacks._losses import ATTACK_LOSSES, margin
from robustfit.attacks.losses import loss_and_input_gradient

__all__ = ["FGSM", "PGD", "input_gradient", "take_every_step"]


def input_gradient(logits_fn, x, y, loss_fn):
    """Return the gradient of the summed loss with respect to ``x``, and the logits."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = logits_fn(x)
        loss = loss_fn(logits, y).sum()
        (gradient,) = torch.autograd.grad(loss, x)
    return gradient, logits.detach()


def take_every_step(
    logits_fn,
    x_start,
    x,
    y,
    threat_model,
    *,
    n_steps,
    step_size,
    towards=False,
    loss_fn=ATTACK_LOSSES["cross-entropy"],
):
    """Take all steps of PGD, whether a sample is fooled or not.

    What makes training sets and training batches: an evaluation stops at the first
    success and keeps the best point, see :class:`PGD`.

    Parameters
    ----------
    logits_fn : callable
    x_start, x : torch.Tensor of shape (n_samples, ...)
        Where the steps begin, and the centre of the ball they stay in.
    y : torch.Tensor of shape (n_samples,)
        Classes, or what else ``loss_fn`` takes.
    threat_model : ThreatModel
    n_steps : int
    step_size : float
    towards : bool, default=False
        If True, descend: the steps lead towards the class ``y``, not away from it.
    loss_fn : callable, default=cross-entropy
        Maps logits (n_samples, n_classes) and ``y`` to losses (n_samples,).

    Returns
    -------
    torch.Tensor of shape (n_samples, ...)
    """
    sign = -1 if towards else 1
    for _ in range(n_steps):
        gradient, _ = input_gradient(logits_fn, x_start, y, loss_fn)
        x_start = threat_model.ascent_step(x_start, sign * gradient, step_size)
        x_start = threat_model.project(x_start, x)
    return x_start


class PGD:
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
        What the adversary maximises.
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
        n_steps=40,
        step_size=None,
        *,
        n_restarts=1,
        random_start=True,
        loss="cross-entropy",
        targeted=False,
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
        if loss not in ATTACK_LOSSES:
            raise ValueError(
                f"loss is {loss!r}; expected one of {sorted(ATTACK_LOSSES)}."
            )
        self.n_steps = n_steps
        self.step_size = step_size
        self.n_restarts = n_restarts
        self.random_start = random_start
        self.loss = loss
        self.targeted = targeted

    def __call__(self, logits_fn, x, y, threat_model, generator=None):
        """Return adversarial inputs of the shape of ``x`` (n_samples, ...)."""
        best = _BestIterate(x, y, self.targeted)
        best.update(x, logits_fn(x).detach(), torch.arange(len(x), device=x.device))
        for _ in range(self.n_restarts):
            active = best.survivors()
            if len(active) == 0:
                break
            self._run_once(logits_fn, x, y, threat_model, generator, best, active)
        return best.x_adv

    def _run_once(self, logits_fn, x, y, threat_model, generator, best, active):
        step_size = self.step_size or 2.5 * threat_model.eps / self.n_steps
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

    def __init__(self, *, loss="cross-entropy", targeted=False):
        super().__init__(n_steps=1, random_start=False, loss=loss, targeted=targeted)

    def _run_once(self, logits_fn, x, y, threat_model, generator, best, active):
        # A step longer than any ball and its projection: exactly eps in either norm.
        sign = -1 if self.targeted else 1
        x, y = x[active], y[active]
        _, gradient, _ = loss_and_input_gradient(logits_fn, x, y, self.loss)
        x_adv = threat_model.ascent_step(x, sign * gradient, threat_model.eps)
        x_adv = threat_model.project(x_adv, x)
        best.update(x_adv, logits_fn(x_adv).detach(), active)


class _BestIterate:
    """The most adversarial point seen so far, for every sample."""

    def __init__(self, x, y, targeted):
        self.x_adv = x.detach().clone()
        self._y = y
        self._sign = -1 if targeted else 1
        self._value = torch.full((len(x),), -torch.inf, device=x.device)

    def update(self, x_adv, logits, rows):
        """Keep improvements of ``rows``; return which of them are fooled by x_adv."""
        value = self._sign * margin(logits, self._y[rows]).to(self._value.dtype)
        value = value.nan_to_num(nan=torch.inf)  # no answer is a wrong answer
        better = value > self._value[rows]
        self._value[rows[better]] = value[better]
        self.x_adv[rows[better]] = x_adv[better].detach()
        return value > 0

    def survivors(self):
        """Return the rows that no point seen so far fools."""
        return torch.nonzero(self._value <= 0)[:, 0]
