"""How long, and how sparse, the next step of Auto-PGD is.

A control holds the state of the ascent for the samples that still stand: the current
point, the best one, and what the last steps did to the loss.
"""

import torch

from robustfit._utils.torch_bridge import per_sample

__all__ = ["SparsityControl", "StepSizeControl"]

_MOMENTUM = 0.25
# Fewer increases of the loss than this share of the steps halve the step size.
_RHO = 0.75


class _Control:
    """The points of an ascent and the best of them, sample by sample."""

    _per_sample: tuple[str, ...] = (
        "x",
        "x_adv",
        "gradient",
        "best",
        "best_gradient",
        "best_value",
    )

    def __init__(self, threat_model, x, x_adv, gradient, value, n_steps):
        self.threat_model, self.n_steps = threat_model, n_steps
        self.x, self.x_adv, self.gradient = x, x_adv, gradient
        self.best, self.best_gradient = x_adv.clone(), gradient.clone()
        self.best_value = value.clone()
        self._since_checkpoint = 0

    def keep(self, alive):
        """Forget every sample that is not ``alive``."""
        for name in self._per_sample:
            setattr(self, name, getattr(self, name)[alive])

    def update(self, x_adv, gradient, value):
        """Take note of the point that the last step led to."""
        better = value > self.best_value
        self.x_adv, self.gradient = x_adv, gradient
        self.best[better] = x_adv[better]
        self.best_gradient[better] = gradient[better]
        self.best_value = torch.where(better, value, self.best_value)
        self._since_checkpoint += 1

    def _return_to_best(self, rows):
        rows = per_sample(rows, self.x)
        self.x_adv = torch.where(rows, self.best, self.x_adv)
        self.gradient = torch.where(rows, self.best_gradient, self.gradient)


class StepSizeControl(_Control):
    """Halve a sample's step when its loss stalls (Croce & Hein, 2020, section 3)."""

    _per_sample = (
        *_Control._per_sample,
        "previous",
        "step_size",
        "_value",
        "_n_increases",
        "_halved",
        "_checkpoint_value",
    )

    def __init__(self, threat_model, x, x_adv, gradient, value, n_steps):
        super().__init__(threat_model, x, x_adv, gradient, value, n_steps)
        self.previous = x_adv
        self.step_size = torch.full_like(value, 2 * threat_model.eps)
        self._value = value
        self._n_increases = torch.zeros_like(value)
        self._halved = torch.ones_like(value, dtype=torch.bool)
        self._checkpoint_value = value.clone()
        self._period = max(int(0.22 * n_steps), 1)
        self._momentum = 0.0

    def step(self):
        """Return the next point: a projected step, with momentum from the second on."""
        towards = self.threat_model.ascent_step(
            self.x_adv, self.gradient, per_sample(self.step_size, self.x)
        )
        towards = self.threat_model.project(towards, self.x)
        if self._momentum:
            velocity = self.x_adv - self.previous
            towards = self.x_adv + (1 - self._momentum) * (towards - self.x_adv)
            towards = self.threat_model.project(
                towards + self._momentum * velocity, self.x
            )
        self.previous, self._momentum = self.x_adv, _MOMENTUM
        return towards

    def update(self, x_adv, gradient, value):
        """Take note of the new point; at a checkpoint, halve steps that do not pay."""
        super().update(x_adv, gradient, value)
        self._n_increases = self._n_increases + (value > self._value)
        self._value = value
        if self._since_checkpoint < self._period:
            return
        oscillates = self._n_increases <= _RHO * self._period
        stalls = ~self._halved & (self._checkpoint_value >= self.best_value)
        self._halved = oscillates | stalls
        self._checkpoint_value = self.best_value.clone()
        self.step_size = torch.where(self._halved, self.step_size / 2, self.step_size)
        self._return_to_best(self._halved)
        shorter = self._period - max(int(0.03 * self.n_steps), 1)
        self._period = max(shorter, int(0.06 * self.n_steps), 1)
        self._n_increases = torch.zeros_like(self._n_increases)
        self._since_checkpoint = 0


class SparsityControl(_Control):
    """Sparse steps in the l1 ball ("Mind the box", Croce & Hein, 2021, Algorithm 1)."""

    _per_sample = (*_Control._per_sample, "step_size", "_n_moved", "_n_changed")

    def __init__(self, threat_model, x, x_adv, gradient, value, n_steps):
        super().__init__(threat_model, x, x_adv, gradient, value, n_steps)
        self.step_size = torch.full_like(value, threat_model.eps)
        self._n_changed = torch.full_like(value, threat_model.n_touchable(x))
        self._n_moved = 0.2 * self._n_changed
        self._period = max(int(0.04 * n_steps), 1)

    def step(self):
        """Return the next point: a step along the largest gradient entries."""
        flat = self.threat_model.from_units(self.gradient).flatten(1)
        ranked = flat.abs().sort(1, descending=True).values
        last = torch.minimum(
            self._n_moved.long(), torch.full_like(self._n_moved.long(), flat.shape[1])
        )
        smallest = ranked.gather(1, (last[:, None] - 1).clamp_min(0))
        signs = torch.where(flat.abs() >= smallest, flat.sign(), 0.0)
        signs = signs / signs.abs().sum(1, keepdim=True).clamp_min(1)
        move = per_sample(self.step_size, self.x) * signs.reshape(self.x.shape)
        move = self.threat_model.from_units(move)
        return self.threat_model.project(self.x_adv + move, self.x)

    def update(self, x_adv, gradient, value):
        """Take note of the new point; at a checkpoint, adapt sparsity and step."""
        super().update(x_adv, gradient, value)
        if self._since_checkpoint < self._period:
            return
        eps = self.threat_model.eps
        n_changed = (self.best != self.x).flatten(1).sum(1).float()
        sparser = n_changed / self._n_changed < 0.95
        self._n_moved = n_changed / 1.5
        shorter = (self.step_size / 1.5).clamp_min(eps / 10)
        self.step_size = torch.where(sparser, eps, shorter)
        self._n_changed = n_changed.clamp_min(1)
        self._return_to_best(sparser)
        self._since_checkpoint = 0
