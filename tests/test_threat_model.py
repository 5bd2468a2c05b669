import math
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from robustfit import ThreatModel
from robustfit.exceptions import (
    AttackBudgetError,
    IntegerFeatureWarning,
    PixelRangeError,
)


def test_projection_linf_by_hand():
    x = torch.tensor([[0.05, 0.5, 0.95]])
    x_adv = torch.tensor([[-1.0, 0.52, 2.0]])
    projected = ThreatModel("linf", 0.1).project(x_adv, x)
    torch.testing.assert_close(projected, torch.tensor([[0.0, 0.52, 1.0]]))


def test_projection_l2_by_hand():
    x = torch.full((1, 2), 0.5)
    x_adv = x + torch.tensor([[0.3, 0.4]])  # length 0.5
    projected = ThreatModel("l2", 0.1).project(x_adv, x)
    torch.testing.assert_close(projected, torch.tensor([[0.56, 0.58]]))


def test_projection_l2_leaves_inner_points():
    x = torch.full((1, 2), 0.5)
    x_adv = x + 0.01
    torch.testing.assert_close(ThreatModel("l2", 0.1).project(x_adv, x), x_adv)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("eps", [0.0, 1e-6, 0.3, 100.0])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (17,)])
@pytest.mark.parametrize("clip_range", [(0.0, 1.0), None])
def test_random_starts_and_steps_stay_within_budget(norm, eps, shape, clip_range):
    threat_model = ThreatModel(norm, eps, clip_range)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(5, *shape, generator=generator)
    start = threat_model.random_start(x, generator)
    threat_model.check_perturbation(start, x)
    gradient = torch.randn(x.shape, generator=generator)
    step = threat_model.ascent_step(start, gradient, 2 * eps)
    threat_model.check_perturbation(threat_model.project(step, x), x)


@pytest.mark.parametrize(("norm", "expected"), [("linf", 0.4), ("l2", 0.5)])
def test_distance(norm, expected):
    x = torch.zeros(2, 1, 1, 2)
    x_adv = x + torch.tensor([0.3, -0.4])
    distance = ThreatModel(norm).distance(x_adv, x)
    torch.testing.assert_close(distance, torch.full((2,), expected))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_steepest_direction_has_unit_norm_at_any_scale(norm, scale):
    gradient = torch.tensor([[3.0, -4.0], [1.0, 2.0]]) * scale
    direction = ThreatModel(norm).steepest_direction(gradient)
    length = ThreatModel(norm).distance(direction, torch.zeros_like(direction))
    torch.testing.assert_close(length, torch.ones(2))


def test_zero_gradient_does_not_move():
    zero = torch.zeros(1, 3)
    assert (ThreatModel("l2").steepest_direction(zero) == 0).all()


