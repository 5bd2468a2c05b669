import matplotlib
import matplotlib.pyplot
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from robustfit import AdversarialClassifier, LossLandscapeDisplay, SaliencyDisplay
from robustfit.exceptions import ImageShapeError, PixelRangeError
from robustfit.nets import MLP, SmallCNN, default_classifier

matplotlib.use("agg")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    matplotlib.pyplot.close("all")


def linear(weight):
    """Logits (-w x, w x) / 2: the cross-entropy of class 1 is log(1 + exp(-w x))."""
    module = nn.Linear(len(weight), 2, bias=False)
    weight = torch.tensor(weight)
    module.weight.data = torch.stack([-weight, weight]) / 2
    return module


# --- along a line ---


def test_loss_along_a_line_in_closed_form():
    X = np.array([[0.5, 0.5], [0.3, 0.6]])
    start, end = linear([0.0, 1.0]), linear([2.0, 0.0])
    display = LossLandscapeDisplay.from_estimators(
        start, end, X, [1, 1], eps=(0, 0.1), n_points=5, n_steps=5, clip_range=None
    )
    line = display.landscape
    assert line.position.tolist() == [0, 0.25, 0.5, 0.75, 1]
    for eps, loss in zip(line.eps, line.loss, strict=True):
        for alpha, found in zip(line.position, loss, strict=True):
            weight = (1 - alpha) * np.array([0, 1]) + alpha * np.array([2, 0])
            score = X @ weight - eps * np.abs(weight).sum()
            assert found == pytest.approx(np.log1p(np.exp(-score)).mean(), abs=1e-5)
    assert [artist.get_label() for artist in display.lines_] == ["eps 0", "eps 0.1"]


def test_both_ends_are_the_nets_and_stay_as_they_are(digits, fitted_net):
    X, y, X_test, y_test = digits
    torch.manual_seed(1)
    start = default_classifier((1, 8, 8), 10, max_epochs=1).fit(X, y)
    before = {k: v.clone() for k, v in fitted_net.module_.state_dict().items()}
    line = LossLandscapeDisplay.from_estimators(
        start, fitted_net, X_test, y_test, eps=0.0, n_points=3
    ).landscape
    for net, found in [(start, line.loss[0, 0]), (fitted_net, line.loss[0, -1])]:
        with torch.no_grad():
            logits = net.module_.eval()(torch.tensor(X_test))
        loss = nn.functional.cross_entropy(logits, torch.tensor(y_test))
        assert found == pytest.approx(float(loss), rel=1e-4)
    after = fitted_net.module_.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_larger_budgets_and_other_batches(digits, fitted_net):
    _, _, X_test, y_test = digits
    lines = [
        LossLandscapeDisplay.from_estimators(
            fitted_net, fitted_net, X_test, y_test, eps=(0.0, 0.05, 0.1), n_points=2,
            batch_size=batch_size,
        ).landscape.loss
        for batch_size in (30, 100)
    ]  # fmt: skip
    assert (np.diff(lines[0], axis=0) > 0).all()
    assert np.allclose(*lines, rtol=1e-3)
    assert np.allclose(lines[0][:, 0], lines[0][:, 1])  # a line of length zero


def test_batch_norms_are_interpolated(digits):
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))
    display = LossLandscapeDisplay.from_estimators(
        net, net, digits[0][:20], digits[1][:20], eps=0, n_points=2
    )
    assert np.isfinite(display.landscape.loss).all()


def test_the_estimator_around_a_net_does_not_matter(digits, fitted_net):
    X, y, _, _ = digits
    robust = AdversarialClassifier(0.02, n_steps=1, n_epochs=1, random_state=0)
    robust.fit(X[:50], np.arange(50) % 10)
    losses = [
        LossLandscapeDisplay.from_estimators(
            *ends, X, y, eps=0.0, n_points=3
        ).landscape.loss[0]
        for ends in ((robust, fitted_net), (fitted_net, robust))
    ]
    assert np.allclose(losses[0], losses[1][::-1], rtol=1e-4)


def test_nets_of_other_shapes_are_refused(digits, fitted_net):
    X, y, _, _ = digits
    for other in (SmallCNN((1, 8, 8), n_hidden=7), MLP(64)):
        with pytest.raises(ValueError, match="one architecture"):
            LossLandscapeDisplay.from_estimators(other, fitted_net.module_, X, y)
    with pytest.raises(ValueError, match="n_points"):
        LossLandscapeDisplay.from_estimators(fitted_net, fitted_net, X, y, n_points=0)


