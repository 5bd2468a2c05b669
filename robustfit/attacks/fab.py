"""FAB: the shortest perturbation, found along the decision boundary."""

import torch

from robustfit._utils.argument_checks import check_count
from robustfit._utils.sample_random import sample_normal, sample_uniform
from robustfit._utils.torch_bridge import per_sample
from robustfit.attacks.base import Attack, AttackOutcome
from robustfit.attacks.losses import differentiate, loss_and_input_gradient
from robustfit.attacks.search import (
    Survivors,
    is_fooled,
    keys_of_start,
    search_survivors,
)

__all__ = ["FAB"]

_OVERSHOOT = 1.05  # eta: how far beyond the linearised boundary a step goes
_LARGEST_PULL = 0.1  # alpha_max: weight of the step taken from the natural input
_BACKWARD = 0.9  # beta: after a success, return to this share of the perturbation


class FAB(Attack):
    """Fast adaptive boundary attack (Croce & Hein, 2020): minimal perturbations.

    Parameters
    ----------
    n_steps : int, default=100
        Projections onto the linearised decision boundary, each target.
    n_restarts : int, default=1
        The first starts from the input, the others from random points near it.
    n_targets : int, default=9
        Classes to aim at, most likely first; at most the other classes of the model.
        0 aims at the closest class of every step, at the price of one gradient a class.
    minimal : bool, default=False
        If True, search on for the shortest perturbation, whatever its length; if
        False, leave a sample alone once it is fooled within ``eps``.
    batch_size : int, default=128
        Samples (and targets) in one call of the model.

    Raises
    ------
    ValueError
        For a count out of range.

    Notes
    -----
    Called as ``attack(logits_fn, x, y, threat_model, generator=None)``. With
    ``minimal=True`` the results may lie outside the ball of radius ``eps``: use
    :func:`robustfit.minimal_distances`. The projections onto a hyperplane within the
    range are those of :meth:`robustfit.ThreatModel.move_to_hyperplane`.

    References
    ----------
    F. Croce, M. Hein. "Minimally distorted adversarial examples with a fast adaptive
    boundary attack", ICML 2020 (Algorithm 1).

    Examples
    --------
    >>> import torch
    >>> from robustfit import ThreatModel
    >>> from robustfit.attacks import FAB
    >>> weight = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    >>> x, y = torch.tensor([[0.6, 0.4]]), torch.tensor([0])
    >>> threat_model = ThreatModel("linf", eps=0.2)
    >>> x_adv = FAB()(lambda x: x @ weight.T, x, y, threat_model)
    >>> bool(0.1 < threat_model.distance(x_adv, x) < 0.11)
    True
    """

    def __init__(
        self,
        n_steps: int = 100,
        *,
        n_restarts: int = 1,
        n_targets: int = 9,
        minimal: bool = False,
        batch_size: int = 128,
    ):
        check_count("n_steps", n_steps)
        check_count("n_restarts", n_restarts)
        check_count("batch_size", batch_size)
        if n_targets != 0:
            check_count("n_targets", n_targets)
        self.n_steps = n_steps
        self.n_restarts = n_restarts
        self.n_targets = n_targets
        self.minimal = minimal
        self.batch_size = batch_size

    def run(self, logits_fn, x, y, threat_model, generator=None):
        """Return the shortest perturbations found; robust samples unchanged."""
        start = self._start(logits_fn, x, y, generator)
        shortest = _Shortest(x, start.fooled, threat_model, self.minimal)
        for restart in range(self.n_restarts):
            run = _Run(
                self, logits_fn, x, y, threat_model, shortest, restart, start.keys
            )
            search_survivors(
                run, shortest, start.logits, y,
                n_targets=self.n_targets, batch_size=self.batch_size,
            )  # fmt: skip
        return AttackOutcome(shortest.x_adv)


class _Shortest(Survivors):
    """The shortest perturbation of each sample; done when it lies within ``eps``."""

    def __init__(self, x, fooled, threat_model, minimal):
        super().__init__(x, fooled)
        self._x, self._threat_model = x, threat_model
        self._reach = -1.0 if minimal else threat_model.eps
        self._keep_within = torch.inf if minimal else threat_model.eps
        self.length = torch.where(self.fooled, 0.0, torch.inf).to(x.dtype)

    def offer(self, rows, x_adv, fooled):
        """Keep fooling points shorter than those seen; return rows worth a step."""
        length = self._threat_model.distance(x_adv, self._x[rows])
        length = torch.where(fooled, length, torch.inf)
        # Several targets of one sample may meet here: the shortest must be kept.
        order = length.argsort(descending=True, stable=True)
        order = order[length[order] < self.length[rows[order]]]
        order = order[length[order] <= self._keep_within]
        for last in _last_of_each(rows[order]):
            row = rows[order[last]]
            self.length[row] = length[order[last]]
            self.x_adv[row] = x_adv[order[last]]
        self.fooled |= self.length <= self._reach
        return ~self.fooled[rows]


