"""What changes from step to step."""

from dataclasses import dataclass, field

import torch

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
    soft_labels : torch.Tensor of shape (n_samples, n_classes) or None
    candidate_scores : list of float
        Natural plus robust accuracy of the candidate disturbances so far.
    candidate_accuracy : float or None
        Largest natural accuracy among them; None before the first.
    disturbance : Disturbance or None
        The one that the set was disturbed with.
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
    soft_labels: torch.Tensor | None = None
    candidate_scores: list = field(default_factory=list)
    candidate_accuracy: float | None = None
    disturbance: Disturbance | None = None
    x_best: torch.Tensor | None = None
    best_score: float | None = None
    n_no_change: int = 0
    n_done: int = 0
    history: list = field(default_factory=list)

    def natural_images(self, problem):
        """Return the natural image that each row of the set shows."""
        return problem.x if self.sources is None else problem.x[self.sources]

    def note_candidate(self, natural_accuracy, robust_accuracy):
        """Remember how a net does that was trained on a candidate disturbance."""
        self.candidate_scores.append(natural_accuracy + robust_accuracy)
        best = self.candidate_accuracy or 0.0
        self.candidate_accuracy = max(best, natural_accuracy)

    def note_validation(self, score):
        """Remember the set if its ``score`` is the best so far."""
        if self.best_score is None or score > self.best_score:
            self.x_best, self.best_score, self.n_no_change = self.x_robust, score, 0
        else:
            self.n_no_change += 1

    def has_stopped(self, n_iter_no_change):
        """Tell whether so many validations (None: any number) brought no better set."""
        return n_iter_no_change is not None and self.n_no_change >= n_iter_no_change
