"""Usefulness and robust usefulness of features, and their display."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from robustfit.datasets import make_gaussian_classes, make_robust_features
from robustfit.exceptions import PixelRangeError
from robustfit.nets import default_classifier
from robustfit.theory import (
    FeatureUsefulnessDisplay,
    PenultimateFeatures,
    feature_usefulness,
    robust_usefulness,
)


@pytest.fixture(scope="module")
def data():
    return make_robust_features(4000, 100, p=0.95, random_state=0)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:400] / 16, y[:400]


@pytest.fixture(scope="module")
def net(digits):
    return MLPClassifier((24, 12), max_iter=600, random_state=0).fit(*digits)


def identity(x):
    return x


def test_usefulness_is_the_correlation_with_the_label(data):
    X, y = data
    values = X[:, 1] - X[:, 0]
    expected = np.corrcoef(values, y)[0, 1] * y.std()
    rho = feature_usefulness(lambda x: x[:, 1] - x[:, 0], X, y)
    assert rho.shape == (1,)
    assert rho[0] == pytest.approx(expected, abs=1e-5)


def test_usefulness_is_invariant_to_scale_and_odd(data):
    X, y = data
    rho = feature_usefulness(identity, X, y)
    assert rho.shape == (101,)
    np.testing.assert_allclose(
        feature_usefulness(lambda x: 5 * x + 3, X, y), rho, atol=1e-5
    )
    np.testing.assert_allclose(feature_usefulness(torch.neg, X, y), -rho, atol=1e-6)


def test_the_average_of_weak_features_is_more_useful_than_the_strong_one(data):
    X, y = data
    strong, one, average = feature_usefulness(
        lambda x: torch.stack([x[:, 0], x[:, 1], x[:, 1:].mean(1)], dim=1), X, y
    )
    assert average > strong > one
    assert average == pytest.approx(4 / np.sqrt(17), abs=0.01)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("eps", [0.0, 0.3, 5.0])
def test_linear_features_have_a_closed_form(norm, eps):
    X, y = make_gaussian_classes(300, [1.0, 0.2, -0.5], random_state=0)
    W = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    weight = torch.tensor(W)
    rho = feature_usefulness(lambda x: x @ weight, X, y)
    gamma = robust_usefulness(
        lambda x: x @ weight, X, y, eps=eps, norm=norm, clip_range=None, random_state=0
    )
    dual = np.linalg.norm(W, 1 if norm == "linf" else 2, axis=0)
    expected = rho - eps * dual / (X @ W).std(axis=0)
    np.testing.assert_allclose(gamma, expected, atol=2e-4, rtol=1e-4)


def test_brute_force_on_a_feature_that_is_not_monotone():
    rng = np.random.default_rng(0)
    X, y = rng.uniform(size=(40, 1)), np.arange(40) % 2

    def wave(x):
        return torch.sin(7 * x[:, 0])

    gamma = robust_usefulness(
        wave, X, y, eps=0.15, n_steps=40, n_restarts=8, random_state=0
    )
    values = np.sin(7 * X[:, 0])
    grid = np.clip(X + np.linspace(-0.15, 0.15, 2001), 0, 1)
    signed = np.where(y == 1, 1, -1)[:, None] * (np.sin(7 * grid) - values.mean())
    expected = (signed.min(axis=1) / values.std()).mean()
    assert gamma[0] == pytest.approx(expected, abs=5e-3)
    assert gamma[0] >= expected - 1e-4


def test_more_budget_never_helps_and_clipping_never_hurts(digits):
    X, y = digits
    y = y > 4

    def features(x):
        return torch.tanh(x[:, 20:24] * 3 - 1)

    args = {"random_state": 0, "n_steps": 5}
    rho = feature_usefulness(features, X, y)
    gammas = [robust_usefulness(features, X, y, eps=e, **args) for e in (0, 0.1, 0.3)]
    np.testing.assert_allclose(gammas[0], rho, atol=1e-6)
    assert (gammas[1] <= rho).all()
    assert (gammas[2] <= gammas[1] + 1e-6).all()
    free = robust_usefulness(features, X, y, eps=0.3, clip_range=None, **args)
    assert (free <= gammas[2] + 1e-6).all()


def test_more_classes_are_taken_one_against_the_rest(digits):
    X, y = digits
    rho = feature_usefulness(identity, X, y)
    assert rho.shape == (64, 10)
    expected = feature_usefulness(identity, X, y == 3)
    np.testing.assert_allclose(rho[:, 3], expected, atol=1e-9)
    assert np.abs(rho).max() <= 0.61
    gamma = robust_usefulness(lambda x: x[:, :3], X, y, eps=0.1, n_steps=2)
    assert gamma.shape == (3, 10)
    one = robust_usefulness(lambda x: x[:, :3], X, y == 3, eps=0.1, n_steps=2)
    np.testing.assert_allclose(gamma[:, 3], one, atol=1e-6)


def test_a_rectified_feature_that_is_off_can_be_turned_on():
    """Its own gradient is zero there; plain PGD would call it robust."""
    X, y = np.array([[0.1], [0.2], [0.8], [0.9]]), np.array([0, 0, 1, 1])

    def rectified(x):
        return torch.relu(x[:, 0] - 0.5)

    values = np.maximum(X[:, 0] - 0.5, 0)
    attacked = np.maximum(X[:, 0] + 0.4 * np.array([1, 1, -1, -1]) - 0.5, 0)
    signed = np.array([-1, -1, 1, 1]) * (attacked - values.mean()) / values.std()
    gamma = robust_usefulness(rectified, X, y, eps=0.4)
    assert gamma[0] == pytest.approx(signed.mean(), abs=1e-5)


def test_constant_features_are_useless(digits):
    X, y = digits
    assert feature_usefulness(lambda x: 0 * x[:, 0] + 2, X, y > 4)[0] == 0
    constant = robust_usefulness(lambda x: torch.ones(len(x)), X, y > 4, eps=0.1)
    assert constant[0] == 0


def test_string_labels_and_batches_change_nothing(digits):
    X, y = digits
    names = np.where(y > 4, "many", "few")
    args = {"eps": 0.1, "n_steps": 3}
    whole = robust_usefulness(lambda x: x[:, :2], X, y <= 4, **args)
    parts = robust_usefulness(lambda x: x[:, :2], X, names == "few", batch_size=7)
    assert whole.shape == parts.shape
    rho = feature_usefulness(identity, X, names)  # "many" is the second class
    np.testing.assert_allclose(rho, feature_usefulness(identity, X, y > 4))
    split = robust_usefulness(lambda x: x[:, :2], X, y <= 4, batch_size=7, **args)
    np.testing.assert_allclose(split, whole, atol=1e-5)


def test_restarts_are_reproducible(data):
    X, y = data
    args = {"eps": 0.2, "n_restarts": 3, "n_steps": 2, "clip_range": None}
    results = [
        robust_usefulness(
            lambda x: torch.sin(3 * x[:, :2]), X, y, random_state=0, **args
        )
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*results)


# --- the penultimate layer ---------------------------------------------------------


def test_penultimate_features_of_scikit_learn(net, digits):
    X, _ = digits
    features = PenultimateFeatures(net)(torch.tensor(X, dtype=torch.float32))
    hidden = X
    for weight, bias in zip(net.coefs_[:-1], net.intercepts_[:-1], strict=True):
        hidden = np.maximum(hidden @ weight + bias, 0)
    np.testing.assert_allclose(features.detach().numpy(), hidden, atol=1e-4)


def test_penultimate_features_see_through_a_pipeline(digits):
    X, y = digits
    model = make_pipeline(
        StandardScaler(), MLPClassifier((8,), max_iter=50, random_state=0)
    )
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model.fit(X, y)
    x = torch.tensor(X, dtype=torch.float32)
    scaled = model[0].transform(X)
    hidden = np.maximum(scaled @ model[1].coefs_[0] + model[1].intercepts_[0], 0)
    features = PenultimateFeatures(model)(x)
    np.testing.assert_allclose(features.detach().numpy(), hidden, atol=1e-4)


def test_penultimate_features_of_a_skorch_net_on_images(digits):
    X, y = digits
    images = X[:100].reshape(-1, 1, 8, 8).astype(np.float32)
    net = default_classifier((1, 8, 8), 10, max_epochs=1)
    net.fit(images, y[:100].astype(np.int64))
    features = PenultimateFeatures(net)(torch.tensor(images))
    assert features.shape == (100, 100)
    expected = net.module_.features(torch.tensor(images))
    torch.testing.assert_close(features, expected)
    gamma = robust_usefulness(
        PenultimateFeatures(net), images, y[:100] > 4, eps=0.1, n_steps=1
    )
    rho = feature_usefulness(PenultimateFeatures(net), images, y[:100] > 4)
    assert (gamma <= rho + 1e-6).all()


def test_penultimate_features_leave_the_module_as_it_was():
    module = nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 2)).train()
    features = PenultimateFeatures(module)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(features(x), features(x))  # no dropout
    assert module.training
    assert not module[0]._forward_pre_hooks
    assert all(p.requires_grad for p in module.parameters())


def test_a_model_without_linear_layers_is_named():
    with pytest.raises(TypeError, match="Name the layer"):
        PenultimateFeatures(nn.ReLU())(torch.zeros(1, 2))


def test_another_layer_by_name():
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.ReLU())
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(PenultimateFeatures(module, layer="0")(x), module[0](x))
    with pytest.raises(ValueError, match="no submodule"):
        PenultimateFeatures(module, layer="9")


# --- the display -------------------------------------------------------------------


@pytest.fixture
def plt():
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    yield plt
    plt.close("all")


def test_display_of_a_net(plt, net, digits):
    X, y = digits
    _, ax = plt.subplots()
    display = FeatureUsefulnessDisplay.from_estimator(
        net, X, y, eps=0.1, n_steps=5, ax=ax, random_state=0
    )
    assert display.ax_ is ax
    assert display.kinds_.shape == (12,)
    assert (display.usefulness >= 0).all()
    assert (display.robust_usefulness <= display.usefulness + 1e-6).all()
    rho = feature_usefulness(PenultimateFeatures(net), X, y)
    np.testing.assert_allclose(display.usefulness, np.abs(rho).max(axis=1))
    best = np.abs(rho).argmax(axis=1)
    gamma = robust_usefulness(
        PenultimateFeatures(net), X, y == best[0], eps=0.1, n_steps=5
    )
    if rho[0, best[0]] > 0:
        assert display.robust_usefulness[0] == pytest.approx(gamma[0], abs=1e-5)


def test_display_of_a_binary_net(plt, data):
    X, y = data
    model = MLPClassifier((5,), max_iter=20, random_state=0)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model.fit(X, y)
    display = FeatureUsefulnessDisplay.from_estimator(
        model, X[:200], y[:200], eps=0.8, clip_range=None, n_steps=5
    )
    assert "robust" not in display.kinds_  # Theorem 1 at work


def test_display_from_predictions(plt):
    display = FeatureUsefulnessDisplay.from_predictions(
        [0.5, 0.5, 0.0], [0.1, -0.1, 0.0], min_usefulness=0.2
    )
    assert display.kinds_.tolist() == ["robust", "non-robust", "useless"]
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["robust (1)", "non-robust (1)", "useless (1)"]
    with pytest.raises(ValueError, match="one number a feature"):
        FeatureUsefulnessDisplay.from_predictions([0.5], [0.1, 0.2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X, y: feature_usefulness(3, X, y), "f is int"),
        (lambda X, y: feature_usefulness(identity, X, y[:5]), "has 5"),
        (lambda X, y: feature_usefulness(identity, X[:0], y[:0]), "0 rows"),
        (lambda X, y: feature_usefulness(identity, X[:, 0], y), "X has shape"),
        (lambda X, y: feature_usefulness(identity, X * np.nan, y), "NaN"),
        (lambda X, y: feature_usefulness(identity, X, 0 * y), "1 class"),
        (lambda X, y: feature_usefulness(lambda x: x.sum(), X, y), "f returned shape"),
        (lambda X, y: robust_usefulness(identity, X, y, eps=-1), "eps is -1"),
        (lambda X, y: robust_usefulness(identity, X, y, n_steps=0), "n_steps is 0"),
    ],
)
def test_bad_input_is_named(call, message, digits):
    with pytest.raises(ValueError, match=message):
        call(*digits)


def test_range_is_checked(digits):
    with pytest.raises(PixelRangeError, match="16"):
        robust_usefulness(identity, digits[0] * 16, digits[1])
