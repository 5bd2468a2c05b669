"""One robust feature, many weak ones: theorems 1 to 3 against samples and grids."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from robustfit.datasets import (
    make_general_robust_features,
    make_optimal_robust_features,
    make_robust_features,
)
from robustfit.theory import (
    linear_accuracy,
    natural_svm_weights,
    robust_svm_loss,
    robust_svm_weights,
    soft_svm,
    worst_case_perturbation,
)


def full(weights, n_weak):
    return np.r_[weights[0], np.full(n_weak, weights[1])]


def sample_accuracy(coef, X, y, eps=0.0):
    X = X + worst_case_perturbation(coef, y, eps=eps)
    return (y * (X @ coef) > 0).mean()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_perturbation_beats_lemma_1(norm):
    rng = np.random.default_rng(0)
    coef, eps = rng.normal(size=4), 0.3
    if norm == "linf":
        trials = eps * np.array(list(product([-1, 0, 1], repeat=4)))
    else:
        trials = rng.normal(size=(5000, 4))
        trials *= eps / np.linalg.norm(trials, axis=1, keepdims=True)
    for y in (-1, 1):
        delta = worst_case_perturbation(coef, [y], eps=eps, norm=norm)[0]
        order = np.inf if norm == "linf" else 2
        assert np.linalg.norm(delta, order) == pytest.approx(eps)
        assert y * coef @ delta <= (y * trials @ coef).min() + 1e-12
        dual = np.abs(coef).sum() if norm == "linf" else np.linalg.norm(coef)
        assert y * coef @ delta == pytest.approx(-eps * dual)


def test_worst_case_of_a_zero_classifier_and_a_zero_budget():
    assert not worst_case_perturbation([0.0, 0.0], [1], eps=1, norm="l2").any()
    assert not worst_case_perturbation([1.0, 2.0], [1, -1], eps=0).any()


@pytest.mark.parametrize("eps", [0.0, 0.1, 0.5, 3.0])
def test_linear_accuracy_matches_monte_carlo(eps):
    coef = np.random.default_rng(1).normal(size=6) + 0.5
    X, y = make_robust_features(200_000, 5, p=0.8, mu=0.7, random_state=0)
    expected = linear_accuracy(coef, 0.7, p=0.8, eps=eps)
    assert sample_accuracy(coef, X, y, eps) == pytest.approx(expected, abs=0.004)


def test_linear_accuracy_without_weak_weights_is_a_step():
    assert linear_accuracy([1.0, 0.0], 0.4, p=0.9) == pytest.approx(0.9)
    assert linear_accuracy([1.0, 0.0], 0.4, p=0.9, eps=0.99) == pytest.approx(0.9)
    assert linear_accuracy([1.0, 0.0], 0.4, p=0.9, eps=1.0) == 0
    assert linear_accuracy([0.0, 0.0], 0.4, p=0.9) == 0


@pytest.mark.parametrize("eps", [0.0, 0.2, 0.9])
@pytest.mark.parametrize("weights", [(0.8, 0.1), (-0.3, 0.2), (1.5, 0.0)])
def test_robust_loss_matches_monte_carlo(weights, eps):
    d, mu, p, reg = 10, 0.5, 0.9, 0.01
    X, y = make_robust_features(200_000, d, p=p, mu=mu, random_state=0)
    coef = full(weights, d)
    hinge = np.maximum(0, 1 - y * (X @ coef) + eps * np.abs(coef).sum())
    measured = hinge.mean() + reg * coef @ coef
    loss = robust_svm_loss(weights, d, p=p, mu=mu, eps=eps, reg=reg)
    assert loss == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize("eps", [0.0, 0.1, 0.3, 0.39, 0.4, 0.7, 0.85, 0.95, 1.0])
@pytest.mark.parametrize("reg", [1e-3, 0.3])
def test_robust_weights_are_the_minimum_on_a_grid(eps, reg):
    setting = {"p": 0.95, "mu": 0.4, "eps": eps, "reg": reg}
    weights = robust_svm_weights(100, **setting)
    least = robust_svm_loss(weights, 100, **setting)
    for strong, weak in product(np.linspace(-1, 8, 19), np.linspace(-0.2, 0.5, 15)):
        assert least <= robust_svm_loss([strong, weak], 100, **setting) + 1e-8
    for step in np.array([[1, 0], [-1, 0], [0, 1], [0, -1]]) * 1e-3:
        assert least <= robust_svm_loss(weights + step, 100, **setting) + 1e-12


def test_equal_weak_weights_are_no_worse():
    """Lemma 2, on a sample."""
    rng = np.random.default_rng(0)
    X, y = make_robust_features(100_000, 4, p=0.9, mu=0.8, random_state=0)
    for _ in range(5):
        coef = rng.uniform(0, 1, size=5)
        mean = np.r_[coef[0], np.full(4, coef[1:].mean())]
        losses = [np.maximum(0, 1 - y * (X @ c)).mean() + c @ c for c in (coef, mean)]
        assert losses[1] <= losses[0] + 0.005


@pytest.mark.parametrize("d", [1, 16, 100, 2500])
@pytest.mark.parametrize("p", [0.5, 0.9, 0.975])
@pytest.mark.parametrize("reg", [1e-5, 1e-3, 0.1, 10.0])
def test_theorem_1(d, p, reg):
    mu = 4 / np.sqrt(d)
    weights = natural_svm_weights(d, p=p, mu=mu, reg=reg)
    coef = full(weights, d)
    assert 0 <= weights[0] < np.sqrt(d) * weights[1]  # Lemma 3
    assert linear_accuracy(coef, mu, p=p) > 0.99
    assert linear_accuracy(coef, mu, p=p, eps=2 * mu) < 0.01


def test_theorem_1_on_a_sample_with_scikit_learn():
    X, y = make_robust_features(40_000, 100, p=0.95, random_state=0)
    X_test, y_test = make_robust_features(6000, 100, p=0.95, random_state=1)
    model = soft_svm(len(X), reg=0.01).fit(X, y)
    coef = model.coef_[0]
    assert model.score(X_test, y_test) > 0.99
    assert sample_accuracy(coef, X_test, y_test, eps=0.8) < 0.01
    weights = natural_svm_weights(100, p=0.95, mu=0.4, reg=0.01)
    assert coef[0] == pytest.approx(weights[0], rel=0.2)
    assert coef[1:].mean() == pytest.approx(weights[1], rel=0.05)


def test_one_weak_feature_is_far_from_99_percent():
    """The remark that sign(x_2) reaches 99 % holds for the sum, not for one."""
    X, y = make_robust_features(50_000, 100, mu=0.4, random_state=0)
    assert (np.sign(X[:, 1]) == y).mean() == pytest.approx(0.655, abs=0.01)
    assert (np.sign(X[:, 1:].sum(axis=1)) == y).mean() > 0.999


@pytest.mark.parametrize("eps", [0.4, 0.6, 0.89])
@pytest.mark.parametrize("reg", [1e-4, 0.1])
def test_theorem_2(eps, reg):
    strong, weak = robust_svm_weights(100, p=0.95, mu=0.4, eps=eps, reg=reg)
    assert strong > 0
    assert weak == 0


def test_below_mu_the_weak_features_are_used():
    assert robust_svm_weights(100, p=0.95, mu=0.4, eps=0.2)[1] > 0


def test_theorem_2_needs_eps_below_2p_minus_1():
    setting = {"p": 0.95, "mu": 0.4, "eps": 0.92}
    assert robust_svm_weights(100, **setting).tolist() == [0, 0]
    losses = [
        robust_svm_loss([w, 0], 100, **setting, reg=1e-3) for w in (0, 0.01, 0.1, 1)
    ]
    assert losses[0] < min(losses[1:])


def test_theorem_3_svm_on_the_robust_dataset():
    p = 0.9
    X, y = make_optimal_robust_features(4000, 100, p=p, random_state=0)
    coef = soft_svm(len(X), reg=0.01).fit(X, y).coef_[0]
    X_test, y_test = make_robust_features(8000, 100, p=p, random_state=1)
    # Finite samples leave the constant features a trace of weight, as an intercept.
    assert np.abs(coef[1:]).sum() < 0.1 * coef[0]
    for eps in (0.0, 0.4, 0.8):
        assert sample_accuracy(coef, X_test, y_test, eps) == pytest.approx(p, abs=0.01)


@pytest.mark.parametrize(
    "weak", [stats.laplace(0.3), stats.uniform(-0.7, 2), stats.t(3, loc=0.2)]
)
def test_lemma_5_for_other_symmetric_distributions(weak):
    """With eps above every mean, no weak weight lowers the robust loss."""
    X, y = make_general_robust_features(30_000, [weak] * 5, random_state=0)
    eps = 0.4

    def loss(coef):
        return np.maximum(0, 1 - y * (X @ coef) + eps * np.abs(coef).sum()).mean()

    rng = np.random.default_rng(0)
    for _ in range(20):
        coef = np.r_[rng.uniform(0, 1.6), rng.normal(size=5) * 0.3]
        assert loss(np.r_[coef[0], np.zeros(5)]) <= loss(coef) + 1e-3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: soft_svm(10, 0), "reg is 0"),
        (lambda: soft_svm(0), "n_samples is 0"),
        (lambda: worst_case_perturbation([1.0], [0], eps=1), "-1 and 1"),
        (lambda: worst_case_perturbation([1.0], [1], eps=-1), "eps is -1"),
        (lambda: worst_case_perturbation([np.nan], [1], eps=1), "NaN"),
        (lambda: worst_case_perturbation([1.0], [1], eps=1, norm="l1"), "norm is 'l1'"),
        (lambda: linear_accuracy([1.0, 1.0], 0.1, p=2), "p is 2"),
        (lambda: robust_svm_weights(10, p=0.3, mu=0.1, eps=0.1), "p is 0.3"),
        (lambda: robust_svm_weights(10, p=0.9, mu=0.1, eps=1.2), "eps is 1.2"),
    ],
)
def test_bad_parameters_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
