"""The steps of a fit, in order.

The learner runs them one after the other, reports progress and saves a checkpoint
after each; a step draws from a generator of its own, so resuming changes nothing.
"""

from dataclasses import replace

from robustfit.robustifiers.dataset_learning.fictitious_play import PlayRound
from robustfit.robustifiers.dataset_learning.meta_gradient import MetaEpoch
from robustfit.robustifiers.dataset_learning.recipe import EPOCHS_CYCLE
from robustfit.robustifiers.dataset_learning.search_steps import (
    JudgeCandidate,
    JudgeConvex,
    JudgeRows,
    JudgeVariant,
    MakeSet,
)
from robustfit.robustifiers.dataset_learning.soft_labels import (
    AskTeacher,
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
    labelling = [LabelSoftly(problem, recipe)] if recipe.soft_labels else []
    return [*_search_steps(problem, recipe), *answers, *labelling]


def _search_steps(problem, recipe):
    """Soft labels are there before the candidates, which are trained on them.

    Two nets that judge each other's rows are trained on the best disturbance.
    """
    if not recipe.candidates and recipe.judge is None:
        return []
    compared = recipe.candidates if len(recipe.candidates) > 1 else ()
    candidates = [JudgeCandidate(problem, recipe, c) for c in compared]
    rows = _row_steps(problem, recipe)
    steps = [*rows, *candidates] if recipe.soft_labels else [*candidates, *rows]
    steps += [JudgeVariant(problem, recipe, *variant) for variant in recipe.variants]
    if recipe.tries_convex:
        steps.append(JudgeConvex(problem, recipe))
    return [*steps, MakeSet(problem, recipe)] if recipe.candidates else steps


def _row_steps(problem, recipe):
    if recipe.judge is None:
        return []
    if recipe.judge == "cross-fitted":
        return [JudgeRows(problem, recipe)]
    epochs = range(recipe.n_teacher_epochs)
    teacher: list[Step] = [TrainTeacher(problem, recipe, epoch) for epoch in epochs]
    return [*teacher, AskTeacher(problem, recipe)]


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
