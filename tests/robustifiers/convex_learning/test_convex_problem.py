"""Objectives, scalers and worst cases against scikit-learn and brute force."""

import itertools

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler, scale
from sklearn.svm import LinearSVC

from robustfit import ThreatModel
from robustfit.robustifiers.convex_learning.affine_scalers import fit_scalers
from robustfit.robustifiers.convex_learning.convex_form import convex_form
from robustfit.robustifiers.convex_learning.losses import (
    Multinomial,
    OneAgainstRest,
    logistic,
    modified_huber,
    squared,
    squared_hinge,
)
from robustfit.robustifiers.convex_learning.problem import (
    ConvexProblem,
    LinearFunction,
)
from robustfit.robustifiers.convex_learning.reach import Reach
from robustfit.robustifiers.convex_learning.silent_outputs import wake_silent_outputs

X, Y = load_iris(return_X_y=True)
TIGHT = {"tol": 1e-8, "max_iter": 20_000}
WEIGHTS = np.random.default_rng(0).random(len(X)) + 0.1


def tensor(array):
    return torch.as_tensor(array, dtype=torch.float64)


def function_of(model):
    coefficients = np.atleast_2d(model.coef_)
    offsets = np.broadcast_to(model.intercept_, len(coefficients))
    return LinearFunction(tensor(coefficients), tensor(offsets.copy()))


@pytest.mark.parametrize("weight", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(C=0.3, class_weight="balanced", **TIGHT),
        LogisticRegression(fit_intercept=False, class_weight={0: 2, 1: 1}, **TIGHT),
        LinearSVC(C=0.2, intercept_scaling=2, class_weight="balanced", **TIGHT),
        LinearSVC(fit_intercept=False, class_weight={0: 2, 1: 1}, **TIGHT),
        RidgeClassifier(alpha=3, class_weight="balanced"),
        RidgeClassifier(fit_intercept=False, class_weight={0: 2, 1: 1}),
    ],
    ids=repr,
)
def test_its_gradient_vanishes_where_scikit_learn_ends(model, n_classes, weight):
    rows = n_classes > Y
    own = None if weight is None else weight[rows]
    model = model.fit(X[rows], Y[rows], sample_weight=own)
    problem = ConvexProblem(convex_form(model, Y[rows], own), [], torch.tensor(Y[rows]))
    gradient = problem.relative_gradient(function_of(model), tensor(X[rows]))
    assert gradient.norm().item() < 1e-3
    other = function_of(model)
    other = LinearFunction(1.1 * other.coefficients, other.offsets)
    gradient = problem.relative_gradient(other, tensor(X[rows]))
    assert gradient.norm().item() > 0.02


@pytest.mark.parametrize(
    "loss", ["log_loss", "squared_hinge", "modified_huber", "squared_error"]
)
def test_stochastic_descent_ends_near(loss):
    model = SGDClassifier(
        loss, alpha=0.05, average=True, max_iter=200, tol=None, random_state=0,
        class_weight={0: 2}, learning_rate="constant", eta0=0.01,
    )  # fmt: skip
    x = scale(X)
    model.fit(x, Y, sample_weight=WEIGHTS)
    problem = ConvexProblem(convex_form(model, Y, WEIGHTS), [], torch.tensor(Y))
    near = problem.relative_gradient(function_of(model), tensor(x)).norm()
    assert near.item() < 0.2


@pytest.mark.parametrize(
    "scalers",
    [
        [StandardScaler()],
        [StandardScaler(with_mean=False)],
        [StandardScaler(with_std=False)],
        [MinMaxScaler((-1, 3))],
        [MaxAbsScaler()],
        [MinMaxScaler(), StandardScaler(), MaxAbsScaler()],
        [],
    ],
)
def test_scalers_are_those_of_scikit_learn(scalers):
    data = np.column_stack([X, np.full(len(X), 0.3), np.zeros(len(X))])
    offset, scale = fit_scalers(scalers, tensor(data))
    expected = data
    for scaler in scalers:
        expected = scaler.fit_transform(expected)
    assert_allclose((tensor(data) - offset) / scale, expected, atol=1e-9)


