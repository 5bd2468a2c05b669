import json

import pytest
import torch

from robustfit.robustifiers.dataset_learning.candidate import (
    NATURAL,
    Candidate,
    choose,
    ladder,
    mildest_of_the_best,
)
from robustfit.robustifiers.dataset_learning.disturbance import Disturbance

MILD, STRONG = Candidate(Disturbance(0, 1, 0.1)), Candidate(Disturbance(0, 1, 0.3))
MOVED = Candidate(radius=0.1)


def test_the_natural_candidate_changes_nothing():
    x = torch.rand(3, 1, 8, 8)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(NATURAL.disturbance.apply(x, (0, 1), generator), x)
    assert (NATURAL.unclear_fraction, NATURAL.radius) == (0, 0)


@pytest.mark.parametrize(
    ("measured", "winner"),
    [
        # 1,000 images: one standard error of 0.2 is 0.0126
        ([(0.9, 0.20), (0.88, 0.29), (0.85, 0.30)], STRONG),
        ([(0.9, 0.20), (0.88, 0.30), (0.85, 0.30)], MILD),
        ([(0.9, 0.20), (0.88, 0.28), (0.79, 0.50)], MILD),  # loses 11 points
        ([(0.9, 0.20), (0.88, 0.28), (0.80, 0.50)], STRONG),  # loses the 10 it may
        ([(0.9, 0.20), (0.88, 0.212), (0.85, 0.21)], NATURAL),  # by chance
        ([(0.9, 0.20), (0.88, 0.213), (0.85, 0.21)], MILD),
        ([(0.9, 0.30), (0.9, 0.30), (0.9, 0.30)], NATURAL),
        ([(0.5, 0.0), (0.5, 0.0), (0.45, 0.01)], STRONG),
        ([(0.1, 0.0), (0.1, 0.0), (0.1, 0.0)], NATURAL),
    ],
)
def test_the_most_robust_of_those_that_keep_natural_accuracy(measured, winner):
    assert choose([NATURAL, MILD, STRONG], measured, 1000, 0.1) == winner


@pytest.mark.parametrize(
    ("measured", "winner"),
    [
        # 1,000 images: one standard error of 0.3 is 0.0145
        ([(0.9, 0.40), (0.88, 0.29), (0.85, 0.30)], MILD),  # within it: the milder
        ([(0.9, 0.40), (0.88, 0.28), (0.85, 0.30)], STRONG),
        ([(0.9, 0.20), (0.88, 0.28), (0.79, 0.50)], MILD),  # loses 11 points
        ([(0.9, 0.20), (0.70, 0.28), (0.79, 0.50)], NATURAL),
    ],
)
def test_disturbances_go_on_without_the_natural_set(measured, winner):
    candidates = [NATURAL, MILD, STRONG]
    best = mildest_of_the_best(candidates, measured, 1000, 0.1)
    assert best == winner.disturbance


@pytest.mark.parametrize(("robust", "winner"), [(0.34, MILD), (0.36, MOVED)])
def test_moved_images_have_to_be_clearly_better(robust, winner):
    measured = [(0.9, 0.2), (0.88, 0.30), (0.89, robust)]
    assert choose([NATURAL, MILD, MOVED], measured, 1000, 0.1) == winner


def test_no_loss_is_allowed():
    assert choose([NATURAL, MILD], [(0.9, 0.2), (0.89, 0.5)], 1000, 0.0) == NATURAL


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 20), (12,)])
def test_a_ladder_of_noise_for_every_shape(shape):
    candidates = ladder(shape)
    assert len(set(candidates)) == len(candidates)
    assert NATURAL not in candidates
    assert any(c.disturbance.amplitude > 0 for c in candidates) == (len(shape) == 3)
    noises = {c.disturbance.noise for c in candidates if c.disturbance.contrast == 1}
    assert {0.1, 0.2} <= noises


def test_a_candidate_comes_back_from_json():
    candidate = Candidate(Disturbance(0.1, 0.9, 0.2, mixed=True), 0.25, 0.1)
    assert Candidate.from_dict(json.loads(json.dumps(candidate.as_dict()))) == candidate


def test_background_and_object_stay_apart():
    # The strong pattern: what was dark ends at most at 0.26, bright at least 0.39.
    strong = Disturbance(0.4, 0.65)
    assert Candidate(strong) in ladder((1, 28, 28))
    x = (torch.rand(200, 1, 28, 28) > 0.8).float()
    disturbed = strong.apply(x, (0, 1), torch.Generator().manual_seed(0))
    assert disturbed[x == 0].max() == pytest.approx(0.26)
    assert disturbed[x == 1].min() == pytest.approx(0.39)
