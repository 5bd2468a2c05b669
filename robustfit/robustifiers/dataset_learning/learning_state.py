"""What changes from step to step."""

from dataclasses import dataclass, field

import torch

from robustfit.robustifiers.dataset_learning.candidate import (
    NATURAL,
    Candidate,
    choose,
    mildest_of_the_best,
)
from robustfit.robustifiers.dataset_learning.disturbance import Disturbance

__all__ = ["LearningState"]


@dataclass
class LearningState:
    """All that a step may know of the steps before it; saved in a checkpoint.

    Attributes
    ----------
    x_robust : torch.Tensor of shape (n_samples, ...)
        The set so far.
    player : torch.nn.Module
        The net that the set answers to next: theta_0, or what the last round trained.
        For soft labels, their teacher.
    sources : torch.Tensor of shape (n_samples,) or None
        Rows of the problem whose images the rows of the set show; None is each its own.
    row_probabilities : torch.Tensor of shape (n_samples, n_classes) or None
        What the judges of rows see in the natural images of the set's rows.
    soft_labels : torch.Tensor of shape (n_samples, n_classes) or None
    judges : list of fitted estimators
        They; empty where the teacher, ``player``, is the judge, or there is none.
    disturbance : Disturbance or None
        The best one, once the comparison of disturbances has ended.
    candidates : list of Candidate
        Those judged so far, since then.
    measured : list of (float, float)
        Natural and robust accuracy of nets trained on them, in [0, 1].
    n_measured_on : int
        Images that they were measured on.
    chosen : Candidate or None
        The one that the set was made by.
    x_best : torch.Tensor of shape (n_samples, ...) or None
        The set of the best validation so far.
    best_score : float or None
        Its robust accuracy; None before the first validation.
    n_no_change : int
        Validations since then.
    n_done : int
        Steps of the fit that are done, left out ones in between included.
    history : list of dict
        A log for the user, who may change it: nothing is read from it.
    """

    x_robust: torch.Tensor
    player: torch.nn.Module
    sources: torch.Tensor | None = None
    row_probabilities: torch.Tensor | None = None
    soft_labels: torch.Tensor | None = None
    judges: list = field(default_factory=list)
    disturbance: Disturbance | None = None
    candidates: list = field(default_factory=list)
    measured: list = field(default_factory=list)
    n_measured_on: int = 0
    chosen: Candidate | None = None
    x_best: torch.Tensor | None = None
    best_score: float | None = None
    n_no_change: int = 0
    n_done: int = 0
    history: list = field(default_factory=list)

    def natural_images(self, problem):
        """Return the natural image that each row of the set shows."""
        return problem.x if self.sources is None else problem.x[self.sources]

    def shown_probabilities(self):
        """Return what the judges see in the images that the rows of the set show."""
        if self.sources is None or self.row_probabilities is None:
            return self.row_probabilities
        return self.row_probabilities[self.sources]

    def note_candidate(self, candidate, natural_accuracy, robust_accuracy, n_images):
        """Remember how a net does that was trained on the set of a candidate."""
        self.candidates.append(candidate)
        self.measured.append((natural_accuracy, robust_accuracy))
        self.n_measured_on = n_images

    def choose(self, recipe):
        """Return the best candidate so far; the recipe's first where none was judged.

        The natural set where the recipe has none.
        """
        if not self.candidates:
            return recipe.candidates[0] if recipe.candidates else NATURAL
        return choose(
            self.candidates, self.measured, self.n_measured_on, recipe.max_natural_loss
        )

    def end_comparison(self, recipe):
        """Keep the best disturbance, and forget what it was compared with."""
        self.disturbance = self.best_disturbance(recipe)
        self.candidates, self.measured = [], []

    def best_disturbance(self, recipe):
        """Return the disturbance that won, or the best so far."""
        if self.disturbance is not None:
            return self.disturbance
        if not self.candidates:
            return self.choose(recipe).disturbance
        return mildest_of_the_best(
            self.candidates, self.measured, self.n_measured_on, recipe.max_natural_loss
        )

    def note_validation(self, score):
        """Remember the set if its ``score`` is the best so far."""
        if self.best_score is None or score > self.best_score:
            self.x_best, self.best_score, self.n_no_change = self.x_robust, score, 0
        else:
            self.n_no_change += 1

    def has_stopped(self, n_iter_no_change):
        """Tell whether so many validations (None: any number) brought no better set."""
        return n_iter_no_change is not None and self.n_no_change >= n_iter_no_change
