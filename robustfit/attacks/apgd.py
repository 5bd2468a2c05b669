"""Auto-PGD: projected gradient ascent that chooses its own step sizes."""

from dataclasses import replace

import torch

from robustfit._utils.argument_checks import check_count
from robustfit._utils.sample_random import sample_normal, sample_uniform
from robustfit.attacks._step_control import SparsityControl, StepSizeControl
from robustfit.attacks.base import Attack, AttackOutcome
from robustfit.attacks.losses import check_loss, loss_and_input_gradient
from robustfit.attacks.search import (
    Survivors,
    is_fooled,
    keys_of_start,
    search_survivors,
)

__all__ = ["APGD"]

# Radii and shares of the steps of the l1 attack ("Mind the box", section 3.3).
_L1_SCHEDULE = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))


class APGD(Attack):
    """Auto-PGD (Croce & Hein, 2020, Algorithm 1), without a step size to tune.

    Parameters
    ----------
    n_steps : int, default=100
        Gradient steps a restart (and a target).
    loss : {"cross-entropy", "margin", "dlr"}, default="cross-entropy"
        What the adversary maximises.
    n_restarts : int, default=1
        Random starts; a sample fooled by one is not attacked by the next.
    n_targets : int, default=0
        Classes to aim at one after the other, most likely first; at most the other
        classes of the model. 0 is the untargeted attack. Not with cross-entropy.
    n_averaged : int, default=1
        Gradients averaged a step, for models that randomise.
    batch_size : int, default=128
        Samples (and targets) in one call of the model.
    best_loss : bool, default=False
        If True, samples that stand are returned where the loss was largest (of the
        last restart or target), not unchanged.

    Raises
    ------
    ValueError
        For an unknown loss, a count out of range, or cross-entropy with targets.

    Notes
    -----
    Called as ``attack(logits_fn, x, y, threat_model, generator=None)``. For the l1 ball
    the steps are sparse, with a sparsity that adapts, from balls of three and two
    times the radius inwards (Croce & Hein, "Mind the box", ICML 2021). A fooled sample
    is left alone at once, and random starts depend on the seed of the generator and on
    the sample itself, not on its batch.

    Examples
    --------
    >>> import torch
    >>> from robustfit import ThreatModel
    >>> from robustfit.attacks import APGD
    >>> weight = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    >>> x, y = torch.tensor([[0.6, 0.4]]), torch.tensor([0])
    >>> x_adv = APGD(n_steps=10)(
    ...     lambda x: x @ weight.T, x, y, ThreatModel("linf", eps=0.2))
    >>> bool((x_adv @ weight.T).argmax(1) == 1)
    True
    """

    def __init__(
        self,
        n_steps: int = 100,
        loss: str = "cross-entropy",
        *,
        n_restarts: int = 1,
        n_targets: int = 0,
        n_averaged: int = 1,
        batch_size: int = 128,
        best_loss: bool = False,
    ):
        check_count("n_steps", n_steps)
        check_count("n_restarts", n_restarts)
        check_count("n_averaged", n_averaged)
        check_count("batch_size", batch_size)
        if n_targets != 0:
            check_count("n_targets", n_targets)
        check_loss(loss)
        if n_targets and loss.endswith("cross-entropy"):
            raise ValueError(
                f"loss={loss!r} has no targeted form here; use loss='dlr' or "
                "'margin' with n_targets."
            )
        self.n_steps = n_steps
        self.loss = loss
        self.n_restarts = n_restarts
        self.n_targets = n_targets
        self.n_averaged = n_averaged
        self.batch_size = batch_size
        self.best_loss = best_loss

    def run(self, logits_fn, x, y, threat_model, generator=None):
        """Return what fools the model, and the other samples as ``best_loss`` says."""
        start = self._start(logits_fn, x, y, generator)
        survivors = Survivors(x, start.fooled)
        for restart in range(self.n_restarts):
            run = _Run(
                self, logits_fn, x, y, threat_model, survivors, restart, start.keys
            )
            search_survivors(
                run, survivors, start.logits, y,
                n_targets=self.n_targets, batch_size=self.batch_size,
            )  # fmt: skip
        return AttackOutcome(survivors.x_adv)


class _Run:
    """One random start on some samples, each with at most one target."""

    def __init__(self, attack, logits_fn, x, y, threat_model, survivors, restart, keys):
        self.attack, self.logits_fn = attack, logits_fn
        self.x, self.y, self.threat_model = x, y, threat_model
        self.survivors, self.restart, self.keys = survivors, restart, keys

    def __call__(self, rows, targets):
        start = self._start(rows, targets)
        if self.threat_model.norm != "l1":
            best, left = self._ascend(
                rows, targets, start, self.threat_model, self.attack.n_steps
            )
            self._keep_best(rows[left], best[left])
            return
        n_left = self.attack.n_steps
        for scale, share in _L1_SCHEDULE:
            wide = replace(self.threat_model, eps=scale * self.threat_model.eps)
            n_steps = n_left if scale == 1 else min(n_left, -int(-share * n_left // 1))
            start = wide.project(start, self.x[rows])
            start, left = self._ascend(
                rows, targets, start, wide, max(1, n_steps), final=scale == 1
            )
            rows, start = rows[left], start[left]
            targets = None if targets is None else targets[left]
            if len(rows) == 0:
                return
        self._keep_best(rows, start)

    def _keep_best(self, rows, points):
        if self.attack.best_loss:
            standing = ~self.survivors.fooled[rows]
            self.survivors.x_adv[rows[standing]] = points[standing]

    def _start(self, rows, targets):
        x, keys = self.x[rows], keys_of_start(self.keys[rows], self.restart, targets)
        if self.threat_model.norm == "linf":
            noise = 2 * sample_uniform(keys, x.shape) - 1
        else:
            noise = sample_normal(keys, x.shape)
        return self.threat_model.move_to_sphere(x, noise.to(x.dtype))

    def _ascend(self, rows, targets, x_adv, threat_model, n_steps, final=True):
        """Climb from ``x_adv``; return the best points and the rows still standing."""
        x = self.x[rows]
        kind = SparsityControl if threat_model.norm == "l1" else StepSizeControl
        value, gradient, logits = self._gradient(x_adv, rows, targets)
        control = kind(threat_model, x, x_adv, gradient, value, n_steps)
        left = torch.arange(len(rows), device=rows.device)
        for step in range(n_steps + 1):
            if step:
                x_adv = control.step()
                value, gradient, logits = self._gradient(x_adv, rows, targets)
                control.update(x_adv, gradient, value)
            if final:
                fooled = is_fooled(logits, self.y[rows])
                alive = self.survivors.record(rows, x_adv, fooled)
                if not alive.all():
                    rows, left = rows[alive], left[alive]
                    targets = None if targets is None else targets[alive]
                    control.keep(alive)
                if len(rows) == 0:
                    break
        return _scatter_best(control.best, left, x, len(x)), left

    def _gradient(self, x_adv, rows, targets):
        n_averaged, total = self.attack.n_averaged, torch.zeros_like(x_adv)
        for _ in range(n_averaged):
            value, gradient, logits = loss_and_input_gradient(
                self.logits_fn, x_adv, self.y[rows], self.attack.loss, targets
            )
            total = total + gradient
        return value, total / n_averaged if n_averaged > 1 else total, logits


def _scatter_best(best, left, x, n_rows):
    points = x.clone()
    points[left] = best
    return points