def test_uniform_in_the_l2_ball():
    # The median radius of a uniform point of a d-ball is eps * 2^(-1/d).
    threat_model = ThreatModel("l2", 1.0, None)
    x = torch.zeros(4000, 3)
    start = threat_model.random_start(x, torch.Generator().manual_seed(0))
    median = float(threat_model.distance(start, x).median())
    assert median == pytest.approx(0.5 ** (1 / 3), abs=0.02)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"norm": "l3"}, "norm is 'l3'"),
        ({"eps": -0.1}, "eps is -0.1"),
        ({"eps": [0.1, -0.2]}, "eps is -0.2"),
        ({"eps": [0.1, math.inf]}, "eps is inf"),
        ({"eps": [0.1, math.nan]}, "expected one number"),
        ({"eps": []}, "expected one number"),
        ({"eps": [[0.1], [0.2, 0.3]]}, "expected one number"),
        ({"eps": True}, "expected one number"),
        ({"eps": [0.1, 0.2], "scale": [1, 2]}, "Pass their product as eps"),
        ({"scale": 2.0}, "a scale for each feature"),
        ({"scale": [1.0, -1.0]}, "scale is -1.0"),
        ({"eps": math.nan}, "finite"),
        ({"eps": "0.1"}, "expected one number"),
        ({"clip_range": (1, 0)}, "low < high"),
        ({"clip_range": 255}, "clip_range is 255"),
        ({"clip_range": ([0, 0], [1, -1])}, "low < high"),
        ({"clip_range": ([0, 0], [1, 1, 1])}, "expected (low, high)"),
        ({"clip_range": [[0, 1], [0, 1], [0, 1]]}, "expected (low, high)"),
    ],
)
def test_bad_parameters_are_named(bad, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ThreatModel(**bad)


def test_check_perturbation_catches_a_cheating_attack():
    x = torch.full((1, 2), 0.5)
    threat_model = ThreatModel("linf", 0.1)
    with pytest.raises(AttackBudgetError, match=r"budget is eps=0\.1"):
        threat_model.check_perturbation(x + 0.2, x)
    with pytest.raises(AttackBudgetError, match="clip_range"):
        ThreatModel("linf", 1.0).check_perturbation(x + 0.6, x)
    with pytest.raises(AttackBudgetError, match="NaN"):
        threat_model.check_perturbation(x * torch.nan, x)


def test_pixel_range_error_says_what_to_divide_by():
    images = np.array([[0, 255]], dtype=np.uint8)
    with pytest.raises(PixelRangeError, match="X / 255"):
        ThreatModel().check_range(images)
    with pytest.raises(PixelRangeError, match="X / 16"):
        ThreatModel().check_range(np.array([[0.0, 16.0]]))
    ThreatModel(clip_range=None).check_range(images)


# Budgets and ranges of features


def test_an_array_of_one_budget_is_the_scalar_bit_by_bit():
    x = torch.rand(4, 9, generator=torch.Generator().manual_seed(0))
    gradient = torch.randn(4, 9, generator=torch.Generator().manual_seed(1))
    for norm in ("linf", "l2", "l1"):
        one = ThreatModel(norm, 0.3)
        each = ThreatModel(norm, np.full(9, 0.3), ([0.0] * 9, np.ones(9)))
        for method in ("random_start", "ascent_step", "move_to_sphere", "project"):
            other = {
                "random_start": lambda t: t.random_start(
                    x, torch.Generator().manual_seed(2)
                ),
                "ascent_step": lambda t: t.ascent_step(x, gradient, 0.1),
                "move_to_sphere": lambda t: t.move_to_sphere(x, gradient),
                "project": lambda t: t.project(x + gradient, x),
            }[method]
            assert torch.equal(other(one), other(each)), (norm, method)


def test_budgets_compare_hash_pickle_and_print():
    given = ThreatModel("linf", np.array([0.1, 0.2, 0.0]))
    same = ThreatModel("linf", [0.1, 0.2, 0.0])
    assert given == same
    assert hash(given) == hash(same)
    assert given != ThreatModel("linf", [0.1, 0.2, 0.1])
    assert pickle.loads(pickle.dumps(given)) == given
    assert given.eps == 0.2
    np.testing.assert_allclose(given.budget, [0.1, 0.2, 0.0])
    np.testing.assert_allclose(replace(given, eps=0.4).budget, [0.2, 0.4, 0.0])
    assert "scale=(0.5, 1.0, 0.0)" in repr(given)
    assert repr(ThreatModel()) == (
        "ThreatModel(norm='linf', eps=0.03137254901960784, clip_range=(0.0, 1.0))"
    )


def test_budgets_of_zero_move_nothing():
    x = torch.full((2, 3), 0.5)
    nothing = ThreatModel("l2", np.zeros(3))
    assert nothing.eps == 0
    assert torch.equal(nothing.random_start(x), x)
    assert torch.equal(nothing.project(x + 1, x), x)


def test_projection_onto_an_ellipsoid_by_hand():
    x = torch.zeros(1, 3)
    threat_model = ThreatModel("l2", [1.0, 2.0, 0.0], None)
    # (3, 8) is (3, 4) in units of the budgets: five times too long.
    projected = threat_model.project(torch.tensor([[3.0, 8.0, 1.0]]), x)
    torch.testing.assert_close(projected, torch.tensor([[0.6, 1.6, 0.0]]))


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2), ("l1", np.inf)])
def test_steepest_step_gains_what_the_dual_norm_says(norm, dual):
    generator = torch.Generator().manual_seed(0)
    budgets = np.array([0.5, 0.1, 0.0, 2.0])
    threat_model = ThreatModel(norm, budgets, None)
    gradient = torch.randn(50, 4, generator=generator)
    direction = threat_model.steepest_direction(gradient)
    gain = threat_model.eps * (gradient * direction).sum(1)
    expected = np.linalg.norm(gradient.numpy() * budgets, dual, axis=1)
    np.testing.assert_allclose(gain, expected, rtol=1e-5)
    length = threat_model.eps * threat_model.dual_length(gradient)
    np.testing.assert_allclose(length, expected, rtol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_shortest_move_to_a_plane_is_the_dual_distance(norm):
    generator = torch.Generator().manual_seed(0)
    threat_model = ThreatModel(norm, [0.5, 0.1, 0.0, 2.0], None)
    x = torch.randn(50, 4, generator=generator)
    normal = torch.randn(50, 4, generator=generator)
    gap = torch.rand(50, generator=generator)
    offset = (normal * x).sum(1) + gap
    move = threat_model.move_to_hyperplane(x, normal, offset)
    torch.testing.assert_close((normal * (x + move)).sum(1), offset)
    assert (move[:, 2] == 0).all()
    length = threat_model.distance(x + move, x)
    expected = gap / threat_model.dual_length(normal)
    torch.testing.assert_close(length, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("shape", [(64,), (1, 8, 8)])
def test_untouchable_features_stay_and_others_keep_their_range(norm, shape):
    rng = np.random.default_rng(0)
    eps = rng.uniform(0.1, 2.0, 64) * (rng.random(64) < 0.7)
    low = np.where(rng.random(64) < 0.5, -np.inf, 0.0)
    high = np.where(rng.random(64) < 0.5, np.inf, 1.0)
    threat_model = ThreatModel(norm, eps, (low, high))
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(20, *shape, generator=generator)
    gradient = torch.randn(x.shape, generator=generator)
    gradient.flatten(1)[:, eps == 0] = torch.inf  # whatever it says there
    step = threat_model.project(threat_model.ascent_step(x, gradient, 3.0), x)
    start = threat_model.random_start(x, generator)
    for x_adv in (step, start, threat_model.move_to_sphere(x, torch.ones_like(x))):
        threat_model.check_perturbation(x_adv, x)
        move = (x_adv - x).flatten(1).numpy()
        assert (move[:, eps == 0] == 0).all()
        assert move[:, eps > 0].any()
        flat = x_adv.flatten(1).numpy()
        assert (flat >= low).all()
        assert (flat <= high).all()


def test_check_perturbation_looks_at_each_feature():
    # A budget of 1e-3 beside a value of 2500, whose rounding is not its own.
    threat_model = ThreatModel("linf", [100.0, 1e-3, 0.0], None)
    x = torch.tensor([[2500.0, 0.1, 1.0]])
    threat_model.check_perturbation(x + torch.tensor([[100.0, 1e-3, 0.0]]), x)
    for move in ([0.0, 1.1e-3, 0.0], [0.0, 0.0, 1e-6], [100.1, 0.0, 0.0]):
        with pytest.raises(AttackBudgetError, match="in units of scale"):
            threat_model.check_perturbation(x + torch.tensor([move]), x)
    threat_model = ThreatModel("linf", 10.0, ([0.0, 0.0, 0.0], [np.inf, 0.2, 1.0]))
    with pytest.raises(AttackBudgetError, match="outside clip_range"):
        threat_model.check_perturbation(x + torch.tensor([[0.0, 0.2, 0.0]]), x)


def test_wrong_number_of_features_is_named():
    X = np.zeros((2, 3))
    for threat_model, name in (
        (ThreatModel(eps=[0.1, 0.2]), "eps"),
        (ThreatModel(clip_range=([0, 0], 1)), "clip_range"),
        (ThreatModel(eps=np.full((1, 2, 2), 0.1)), "eps"),
    ):
        with pytest.raises(
            ValueError, match=rf"{name}.* has shape .* has shape \(3,\)"
        ):
            threat_model.check_range(X)
    with pytest.raises(ValueError, match="has shape"):  # channels last
        ThreatModel(eps=np.full((8, 8, 1), 0.1)).check_range(np.zeros((2, 1, 8, 8)))
    ThreatModel(eps=np.full((1, 8, 8), 0.1)).check_range(np.zeros((2, 64)))
    ThreatModel(eps=np.full(64, 0.1)).check_range(np.zeros((2, 1, 8, 8)))


def test_ranges_of_columns():
    threat_model = ThreatModel(clip_range=([0.0, -np.inf], [1.0, 5.0]))
    X = np.array([[0.5, -100.0], [1.0, 5.0]], dtype=np.float32)
    assert threat_model.check_range(X) is X
    nearly = X.copy()
    nearly[1, 0] = 1 + 2e-7
    assert threat_model.check_range(nearly)[1, 0] == 1
    assert threat_model.check_range(torch.tensor(nearly))[1, 0] == 1
    with pytest.raises(PixelRangeError, match=r"\[-100, 6\] in column 1"):
        threat_model.check_range(np.array([[0.5, -100.0], [1.0, 6.0]]))
    # Infinite bounds leave no slack to what is beyond the other one.
    with pytest.raises(PixelRangeError, match="-5"):
        ThreatModel(clip_range=(0.0, np.inf)).check_range(np.array([[-5.0]]))
    # A column that never varies has a range of one value.
    ThreatModel(clip_range=(X.min(0), X.min(0))).check_range(X[:0])


def test_integers_are_warned_of_where_they_move():
    X = np.array([[0.0, 0.5, 1.0], [1.0, 0.2, 3.0], [0.0, 0.1, 2.0]])
    with pytest.warns(IntegerFeatureWarning, match=r"Columns \[2\] of X"):
        ThreatModel(eps=[0.0, 0.1, 0.5]).warn_of_integers(X)
    for quiet in (ThreatModel(), ThreatModel(eps=[0.0, 0.1, 0.0])):
        quiet.warn_of_integers(X)


def test_refusing_names_who_and_what_instead():
    ThreatModel().refuse_per_feature("this", "Do that.")
    for given in (ThreatModel(eps=[0.1]), ThreatModel(clip_range=([0], 1))):
        with pytest.raises(ValueError, match=r"this takes one eps .* Do that\."):
            given.refuse_per_feature("this", "Do that.")
