"""The data of one distillation, and the predictors that a learned set makes on it."""

from dataclasses import dataclass

import torch

from robustfit._utils.torch_bridge import stage_generator
from robustfit.classifiers.kernel_regression import one_hot, solve_kernel_regression
from robustfit.robustifiers.distillation.rows import Rows
from robustfit.robustifiers.distillation.state import DistillationState
from robustfit.robustifiers.distillation.validation import validate
from robustfit.threat_model import ThreatModel

__all__ = ["DistillationProblem"]


@dataclass(frozen=True)
class DistillationProblem:
    """Natural rows on the device, their roles, the kernels and the adversary."""

    x: torch.Tensor
    y: torch.Tensor
    n_classes: int
    rows: Rows
    kernels: list
    threat_model: ThreatModel
    alpha: float
    batch_size: int
    seed: int

    def first_state(self):
        """Return the natural rows of the support with their labels."""
        support = torch.as_tensor(self.rows.support, device=self.x.device)
        y = one_hot(self.y[support], self.n_classes) + 1 / self.n_classes
        return DistillationState.start(self.x[support], y.to(self.x))

    def draw(self, step):
        """Return the targets of a step, and the kernel: one of several at random."""
        targets = self.rows.draw_targets(self.seed, step)
        generator = stage_generator(self.seed, 2, step)
        number = torch.randint(len(self.kernels), (1,), generator=generator)
        return targets, self.kernels[int(number)]

    def regress(self, x, y, left_out, kernel=None):
        """Return the predictor of a set without the rows ``left_out``, and its rows."""
        kept = self.rows.support_without(left_out)
        kept = torch.as_tensor(kept, device=x.device)
        kernel = self.kernels[0] if kernel is None else kernel
        labels = y[kept] - 1 / self.n_classes
        return solve_kernel_regression(kernel, x[kept], labels, self.alpha), kept

    def validate(self, state):
        """Return what the set of a state does on the validation rows."""
        rows = self.rows.validation
        regression, _ = self.regress(state.x, state.y, rows)
        # The same start in every validation: they differ by the sets alone.
        generator = stage_generator(self.seed, 3, device=self.x.device)
        return validate(
            regression.logits,
            self.x[rows],
            self.y[rows],
            self.threat_model,
            self.batch_size,
            generator,
        )
