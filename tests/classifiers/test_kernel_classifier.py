import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.kernel_ridge import KernelRidge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from robustfit import (
    AdvKIPDistiller,
    KernelRegressionClassifier,
    RobustifiedClassifier,
    as_torch,
    attack_estimator,
)
from robustfit.exceptions import JitterWarning
from robustfit.kernels import FullyConnectedNTK


def linear(X, Y=None):
    """The kernel of a linear model with a constant."""
    return X @ (X if Y is None else Y).T + 1


class Gaussian:
    """exp(-|x - y|^2), in float64."""

    dtype = torch.float64

    def __call__(self, X, Y=None):
        Y = X if Y is None else Y
        gaps = (X**2).sum(1)[:, None] + (Y**2).sum(1) - 2 * X @ Y.T
        return torch.exp(-gaps)


@pytest.fixture(scope="module")
def fitted(digits):
    X, y, _, _ = digits
    return KernelRegressionClassifier().fit(X, y)


def test_equals_kernel_ridge_on_centred_one_hot_labels(digits):
    X, y, X_test, _ = (part.reshape(len(part), -1) for part in digits)
    y = y.ravel()
    model = KernelRegressionClassifier(Gaussian(), alpha=0.1).fit(X, y)
    ridge = KernelRidge(kernel="rbf", gamma=1.0, alpha=0.1)  # the diagonal is one
    ridge.fit(X.astype(float), np.eye(10)[y] - 0.1)
    np.testing.assert_allclose(
        model.decision_function(X_test), ridge.predict(X_test), atol=1e-6
    )


def test_interpolates_its_training_labels(digits, fitted):
    X, y, X_test, y_test = digits
    np.testing.assert_allclose(
        fitted.decision_function(X), np.eye(10)[y] - 0.1, atol=0.02
    )
    assert fitted.score(X, y) == 1
    assert fitted.score(X_test, y_test) > 0.9


def test_two_points_by_hand():
    # K = [[2, 1], [1, 2]] + ridge 0.5 * 2: A^-1 (+-1/2) = +-1/2 / (3 - 1).
    X = np.array([[1.0], [0.0]])
    kernel = FixedKernel()
    model = KernelRegressionClassifier(kernel, alpha=0.5).fit(X, ["b", "a"])
    expected = [[-0.25, 0.25], [0.25, -0.25]]
    np.testing.assert_allclose(model.dual_coef_, expected, rtol=1e-6)
    np.testing.assert_allclose(model.decision_function(X), [0.5, -0.5], rtol=1e-6)
    assert list(model.predict(X)) == ["b", "a"]


class FixedKernel:
    """1 for every pair, 1 more for equal numbers."""

    def __call__(self, X, Y=None):
        Y = X if Y is None else Y
        return 1 + (X == Y.T).to(X.dtype)


def test_ridge_is_raised_with_a_warning_for_duplicate_rows(digits):
    X, y, _, _ = digits
    twice = np.concatenate([X[:50], X[:50]])
    labels = np.concatenate([y[:50], y[:50]])
    with pytest.warns(JitterWarning, match="raised to"):
        model = KernelRegressionClassifier(alpha=0).fit(twice, labels)
    assert model.ridge_ > 0
    assert model.score(twice, labels) == 1


def test_no_warning_with_distinct_rows(digits, recwarn):
    X, y, _, _ = digits
    assert KernelRegressionClassifier().fit(X[:100], y[:100]).ridge_ == 1e-6
    assert not [w for w in recwarn if w.category is JitterWarning]


def test_a_large_ridge_is_taken_as_given(digits):
    X, y, _, _ = digits
    assert KernelRegressionClassifier(alpha=50).fit(X[:50], y[:50]).ridge_ == 50


def test_what_is_no_kernel_is_refused(digits):
    X, y, _, _ = digits
    with pytest.raises(ValueError, match="not positive semi-definite"):
        KernelRegressionClassifier(lambda X, Y=None: -linear(X, Y)).fit(X, y)
    with pytest.raises(ValueError, match="not finite"):
        KernelRegressionClassifier(lambda X, Y=None: linear(X, Y) * np.nan).fit(X, y)


def test_soft_labels_are_centred_one_hot_when_hard(digits, fitted):
    X, y, X_test, _ = digits
    soft = KernelRegressionClassifier().fit(X, np.eye(10)[y])
    np.testing.assert_allclose(soft.dual_coef_, fitted.dual_coef_, atol=1e-4)
    shifted = KernelRegressionClassifier().fit(X, np.eye(10)[y] + 3.0)
    np.testing.assert_allclose(
        shifted.decision_function(X_test), fitted.decision_function(X_test), atol=1e-3
    )


