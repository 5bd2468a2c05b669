"""Steps to a robust teacher, a net that judges the rows of a set.

It is trained adversarially from theta_0. Its probabilities of the *clean* images say
how close an image is to other classes as a robust net sees it, which one hard label a
row cannot.
"""

import copy
import warnings
from dataclasses import dataclass

import torch

from robustfit._utils.torch_bridge import to_tensor
from robustfit.classifiers.adversarial_training.module_training import (
    train_adversarially,
)
from robustfit.exceptions import CollapsedTrainingWarning
from robustfit.robustifiers.dataset_learning.step import Step

__all__ = ["AskTeacher", "LabelSoftly", "TrainTeacher"]

BATCH_SIZE = 1000
# A teacher that is right by no more than this above guessing has not learned.
MARGIN_ABOVE_GUESSING = 0.05


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
class AskTeacher(Step):
    """Ask the teacher what each natural image of the set's rows shows."""

    name = "ask-teacher"

    def run(self, state, generator):
        """Set ``row_probabilities``; tells how often they agree with the labels."""
        problem = self.problem
        with torch.no_grad():
            logits = [state.player(part) for part in problem.x.split(BATCH_SIZE)]
        state.row_probabilities = torch.cat(logits).softmax(1)
        right = state.row_probabilities.argmax(1) == problem.y
        agreement = float(right.float().mean())
        guessing = float(problem.y.bincount().max()) / len(problem.y)
        if agreement <= guessing + MARGIN_ABOVE_GUESSING:
            warnings.warn(
                f"The adversarially trained teacher is right on {agreement:.3g} of its "
                f"training images; guessing is on {guessing:.3g}. Its training "
                "collapsed: what it says about the rows means nothing. Use a smaller "
                'eps, judge="cross-fitted", or an estimator that learns more.',
                CollapsedTrainingWarning,
                stacklevel=2,
            )
        return {"agreement": agreement}


@dataclass(frozen=True)
class LabelSoftly(Step):
    """Label each row by the judges' probabilities of the image that it shows."""

    name = "soft-labels"

    def run(self, state, generator):
        """Set ``soft_labels``; the record tells how often they agree with the hard."""
        state.soft_labels = state.shown_probabilities()
        agreement = state.soft_labels.argmax(1) == self.problem.y
        return {"agreement": float(agreement.float().mean())}
