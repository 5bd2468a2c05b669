"""Concentration bounds against sets whose neighbourhoods can be measured."""

import math

import numpy as np
import pytest

from robustfit.theory import (
    ball_expansion_bound,
    cube_expansion_bound,
    diagonal_split_robust_error,
    diagonal_split_robust_error_bound,
    single_feature_robust_error,
    vulnerable_fraction_bound,
)


@pytest.mark.parametrize("eps", [0.0, 0.01, 0.1, 0.3, 0.5])
def test_half_cube_is_above_the_bound(eps):
    """The neighbourhood of {x_1 <= m} in the cube is {x_1 <= m + eps}."""
    for measure in (0.1, 0.5, 0.9):
        true = min(1.0, measure + eps)
        assert cube_expansion_bound(measure, eps) <= true + 1e-12


@pytest.mark.parametrize("d", [2, 10, 50])
def test_diagonal_half_of_the_cube_is_above_the_bound(d):
    X = np.random.default_rng(0).uniform(size=(50_000, d))
    distance = (X.sum(axis=1) - d / 2) / np.sqrt(d)
    for eps in (0.1, 0.3, 0.6):
        assert (distance < eps).mean() >= cube_expansion_bound(0.5, eps) - 0.01


def test_cube_bound_is_tight_to_first_order_and_simple_is_weaker():
    assert cube_expansion_bound(0.5, 1e-4) == pytest.approx(0.5 + 1e-4, abs=1e-9)
    for eps in np.linspace(0, 2, 9):
        for measure in (0.5, 0.7, 0.99):
            sharp = cube_expansion_bound(measure, eps)
            assert cube_expansion_bound(measure, eps, simple=True) <= sharp
    assert cube_expansion_bound(0.5, 0) == pytest.approx(0.5)
    assert cube_expansion_bound(0.5, 100) == 1


@pytest.mark.parametrize("d", [1, 2, 10, 50])
def test_half_ball_is_above_the_bound(d):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50_000, d))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    X *= rng.uniform(size=(len(X), 1)) ** (1 / d)
    for eps in (0.1, 0.5, 1.0):
        bound = ball_expansion_bound(0.5, eps, n_features=d)
        simple = ball_expansion_bound(0.5, eps, n_features=d, simple=True)
        assert simple <= bound <= (X[:, 0] < eps).mean() + 0.01


def test_example_2():
    assert 0.94 <= vulnerable_fraction_bound(10, 0.5) < 0.95
    assert 0.97 <= vulnerable_fraction_bound(10, 0.09, n_features=3072) < 0.98
    assert vulnerable_fraction_bound(10, 0) == 0
    assert vulnerable_fraction_bound(2, 50) == 1


def test_example_2_on_slabs():
    """Ten classes: slices of the first coordinate, whose vulnerable part is known."""
    for eps in (0.01, 0.03, 0.2, 0.5):
        edge = min(0.1, eps)
        inner = min(0.1, 2 * eps)
        true = 2 * edge + 8 * inner
        assert vulnerable_fraction_bound(10, eps) <= true + 1e-12


@pytest.mark.parametrize("d", [1, 2, 3, 15, 16, 17, 60])
@pytest.mark.parametrize("eps", [0.02, 0.1, 0.3])
def test_diagonal_split_matches_monte_carlo(d, eps):
    X = np.random.default_rng(0).uniform(size=(100_000, d))
    lost = np.abs(X.sum(axis=1) - d / 2) <= d * eps
    error = diagonal_split_robust_error(d, eps)
    assert error == pytest.approx(lost.mean(), abs=0.006)
    bound = diagonal_split_robust_error_bound(d, eps)
    assert max(0.0, 1 - 1 / (4 * d * eps**2)) <= bound <= error


def test_both_branches_of_the_diagonal_split_agree():
    from robustfit.theory import concentration

    exact = diagonal_split_robust_error(15, 0.07)
    inverted = concentration._inside_by_inversion(15, 15 * 0.07)
    assert inverted == pytest.approx(exact, abs=1e-7)


def test_the_variance_of_a_uniform_variable_is_a_twelfth():
    """Proposition A.1 takes 1/4; Chebyshev with 1/12 is what a sample shows."""
    X = np.random.default_rng(0).uniform(size=(200_000, 4))
    assert X.sum(axis=1).var() / 4 == pytest.approx(1 / 12, rel=0.01)


def test_one_feature_against_the_diagonal():
    X = np.random.default_rng(0).uniform(size=100_000)
    for eps in (0.0, 0.1, 0.4, 0.5, 2.0):
        lost = (np.abs(X - 0.5) < eps).mean()
        assert single_feature_robust_error(eps) == pytest.approx(lost, abs=0.005)
    assert diagonal_split_robust_error(1, 0.2) == pytest.approx(0.4)
    assert diagonal_split_robust_error(3000, 0.02) > 0.999
    assert diagonal_split_robust_error(5, 0) == 0
    assert diagonal_split_robust_error(5, 7) == 1
    assert diagonal_split_robust_error_bound(5, 0) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cube_expansion_bound(0, 0.1), "measure is 0"),
        (lambda: cube_expansion_bound(1.2, 0.1), "measure is 1.2"),
        (lambda: cube_expansion_bound(0.3, 0.1, simple=True), "at least half"),
        (lambda: ball_expansion_bound(0.3, 0.1, n_features=2), "at least half"),
        (lambda: ball_expansion_bound(0.5, 3, n_features=2), "eps is 3"),
        (lambda: ball_expansion_bound(0.5, 1, n_features=2.5), "n_features is 2.5"),
        (lambda: vulnerable_fraction_bound(1, 0.1), "n_classes is 1"),
        (lambda: diagonal_split_robust_error(3, math.nan), "eps is nan"),
        (lambda: single_feature_robust_error("a"), "eps is 'a'"),
    ],
)
def test_bad_parameters_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