def test_bad_soft_labels_are_refused(digits):
    X, y, _, _ = digits
    soft = np.eye(10)[y]
    soft[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        KernelRegressionClassifier().fit(X, soft)
    with pytest.raises(ValueError, match="inconsistent"):
        KernelRegressionClassifier().fit(X, np.eye(10)[y[:-1]])


def test_shapes_and_labels_of_any_kind(digits):
    X, y, X_test, _ = digits
    images = KernelRegressionClassifier().fit(X, y)
    rows = KernelRegressionClassifier().fit(X.reshape(len(X), -1).astype(float), y)
    np.testing.assert_allclose(images.dual_coef_, rows.dual_coef_, atol=1e-5)
    names = np.array(list("abcdefghij"))
    assert (
        KernelRegressionClassifier().fit(X, names[y]).predict(X_test)
        == names[images.predict(X_test)]
    ).all()
    two = y < 2
    assert KernelRegressionClassifier().fit(X[two], y[two]).decision_function(
        X_test).shape == (len(X_test),)  # fmt: skip
    X.flags.writeable = False
    try:
        KernelRegressionClassifier().fit(X, y)
    finally:
        X.flags.writeable = True


def test_batches_do_not_matter(digits, fitted):
    X, y, X_test, _ = digits
    small = KernelRegressionClassifier(batch_size=7).fit(X, y)
    np.testing.assert_allclose(
        small.decision_function(X_test), fitted.decision_function(X_test), atol=1e-5
    )


def test_as_torch_is_the_estimator(digits, fitted):
    _, _, X_test, _ = digits
    logits = as_torch(fitted)(torch.tensor(X_test))
    outputs = fitted.decision_function(X_test)
    np.testing.assert_allclose(logits.numpy(), 30 * outputs, atol=0.02)


def test_gradient_of_as_torch_by_finite_differences(digits):
    X, y, X_test, _ = digits
    kernel = FullyConnectedNTK(dtype="float64")
    module = as_torch(KernelRegressionClassifier(kernel).fit(X[:60], y[:60])).module
    x = torch.tensor(X_test[:2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, x)


def test_pgd_finds_the_optimal_attack_on_a_linear_predictor():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 5))
    y = (X[:, 0] + X[:, 1] > 0).astype(int)
    model = KernelRegressionClassifier(linear, alpha=1e-3).fit(X, y)
    margin = model.decision_function(X) * (2 * y - 1)
    slope = np.abs(
        model.decision_function(np.eye(5)) - model.decision_function(np.zeros((5, 5)))
    ).sum()
    for attack in ("fgsm", "pgd", "autoattack"):
        result = attack_estimator(model, X, y, eps=0.1, clip_range=None, attack=attack)
        np.testing.assert_array_equal(result.robust, margin > 0.1 * slope)


def test_autoattack_leaves_no_more_than_pgd_and_runs_through_pipelines(digits, fitted):
    X, y, X_test, y_test = digits
    few = slice(0, 20)
    pgd = attack_estimator(fitted, X_test[few], y_test[few], eps=0.1)
    auto = attack_estimator(
        fitted, X_test[few], y_test[few], eps=0.1, attack="autoattack",
        version=("apgd-ce", "apgd-t"),
    )  # fmt: skip
    assert auto.robust_accuracy <= pgd.robust_accuracy + 0.05 < 0.9
    rows, test_rows = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
    pipe = make_pipeline(StandardScaler(), KernelRegressionClassifier()).fit(rows, y)
    result = attack_estimator(pipe, test_rows[few], y_test[few], eps=0.3)
    assert result.natural_accuracy > 0.8 > result.robust_accuracy


def test_takes_learned_labels_inside_robustified_classifier(digits):
    X, y, X_test, y_test = digits
    names = np.array(list("abcdefghij"))
    distiller = AdvKIPDistiller(
        eps=0.1, n_support=40, learn_labels=True, n_outer_steps=3, n_checked=0,
        random_state=0,
    )  # fmt: skip
    model = RobustifiedClassifier(distiller, KernelRegressionClassifier())
    model.fit(X, names[y])
    np.testing.assert_array_equal(
        model.predict(X_test), model.robustifier_.kernel_classifier_.predict(X_test)
    )
    assert model.score(X_test, names[y_test]) > 0.7
    assert (
        attack_estimator(model, X_test, names[y_test], eps=0.1).robust_accuracy
        < model.score(X_test, names[y_test])
    )  # fmt: skip


def test_clone_keeps_the_kernel_and_not_the_fit(fitted):
    model = clone(KernelRegressionClassifier(FullyConnectedNTK(depth=5), alpha=0.1))
    assert model.kernel.depth == 5
    assert not hasattr(model, "dual_coef_")
