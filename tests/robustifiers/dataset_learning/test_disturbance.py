import pytest
import torch

from robustfit.robustifiers.dataset_learning import disturbance
from robustfit.robustifiers.dataset_learning.disturbance import Disturbance


def test_disturbance_by_hand(monkeypatch):
    monkeypatch.setattr(disturbance, "draw_patterns", lambda x, *a: torch.ones_like(x))
    x = torch.tensor([0.0, 0.0, 1.0]).reshape(1, 1, 1, 3)
    disturbed = Disturbance(0.4, 1.0).apply(x, (0, 1), None)
    expected = torch.tensor([0.4, 0.4, 0.6]).reshape(1, 1, 1, 3)
    torch.testing.assert_close(disturbed, expected)


def test_a_mixed_row_has_the_pattern_or_the_noise(monkeypatch):
    monkeypatch.setattr(disturbance, "draw_patterns", lambda x, *a: torch.ones_like(x))
    x = torch.zeros(400, 1, 5, 5)
    generator = torch.Generator().manual_seed(0)
    mixed = Disturbance(0.4, 1.0, 0.1, mixed=True).apply(x, (0, 1), generator)
    patterned = (mixed == 0.4).all((1, 2, 3))
    assert 160 < patterned.sum() < 240
    assert abs(mixed[~patterned].mean()) < 0.01  # no pattern
    assert mixed[~patterned].std() == pytest.approx(0.1, rel=0.05)
    grey = Disturbance(0.4, 0.5, 0.1, mixed=True)
    vectors = grey.apply(torch.eye(2), (0, 1), generator)
    assert vectors.shape == (2, 2)


def test_contrast_shrinks_towards_the_background():
    x = torch.tensor([[2.0, 2.0, 2.0, 4.0]])
    half = Disturbance(0.0, 0.5).apply(x, (0, 4), None)
    torch.testing.assert_close(half, torch.tensor([[2.0, 2.0, 2.0, 3.0]]))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 5, 9)])
def test_patterns_are_bounded_and_of_the_images_shape(shape):
    x = torch.rand(20, *shape)
    patterns = disturbance.draw_patterns(x, torch.Generator().manual_seed(0))
    assert patterns.shape == x.shape
    assert 0 <= patterns.min() < patterns.max() <= 1


def test_disturbance_says_nothing_about_the_label(digits):
    X, y, _, _ = digits
    x = torch.tensor(X)
    generator = torch.Generator().manual_seed(0)
    change = (
        (Disturbance(0.4, 1.0).apply(x, (0, 1), generator) - x).abs().sum((1, 2, 3))
    )
    by_class = torch.stack([change[torch.tensor(y == c)].mean() for c in range(10)])
    assert by_class.std() < 0.25 * by_class.mean()
