"""What a distillation carries from step to step, and its Adam."""

from dataclasses import dataclass, field, fields
from typing import Any

import torch

from robustfit._utils.torch_bridge import to_array

__all__ = ["DistillationState", "onto_simplex"]

_BETA_1, _BETA_2, _TINY = 0.9, 0.999, 1e-8


@dataclass
class DistillationState:
    """Support images and labels, their Adam moments, the best ones so far.

    Attributes
    ----------
    x, y : torch.Tensor of shape (n_support, n_features), (n_support, n_classes)
        Labels are probabilities.
    best_x, best_y : torch.Tensor
        Those of the best validation so far.
    mean_x, square_x, mean_y, square_y : torch.Tensor
        Moments.
    n_done : int
        Outer steps taken.
    loss : float
        Outer loss of the last step.
    best_score : float or None
        None before the first validation.
    n_no_change : int
        Validations since then.
    history : list of dict
        A log for the user, one record a validation: nothing is read from it.
    """

    x: torch.Tensor
    y: torch.Tensor
    best_x: torch.Tensor
    best_y: torch.Tensor
    mean_x: torch.Tensor
    square_x: torch.Tensor
    mean_y: torch.Tensor
    square_y: torch.Tensor
    n_done: int = 0
    loss: float = float("nan")
    best_score: float | None = None
    n_no_change: int = 0
    history: list = field(default_factory=list)

    @classmethod
    def start(cls, x, y):
        """Return the state before the first step."""
        moments = {
            f"{moment}_{name}": torch.zeros_like(part)
            for name, part in (("x", x), ("y", y))
            for moment in ("mean", "square")
        }
        set_and_best = (x.clone(), y.clone(), x.clone(), y.clone())
        return cls(*set_and_best, **moments)  # type: ignore[arg-type]

    def take_step(self, gradient_x, gradient_y, learning_rate):
        """Move images and, where ``gradient_y`` is given, labels: one step of Adam."""
        self.n_done += 1
        self._adam("x", gradient_x, learning_rate)
        if gradient_y is not None:
            self._adam("y", gradient_y, learning_rate)
            self.y = onto_simplex(self.y)

    def _adam(self, name, gradient, learning_rate):
        mean, square = getattr(self, f"mean_{name}"), getattr(self, f"square_{name}")
        mean.lerp_(gradient, 1 - _BETA_1)
        square.lerp_(gradient.square(), 1 - _BETA_2)
        rate = learning_rate / (1 - _BETA_1**self.n_done)
        scale = (square / (1 - _BETA_2**self.n_done)).sqrt_().add_(_TINY)
        getattr(self, name).addcdiv_(mean, scale, value=-rate)

    def note(self, record, score):
        """Keep a validation's record, and the set if it is the best so far."""
        self.history.append(record)
        self.n_no_change += 1
        if self.best_score is None or score > self.best_score:
            self.best_score, self.n_no_change = score, 0
            self.best_x, self.best_y = self.x.clone(), self.y.clone()

    def pack(self, **more):
        """Return the state as arrays and a JSON record (and ``more``), to be saved."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        arrays = {k: to_array(v) for k, v in values.items() if torch.is_tensor(v)}
        return arrays, more | {k: v for k, v in values.items() if k not in arrays}

    @classmethod
    def unpack(cls, arrays, record, device):
        """Return the state that :meth:`pack` gave."""
        names = {f.name for f in fields(cls)}
        values: dict[str, Any] = {
            k: torch.as_tensor(v, device=device) for k, v in arrays.items()
        }
        values |= {k: v for k, v in record.items() if k in names}
        return cls(**values)


def onto_simplex(y):
    """Return the rows of probabilities next to the rows of ``y``, in l2.

    By sorting (Duchi et al., "Efficient projections onto the l1-ball", 2008).
    """
    ordered = y.sort(dim=1, descending=True).values
    count = torch.arange(1, y.shape[1] + 1, device=y.device)
    excess = (ordered.cumsum(1) - 1) / count
    last = (ordered > excess).sum(1, keepdim=True)
    return (y - excess.gather(1, last - 1)).clamp_min(0)
