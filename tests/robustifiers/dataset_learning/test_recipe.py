import json
from fractions import Fraction

import numpy as np
import pytest

from robustfit import RobustDatasetLearner
from robustfit.robustifiers.dataset_learning.candidate import NATURAL, ladder
from robustfit.robustifiers.dataset_learning.plan import plan_steps
from robustfit.robustifiers.dataset_learning.recipe import (
    Recipe,
    count_nets,
)
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
    assert recipe.candidates == (NATURAL, *ladder(problem.image_shape))
    assert names(problem, recipe) == (
        ["candidate"] * len(recipe.candidates)
        + ["judge-rows", *["variant"] * 5, "make-set"]
    )
    shares = [share for share, radius in recipe.variants if radius == 0]
    assert shares == [None, 0.0, 0.05, 0.25, 0.5]


def test_for_fine_tuning_it_then_plays(make_problem):
    problem = make_problem(100)
    recipe = resolve(problem, **TUNE, n_rounds=6, n_candidates=2)
    assert recipe.play.n_epochs == (1, 12, 2, 4, 1, 12)
    assert names(problem, recipe) == (
        ["candidate"] * 3
        + ["judge-rows", *["variant"] * 6, "make-set"]
        + ["fictitious-play"] * 6
    )
    assert recipe.candidates[0] == NATURAL


@pytest.mark.parametrize("method", ["paper", "fictitious-play"])
def test_without_disturbances(make_problem, method):
    recipe = resolve(make_problem(), method=method, unclear_fraction=0.5)
    assert (recipe.candidates, recipe.unclear_fraction) == ((), 0)
    assert (recipe.play is None) == (method == "paper")


def test_small_sets_are_not_searched(make_problem):
    for n_rows, n_judged in ((99, 0), (100, 7)):
        problem = make_problem(n_rows)
        steps = names(problem, resolve(problem))
        assert steps.count("candidate") == n_judged
    assert names(make_problem(99), resolve(make_problem(99))) == ["make-set"]
    one = resolve(make_problem(400), n_candidates=1)
    assert one.candidates == ladder((1, 4, 4))[:1]
    assert names(make_problem(400), one) == ["make-set"]


@pytest.mark.parametrize(
    ("n_rows", "n_candidate", "n_variant"),
    [(400, 1000, 1000), (20_000, 2000, 6000), (90_000, 8000, 20_000)],
)
def test_the_search_costs_three_sets_where_they_are_large(
    make_problem, n_rows, n_candidate, n_variant
):
    recipe = resolve(make_problem(n_rows))
    assert (recipe.n_candidate_rows, recipe.n_variant_rows) == (n_candidate, n_variant)
    trained = len(recipe.candidates) * n_candidate + len(recipe.variants) * n_variant
    if n_rows >= 20_000:
        assert trained + n_rows <= 3.3 * n_rows


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
    assert steps[: n_epochs + 1] == ["robust-teacher"] * n_epochs + ["ask-teacher"]
    assert steps[-2:] == ["make-set", "soft-labels"]
    assert "variant" not in steps
    assert resolve(problem).n_teacher_epochs == 0
    hard = resolve(problem, judge="adversarial", unclear_fraction=0.1)
    assert names(problem, hard)[-2:] == ["ask-teacher", "make-set"]
    assert hard.n_teacher_epochs == n_epochs


# --- "auto" ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "share", "judge"),
    [
        ({}, None, "cross-fitted"),
        (TUNE, None, "cross-fitted"),
        ({"judge": "adversarial"}, None, "adversarial"),
        ({"soft_labels": True}, None, "adversarial"),
        ({"soft_labels": True, "judge": "cross-fitted"}, None, "cross-fitted"),
        ({"unclear_fraction": 0.0}, 0.0, None),
        ({"unclear_fraction": 0.3}, 0.3, "cross-fitted"),
        ({"n_candidates": 1}, 0.0, None),
        ({"n_candidates": 1, "judge": "adversarial"}, 0.0, None),
        ({"method": "paper"}, 0.0, None),
    ],
)
def test_who_judges_rows_where_somebody_asks(make_problem, parameters, share, judge):
    problem = make_problem(400)
    recipe = resolve(problem, **parameters)
    assert (recipe.unclear_fraction, recipe.judge) == (share, judge)
    assert ("judge-rows" in names(problem, recipe)) == (judge == "cross-fitted")
    assert ("ask-teacher" in names(problem, recipe)) == (judge == "adversarial")


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
    noise = recipe.candidates[1]
    pattern = next(c for c in recipe.candidates if c.disturbance.amplitude > 0)
    assert recipe.play.rows_beside(pattern) == recipe.play.beside_patterns
    assert recipe.play.rows_beside(noise) == recipe.play.alone


def test_what_the_candidates_rule_out_is_left_out(make_problem):
    noise_first = resolve(make_problem(), **TUNE, n_candidates=1).play
    assert noise_first.beside_patterns is None
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
        "disturbance": {"amplitude": 0, "contrast": 1, "noise": 0.2, "mixed": False},
        "unclear_fraction": 0.0,
        "radius": 0.0,
        "convex": False,
    }
    assert recipe["batch_size"] == 32


def test_a_fitted_learner_shows_its_recipe(digits):
    X, y, _, _ = digits
    learner = RobustDatasetLearner(eps=0.1, random_state=0, n_candidates=1)
    assert learner.fit(X[:50], y[:50]).recipe_ == {
        "protocol": "scratch",
        "batch_size": 128,
        "soft_labels": False,
        "candidates": [
            {
                "disturbance": {
                    "amplitude": 0,
                    "contrast": 1,
                    "noise": 0.2,
                    "mixed": False,
                },
                "unclear_fraction": 0.0,
                "radius": 0.0,
                "convex": False,
            }
        ],
        "variants": [],
        "tries_convex": False,
        "n_candidate_rows": 1000,
        "n_variant_rows": 1000,
        "n_repeats": 2,
        "max_natural_loss": 0.1,
        "unclear_fraction": 0.0,
        "judge": None,
        "play": None,
        "meta": None,
        "n_teacher_epochs": 0,
    }
