import json
from fractions import Fraction

import numpy as np
import pytest

from robustfit import RobustDatasetLearner
from robustfit.robustifiers.dataset_learning.plan import plan_steps
from robustfit.robustifiers.dataset_learning.recipe import Recipe, count_nets
from robustfit.robustifiers.dataset_learning.stage_settings import PlayedRows

TUNE = {"protocol": "fine-tune"}


def resolve(problem, **parameters):
    return Recipe.resolve(RobustDatasetLearner(**parameters), problem)


def names(problem, recipe):
    return [step.name for step in plan_steps(problem, recipe)]


# --- which stages there are -----------------------------------------------------------


def test_from_scratch_the_set_is_disturbed(make_problem):
    problem = make_problem(100)
    recipe = resolve(problem)
    assert (recipe.protocol, recipe.play, recipe.meta) == ("scratch", None, None)
    assert len(recipe.candidates) == 5
    assert names(problem, recipe) == ["disturbance-search"] * 5 + ["disturb"]


def test_for_fine_tuning_it_then_plays(make_problem):
    problem = make_problem(100)
    recipe = resolve(problem, **TUNE, n_rounds=6, n_candidates=2)
    assert recipe.play.n_epochs == (1, 12, 2, 4, 1, 12)
    assert names(problem, recipe) == (
        ["disturbance-search"] * 2 + ["disturb"] + ["fictitious-play"] * 6
    )


@pytest.mark.parametrize("method", ["paper", "fictitious-play"])
def test_without_disturbances(make_problem, method):
    recipe = resolve(make_problem(), method=method, unclear_fraction=0.5)
    assert (recipe.candidates, recipe.unclear_fraction) == ((), 0)
    assert (recipe.play is None) == (method == "paper")


def test_small_sets_are_not_searched(make_problem):
    for n_rows, n_judged in ((99, 0), (100, 5)):
        problem = make_problem(n_rows)
        steps = names(problem, resolve(problem))
        assert steps.count("disturbance-search") == n_judged


@pytest.mark.parametrize(
    ("parameters", "n_epochs"),
    [
        ({"method": "paper"}, 4),
        ({"method": "paper", "n_meta_epochs": 0}, 0),
        ({"method": "paper", "n_meta_epochs": 2}, 2),
        (TUNE, 0),
        (TUNE | {"n_meta_epochs": 3}, 3),
        ({"n_meta_epochs": 3}, 0),  # from scratch nothing answers to a net
        (TUNE | {"method": "disturbance", "n_meta_epochs": 3}, 0),
    ],
)
def test_epochs_of_algorithm_1(make_problem, parameters, n_epochs):
    problem = make_problem()
    recipe = resolve(problem, **parameters)
    assert (0 if recipe.meta is None else recipe.meta.n_epochs) == n_epochs
    assert names(problem, recipe).count("meta-gradient") == n_epochs


def test_the_papers_constants_are_the_papers(make_problem):
    paper = resolve(make_problem(eps=0.3), method="paper").meta
    assert (paper.t, paper.carry_lr, paper.attack_steps) == (0.01, 0, 20)
    assert paper.attack_step_size == pytest.approx(0.03)
    assert paper.beta == pytest.approx(0.5 / 255)
    wide = make_problem(eps=0.3, clip_range=(0, 2))
    assert resolve(wide, method="paper").meta.beta == pytest.approx(1 / 255)
    assert resolve(make_problem(eps=0), method="paper").meta.attack_step_size is None


def test_validations_after_each_cycle_of_rounds_and_each_epoch(make_problem):
    problem = make_problem(n_held_out=4)
    steps = plan_steps(
        problem,
        resolve(problem, method="fictitious-play", n_rounds=5, n_meta_epochs=1),
    )
    assert [step.name for step in steps] == [
        *["fictitious-play"] * 4, "validate", "fictitious-play", "meta-gradient",
        "validate", "keep-best",
    ]  # fmt: skip
    assert [step.optional for step in steps] == [True] * 8 + [False]
    problem = make_problem(n_held_out=4)
    assert "keep-best" not in names(problem, resolve(problem))  # judged in the search


@pytest.mark.parametrize(
    ("parameters", "n_nets"),
    [
        ({}, 1),
        (TUNE, 3),
        ({"method": "paper"}, 3),
        ({"method": "fictitious-play"}, 3),
        (TUNE | {"method": "disturbance"}, 1),
    ],
)
def test_several_nets_where_the_set_answers_to_nets(parameters, n_nets):
    assert count_nets(RobustDatasetLearner(n_initializations=3, **parameters)) == n_nets


def test_several_nets_share_the_lengths_of_rounds(make_problem):
    recipe = resolve(make_problem(n_nets=2), **TUNE, n_rounds=5)
    assert recipe.play.n_epochs == (1, 1, 12, 12, 2)


@pytest.mark.parametrize(
    ("n_rows", "n_epochs"), [(40, 60), (25 * 128, 40), (500 * 128, 4)]
)
def test_small_sets_train_their_teacher_longer(make_problem, n_rows, n_epochs):
    problem = make_problem(n_rows)
    recipe = resolve(problem, soft_labels=True)
    assert recipe.n_teacher_epochs == n_epochs
    steps = names(problem, recipe)
    assert steps[-n_epochs - 1 :] == ["robust-teacher"] * n_epochs + ["soft-labels"]
    assert resolve(problem).n_teacher_epochs == 0


# --- "auto" ---------------------------------------------------------------------------


