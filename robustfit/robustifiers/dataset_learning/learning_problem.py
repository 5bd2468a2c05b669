"""What is given to a fit."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from robustfit.robustifiers.dataset_learning.disturbance import budget_per_value
from robustfit.threat_model import ThreatModel

__all__ = ["LearningProblem"]


@dataclass(frozen=True)
class LearningProblem:
    """What is given: data, threat model, naturally trained nets, how to make new ones.

    Attributes
    ----------
    x, y : torch.Tensor of shape (n_samples, ...), (n_samples,)
        Rows of the natural set that are learned.
    X_all, y_all : ndarray
        The whole natural set but the held-out rows, for training teachers.
    X_held_out, y_held_out : ndarray or None
        Rows that the set is validated on; None where none are held out.
    image_shape : tuple of int
    n_classes : int
    threat_model : ThreatModel
    theta_0s : list of torch.nn.Module
        Naturally trained, return logits; the first is theta_0.
        Empty where the estimator is no net, and nothing asks for one.
    new_net : callable
        Returns an unfitted estimator of theta_0's kind.
    batch_size : int
    seed : int
        Of the fit.
    """

    x: torch.Tensor
    y: torch.Tensor
    X_all: np.ndarray
    y_all: np.ndarray
    image_shape: tuple[int, ...]
    n_classes: int
    threat_model: ThreatModel
    theta_0s: list[torch.nn.Module]
    new_net: Callable
    batch_size: int = 128
    seed: int = 0
    X_held_out: np.ndarray | None = None
    y_held_out: np.ndarray | None = None

    @property
    def theta_0(self):
        """The naturally trained net that is the learner's ``estimator_``, or None."""
        return self.theta_0s[0] if self.theta_0s else None

    @cached_property
    def value_range(self):
        """Values that count as dark and bright."""
        if self.threat_model.clip_range is not None:
            return self.threat_model.clip_range
        low, high = float(self.X_all.min()), float(self.X_all.max())
        return low, max(high, low + 1e-6)

    @cached_property
    def budget(self):
        """Budget of the adversary as a share of the range, a value."""
        return budget_per_value(self.threat_model, self.image_shape, self.value_range)

    def disturb(self, disturbance, x, generator):
        """Return ``x`` (of the shape of X) under a Disturbance, within the range."""
        images = x.reshape(len(x), *self.image_shape)
        disturbed = disturbance.apply(images, self.value_range, generator)
        return self.threat_model.clip(disturbed.reshape(x.shape))
