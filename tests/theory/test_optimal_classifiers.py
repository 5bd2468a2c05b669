"""Isotropic Gaussian and Bernoulli classes: closed forms against enumeration."""

from itertools import product

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.sparse import coo_matrix
from scipy.stats import binom, norm

from robustfit.datasets import make_bernoulli_classes, make_gaussian_classes
from robustfit.theory import (
    bernoulli_bayes_error,
    bernoulli_best_threshold,
    bernoulli_l0_error,
    bernoulli_linf_error,
    bernoulli_threshold_rule,
    effective_dimension,
    isotropic_gaussian_error,
    isotropic_gaussian_weights,
    worst_case_perturbation,
)

MEAN = np.array([1.0, -0.4, 0.2])


@pytest.mark.parametrize("norm_name", ["l2", "linf"])
@pytest.mark.parametrize("eps", [0.0, 0.3, 0.8])
def test_gaussian_error_matches_monte_carlo(norm_name, eps):
    X, y = make_gaussian_classes(200_000, MEAN, covariance=[0.49] * 3, random_state=0)
    w = isotropic_gaussian_weights(MEAN, -MEAN, eps=eps, norm=norm_name)
    attacked = X + worst_case_perturbation(w, y, eps=eps, norm=norm_name)
    error = isotropic_gaussian_error(MEAN, -MEAN, sigma=0.7, eps=eps, norm=norm_name)
    assert (y * (attacked @ w) <= 0).mean() == pytest.approx(error, abs=0.004)


@pytest.mark.parametrize("norm_name", ["l2", "linf"])
@pytest.mark.parametrize("eps", [0.1, 0.5])
def test_no_other_linear_classifier_is_better(norm_name, eps):
    best = isotropic_gaussian_error(MEAN, -MEAN, eps=eps, norm=norm_name)
    W = np.random.default_rng(0).normal(size=(2000, 3))
    dual = np.linalg.norm(W, 2 if norm_name == "l2" else 1, axis=1)
    errors = norm.cdf(-(W @ MEAN - eps * dual) / np.linalg.norm(W, axis=1))
    assert best <= errors.min()
    assert errors.min() < best + 0.02


def test_gaussian_error_beyond_half_the_distance_is_one_half():
    """The printed formula goes on to 1; a constant classifier errs on half."""
    means = [1.0, 0.0], [-1.0, 0.0]
    assert isotropic_gaussian_error(*means, eps=1.0) == 0.5
    assert isotropic_gaussian_error(*means, eps=2.0) == 0.5
    assert isotropic_gaussian_error(*means, eps=100, norm="linf") == 0.5
    printed = norm.cdf((-2 + 2 * 2) / 2)
    X, y = make_gaussian_classes(50_000, [1.0, 0.0], random_state=0)
    attacked = X[:, 0] - 2 * y
    assert (y * attacked < 0).mean() == pytest.approx(printed, abs=0.01)
    assert printed > 0.8


def test_the_bayes_classifier_is_the_robust_one_under_l2():
    for eps in (0.0, 0.5, 5.0):
        w = isotropic_gaussian_weights(MEAN, -MEAN, eps=eps)
        np.testing.assert_allclose(w, MEAN)


def enumerate_rows(k, t):
    """All rows as disagreements with theta_pos, and P(x, y) of the two classes."""
    rows = np.array(list(product([0, 1], repeat=k))).reshape(2**k, k)
    n = rows.sum(axis=1)
    of_pos = (0.5 + t) ** (k - n) * (0.5 - t) ** n / 2
    of_neg = (0.5 + t) ** n * (0.5 - t) ** (k - n) / 2
    distance = (rows[:, None] != rows[None]).sum(axis=2)
    return n, of_pos, of_neg, distance


def enumerated_error(k, threshold, t, eps):
    n, of_pos, of_neg, distance = enumerate_rows(k, t)
    predicts_pos = n <= threshold
    reach = distance <= eps
    lost_pos = (reach & ~predicts_pos).any(axis=1)
    lost_neg = (reach & predicts_pos).any(axis=1)
    return of_pos[lost_pos].sum() + of_neg[lost_neg].sum()


def optimal_error(k, t, eps):
    """Least robust error of all classifiers: a minimum vertex cover, as an LP."""
    _, of_pos, of_neg, distance = enumerate_rows(k, t)
    # A row of each class cannot both be right if some point is within eps of both.
    first, second = np.nonzero(distance <= 2 * eps)
    m, n = len(first), len(of_pos)
    entries = (np.r_[np.arange(m), np.arange(m)], np.r_[first, n + second])
    covers = coo_matrix((np.ones(2 * m), entries), shape=(m, 2 * n)).tocsr()
    cost = np.r_[of_pos, of_neg]
    return linprog(cost, A_ub=-covers, b_ub=-np.ones(m), bounds=(0, 1)).fun


@pytest.mark.parametrize("k", [0, 1, 2, 5, 6])
@pytest.mark.parametrize("t", [0.0, 0.1, 0.3, 0.5])
def test_theorem_3(k, t):
    _, of_pos, of_neg, _ = enumerate_rows(k, t)
    assert bernoulli_bayes_error(k, t) == pytest.approx(
        np.minimum(of_pos, of_neg).sum(), abs=1e-12
    )