def test_in_large_sets_the_strong_pattern_has_to_be_beaten(make_problem):
    small, large = (resolve(make_problem(n)) for n in (19_999, 20_000))
    assert small.candidates == large.candidates
    assert small.to_beat == 0
    strong = large.candidates[large.to_beat]
    assert strong.amplitude == 2 * small.candidates[0].amplitude
    assert strong.noise == 0


def test_in_large_sets_under_l2_the_mixed_one_has_to_be_beaten(make_problem):
    recipe = resolve(make_problem(20_000, norm="l2", eps=1.0))
    # as strong a pattern as the mildest has
    assert recipe.candidates[recipe.to_beat].mixed
    assert resolve(make_problem(400, norm="l2", eps=1.0)).to_beat == 0


def test_large_sets_of_vectors_start_from_the_first_noise(make_problem):
    assert resolve(make_problem(20_000, (16,))).to_beat == 0


@pytest.mark.parametrize(
    ("parameters", "threat", "fraction"),
    [
        ({}, {"eps": 0.15}, 0.05),
        ({}, {"eps": 0.14}, 0.0),
        ({}, {"norm": "l2", "eps": 0.22}, 0.05),  # 0.156 of the range
        ({}, {"norm": "l2", "eps": 0.2}, 0.0),
        (TUNE, {"eps": 0.2}, 0.0),
        ({"soft_labels": True}, {"eps": 0.2}, 0.0),
        ({"unclear_fraction": 0.0}, {"eps": 0.2}, 0.0),
        (TUNE | {"unclear_fraction": 0.1}, {"eps": 0.1}, 0.1),
    ],
)
def test_auto_clears_large_hard_sets_for_scratch(
    make_problem, parameters, threat, fraction
):
    problem = make_problem(20_000, **threat)
    recipe = resolve(problem, **parameters)
    assert recipe.unclear_fraction == fraction
    assert ("clear-rows" in names(problem, recipe)) == (fraction > 0)
    if parameters.get("unclear_fraction", "auto") == "auto":
        small = make_problem(19_999, **threat)
        assert resolve(small, **parameters).unclear_fraction == 0


@pytest.mark.parametrize(
    ("eps", "norm", "factor"),
    [
        (0.1, "linf", 2.25),
        (0.2, "linf", 1.5),
        (0.4, "linf", 1.0),
        (0.2, "l2", 2.25),
        (0.5, "l2", 1.131),  # 0.2 of the range, times the root of 64 / 8 values
        (1.0, "l2", 1.0),
    ],
)
def test_rows_beside_patterns_reach_as_far_as_their_budget_lets_them(
    make_problem, eps, norm, factor
):
    problem = make_problem(100, (1, 8, 8), eps=eps, norm=norm)
    play = resolve(problem, **TUNE).play
    assert play.alone == PlayedRows(every=1, radius_factor=1.5)
    assert play.beside_patterns == PlayedRows(every=2, radius_factor=factor)
    set_by_user = resolve(problem, **TUNE, radius_factor=1.25).play
    assert set_by_user.alone.radius_factor == 1.25
    assert set_by_user.beside_patterns.radius_factor == 1.25


def test_the_winner_decides_which_rows_play(make_problem):
    recipe = resolve(make_problem(100), **TUNE)
    pattern, noise = recipe.candidates[:2]
    assert recipe.play.rows_beside(pattern) == recipe.play.beside_patterns
    assert recipe.play.rows_beside(noise) == recipe.play.alone


def test_what_the_candidates_rule_out_is_left_out(make_problem):
    only_pattern = resolve(make_problem(), **TUNE).play
    assert only_pattern.alone is None
    only_noise = resolve(make_problem(shape=(16,)), **TUNE).play
    assert only_noise.beside_patterns is None
    undisturbed = resolve(make_problem(), method="fictitious-play").play
    assert undisturbed.beside_patterns is None
    assert undisturbed.rows_beside(None) == PlayedRows(1, 1.5)


# --- what the user reads --------------------------------------------------------------


def test_recipe_is_plain_json(make_problem):
    recipe = resolve(
        make_problem(100, eps=Fraction(1, 10)),
        **TUNE,
        n_meta_epochs=np.int64(1),
        n_rounds=np.int64(2),
        radius_factor=np.float32(1.25),
        batch_size=np.int64(32),
    ).as_dict()
    assert json.loads(json.dumps(recipe)) == recipe
    assert recipe["play"] == {
        "n_epochs": [1, 12],
        "n_steps": 8,
        "alone": {"every": 1, "radius_factor": 1.25},
        "beside_patterns": {"every": 2, "radius_factor": 1.25},
    }
    assert recipe["candidates"][1] == {
        "amplitude": 0, "contrast": 1, "noise": 0.25, "mixed": False,
    }  # fmt: skip
    assert recipe["batch_size"] == 32


def test_a_fitted_learner_shows_its_recipe(digits):
    X, y, _, _ = digits
    learner = RobustDatasetLearner(eps=0.1, random_state=0, n_candidates=1)
    assert learner.fit(X[:50], y[:50]).recipe_ == {
        "protocol": "scratch",
        "batch_size": 128,
        "candidates": [
            {"amplitude": 0.2, "contrast": 0.825, "noise": 0.0, "mixed": False}
        ],
        "to_beat": 0,
        "unclear_fraction": 0.0,
        "play": None,
        "meta": None,
        "n_teacher_epochs": 0,
    }
