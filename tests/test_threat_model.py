import math

import numpy as np
import pytest
import torch

from robustfit import ThreatModel
from robustfit.exceptions import AttackBudgetError, PixelRangeError


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
        ({"eps": [0.1, 0.2]}, "expected one number"),
        ({"eps": math.nan}, "finite"),
        ({"eps": "0.1"}, "expected one number"),
        ({"clip_range": (1, 0)}, "low < high"),
        ({"clip_range": 255}, "clip_range is 255"),
    ],
)
def test_bad_parameters_are_named(bad, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
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
