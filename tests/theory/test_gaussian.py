"""Gaussian maximum likelihood under an adversary: closed form, training, classifier."""

import math

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from robustfit import ThreatModel, as_torch
from robustfit.attacks import PGD
from robustfit.datasets import make_gaussian_classes
from robustfit.theory import (
    RobustGaussianClassifier,
    RobustGaussianDisplay,
    adversarial_likelihood_gap,
    gaussian_linear_accuracy,
    gaussian_worst_case_perturbation,
    robust_covariance,
    robust_multiplier,
    worst_case_alignment,
    worst_case_perturbation,
)

# The skip of scikit-learn's array API check says that it is off by default.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@parametrize_with_checks([RobustGaussianClassifier(eps) for eps in (0, 0.5)])
def test_check_estimator(estimator, check):
    check(estimator)


# --- the closed form ---------------------------------------------------------------


def random_covariance(rng, d):
    factor = rng.normal(size=(d, d))
    return factor @ factor.T / d + 0.05 * np.eye(d)


@pytest.mark.parametrize("eps", [0.01, 0.3, 1.0, 20.0])
def test_multiplier_spends_the_budget(eps):
    covariance = random_covariance(np.random.default_rng(0), 5)
    robust = robust_covariance(covariance, eps)
    move = np.linalg.inv(robust_multiplier(covariance, eps) * robust - np.eye(5))
    assert np.trace(covariance @ move @ move) == pytest.approx(eps**2)
    assert np.linalg.eigvalsh(move)[0] > 0  # the adversary's global maximum
    grown = np.eye(5) + move
    np.testing.assert_allclose(robust, grown @ covariance @ grown, rtol=1e-9)


def test_formula_of_theorem_2():
    variances, eps = np.array([2.0, 0.5, 0.01]), 0.4
    inverse = 1 / robust_multiplier(variances, eps)
    root = np.sqrt(inverse * variances + variances**2 / 4)
    expected = variances / 2 + inverse + root
    result = robust_covariance(variances, eps)
    np.testing.assert_allclose(result.diagonal(), expected)


def test_bounds_on_the_multiplier_hold_with_the_squared_budget():
    """Theorem 2's bounds; as printed, with eps for eps^2, they are violated."""
    rng = np.random.default_rng(0)
    violated = {"squared": 0, "printed": 0}
    for _ in range(200):
        d, eps = rng.integers(1, 8), rng.choice([0.1, 0.5, 3.0])
        variances = rng.lognormal(size=d)
        multiplier = robust_multiplier(variances, eps)
        robust = robust_covariance(variances, eps).diagonal()
        for name, budget in (("squared", eps**2), ("printed", eps)):
            low = d / robust.sum() * (1 + np.sqrt(d * variances.min() / budget))
            spread = np.linalg.norm(variances) * d
            high = (1 + np.sqrt(spread / budget)) / robust.min()
            inside = low <= multiplier * (1 + 1e-9) and multiplier <= high * (1 + 1e-9)
            violated[name] += not inside
    assert violated["squared"] == 0
    assert violated["printed"] > 20


@pytest.mark.parametrize("covariance", [np.eye(3), np.diag([1.0, 0.1, 1e-6])])
def test_edge_budgets(covariance):
    np.testing.assert_allclose(robust_covariance(covariance, 0), covariance)
    assert math.isinf(robust_multiplier(covariance, 0))
    tiny = robust_covariance(covariance, 1e-12)
    np.testing.assert_allclose(tiny, covariance, atol=1e-11)
    huge = robust_covariance(covariance, 1e8)
    np.testing.assert_allclose(huge / huge[0, 0], np.eye(3), atol=1e-6)


def test_isotropic_and_singular_covariances():
    assert robust_covariance([1.0, 1.0], math.sqrt(2)).diagonal() == pytest.approx(4)
    np.testing.assert_allclose(robust_covariance([0.0, 0.0], 1.0), np.eye(2) / 2)