@pytest.mark.parametrize("k", [1, 2, 5, 6])
@pytest.mark.parametrize("eps", [0, 1, 2, 7])
def test_theorem_4_error_of_every_threshold(k, eps):
    thresholds = np.arange(-1, k + 1)
    errors = bernoulli_l0_error(k, thresholds, t=0.3, eps=eps)
    expected = [enumerated_error(k, s, 0.3, eps) for s in thresholds]
    np.testing.assert_allclose(errors, expected, atol=1e-12)


def test_theorem_4_as_printed_is_wrong_for_constant_classifiers():
    k, t, eps = 4, 0.3, 4
    s = np.arange(k + 1)
    printed = binom.cdf(s + eps, k, 0.5 + t) / 2
    printed = printed + binom.cdf(k - s + eps - 1, k, 0.5 + t) / 2
    assert printed.min() == pytest.approx(0.795, abs=1e-3)
    assert enumerated_error(k, k, t, eps) == pytest.approx(0.5)
    assert bernoulli_best_threshold(k, t, eps=eps) == (k, 0.5)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("eps", [0, 1, 2])
@pytest.mark.parametrize("t", [0.1, 0.3, 0.45])
def test_thresholds_are_optimal_among_all_classifiers(k, eps, t):
    _, error = bernoulli_best_threshold(k, t, eps=eps)
    assert error == pytest.approx(optimal_error(k, t, eps), abs=1e-7)


def test_best_threshold_edge_cases():
    assert bernoulli_best_threshold(0, 0.3, eps=0) == (0, 0.5)
    assert bernoulli_best_threshold(9, 0.0, eps=0)[1] == 0.5
    threshold, error = bernoulli_best_threshold(9, 0.5, eps=4)
    assert (threshold, error) == (4, 0.0)
    assert bernoulli_best_threshold(9, 0.5, eps=5)[1] == 0.5
    same = bernoulli_best_threshold(50, 0.3, eps=5.9)
    assert same == bernoulli_best_threshold(50, 0.3, eps=5)
    assert bernoulli_best_threshold(50, 0.3, eps=0)[1] == pytest.approx(
        bernoulli_bayes_error(50, 0.3), rel=1e-6
    )


def test_l0_error_on_a_sample():
    theta_pos, theta_neg = np.ones(12), np.r_[np.ones(3), -np.ones(9)]
    k = effective_dimension(theta_pos, theta_neg)
    assert k == 9
    X, y = make_bernoulli_classes(
        40_000, theta_pos, theta_neg=theta_neg, t=0.3, random_state=0
    )
    effective = theta_pos != theta_neg
    for row, label in zip(X, y, strict=True):  # the adversary flips two signs
        good = np.flatnonzero(effective & (row == label * theta_pos))[:2]
        row[good] *= -1
    predicted = bernoulli_threshold_rule(X, theta_pos, theta_neg=theta_neg, threshold=4)
    error = bernoulli_l0_error(k, 4, t=0.3, eps=2)
    assert (predicted != y).mean() == pytest.approx(error, abs=0.01)


def test_theorem_5_on_a_sample():
    X, y = make_bernoulli_classes(40_000, np.ones(5), t=0.3, random_state=0)
    theta = {"theta_neg": -np.ones(5), "threshold": 2}
    for eps in (0.0, 0.5, 0.99):
        attacked = X - eps * np.sign(X)
        predicted = bernoulli_threshold_rule(attacked, np.ones(5), **theta)
        error = bernoulli_linf_error(5, 0.3, eps=eps)
        assert (predicted != y).mean() == pytest.approx(error, abs=0.01)
    everything_at_zero = bernoulli_threshold_rule(X - X, np.ones(5), **theta)
    assert (everything_at_zero != y).mean() == pytest.approx(0.5, abs=0.01)
    assert bernoulli_linf_error(5, 0.3, eps=1) == 0.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: isotropic_gaussian_error([1.0], [0.0], sigma=0), "sigma is 0"),
        (lambda: isotropic_gaussian_error([1.0], [0.0, 1.0]), "length 2"),
        (lambda: isotropic_gaussian_error([1.0], [0.0], norm="l0"), "norm is 'l0'"),
        (lambda: bernoulli_bayes_error(-1, 0.3), "k is -1"),
        (lambda: bernoulli_bayes_error(3, 0.7), "t is 0.7"),
        (lambda: bernoulli_l0_error(3, 4, t=0.3, eps=1), "threshold is 4"),
        (lambda: bernoulli_l0_error(3, 1.5, t=0.3, eps=1), "threshold is 1.5"),
        (lambda: bernoulli_best_threshold(3, 0.3, eps=-1), "eps is -1"),
        (lambda: bernoulli_linf_error(3, 0.3, eps=np.inf), "eps is inf"),
        (lambda: effective_dimension([1, 1], [1]), "length 1"),
        (
            lambda: bernoulli_threshold_rule(
                [[1, 1]], [1], theta_neg=[-1], threshold=0
            ),
            "X has shape",
        ),
    ],
)
def test_bad_parameters_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
