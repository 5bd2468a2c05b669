"""bound <= exact <= attack, on every sample, and exact answers known otherwise."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from sklearn.datasets import load_digits, make_classification
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import (
    LogisticRegression,
    Perceptron,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from robustfit import attack_estimator, certified_accuracy
from robustfit.attacks import Square

BALLS = [("linf", 0.08), ("l2", 0.2), ("l1", 0.4)]


@pytest.fixture(scope="module")
def digits_table():
    X, y = load_digits(return_X_y=True)
    return X[:300] / 16, y[:300], X[300:330] / 16, y[300:330]


def numbers(model, X, y, **budget):
    """Return the verdicts of bound, exact proof and attack."""
    bound = certified_accuracy(model, X, y, method="bound", **budget)
    exact = certified_accuracy(model, X, y, method="exact", **budget)
    attack = attack_estimator(model, X, y, **budget)
    assert exact.exact
    np.testing.assert_array_equal(attack.certified, bound.certified)
    assert (bound.certified <= exact.certified).all()
    assert (exact.certified <= attack.robust).all()
    assert (attack.robust <= attack.natural_correct).all()
    assert (model.predict(attack.X_adv) == y).mean() == attack.robust_accuracy
    return bound, exact, attack


@pytest.mark.parametrize(("norm", "eps"), BALLS)
@pytest.mark.parametrize("n_classes", [2, 10])
@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(4, random_state=0),
        ExtraTreesClassifier(4, max_depth=5, random_state=0),
        GradientBoostingClassifier(n_estimators=2, random_state=0),
        HistGradientBoostingClassifier(max_iter=2),
    ],
    ids=lambda m: type(m).__name__,
)
def test_ensembles_of_trees(digits_table, model, n_classes, norm, eps):
    X, y, X_test, y_test = digits_table
    names = np.array([f"digit {k % n_classes}" for k in range(10)])
    model = model.fit(X, names[y])
    numbers(model, X_test[:12], names[y_test[:12]], norm=norm, eps=eps)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.06), ("l2", 0.1), ("l1", 0.12)])
def test_single_trees_fall_exactly_where_they_are_not_certified(
    digits_table, norm, eps
):
    X, y, X_test, y_test = digits_table
    tree = DecisionTreeClassifier(random_state=0).fit(X, y)
    bound, exact, attack = numbers(tree, X_test, y_test, norm=norm, eps=eps)
    assert bound.exact
    np.testing.assert_array_equal(bound.certified, exact.certified)
    np.testing.assert_array_equal(attack.robust, exact.certified)
    assert 0 < exact.certified_accuracy < exact.natural_accuracy


def test_the_program_beats_the_sum_and_the_attack_meets_it(digits_table):
    X, y, X_test, y_test = digits_table
    forest = RandomForestClassifier(6, random_state=0).fit(X, y > 4)
    bound, exact, attack = numbers(forest, X_test, y_test > 4, norm="l1", eps=0.4)
    assert bound.certified_accuracy < exact.certified_accuracy
    assert attack.robust_accuracy < exact.certified_accuracy + 0.2


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.15), ("l2", 0.5), ("l1", 1.0)])
def test_one_neighbour(digits_table, norm, eps):
    X, y, X_test, y_test = digits_table
    model = KNeighborsClassifier(1).fit(X, y)
    _, exact, attack = numbers(model, X_test, y_test, norm=norm, eps=eps)
    assert (attack.robust != exact.certified).sum() <= 1  # of 30, at the border
    assert 0 < exact.certified_accuracy < exact.natural_accuracy


@pytest.mark.parametrize("n_neighbors", [2, 3, 5])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.4), ("l1", 0.8)])
def test_several_neighbours(digits_table, n_neighbors, norm, eps):
    X, y, X_test, y_test = digits_table
    model = KNeighborsClassifier(n_neighbors).fit(X, y.astype(str))
    budget = {"norm": norm, "eps": eps}
    proven = certified_accuracy(model, X_test, y_test.astype(str), **budget)
    attack = attack_estimator(model, X_test, y_test.astype(str), **budget)
    square = attack_estimator(
        model, X_test, y_test.astype(str), attack=Square(100), **budget
    )
    assert not proven.exact
    assert (proven.certified <= attack.robust).all()
    assert (proven.certified <= square.robust).all()
    assert attack.robust_accuracy <= square.robust_accuracy
    assert proven.certified_accuracy > 0


def test_two_rows_have_one_plane():
    """Rows at 0 and 1 on a line: the border is at 1/2, whatever the norm."""
    model = KNeighborsClassifier(1).fit([[0.0], [1.0]], ["left", "right"])
    for norm in ("linf", "l2", "l1"):
        for eps, is_kept in ((0.29, True), (0.31, False)):
            proven = certified_accuracy(model, [[0.2]], ["left"], eps=eps, norm=norm)
            attack = attack_estimator(model, [[0.2]], ["left"], eps=eps, norm=norm)
            assert proven.certified.tolist() == [is_kept]
            assert attack.robust.tolist() == [is_kept]


LINEAR = [
    LogisticRegression(),
    LinearSVC(),
    RidgeClassifier(),
    SGDClassifier(random_state=0),
    Perceptron(random_state=0),
    LinearDiscriminantAnalysis(),
    make_pipeline(StandardScaler(), LogisticRegression()),
    make_pipeline(MinMaxScaler(), PCA(4), LinearSVC()),
]


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("model", LINEAR, ids=lambda m: type(m[-1] if hasattr(
    m, "steps") else m).__name__)  # fmt: skip
def test_linear_models_against_a_linear_program(model, n_classes):
    X, y = make_classification(
        150, 6, n_informative=5, n_redundant=0, n_classes=n_classes, random_state=0
    )
    X = MinMaxScaler().fit_transform(X).astype(np.float32)
    model = model.fit(X, y)
    X, y = X[:40], y[:40]
    proven = certified_accuracy(model, X, y, eps=0.08)
    weight, bias = affine_form(model, X.shape[1])
    for x, label, certified in zip(X, y, proven.certified, strict=True):
        low, high = np.maximum(x - 0.08, 0), np.minimum(x + 0.08, 1)
        leads = [
            linprog(weight[label] - weight[c], bounds=list(zip(low, high, strict=True)))
            .fun + bias[label] - bias[c] for c in range(n_classes) if c != label
        ]  # fmt: skip
        assert certified == (min(leads) > 0) or abs(min(leads)) < 1e-5
    assert proven.exact
    assert 0 < proven.certified_accuracy < proven.natural_accuracy


def affine_form(model, n_features):
    """Return weights and biases of a decision function."""
    bias = np.atleast_1d(model.decision_function(np.zeros((1, n_features)))[0])
    weight = model.decision_function(np.eye(n_features)).reshape(n_features, -1) - bias
    if len(bias) == 1:
        return np.stack([0 * weight[:, 0], weight[:, 0]]), np.array([0, bias[0]])
    return weight.T, bias


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.3)])
def test_linear_models_fall_to_autoattack_where_they_are_not_certified(
    digits_table, norm, eps
):
    X, y, X_test, y_test = digits_table
    model = LogisticRegression(max_iter=200).fit(X, y)
    result = attack_estimator(
        model, X_test, y_test, attack="autoattack", norm=norm, eps=eps
    )
    np.testing.assert_array_equal(result.certified, result.robust)
    assert 0 < result.certified_accuracy < 1


def test_no_proof_for_a_subclass_that_may_do_anything():
    class Sly(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) ** 2

    x = np.full((1, 2), 0.5, np.float32)
    for net in (Sly(2, 2), torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())):
        label = net(torch.from_numpy(x)).argmax(1).numpy()
        result = attack_estimator(net, x, label, eps=0.01)
        assert result.certified is None
        assert result.certified_accuracy is None
        assert result.certified_interval is None
