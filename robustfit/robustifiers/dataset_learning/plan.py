"""The steps of a fit, in order.

The learner runs them one after the other, reports progress and saves a checkpoint
after each; a step draws from a generator of its own, so resuming changes nothing.
"""

from dataclasses import replace

from robustfit.robustifiers.dataset_learning.disturbance_steps import (
    ClearRows,
    Disturb,
    JudgeDisturbance,
)
from robustfit.robustifiers.dataset_learning.fictitious_play import PlayRound
from robustfit.robustifiers.dataset_learning.meta_gradient import MetaEpoch
from robustfit.robustifiers.dataset_learning.recipe import EPOCHS_CYCLE
from robustfit.robustifiers.dataset_learning.soft_labels import (
    LabelSoftly,
    TrainTeacher,
)
from robustfit.robustifiers.dataset_learning.step import Step
from robustfit.robustifiers.dataset_learning.validation import KeepBest, Validate

__all__ = ["plan_steps"]


def plan_steps(problem, recipe):
    """Return the steps of a recipe.

    Parameters
    ----------
    problem : LearningProblem
    recipe : Recipe

    Returns
    -------
    list of Step
    """
    answers = _play_rounds(problem, recipe) + _meta_epochs(problem, recipe)
    if answers and problem.X_held_out is not None:
        answers = _with_validation(answers, problem, recipe)
    return [
        *_disturbance_steps(problem, recipe),
        *answers,
        *_soft_label_steps(problem, recipe),
    ]


def _disturbance_steps(problem, recipe):
    if not recipe.candidates:
        return []
    judged = recipe.candidates if len(recipe.candidates) > 1 else ()
    steps: list[Step] = [JudgeDisturbance(problem, recipe, c) for c in judged]
    if recipe.unclear_fraction > 0:
        steps.append(ClearRows(problem, recipe))
    return [*steps, Disturb(problem, recipe)]


def _play_rounds(problem, recipe):
    n_rounds = 0 if recipe.play is None else len(recipe.play.n_epochs)
    return [PlayRound(problem, recipe, n_round) for n_round in range(n_rounds)]


def _meta_epochs(problem, recipe):
    n_epochs = 0 if recipe.meta is None else recipe.meta.n_epochs
    return [MetaEpoch(problem, recipe, epoch) for epoch in range(n_epochs)]


def _with_validation(steps, problem, recipe):
    """Judge the set after each cycle of rounds and each epoch; keep the best.

    Disturbances were judged when they were chosen.
    """
    validated = []
    for number, step in enumerate(steps, 1):
        validated.append(replace(step, optional=True))
        is_due = isinstance(step, MetaEpoch) or number % len(EPOCHS_CYCLE) == 0
        if is_due or number == len(steps):
            validated.append(Validate(problem, recipe, optional=True))
    return [*validated, KeepBest(problem, recipe)]


def _soft_label_steps(problem, recipe):
    if recipe.n_teacher_epochs == 0:
        return []
    epochs = range(recipe.n_teacher_epochs)
    teacher = [TrainTeacher(problem, recipe, epoch) for epoch in epochs]
    return [*teacher, LabelSoftly(problem, recipe)]
