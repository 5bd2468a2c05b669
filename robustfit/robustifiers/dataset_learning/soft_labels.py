"""Steps to soft labels: train a robust teacher from theta_0, let it label the images.

Its probabilities of the *clean* images say how close an image is to other classes as a
robust net sees it, which one hard label a row cannot.
"""

import copy
from dataclasses import dataclass

import torch

from robustfit._utils.torch_bridge import to_tensor
from robustfit.classifiers.adversarial_training.module_training import (
    train_adversarially,
)
from robustfit.robustifiers.dataset_learning.step import Step

__all__ = ["LabelSoftly", "TrainTeacher"]

BATCH_SIZE = 1000


@dataclass(frozen=True)
class TrainTeacher(Step):
    """Train the teacher adversarially for one epoch, on all natural rows."""

    epoch: int

    name = "robust-teacher"

    def run(self, state, generator):
        """Train ``player``, which the first epoch takes from theta_0."""
        problem, device = self.problem, self.problem.x.device
        if self.epoch == 0:
            state.player = copy.deepcopy(problem.theta_0)
        train_adversarially(
            state.player,
            to_tensor(problem.X_all, device),
            to_tensor(problem.y_all, device, torch.int64),
            problem.threat_model,
            epoch=self.epoch,
            n_epochs=self.recipe.n_teacher_epochs,
            batch_size=self.recipe.batch_size,
            generator=generator,
        )
        return {"epoch": self.epoch}


@dataclass(frozen=True)
class LabelSoftly(Step):
    """Label each row by the teacher's probabilities of the image that it shows."""

    name = "soft-labels"

    def run(self, state, generator):
        """Set ``soft_labels``; the record tells how often they agree with the hard."""
        images = state.natural_images(self.problem)
        with torch.no_grad():
            logits = [state.player(part) for part in images.split(BATCH_SIZE)]
        state.soft_labels = torch.cat(logits).softmax(1)
        agreement = state.soft_labels.argmax(1) == self.problem.y
        return {"agreement": float(agreement.float().mean())}