def test_rotation_of_the_data_rotates_the_result():
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    variances = np.array([2.0, 1.0, 0.3, 0.01])
    rotated = rotation * variances @ rotation.T
    expected = rotation @ robust_covariance(variances, 0.7) @ rotation.T
    np.testing.assert_allclose(robust_covariance(rotated, 0.7), expected, atol=1e-10)


# --- adversarial training ----------------------------------------------------------


def move_ascent(variances, budget, spread):
    """The adversary's factors m (x + m (x - mean)), by ascent on the budget's sphere.

    Knows nothing of the closed form: maximises the likelihood loss directly.
    """
    root = variances.sqrt()
    q = torch.full_like(variances, budget / len(variances) ** 0.5)
    for _ in range(30):
        q = q.requires_grad_(True)
        loss = ((2 * root * q + q**2) / spread).sum()
        (gradient,) = torch.autograd.grad(loss, q)
        q = (budget * gradient / gradient.norm()).detach()
    return q / root


def train_adversarially(x, eps, n_steps=400):
    """Descend the Gaussian negative log-likelihood of attacked samples."""
    mean = torch.zeros(x.shape[1], dtype=x.dtype, requires_grad=True)
    log_spread = torch.zeros(x.shape[1], dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.Adam([mean, log_spread], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for _ in range(n_steps):
        with torch.no_grad():
            moment = (x - mean).square().mean(0)
        factors = move_ascent(moment, eps, log_spread.detach().exp())
        attacked = x + factors * (x - mean.detach())
        nll = (attacked - mean).square() / log_spread.exp() + log_spread
        optimizer.zero_grad()
        (nll.mean(0).sum() / 2).backward()
        optimizer.step()
        schedule.step()
    return mean.detach().numpy(), log_spread.detach().exp().numpy()


@pytest.mark.parametrize("eps", [0.0, 0.3, 1.5])
def test_adversarial_training_converges_to_the_closed_form(eps):
    rng = np.random.default_rng(0)
    variances = np.array([2.0, 0.5, 0.02])
    X = rng.normal(size=(1000, 3)) * np.sqrt(variances) + [1.0, -0.5, 0.2]
    mean, spread = train_adversarially(torch.tensor(X), eps)
    np.testing.assert_allclose(mean, X.mean(axis=0), atol=5e-3)
    expected = robust_covariance(X.var(axis=0), eps).diagonal()
    np.testing.assert_allclose(spread, expected, rtol=5e-3)


def exact_robust_variances(variances, eps, rng, n_rows):
    """Fixed point for an adversary that spends exactly eps on every row."""
    V = rng.normal(size=(n_rows, len(variances))) * np.sqrt(variances)
    groups = [variances == v for v in np.unique(variances)]
    for group in groups:
        V[:, group] *= np.sqrt(variances[group][0] / (V[:, group] ** 2).mean())
    robust = robust_covariance(variances, eps).diagonal().copy()
    for _ in range(40):
        attacked = V + gaussian_worst_case_perturbation(V, robust, eps=eps)
        moments = (attacked**2).mean(axis=0)
        for group in groups:
            robust[group] += 0.15 * (moments[group].mean() - robust[group][0])
    return robust


def test_the_relaxation_is_exact_in_high_dimension():
    """Theorem 2 bounds the mean squared norm; the difference vanishes as d grows."""
    rng, errors = np.random.default_rng(0), []
    for half, n_rows in ((1, 6000), (20, 800)):
        variances = np.array([1.0] * half + [0.1] * half)
        eps = 0.3 * math.sqrt(variances.sum())
        closed = robust_covariance(variances, eps).diagonal()
        exact = exact_robust_variances(variances, eps, rng, n_rows)
        errors.append(np.abs(exact / closed - 1).max())
    assert 0.05 < errors[0] < 0.12
    assert errors[1] < 0.015


@pytest.mark.parametrize("eps", [0.1, 1.0, 5.0])
def test_no_perturbation_beats_lemma_1(eps):
    rng = np.random.default_rng(0)
    covariance = random_covariance(rng, 3)
    precision = np.linalg.inv(covariance)
    V = np.vstack([rng.normal(size=(5, 3)), np.zeros((1, 3)), 1e-9 * np.ones((1, 3))])
    delta = gaussian_worst_case_perturbation(V, covariance, eps=eps)
    np.testing.assert_allclose(np.linalg.norm(delta, axis=1), eps)
    trials = rng.normal(size=(20_000, 3))
    trials *= eps / np.linalg.norm(trials, axis=1, keepdims=True)
    for v, d in zip(V, delta, strict=True):
        others = v + trials
        most = np.einsum("ij,jk,ik->i", others, precision, others).max()
        reached = (v + d) @ precision @ (v + d)
        assert reached >= most * (1 - 1e-9)
        assert reached <= most * 1.02


def test_worst_case_perturbation_without_budget():
    assert not gaussian_worst_case_perturbation([[1.0, 2.0]], [1, 1], eps=0).any()


# --- theorems 1 and 3 --------------------------------------------------------------


def test_theorem_1_is_half_of_what_is_printed():
    variances, penalty = np.array([1.0, 0.25]), 8.0
    V = np.random.default_rng(0).normal(size=(400_000, 2)) * np.sqrt(variances)
    delta = V / (penalty * variances - 1)
    measured = (((V + delta) ** 2 - V**2) / variances).sum(axis=1).mean() / 2
    assert adversarial_likelihood_gap(variances, penalty) == pytest.approx(
        measured, rel=0.01
    )
    printed = np.sum((1 + 1 / (penalty * variances - 1)) ** 2) - 2
    assert printed == pytest.approx(2 * measured, rel=0.01)


def test_the_penalised_perturbation_is_optimal():
    """The maximum is for the penalty C/2 ||delta||^2."""
    rng = np.random.default_rng(0)
    variances, penalty = np.array([1.0, 0.25]), 8.0
    v = rng.normal(size=2)
    delta = v / (penalty * variances - 1)

    def objective(move):
        gain = (((v + move) ** 2 - v**2) / variances).sum(axis=-1) / 2
        return gain - penalty / 2 * (move**2).sum(axis=-1)

    trials = delta + rng.normal(size=(10_000, 2)) * rng.uniform(0, 3, size=(10_000, 1))
    assert objective(delta) >= objective(trials).max()


def test_gap_is_least_for_equal_variances_and_infinite_for_a_weak_penalty():
    rng = np.random.default_rng(0)
    equal = adversarial_likelihood_gap(np.ones(4), 10.0)
    for _ in range(50):
        variances = 0.2 + rng.dirichlet(np.ones(4)) * 3.2
        assert adversarial_likelihood_gap(variances, 10.0) >= equal
    assert math.isinf(adversarial_likelihood_gap([1.0, 0.1], 10.0))


def test_alignment_is_the_minimum_over_means():
    variances = np.array([3.0, 0.5, 0.02])
    means = np.random.default_rng(0).normal(size=(50_000, 3)) * np.sqrt(variances)
    gradients = means / variances
    cosines = (means * gradients).sum(axis=1) / (
        np.linalg.norm(means, axis=1) * np.linalg.norm(gradients, axis=1)
    )
    least = worst_case_alignment(variances)
    assert least <= cosines.min() <= 1.05 * least
    worst = np.array([np.sqrt(variances[0]), 0, np.sqrt(variances[2])])
    cosine = worst @ (worst / variances)
    cosine /= np.linalg.norm(worst) * np.linalg.norm(worst / variances)
    assert cosine == pytest.approx(least)


def test_theorem_3_holds_for_every_mean():
    rng = np.random.default_rng(0)
    for _ in range(300):
        d = rng.integers(2, 8)
        variances, mean = rng.lognormal(size=d), rng.normal(size=d)
        robust = robust_covariance(variances, rng.lognormal()).diagonal()
        assert worst_case_alignment(robust) > worst_case_alignment(variances)
        cosines = [
            mean @ (mean / v) / np.linalg.norm(mean / v) for v in (variances, robust)
        ]
        assert cosines[1] >= cosines[0] - 1e-12
    assert worst_case_alignment(np.eye(3)) == 1
    assert worst_case_alignment([1.0, 0.0]) == 0


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("eps", [0.0, 0.4, 2.0])
def test_linear_accuracy_matches_monte_carlo(norm, eps):
    mean, covariance = [1.0, 0.3], np.array([[1.0, 0.2], [0.2, 0.3]])
    coef = np.array([0.5, 1.0])
    X, y = make_gaussian_classes(100_000, mean, covariance=covariance, random_state=0)
    X = X + worst_case_perturbation(coef, y, eps=eps, norm=norm)
    expected = gaussian_linear_accuracy(
        coef, mean, covariance=covariance, eps=eps, norm=norm
    )
    assert (y * (X @ coef) > 0).mean() == pytest.approx(expected, abs=0.006)


# --- the classifier ----------------------------------------------------------------


@pytest.fixture
def gaussian_data():
    return make_gaussian_classes(
        4000, [2.0, 0.3], covariance=[1.0, 0.01], random_state=0
    )


def test_without_adversary_it_is_linear_discriminant_analysis():
    X, y = load_iris(return_X_y=True)
    ours = RobustGaussianClassifier(eps=0).fit(X, y)
    theirs = LinearDiscriminantAnalysis(solver="lsqr").fit(X, y)
    assert (ours.predict(X) == theirs.predict(X)).all()
    differences = np.diff(ours.decision_function(X), axis=1)
    expected = np.diff(theirs.decision_function(X), axis=1)
    # scikit-learn's pooled covariance is the same maximum likelihood estimate.
    np.testing.assert_allclose(differences, expected, rtol=1e-6)


def test_learns_the_closed_form_and_the_mean(gaussian_data):
    X, y = gaussian_data
    model = RobustGaussianClassifier(eps=0.5).fit(X, y)
    np.testing.assert_allclose(
        model.robust_covariance_, robust_covariance(model.covariance_, 0.5)
    )
    np.testing.assert_allclose(model.means_[1], X[y == 1].mean(axis=0))
    assert model.multiplier_ == pytest.approx(robust_multiplier(model.covariance_, 0.5))


def test_robust_beats_natural_under_attack_and_loses_without(gaussian_data):
    natural, robust = (
        RobustGaussianClassifier(eps).fit(*gaussian_data) for eps in (0.0, 0.5)
    )
    truth = {"mean": [2.0, 0.3], "covariance": [1.0, 0.01]}
    clean = [
        gaussian_linear_accuracy(m.coef_[0], **truth, eps=0) for m in (natural, robust)
    ]
    attacked = [
        gaussian_linear_accuracy(m.coef_[0], **truth, eps=0.5)
        for m in (natural, robust)
    ]
    assert clean[0] > clean[1] > 0.97
    assert attacked[1] > 0.9 > attacked[0]


def test_string_labels_and_three_classes():
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    model = RobustGaussianClassifier(eps=0.1).fit(X, names)
    assert model.score(X, names) > 0.9
    assert model.coef_.shape == (3, 4)
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)
    assert model.classes_.tolist() == sorted(set(names))


def test_probabilities_are_likelihood_ratios(gaussian_data):
    X, y = gaussian_data
    model = RobustGaussianClassifier(eps=0.3).fit(X, y)
    precision = np.linalg.inv(model.robust_covariance_)
    distances = [
        np.einsum("ij,jk,ik->i", X - m, precision, X - m) for m in model.means_
    ]
    ratio = (distances[0] - distances[1]) / 2
    np.testing.assert_allclose(model.decision_function(X), ratio, atol=1e-6)
    np.testing.assert_allclose(
        model.predict_proba(X)[:, 1], 1 / (1 + np.exp(-ratio)), atol=1e-9
    )


@pytest.mark.parametrize("eps", [0.0, 1.0])
def test_one_row_a_class_and_more_features_than_rows(eps):
    rng = np.random.default_rng(0)
    for X in (np.array([[0.0, 0.0], [1.0, 3.0]]), rng.normal(size=(6, 30))):
        y = np.arange(len(X)) % 2
        model = RobustGaussianClassifier(eps).fit(X, y)
        assert np.isfinite(model.coef_).all()
        assert model.score(X, y) == 1


def test_huge_eps_is_the_nearest_mean(gaussian_data):
    X, y = gaussian_data
    model = RobustGaussianClassifier(eps=1e6).fit(X, y)
    difference = model.means_[1] - model.means_[0]
    cosine = model.coef_[0] @ difference
    cosine /= np.linalg.norm(model.coef_) * np.linalg.norm(difference)
    assert cosine == pytest.approx(1)


def test_clone_and_grid_search(gaussian_data):
    search = GridSearchCV(RobustGaussianClassifier(), {"eps": [0.0, 0.5]}, cv=3)
    search.fit(*gaussian_data)
    assert search.best_params_ == {"eps": 0.0}
    assert clone(search.best_estimator_).eps == 0.0


@pytest.mark.parametrize("n_classes", [2, 3])
def test_as_torch_gives_the_same_function(n_classes):
    X, y = load_iris(return_X_y=True)
    X, y = X[y < n_classes], y[y < n_classes]
    model = RobustGaussianClassifier(eps=0.2).fit(X, y)
    logits = as_torch(model)(torch.tensor(X, dtype=torch.float32))
    probabilities = torch.softmax(logits.detach(), dim=1).numpy()
    np.testing.assert_allclose(probabilities, model.predict_proba(X), atol=1e-3)


def test_pgd_reaches_the_closed_form_accuracy(gaussian_data):
    X, y = gaussian_data
    model = RobustGaussianClassifier(eps=0.5).fit(X, y)
    classifier = as_torch(model)
    x = torch.tensor(X, dtype=torch.float32)
    threat_model = ThreatModel("l2", 0.5, None)
    x_adv = PGD(20, random_start=False)(
        classifier, x, classifier.encode(y), threat_model
    )
    attacked = X + worst_case_perturbation(model.coef_[0], y, eps=0.5, norm="l2")
    expected = model.score(attacked, y)
    assert model.score(x_adv.numpy(), y) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("eps", "X", "y", "message"),
    [
        (-1, [[0.0], [1.0]], [0, 1], "eps is -1"),
        ("a", [[0.0], [1.0]], [0, 1], "eps is 'a'"),
        (np.nan, [[0.0], [1.0]], [0, 1], "eps is nan"),
        (1, [[0.0], [np.nan]], [0, 1], "NaN"),
        (1, [[0.0], [1.0]], [1, 1], "1 class"),
    ],
)
def test_classifier_names_bad_input(eps, X, y, message):
    with pytest.raises(ValueError, match=message):
        RobustGaussianClassifier(eps).fit(X, y)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: robust_covariance([[1.0, 2.0]], 1), "covariance has shape"),
        (lambda: robust_covariance([np.inf], 1), "NaN or infinity"),
        (lambda: robust_covariance([1.0], -1), "eps is -1"),
        (lambda: robust_multiplier([-1.0], 1), "negative eigenvalue"),
        (lambda: adversarial_likelihood_gap([1.0], 0), "penalty is 0"),
        (
            lambda: gaussian_worst_case_perturbation([1.0], [1.0], eps=1),
            "deviations has shape",
        ),
        (
            lambda: gaussian_worst_case_perturbation([[1.0, 1]], [1.0, 0], eps=1),
            "singular",
        ),
        (
            lambda: gaussian_linear_accuracy([1.0], [1.0], covariance=[1.0], norm="l1"),
            "norm is 'l1'",
        ),
    ],
)
def test_closed_forms_name_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_display(gaussian_data):
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    X, y = gaussian_data
    model = RobustGaussianClassifier(eps=0.5).fit(X, y)
    _, ax = plt.subplots()
    display = RobustGaussianDisplay.from_estimator(model, X, y, ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    assert display.plot().ax_ is not ax
    plt.close("all")
    with pytest.raises(ValueError, match="expected a fitted"):
        RobustGaussianDisplay.from_estimator(None, X, y)
    iris = load_iris(return_X_y=True)
    other = RobustGaussianClassifier().fit(*iris)
    with pytest.raises(ValueError, match="needs 2 and 2"):
        RobustGaussianDisplay.from_estimator(other, *iris)
