"""Steps that disturb the set: search among the candidates, clear rows, disturb."""

import torch

from robustfit._utils.torch_bridge import seeded_torch, to_array, to_tensor
from robustfit.robustifiers.dataset_learning.clear_rows import (
    judge_clarity,
    replace_unclear,
)
from robustfit.robustifiers.dataset_learning.disturbance import default_disturbances
from robustfit.robustifiers.dataset_learning.learning_problem import Step
from robustfit.robustifiers.dataset_learning.validation import (
    fine_tune,
    measure_robustness,
)

__all__ = ["apply_disturbance", "disturbance_steps", "judge_disturbance"]

# Rows that a candidate disturbance is judged with: trained on, and attacked.
SEARCH_ROWS = 8000
VALIDATION_ROWS = 1000
# Fewer rows than this say nothing about robustness: the first candidate is taken.
SMALLEST_SEARCH = 100
# Natural plus robust accuracy by which a later candidate has to beat an earlier one:
# less is within the noise of one training and of so few validation images.
WINNING_MARGIN = 0.05
# From so many rows on, strong patterns and clear rows pay: smaller sets are hard enough
# to learn without the former, and nets do not learn their unclear images anyway.
LARGE_SET = 20_000
# "auto": the share of the rows of large sets that are replaced by clearer ones, and the
# budget (a share of the range) below which that costs more than it brings.
UNCLEAR_FRACTION = 0.05
SMALLEST_CLEARED_BUDGET = 0.15


def disturbance_steps(problem, learner, protocol):
    """Return the steps from natural images to disturbed ones.

    Parameters
    ----------
    problem : LearningProblem
    learner : RobustDatasetLearner
    protocol : {"scratch", "fine-tune"}

    Returns
    -------
    list of Step
        One for each candidate where there are several, then the choice.
    """
    candidates = default_disturbances(
        problem.threat_model, problem.image_shape, problem.value_range
    )
    searchable = len(problem.X_all) >= SMALLEST_SEARCH
    candidates = candidates[: learner.n_candidates if searchable else 1]

    def judge(candidate):
        def run(state, generator):
            return candidate.as_dict() | judge_disturbance(
                problem, candidate, protocol, learner.batch_size, generator
            )

        return Step("disturbance-search", run)

    def choose(state):
        judged = [r for r in state.history if r["step"] == "disturbance-search"]
        first = _candidate_to_beat(candidates, len(problem.x))
        return candidates[_best_candidate(judged, first)] if judged else candidates[0]

    def clear(state, generator):
        clarity = judge_clarity(
            problem.x,
            problem.y,
            lambda x: apply_disturbance(problem, choose(state), x, generator),
            problem.new_net,
            generator,
        )
        state.sources = replace_unclear(clarity, problem.y, unclear, generator)
        replaced = state.sources != torch.arange(len(clarity), device=clarity.device)
        return {"n_replaced": int(replaced.sum())}

    def disturb(state, generator):
        x = state.natural_images(problem)
        state.x_robust = apply_disturbance(problem, choose(state), x, generator)
        return choose(state).as_dict()

    steps = [judge(c) for c in candidates] if len(candidates) > 1 else []
    unclear = _unclear_fraction(problem, learner, protocol)
    steps += [Step("clear-rows", clear)] if unclear > 0 else []
    return [*steps, Step("disturb", disturb)]


def _unclear_fraction(problem, learner, protocol):
    """Fine-tuned nets know unclear images already; soft labels tell that they are."""
    if learner.unclear_fraction != "auto":
        return learner.unclear_fraction
    pays = protocol == "scratch" and not learner.soft_labels
    pays &= len(problem.x) >= LARGE_SET
    pays &= problem.budget >= SMALLEST_CLEARED_BUDGET
    return UNCLEAR_FRACTION if pays else 0.0


def _candidate_to_beat(candidates, n_rows):
    """Return its place: the mildest pattern's, in large sets the strongest one's.

    The search sees SEARCH_ROWS rows, and more rows favour stronger patterns.
    """
    if n_rows < LARGE_SET:
        return 0
    strength = [(c.amplitude, c.mixed) for c in candidates]
    return strength.index(max(strength))


def _best_candidate(judged, first=0):
    """Return the place of the winner: ``first``, or what clearly beats it."""
    scores = [r["natural_accuracy"] + r["robust_accuracy"] for r in judged]
    best = first
    for place, score in enumerate(scores):
        if score > scores[best] + WINNING_MARGIN:
            best = place
    return best


def apply_disturbance(problem, disturbance, x, generator):
    """Disturb ``x`` (of the shape of X) as images."""
    images = disturbance.apply(problem.as_images(x), problem.value_range, generator)
    return problem.threat_model.clip(images.reshape(x.shape))


def judge_disturbance(problem, disturbance, protocol, batch_size, generator):
    """Train a net on a disturbed part of the set, attack it on another part."""
    device = problem.x.device
    order = torch.randperm(len(problem.X_all), generator=generator, device=device)
    order = to_array(order)
    X_held_out, y_held_out, n_validation = problem.X_held_out, problem.y_held_out, 0
    if X_held_out is None:
        n_validation = min(VALIDATION_ROWS, len(order) // 4)
        held_out = order[:n_validation]
        X_held_out, y_held_out = problem.X_all[held_out], problem.y_all[held_out]
    rows = order[n_validation : n_validation + SEARCH_ROWS]
    x = torch.tensor(problem.X_all[rows], device=device)
    x_disturbed = apply_disturbance(problem, disturbance, x, generator)
    if protocol == "fine-tune":
        y = to_tensor(problem.y_all[rows], device, torch.int64)
        net = fine_tune(problem.theta_0, x_disturbed, y, batch_size, generator)
    else:
        with seeded_torch(generator.initial_seed()):
            net = problem.new_net().fit(to_array(x_disturbed), problem.y_all[rows])
    return measure_robustness(net, X_held_out, y_held_out, problem.threat_model)