def _last_of_each(rows):
    """Yield one index tensor: the place of the last occurrence of every value."""
    if len(rows):
        place = torch.full((int(rows.max()) + 1,), -1, device=rows.device)
        place.scatter_reduce_(
            0, rows, torch.arange(len(rows), device=rows.device), "amax"
        )
        yield place[place >= 0]


class _Run:
    """One start of the attack on some samples, each with at most one target."""

    def __init__(self, attack, logits_fn, x, y, threat_model, shortest, restart, keys):
        self.attack, self.logits_fn = attack, logits_fn
        self.x, self.y, self.threat_model = x, y, threat_model
        self.shortest, self.restart, self.keys = shortest, restart, keys

    def __call__(self, rows, targets):
        x, y = self.x[rows], self.y[rows]
        x_adv = self._start(rows, targets)
        for _ in range(self.attack.n_steps):
            x_adv = self._step(x_adv, x, y, targets)
            with torch.no_grad():
                fooled = is_fooled(self.logits_fn(x_adv), y)
            alive = self.shortest.offer(rows, x_adv, fooled)
            back = _BACKWARD * (x_adv - x) + x
            x_adv = torch.where(per_sample(fooled, x), back, x_adv)
            if not alive.all():
                rows, x_adv, x, y = rows[alive], x_adv[alive], x[alive], y[alive]
                targets = None if targets is None else targets[alive]
                if len(rows) == 0:
                    return

    def _start(self, rows, targets):
        x = self.x[rows]
        if self.restart == 0:
            return x
        keys = keys_of_start(self.keys[rows], self.restart, targets)
        is_linf = self.threat_model.norm == "linf"
        noise = (2 * sample_uniform(keys, x.shape) - 1) if is_linf else (
            sample_normal(keys, x.shape)
        )  # fmt: skip
        return x + (self.threat_model.move_to_sphere(x, noise.to(x.dtype)) - x) / 2

    def _step(self, x_adv, x, y, targets):
        """Step beyond the linearised boundary, pulled towards the natural input."""
        gap, normal = self._nearest_boundary(x_adv, y, targets)
        offset = (normal * x_adv).flatten(1).sum(1) - gap
        move = self.threat_model.move_to_hyperplane(x_adv, normal, offset)
        natural_move = self.threat_model.move_to_hyperplane(x, normal, offset)
        length = self._length(move)
        pull = length / (length + self._length(natural_move))
        pull = torch.minimum(pull, torch.full_like(pull, _LARGEST_PULL))
        pull = per_sample(pull, x)
        reached = torch.add(x_adv, move, alpha=_OVERSHOOT)
        from_natural = torch.add(x, natural_move, alpha=_OVERSHOOT)
        return self.threat_model.clip(torch.lerp(reached, from_natural, pull))

    def _length(self, move):
        return self.threat_model.distance(move, torch.zeros_like(move)).clamp_min(1e-8)

    def _nearest_boundary(self, x_adv, y, targets):
        """Return the margin to a class and its gradient; the closest if no target."""
        if targets is not None:
            gap, normal, _ = loss_and_input_gradient(
                self.logits_fn, x_adv, y, "margin", targets
            )
            return gap, normal
        return _closest_boundary(self.logits_fn, x_adv, y, self.threat_model)


def _closest_boundary(logits_fn, x_adv, y, threat_model):
    """Return margin and gradient to the class that is closest in linear terms."""
    x_adv = x_adv.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = logits_fn(x_adv)
        margins = logits - logits.gather(1, y[:, None])
    best = torch.full((len(y),), torch.inf, device=y.device)
    gap, normal = torch.zeros_like(best), torch.zeros_like(x_adv)
    for column in range(logits.shape[1]):
        gradient = differentiate(
            margins[:, column].sum(), x_adv, logits_fn, retain_graph=True
        )
        distance = margins[:, column].detach().abs()
        distance = distance / threat_model.dual_length(gradient).clamp_min(1e-12)
        closer = (distance < best) & (y != column)
        best = torch.where(closer, distance, best)
        gap = torch.where(closer, margins[:, column].detach(), gap)
        normal = torch.where(per_sample(closer, normal), gradient, normal)
    return gap, normal
