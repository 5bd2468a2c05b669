"""A hard-label attack: nothing but the predicted class is seen."""

import torch

from robustfit._utils.argument_checks import check_count
from robustfit._utils.sample_random import sample_uniform
from robustfit.attacks.base import Attack, AttackOutcome
from robustfit.attacks.search import Survivors, is_fooled

__all__ = ["HardLabelAttack"]

_N_HALVINGS = 12  # of the distance along one direction, to find the boundary


class HardLabelAttack(Attack):
    """Ray search (Chen & Gu, 2020): flip blocks of signs, keep the shortest ray.

    Parameters
    ----------
    n_rounds : int, default=500
        Blocks flipped for a sample that is not fooled; each costs one prediction, and
        about ten more when the flip shortens the ray.
    batch_size : int, default=128
        Samples in one call of the model.

    Raises
    ------
    ValueError
        For a count below one.

    Notes
    -----
    Called as ``attack(logits_fn, x, y, threat_model, generator=None)``; only the
    largest logit is looked at. The signs of the direction are those of the paper for
    linf; the other norms move along the same direction by a length in their own norm.
    Needs a bounded ``clip_range`` to know how far a ray can lead; without one it looks
    100 budgets far.

    References
    ----------
    J. Chen, Q. Gu. "RayS: a ray searching method for hard-label adversarial attack",
    KDD 2020 (Algorithms 1 and 3).

    Examples
    --------
    >>> import torch
    >>> from robustfit import ThreatModel
    >>> from robustfit.attacks import HardLabelAttack
    >>> weight = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    >>> x, y = torch.tensor([[0.6, 0.4]]), torch.tensor([0])
    >>> x_adv = HardLabelAttack()(
    ...     lambda x: x @ weight.T, x, y, ThreatModel("linf", eps=0.2))
    >>> bool((x_adv @ weight.T).argmax(1) == 1)
    True
    """

    needs_gradients = False

    def __init__(self, n_rounds: int = 500, *, batch_size: int = 128):
        check_count("n_rounds", n_rounds)
        check_count("batch_size", batch_size)
        self.n_rounds = n_rounds
        self.batch_size = batch_size

    def run(self, logits_fn, x, y, threat_model, generator=None):
        """Return what fools the model; robust samples unchanged."""
        start = self._start(logits_fn, x, y, generator)
        survivors = Survivors(x, start.fooled)
        for i in survivors.batches(self.batch_size):
            with torch.no_grad():
                rays = _Rays(logits_fn, x[i], y[i], threat_model, start.keys[i])
                self._flip_blocks(rays, i, survivors)
        return AttackOutcome(survivors.x_adv)

    def _flip_blocks(self, rays, rows, survivors):
        n_blocks, block = 1, 0
        for _ in range(self.n_rounds):
            within = rays.length <= rays.threat_model.eps
            alive = survivors.record(rows, rays.points(rays.length), within)
            if not alive.all():
                rows = rows[alive]
                rays.keep(alive)
            if len(rows) == 0:
                return
            if block >= n_blocks:
                n_blocks, block = min(2 * n_blocks, rays.n_features), 0
            rays.flip(block, n_blocks)
            block += 1
        within = rays.length <= rays.threat_model.eps
        survivors.record(rows, rays.points(rays.length), within)


class _Rays:
    """One direction a sample, and how far along it the prediction changes."""

    def __init__(self, logits_fn, x, y, threat_model, keys):
        self.logits_fn, self.x, self.y = logits_fn, x, y
        self.threat_model, self.n_features = threat_model, x[0].numel()
        self.signs = (sample_uniform(keys, x.flatten(1).shape) < 0.5).to(x) * 2 - 1
        self.length = torch.full((len(x),), torch.inf, device=x.device, dtype=x.dtype)
        # Both rays of the starting direction; flips go on from the better one.
        everyone = torch.ones_like(self.length, dtype=torch.bool)
        self._shorten(self.signs, everyone, self._farthest())
        self._shorten(-self.signs, everyone, self._farthest())

    def keep(self, alive):
        self.x, self.y, self.signs = self.x[alive], self.y[alive], self.signs[alive]
        self.length = self.length[alive]

    def points(self, length, signs=None):
        """Return the points at ``length`` along the rays, in the range."""
        signs = self.signs if signs is None else signs
        length = torch.where(torch.isfinite(length), length, 0.0)
        direction = signs.reshape(self.x.shape)
        return self.threat_model.move_along(self.x, direction, length)

    def flip(self, block, n_blocks):
        """Flip one of ``n_blocks`` runs of signs where that shortens the ray."""
        start = block * self.n_features // n_blocks
        stop = (block + 1) * self.n_features // n_blocks
        signs = self.signs.clone()
        signs[:, start:stop] *= -1
        everyone = torch.ones_like(self.length, dtype=torch.bool)
        limit = torch.where(
            torch.isfinite(self.length), self.length * 0.999, self._farthest()
        )
        self._shorten(signs, everyone, limit)

    def _shorten(self, signs, rows, limit):
        """Take ``signs`` where they fool within ``limit``, and bisect the length."""
        limit = torch.minimum(limit, self.length)
        better = rows & self._fooled(limit, signs)
        if not better.any():
            return
        short, long = torch.zeros_like(limit), limit
        for _ in range(_N_HALVINGS):
            middle = (short + long) / 2
            fooled = self._fooled(middle, signs)
            short = torch.where(fooled, short, middle)
            long = torch.where(fooled, middle, long)
        self.signs = torch.where(better[:, None], signs, self.signs)
        self.length = torch.where(better, long, self.length)

    def _farthest(self):
        reach = self.threat_model.diameter(self.x)
        if not torch.isfinite(reach).all():
            return torch.full_like(self.length, 100 * self.threat_model.eps)
        return reach.expand(len(self.x)).clone()

    def _fooled(self, length, signs):
        return is_fooled(self.logits_fn(self.points(length, signs)), self.y)
