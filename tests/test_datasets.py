"""Generators: moments, ranges, reproducibility, errors."""

import numpy as np
import pytest
from scipy import stats

from robustfit.datasets import (
    make_bernoulli_classes,
    make_gaussian_classes,
    make_general_robust_features,
    make_optimal_robust_features,
    make_robust_features,
)

GENERATORS = [
    make_robust_features,
    make_general_robust_features,
    make_optimal_robust_features,
    make_gaussian_classes,
    make_bernoulli_classes,
]


@pytest.mark.parametrize("make", GENERATORS)
def test_random_state_reproduces_and_labels_are_signs(make):
    first, again, other = (make(50, random_state=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])
    assert set(np.unique(first[1])) == {-1, 1}
    assert len(first[0]) == 50


@pytest.mark.parametrize("make", GENERATORS)
def test_one_row_is_allowed_and_none_is_not(make):
    X, y = make(1, random_state=0)
    assert X.shape[0] == y.shape[0] == 1
    with pytest.raises(ValueError, match="n_samples is 0"):
        make(0)


def test_robust_features_have_the_moments_of_equation_3():
    X, y = make_robust_features(40_000, 25, p=0.9, mu=0.3, random_state=0)
    signed = X * y[:, None]
    assert signed[:, 0].mean() == pytest.approx(0.8, abs=0.01)
    assert np.abs(signed[:, 0]).max() == 1
    np.testing.assert_allclose(signed[:, 1:].mean(axis=0), 0.3, atol=0.025)
    np.testing.assert_allclose(signed[:, 1:].std(axis=0), 1, atol=0.02)


def test_default_mu_is_the_least_that_theorem_1_allows():
    X, y = make_robust_features(20_000, 100, random_state=0)
    assert (X[:, 1:] * y[:, None]).mean() == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize(("p", "share"), [(0, 0.0), (1, 1.0)])
def test_extreme_p(p, share):
    X, y = make_robust_features(100, 3, p=p, random_state=0)
    assert (X[:, 0] == y).mean() == share


def test_general_features_follow_their_distributions():
    weak = [stats.laplace(0.3), stats.uniform(-0.5, 1), stats.t(5, loc=-0.2)]
    X, y = make_general_robust_features(60_000, weak, random_state=0)
    signed = (X * y[:, None])[:, 1:]
    np.testing.assert_allclose(signed.mean(axis=0), [0.3, 0.0, -0.2], atol=0.02)
    deviations = [d.std() for d in weak]
    np.testing.assert_allclose(signed.std(axis=0), deviations, rtol=0.03)


@pytest.mark.parametrize(
    ("distribution", "message"),
    [
        (stats.expon(), "not symmetric"),
        (stats.norm(1.5), "mean 1.5"),
        (stats.cauchy(), "mean nan"),
        (0.3, "frozen"),
    ],
)
def test_general_features_reject_what_lemma_5_does_not_cover(distribution, message):
    with pytest.raises(ValueError, match=message):
        make_general_robust_features(10, [distribution])


def test_optimal_features_are_constant_but_for_the_first():
    X, y = make_optimal_robust_features(2000, 7, p=0.8, random_state=0)
    assert (X[:, 1:] == 1).all()
    assert (X[:, 0] == y).mean() == pytest.approx(0.8, abs=0.03)


def test_gaussian_classes_have_mean_and_covariance():
    covariance = np.array([[2.0, 0.6], [0.6, 0.5]])
    X, y = make_gaussian_classes(
        60_000, [1.0, -2.0], covariance=covariance, random_state=0
    )
    np.testing.assert_allclose(X[y == 1].mean(axis=0), [1, -2], atol=0.03)
    np.testing.assert_allclose(X[y == -1].mean(axis=0), [-1, 2], atol=0.03)
    np.testing.assert_allclose(np.cov(X[y == 1].T), covariance, atol=0.04)


def test_singular_covariance_is_allowed():
    X, y = make_gaussian_classes(20, [1.0, 1.0], covariance=[1.0, 0.0], random_state=0)
    np.testing.assert_allclose(X[:, 1], y)


def test_bernoulli_classes_keep_signs_with_the_right_probability():
    theta_pos, theta_neg = np.array([1, -1, 1]), np.array([-1, -1, 1])
    X, y = make_bernoulli_classes(
        40_000, theta_pos, theta_neg=theta_neg, t=0.2, random_state=0
    )
    for label, theta in ((1, theta_pos), (-1, theta_neg)):
        kept = (X[y == label] == theta).mean(axis=0)
        np.testing.assert_allclose(kept, 0.7, atol=0.02)


def test_bernoulli_without_noise_is_the_prototype():
    X, y = make_bernoulli_classes(20, [1, -1], t=0.5, random_state=0)
    np.testing.assert_array_equal(X, y[:, None] * [1, -1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_robust_features(10, 0), "n_weak is 0"),
        (lambda: make_robust_features(10, p=1.5), "p is 1.5"),
        (lambda: make_robust_features(10, mu=-1), "mu is -1"),
        (lambda: make_robust_features(10, mu=float("nan")), "mu is nan"),
        (lambda: make_robust_features(True), "n_samples is True"),
        (lambda: make_gaussian_classes(10, [[1.0]]), "mean has shape"),
        (lambda: make_gaussian_classes(10, [np.nan]), "mean holds NaN"),
        (lambda: make_gaussian_classes(10, [1.0], covariance=[1, 2]), "2 features"),
        (lambda: make_gaussian_classes(10, [1.0], covariance=[-1.0]), "negative"),
        (
            lambda: make_gaussian_classes(10, [1, 1], covariance=[[1, 2], [0, 1]]),
            "not symmetric",
        ),
        (lambda: make_bernoulli_classes(10, [1, 0]), "entries -1 and 1"),
        (lambda: make_bernoulli_classes(10, [1, 1], theta_neg=[1]), "length 1"),
        (lambda: make_bernoulli_classes(10, t=0.6), "t is 0.6"),
    ],
)
def test_bad_parameters_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
