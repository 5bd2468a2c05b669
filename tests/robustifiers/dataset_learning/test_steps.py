"""One step at a time, on a state that has no history to read."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from robustfit import RobustDatasetLearner
from robustfit._utils.torch_bridge import make_generator
from robustfit.exceptions import CollapsedTrainingWarning
from robustfit.robustifiers.dataset_learning.candidate import NATURAL, Candidate
from robustfit.robustifiers.dataset_learning.disturbance import Disturbance
from robustfit.robustifiers.dataset_learning.fictitious_play import PlayRound
from robustfit.robustifiers.dataset_learning.learning_state import LearningState
from robustfit.robustifiers.dataset_learning.meta_gradient import MetaEpoch
from robustfit.robustifiers.dataset_learning.recipe import Recipe
from robustfit.robustifiers.dataset_learning.row_judges import halves
from robustfit.robustifiers.dataset_learning.search_steps import (
    JudgeCandidate,
    JudgeConvex,
    JudgeRows,
    JudgeVariant,
    MakeSet,
)
from robustfit.robustifiers.dataset_learning.set_making import make_images
from robustfit.robustifiers.dataset_learning.soft_labels import (
    AskTeacher,
    LabelSoftly,
    TrainTeacher,
)
from robustfit.robustifiers.dataset_learning.stage_settings import PlayedRows
from robustfit.robustifiers.dataset_learning.step import Step
from robustfit.robustifiers.dataset_learning.validation import KeepBest, Validate

NOISE = Candidate(Disturbance(0, 1, 0.25))
PATTERN = Candidate(Disturbance(0.2, 1.0))
ANY = {
    "protocol": "fine-tune",
    "soft_labels": True,
    "judge": "adversarial",
    "n_meta_epochs": 4,
}


def start(problem):
    """Return the first state; a step that reads its history fails."""
    state = LearningState(problem.x.clone(), problem.theta_0, history=None)
    state.row_probabilities = torch.eye(2)[problem.y]
    return state


def resolve(problem, **parameters):
    return Recipe.resolve(RobustDatasetLearner(**parameters), problem)


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def start_searched(problem):
    """Return a state that has compared two candidates, the natural one and another."""
    state = start(problem)
    best = Candidate(Disturbance(0, 1, 0.35), unclear_fraction=0.5)
    state.candidates, state.n_measured_on = [NATURAL, best], 100
    state.measured = [(1.0, 0.1), (1.0, 0.5)]
    return state


STEPS = [
    (JudgeCandidate, NOISE),
    (JudgeVariant, 0.5, 0.1),
    (JudgeRows,),
    (MakeSet,),
    (PlayRound, 0),
    (MetaEpoch, 0),
    (Validate,),
    (TrainTeacher, 0),
    (AskTeacher,),
    (LabelSoftly,),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[0].name)
def test_a_step_draws_from_its_generator_alone(make_problem, step):
    problem = make_problem(100, n_held_out=10)
    kind, *arguments = step
    recipe = replace(resolve(problem, **ANY), unclear_fraction=0.2)
    runs = []
    for seed in (3, 3, 4):
        torch.manual_seed(len(runs))
        state = start_searched(problem)
        record = kind(problem, recipe, *arguments).run(state, make_generator(seed))
        record = {k: v for k, v in record.items() if not k.startswith("seconds")}
        runs.append((record, state.x_robust, weights(state.player), state.sources))
    first, again = runs[:2]
    assert first[0] == again[0]
    assert all(torch.equal(a, b) for a, b in zip(first[1:3], again[1:3], strict=True))
    if kind is MakeSet:
        assert torch.equal(first[3], again[3])


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[0].name)
def test_a_step_leaves_theta_0_and_the_natural_set_alone(make_problem, step):
    problem = make_problem(100, n_held_out=10)
    kind, *arguments = step
    theta_0, x = weights(problem.theta_0).clone(), problem.x.clone()
    recipe = replace(resolve(problem, **ANY), unclear_fraction=0.2)
    kind(problem, recipe, *arguments).run(start_searched(problem), make_generator(0))
    assert torch.equal(weights(problem.theta_0), theta_0)
    assert torch.equal(problem.x, x)


def test_every_step_is_run_alone_here():
    kinds = {kind for kind, *_ in STEPS} | {KeepBest, JudgeConvex}
    bases, found = [Step], set()
    for base in bases:
        bases += base.__subclasses__()
        found |= {kind for kind in base.__subclasses__() if hasattr(kind, "name")}
    assert found == kinds


# --- disturbances ---------------------------------------------------------------------


def test_judging_notes_the_candidate_and_its_accuracies(make_problem):
    problem = make_problem()
    state = start(problem)
    step = JudgeCandidate(problem, resolve(problem, protocol="fine-tune"), NOISE)
    record = step.run(state, make_generator(0))
    accuracies = record["natural_accuracy"], record["robust_accuracy"]
    assert accuracies == (1, 1)  # theta_0 keeps its halves apart
    assert (state.candidates, state.measured) == ([NOISE], [accuracies])
    assert state.n_measured_on == 20  # a quarter of the rows, twice
    assert (record["noise"], record["n_rows"]) == (0.25, 30)
    assert torch.equal(state.x_robust, problem.x)


def test_a_variant_is_one_of_the_best_disturbance(make_problem):
    problem = make_problem()
    state = start_searched(problem)
    state.candidates = [NATURAL, NOISE]
    recipe = resolve(problem, protocol="fine-tune")
    JudgeVariant(problem, recipe, 0.25, 0.1).run(state, make_generator(0))
    assert state.candidates[-1] == replace(NOISE, unclear_fraction=0.25, radius=0.1)


def test_the_first_variant_is_the_natural_set_and_ends_the_comparison(make_problem):
    problem = make_problem()
    state = start_searched(problem)
    state.candidates = [NATURAL, NOISE]
    recipe = resolve(problem, protocol="fine-tune")
    record = JudgeVariant(problem, recipe, None).run(state, make_generator(0))
    assert (state.candidates, len(state.measured)) == ([NATURAL], 1)
    assert state.disturbance == NOISE.disturbance
    assert record["noise"] == 0
    JudgeVariant(problem, recipe, 0.5).run(state, make_generator(0))
    assert state.candidates[1] == replace(NOISE, unclear_fraction=0.5)


def test_where_nothing_was_judged_the_first_candidate_is_taken(make_problem):
    state = start(make_problem())
    assert state.choose(Recipe("scratch", 128, candidates=(PATTERN,))) == PATTERN
    assert state.choose(Recipe("scratch", 128)) == NATURAL


def test_soft_labels_are_trained_on_in_the_search(make_problem):
    problem = make_problem()
    recipe = resolve(problem, protocol="fine-tune", soft_labels=True)
    step, state = JudgeCandidate(problem, recipe, NATURAL), start(problem)
    hard = step.run(state, make_generator(0))
    state.row_probabilities = torch.full((40, 2), 0.5)
    soft = step.run(state, make_generator(0))
    assert soft["outer_loss"] > hard["outer_loss"]


def test_the_set_is_disturbed_by_the_winner(make_problem):
    problem = make_problem()
    state = start_searched(problem)
    state.candidates = [NATURAL, NOISE]
    recipe = Recipe("scratch", 128, candidates=(NATURAL, NOISE), unclear_fraction=None)
    record = MakeSet(problem, recipe).run(state, make_generator(0))
    assert state.chosen == NOISE
    assert record == NOISE.as_dict()
    by_hand = problem.threat_model.clip(
        problem.x + 0.25 * torch.randn(problem.x.shape, generator=make_generator(0))
    )
    torch.testing.assert_close(state.x_robust, by_hand)


def test_unclear_rows_of_each_class_show_clear_ones(make_problem):
    problem = make_problem()
    state = start(problem)
    state.row_probabilities = torch.eye(2)[problem.y] * torch.rand(40)[:, None]
    recipe = Recipe("scratch", 128, candidates=(NATURAL,), unclear_fraction=0.25)
    MakeSet(problem, recipe).run(state, make_generator(0))
    assert torch.equal(problem.y[state.sources], problem.y)
    replaced = state.sources != torch.arange(40)
    assert replaced[::2].sum() == replaced[1::2].sum() == 5
    own = state.row_probabilities.amax(1)
    for label in (0, 1):
        rows = torch.arange(40) % 2 == label
        assert own[rows & replaced].max() < own[rows & ~replaced].min()
    torch.testing.assert_close(state.x_robust, problem.x[state.sources])


def test_images_move_towards_random_classes_by_a_share_of_the_range(make_problem):
    problem = make_problem(clip_range=(0.0, 2.0))
    candidate = Candidate(radius=0.05)
    moved = make_images(problem, candidate, problem.x, problem.y, make_generator(0))
    gap = (moved - problem.x).abs().flatten(1).amax(1)
    torch.testing.assert_close(gap, torch.full((40,), 0.1))
    towards_right = (moved - problem.x)[:, 0, 0, 3] > 0
    assert 0 < towards_right.sum() < 40


def test_two_nets_judge_each_others_rows(make_problem):
    problem = make_problem(400)
    state = start(problem)
    recipe = Recipe("scratch", 128, candidates=(NATURAL,))
    record = JudgeRows(problem, recipe).run(state, make_generator(0))
    torch.testing.assert_close(state.row_probabilities.sum(1), torch.ones(400))
    first, second = halves(problem.y, make_generator(0))
    for judge, rows in zip(state.judges, (second, first), strict=True):
        expected = judge.module_(problem.x[rows]).softmax(1)
        torch.testing.assert_close(state.row_probabilities[rows], expected)
    right = state.row_probabilities.argmax(1) == problem.y
    assert record == {"agreement": pytest.approx(right.float().mean())}


# --- answers to nets ------------------------------------------------------------------


def test_all_rows_of_play_answer_in_the_first_round(make_problem):
    problem = make_problem()
    recipe = resolve(problem, method="fictitious-play", n_rounds=2, radius_factor=1.5)
    state = start(problem)
    record = PlayRound(problem, recipe, 0).run(state, make_generator(0))
    assert (record["round"], record["n_epochs"], record["n_rows"]) == (0, 1, 40)
    gap = (state.x_robust - problem.x).abs().amax((1, 2, 3))
    torch.testing.assert_close(gap, torch.full((40,), 0.15))
    assert not torch.equal(weights(state.player), weights(problem.theta_0))
    before = state.x_robust
    PlayRound(problem, recipe, 1).run(state, make_generator(1))
    changed = (state.x_robust != before).flatten(1).any(1)
    assert 0 < changed.sum() <= 4  # a tenth of the rows


def test_every_second_row_plays_beside_patterns(make_problem):
    problem = make_problem(100)
    recipe = resolve(problem, protocol="fine-tune", radius_factor=2)
    assert recipe.play.beside_patterns == PlayedRows(2, 2)
    state = start(problem)
    state.chosen, state.x_robust = PATTERN, torch.full_like(problem.x, 0.5)
    record = PlayRound(problem, recipe, 0).run(state, make_generator(0))
    assert (record["n_rows"], record["radius_factor"]) == (50, 2)
    assert (state.x_robust[1::2] == 0.5).all()
    gap = (state.x_robust - problem.x)[::2].abs().amax((1, 2, 3))
    torch.testing.assert_close(gap, torch.full((50,), 0.2))


def test_images_that_were_moved_do_not_play(make_problem):
    problem = make_problem(100)
    play = PlayRound(problem, resolve(problem, protocol="fine-tune"), 0)
    state = start(problem)
    assert play.is_needed(state)
    state.chosen = NOISE
    assert play.is_needed(state)
    state.chosen = Candidate(radius=0.1)
    assert not play.is_needed(state)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_rows_of_play_carry_the_noise_of_the_others(make_problem, noise):
    problem = make_problem(400, eps=0.05)
    recipe = resolve(problem, protocol="fine-tune", radius_factor=1)
    state = start(problem)
    state.chosen = Candidate(Disturbance(0.2, 1.0, noise, mixed=True))
    PlayRound(problem, recipe, 0).run(state, make_generator(0))
    moved = (state.x_robust - problem.x)[::2]
    # Of both signs alike, 0.05 long, then noise; the images are far from 0 and 1.
    expected = np.hypot(0.05, noise)
    assert moved.square().mean().sqrt() == pytest.approx(expected, rel=0.03)


def test_rows_of_play_start_from_the_images_they_show(make_problem):
    problem = make_problem()
    recipe = resolve(problem, method="fictitious-play", radius_factor=1)
    state = start(problem)
    state.sources = torch.arange(40).flip(0)
    PlayRound(problem, recipe, 0).run(state, make_generator(0))
    assert (state.x_robust - problem.x.flip(0)).abs().max() <= 0.1 + 1e-6
    assert (state.x_robust - problem.x).abs().max() > 0.2


def test_nets_take_turns(make_problem):
    problem = make_problem(n_nets=2)
    other = problem.theta_0s[1].layer.weight
    other.data = -other.data
    recipe = resolve(problem, method="fictitious-play", n_rounds=4)
    players = []
    for n_round in range(4):
        state = start(problem)
        PlayRound(problem, recipe, n_round).run(state, make_generator(0))
        players.append(weights(state.player))
    start_of = [weights(theta_0) for theta_0 in problem.theta_0s]
    for n_round, player in enumerate(players):
        own, others = start_of[n_round % 2], start_of[1 - n_round % 2]
        assert (player - own).norm() < (player - others).norm()


def test_an_epoch_of_algorithm_1_is_one_signed_step(make_problem):
    problem = make_problem()
    recipe = resolve(problem, method="paper")
    state = start(problem)
    record = MetaEpoch(problem, recipe, 0).run(state, make_generator(0))
    assert record["epoch"] == 0
    assert record["outer_loss"] > 0
    gap = (state.x_robust - problem.x).abs()
    assert gap.max() == pytest.approx(0.5 / 255, rel=1e-3)
    assert gap.median() == pytest.approx(0.5 / 255, rel=1e-3)


# --- validation and soft labels -------------------------------------------------------


def test_validation_remembers_the_best_set(make_problem):
    problem = make_problem(n_held_out=10)
    recipe, state = resolve(problem), start(problem)
    natural = state.x_robust
    record = Validate(problem, recipe).run(state, make_generator(0))
    assert record["robust_accuracy"] == state.best_score == 1
    assert (state.n_no_change, state.has_stopped(1)) == (0, False)
    state.x_robust = problem.x.flip(0)  # the images of the other class
    Validate(problem, recipe).run(state, make_generator(0))
    assert (state.n_no_change, state.has_stopped(1)) == (1, True)
    assert not state.has_stopped(2)
    assert not state.has_stopped(None)
    record = KeepBest(problem, recipe).run(state, make_generator(0))
    assert record == {"robust_accuracy": 1}
    assert state.x_robust is natural


def test_a_better_set_starts_the_count_anew(make_problem):
    state = start(make_problem())
    for score, n_no_change in ((0.0, 0), (0.0, 1), (0.2, 0), (0.1, 1), (0.2, 2)):
        state.note_validation(score)
        assert state.n_no_change == n_no_change
    assert state.best_score == 0.2


def test_the_teacher_starts_from_theta_0(make_problem):
    problem = make_problem()
    recipe, state = resolve(problem, soft_labels=True), start(problem)
    state.player = copy.deepcopy(problem.theta_0)
    state.player.layer.weight.data.zero_()  # what fictitious play may have left
    TrainTeacher(problem, recipe, 0).run(state, make_generator(0))
    first = weights(state.player)
    assert (first - weights(problem.theta_0)).abs().max() < 0.1
    TrainTeacher(problem, recipe, 1).run(state, make_generator(1))
    assert (weights(state.player) - first).abs().max() > 0


def test_soft_labels_are_the_teachers_of_the_shown_images(make_problem):
    problem = make_problem()
    recipe, state = resolve(problem, soft_labels=True), start(problem)
    record = AskTeacher(problem, recipe).run(state, make_generator(0))
    assert record == {"agreement": 1}
    state.sources = torch.arange(40).flip(0)  # of the other class each
    record = LabelSoftly(problem, recipe).run(state, make_generator(0))
    assert record == {"agreement": 0}
    expected = problem.theta_0(problem.x.flip(0)).softmax(1)
    torch.testing.assert_close(state.soft_labels, expected)


def test_a_teacher_that_guesses_is_reported(make_problem):
    problem = make_problem()
    state = start(problem)
    state.player = copy.deepcopy(problem.theta_0)
    state.player.layer.weight.data.zero_()
    step = AskTeacher(problem, resolve(problem, soft_labels=True))
    with pytest.warns(CollapsedTrainingWarning, match=r"right on 0\.5 .*collapsed"):
        step.run(state, make_generator(0))
