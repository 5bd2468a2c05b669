"""Steps that disturb the set: judge the candidates, replace unclear rows, disturb."""

from dataclasses import dataclass
from functools import partial

import torch

from robustfit._utils.labels import targets_of
from robustfit._utils.torch_bridge import seeded_torch, to_array, to_tensor
from robustfit.robustifiers.dataset_learning.clear_rows import (
    judge_clarity,
    replace_unclear,
)
from robustfit.robustifiers.dataset_learning.disturbance import Disturbance
from robustfit.robustifiers.dataset_learning.step import Step
from robustfit.robustifiers.dataset_learning.validation import (
    fine_tune,
    measure_robustness,
)

__all__ = [
    "ClearRows",
    "Disturb",
    "JudgeDisturbance",
    "choose_disturbance",
]

# Rows that a candidate disturbance is judged with: trained on, and attacked.
SEARCH_ROWS = 8000
VALIDATION_ROWS = 1000
# Natural plus robust accuracy by which a later candidate has to beat an earlier one:
# less is within the noise of one training and of so few validation images.
WINNING_MARGIN = 0.05


@dataclass(frozen=True)
class JudgeDisturbance(Step):
    """Train a net on a part of the set, disturbed by ``candidate``; attack it.

    The net is trained as the recipe's protocol says, and attacked on other images.
    """

    candidate: Disturbance

    name = "disturbance-search"

    def run(self, state, generator):
        """Add the candidate's score; the record tells its accuracies."""
        rows, X_held_out, y_held_out = self._split(generator)
        net = self._train(rows, generator)
        measured = measure_robustness(
            net, X_held_out, y_held_out, self.problem.threat_model
        )
        state.note_candidate(measured["natural_accuracy"], measured["robust_accuracy"])
        return self.candidate.as_dict() | measured

    def _split(self, generator):
        """Return rows to train on, and images and labels that are attacked."""
        problem = self.problem
        order = to_array(
            torch.randperm(
                len(problem.X_all), generator=generator, device=problem.x.device
            )
        )
        if problem.X_held_out is not None:
            return order[:SEARCH_ROWS], problem.X_held_out, problem.y_held_out
        n_validation = min(VALIDATION_ROWS, len(order) // 4)
        held_out, rest = order[:n_validation], order[n_validation:]
        return rest[:SEARCH_ROWS], problem.X_all[held_out], problem.y_all[held_out]

    def _train(self, rows, generator):
        problem, device = self.problem, self.problem.x.device
        x = torch.tensor(problem.X_all[rows], device=device)
        x_disturbed = problem.disturb(self.candidate, x, generator)
        if self.recipe.protocol == "fine-tune":
            y = to_tensor(problem.y_all[rows], device, torch.int64)
            batch_size = self.recipe.batch_size
            return fine_tune(problem.theta_0, x_disturbed, y, batch_size, generator)
        with seeded_torch(generator.initial_seed()):
            net, y = problem.new_net(), problem.y_all[rows]
            return net.fit(to_array(x_disturbed), targets_of(net, y))


@dataclass(frozen=True)
class ClearRows(Step):
    """Let images whose class is least clear give way to others of their class."""

    name = "clear-rows"

    def run(self, state, generator):
        """Set ``sources``; the record counts the rows that show another image."""
        problem = self.problem
        disturbance = choose_disturbance(self.recipe, state.candidate_scores)
        clarity = judge_clarity(
            problem.x,
            problem.y,
            partial(problem.disturb, disturbance, generator=generator),
            problem.new_net,
            generator,
        )
        state.sources = replace_unclear(
            clarity, problem.y, self.recipe.unclear_fraction, generator
        )
        replaced = state.sources != torch.arange(len(clarity), device=clarity.device)
        return {"n_replaced": int(replaced.sum())}


@dataclass(frozen=True)
class Disturb(Step):
    """Disturb the whole set by the candidate that won."""

    name = "disturb"

    def run(self, state, generator):
        """Set ``disturbance`` and the set; the record is the disturbance."""
        images = state.natural_images(self.problem)
        state.disturbance = choose_disturbance(self.recipe, state.candidate_scores)
        state.x_robust = self.problem.disturb(state.disturbance, images, generator)
        return state.disturbance.as_dict()


def choose_disturbance(recipe, scores):
    """Return the winner: the candidate to beat, or what clearly beats it.

    Parameters
    ----------
    recipe : Recipe
        With at least one candidate.
    scores : sequence of float
        Of its candidates, in order; empty where they were not compared.
    """
    best = recipe.to_beat
    for place, score in enumerate(scores):
        if score > scores[best] + WINNING_MARGIN:
            best = place
    return recipe.candidates[best]