def corners(x, eps):
    """Return the corners of the box around a row, within the range."""
    low, high = np.maximum(x - eps, 0), np.minimum(x + eps, 1)
    return tensor(list(itertools.product(*zip(low, high, strict=True))))


RNG = np.random.default_rng(1)
POINTS, LABELS = RNG.random((6, 3)), torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    "of_margin", [logistic, squared_hinge, modified_huber, squared]
)
def test_worst_case_of_one_output_is_exact(of_margin):
    loss, labels = OneAgainstRest(of_margin), LABELS % 2
    coefficients, offset = tensor(RNG.normal(size=(1, 3))), 0.3
    reach = Reach(tensor(POINTS), ThreatModel("linf", 0.4))
    outputs = tensor(POINTS) @ coefficients.T + offset
    worst = loss.worst(outputs, labels, coefficients, reach)
    for row, label, found in zip(POINTS, labels, worst, strict=True):
        values = corners(row, 0.4) @ coefficients.T + offset
        losses = loss.natural(values, label.expand(len(values)))
        assert_allclose(found[0], losses.max(), rtol=1e-12)


def test_worst_case_of_a_softmax_is_a_bound_with_exact_margins():
    coefficients = tensor(RNG.normal(size=(3, 3)))
    reach = Reach(tensor(POINTS), ThreatModel("linf", 0.2))
    outputs = tensor(POINTS) @ coefficients.T
    worst = Multinomial().worst(outputs, LABELS, coefficients, reach)
    for row, label, found in zip(POINTS, LABELS, worst, strict=True):
        values = corners(row, 0.2) @ coefficients.T
        losses = Multinomial().natural(values, label.expand(len(values)))
        margins = (values - values[:, [label]]).amax(0)
        assert found >= losses.max()
        assert_allclose(found, margins.logsumexp(0), rtol=1e-12)


def test_reach_in_l2_and_smoothed():
    slopes = tensor([[3.0, 4.0], [0.0, 0.0]])
    x = tensor([[0.5, 0.5], [0.0, 1.0]])
    assert_allclose(
        Reach(x, ThreatModel("l2", 0.1)).gain(slopes), [[0.5, 0], [0.5, 0]], atol=1e-12
    )
    exact = Reach(x, ThreatModel("linf", 0.1)).gain(slopes)
    assert_allclose(exact, [[0.7, 0], [0.3, 0]], atol=1e-12)
    smooth = Reach(x, ThreatModel("linf", 0.1), smoothing=0.1).gain(slopes)
    assert (smooth <= exact).all()
    assert float((exact - smooth).max()) < 0.03


def test_least_squares_outputs_add_up():
    ridge = RidgeClassifier().fit(X, Y)
    assert OneAgainstRest(squared).fixed_sum(3) == -1
    assert_allclose(ridge.coef_.sum(0), 0, atol=1e-9)
    assert_allclose(ridge.intercept_.sum(), -1)
    assert OneAgainstRest(squared).fixed_sum(1) is None
    assert Multinomial().fixed_sum(3) is None


def test_silent_outputs_are_woken():
    x, y = tensor([[0.0], [0.1], [0.9], [1.0]]), torch.tensor([0, 0, 1, 1])
    model = LinearSVC()
    problem = ConvexProblem(convex_form(model, y.numpy()), [], y)
    steep = LinearFunction(tensor([[20.0]]), tensor([-10.0]))  # margins 10, 8, 8, 10
    woken = wake_silent_outputs(problem, steep, x, ThreatModel())
    assert_allclose(woken[:, 0], [0, 0.475, 0.525, 1])
    flat = LinearFunction(tensor([[1.0]]), tensor([-0.5]))  # all inside the margin
    assert torch.equal(wake_silent_outputs(problem, flat, x, ThreatModel()), x)