# --- around an input ---


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_loss_around_an_input_in_closed_form(norm):
    weight = np.array([3.0, -4.0])
    x = np.array([0.5, 0.4])
    display = LossLandscapeDisplay.from_input(
        linear(weight.tolist()), x, 1, eps=0.2, norm=norm, n_points=5, clip_range=None
    )
    surface = display.landscape
    assert np.allclose(surface.distance, [-0.2, -0.1, 0, 0.1, 0.2])
    # Along the gradient the score falls by the dual norm of the weight.
    dual = 7.0 if norm == "linf" else 5.0
    expected = np.log1p(np.exp(-(x @ weight - dual * surface.distance)))
    assert np.allclose(surface.loss[2], expected, atol=1e-5)


def test_moves_stay_in_the_range():
    surface = LossLandscapeDisplay.from_input(
        linear([1.0]), np.array([0.9]), 0, eps=0.5, n_points=3
    ).landscape
    clipped = np.log1p(np.exp(1.0))  # the score is that of x = 1
    assert surface.loss[1, 2] == pytest.approx(clipped)


def test_string_labels_and_unknown_ones(digits):
    X = digits[0].reshape(400, -1)
    y = np.array([f"d{label}" for label in digits[1]])
    model = LogisticRegression().fit(X, y)
    display = LossLandscapeDisplay.from_input(model, X[0], y[0], n_points=3)
    assert display.contour_ is not None
    with pytest.raises(ValueError, match="not trained on"):
        LossLandscapeDisplay.from_input(model, X[0], "d11", n_points=3)
    with pytest.raises(PixelRangeError):
        LossLandscapeDisplay.from_input(model, 16 * X[0], y[0])


def test_same_seed_same_surface(digits, fitted_net):
    X, y, _, _ = digits
    first, second, third = (
        LossLandscapeDisplay.from_input(
            fitted_net, X[0], y[0], n_points=3, random_state=seed
        ).landscape.loss
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)


# --- saliency ---


def test_gradient_of_a_linear_model():
    weight = [1.0, -2.0, 0.0, 3.0]
    X = np.full((1, 4), 0.25)
    display = SaliencyDisplay.from_estimators(
        {"linear": linear(weight)}, X, [1], image_shape=(1, 2, 2)
    )
    score = float(X[0] @ weight)
    expected = -np.array(weight) / (1 + np.exp(score))
    assert np.allclose(display.maps["linear"].ravel(), expected, atol=1e-5)


def test_perturbation_of_a_linear_model():
    display = SaliencyDisplay.from_estimators(
        linear([1.0, -2.0, 0.0, 3.0]), np.full((1, 4), 0.5), [1], eps=0.1,
        kind="perturbation", image_shape=(1, 2, 2),
    )  # fmt: skip
    (found,) = display.maps.values()
    assert np.allclose(found.ravel(), [-0.1, 0.1, 0.0, -0.1], atol=1e-6)
    assert "perturbation" in display.figure_.get_supxlabel()


def test_coloured_images_and_axes(fitted_net, digits):
    X = np.random.default_rng(0).random((2, 3, 8, 8))
    nets = {"a": SmallCNN((3, 8, 8)), "b": SmallCNN((3, 8, 8))}
    display = SaliencyDisplay.from_estimators(nets, X, [1, 2], eps=0.05, n_steps=2)
    assert display.axes_.shape == (2, 3)
    assert display.maps["b"].shape == X.shape
    assert display.plot(axes=display.axes_).figure_ is display.figure_


def test_bad_saliency_input(digits, fitted_net):
    X, y, _, _ = digits
    flat = X[:2].reshape(2, -1)
    with pytest.raises(ValueError, match="kind"):
        SaliencyDisplay.from_estimators(fitted_net, X[:2], y[:2], kind="saliency")
    with pytest.raises(ValueError, match="budget"):
        SaliencyDisplay.from_estimators(fitted_net, X[:2], y[:2], kind="perturbation")
    with pytest.raises(ImageShapeError, match="image_shape"):
        SaliencyDisplay.from_estimators(fitted_net, flat, y[:2])


def test_a_softmax_is_undone(digits):
    _, _, X, y = digits
    torch.manual_seed(0)
    linear = nn.Linear(64, 10)
    linear.weight.data *= 300
    logits = nn.Sequential(nn.Flatten(), linear)
    softmax = nn.Sequential(nn.Flatten(), linear, nn.Softmax(1))
    line = {"X": X[:20], "y": y[:20], "eps": (0, 0.1), "n_points": 3, "n_steps": 3}
    around = {"x": X[0], "y": y[0], "eps": 0.1, "n_points": 5}
    found = LossLandscapeDisplay.from_input(softmax, **around).landscape.loss
    expected = LossLandscapeDisplay.from_input(logits, **around).landscape.loss
    np.testing.assert_array_equal(found, expected)
    found = LossLandscapeDisplay.from_estimators(softmax, softmax, **line)
    expected = LossLandscapeDisplay.from_estimators(logits, logits, **line)
    np.testing.assert_array_equal(found.landscape.loss, expected.landscape.loss)
    assert found.landscape.loss.max() > 3  # of probabilities it is at most 2.3
