"""Image transforms: formulas, contract, shapes, ranges, gradients, attacks."""

import builtins
import pickle
import re

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from robustfit import (
    RobustAccuracyScorer,
    attack_estimator,
    transformer_as_torch,
)
from robustfit.exceptions import (
    FlatImagesWarning,
    ImageShapeError,
    NotDifferentiableError,
    PixelRangeError,
)
from robustfit.image_transforms import (
    BinarizeImages,
    EdgeImages,
    GammaCorrect,
    SaturateImages,
    ScaleContrast,
    SmoothImages,
)
from robustfit.nets import default_classifier

SMOOTH_MAPS = [
    SaturateImages(4),
    SaturateImages(1.5),
    GammaCorrect(0.6),
    GammaCorrect(1.4),
    ScaleContrast(0.7),
    SmoothImages(3),
    SmoothImages(4),
    SmoothImages((3, 1)),
]
STEP_MAPS = [SaturateImages(np.inf), BinarizeImages(), EdgeImages()]


def images(shape=(5, 2, 9, 7), seed=0):
    return np.random.RandomState(seed).rand(*shape).astype(np.float32)


# Data without a range, as the checks make them, are taken with clip_range=None.
@pytest.mark.filterwarnings("ignore::robustfit.exceptions.FlatImagesWarning")
@parametrize_with_checks(
    [clone(t).set_params(clip_range=None) for t in SMOOTH_MAPS + STEP_MAPS]
)
def test_estimator_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("level", [0.5, 1, 1.5, 3, 4, 64, 256])
def test_saturation_is_the_formula(level):
    X = images()
    signed = 2 * X.astype(np.float64) - 1
    expected = np.sign(signed) * np.abs(signed) ** (2 / level) / 2 + 0.5
    transformed = SaturateImages(level).fit_transform(X)
    np.testing.assert_allclose(transformed, expected, atol=2e-6)


def test_saturation_at_its_ends():
    X = images()
    X[0, 0, 0, :3] = [0, 0.5, 1]
    np.testing.assert_array_equal(SaturateImages(2).fit_transform(X), X)
    binary = SaturateImages(np.inf).fit_transform(X)
    np.testing.assert_array_equal(binary[0, 0, 0, :3], [0, 0.5, 1])
    X[0, 0, 0, 1] = 0.6
    np.testing.assert_array_equal(
        SaturateImages(np.inf).fit_transform(X), BinarizeImages().fit_transform(X)
    )


def test_levels_order_pixels_by_their_distance_to_the_middle():
    X = images()
    distances = [
        np.abs(SaturateImages(level).fit_transform(X) - 0.5).mean()
        for level in (0.5, 1, 2, 4, 16, np.inf)
    ]
    assert distances == sorted(distances)
    assert distances[-1] == 0.5


@pytest.mark.parametrize("gamma", [0.6, 1, 1.4, 3])
def test_gamma_is_a_power(gamma):
    X = images()
    transformed = GammaCorrect(gamma).fit_transform(X)
    np.testing.assert_allclose(transformed, X**gamma, atol=1e-6)


def test_contrast_scales_distances():
    X = images((2, 1, 4, 4))
    a, b = ScaleContrast(0.25).fit_transform(X)
    assert np.linalg.norm(a - b) == pytest.approx(
        0.25 * np.linalg.norm(X[0] - X[1]), rel=1e-5
    )


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 8, (3, 1), (2, 5)])
def test_smoothing_is_filter_then_maximum(kernel):
    X = images()
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    # scipy's even windows reach one pixel further to the left: origin moves them.
    size, origin = (1, 1, height, width), (0, 0, -(1 - height % 2), -(1 - width % 2))
    total, inside = (
        ndimage.uniform_filter(part, size, mode="constant", origin=origin)
        for part in (X.astype(np.float64), np.ones(X.shape))
    )
    expected = np.maximum(X, total / inside)
    transformed = SmoothImages(kernel).fit_transform(X)
    np.testing.assert_allclose(transformed, expected, atol=1e-6)


def test_an_even_kernel_by_hand():
    X = np.zeros((1, 1, 3, 3), dtype=np.float32)
    X[0, 0, 1, 1] = 0.8
    smooth = SmoothImages(2).fit_transform(X)[0, 0]
    np.testing.assert_allclose(
        smooth, [[0.2, 0.2, 0], [0.2, 0.8, 0], [0, 0, 0]], atol=1e-7
    )


def test_channels_do_not_mix():
    X = images((3, 3, 8, 8))
    together = SmoothImages(3).fit_transform(X)
    for channel in range(3):
        alone = SmoothImages(3).fit_transform(X[:, [channel]])
        np.testing.assert_array_equal(together[:, [channel]], alone)


def test_edges_are_scikit_image_s():
    canny = pytest.importorskip("skimage.feature").canny
    X = np.zeros((2, 2, 12, 12), dtype=np.float32)
    X[0, 0, 4:9, 3:8] = X[1, 1, 2:6] = 1
    edges = EdgeImages(sigma=1).fit_transform(X)
    assert edges[0, 0].sum() > 0
    assert edges[0, 1].sum() == 0
    np.testing.assert_array_equal(edges[1, 1], canny(X[1, 1], sigma=1))


def test_edges_without_scikit_image(monkeypatch):
    real_import = builtins.__import__

    def no_skimage(name, *args, **kwargs):
        if name.startswith("skimage"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_skimage)
    with pytest.raises(ImportError, match=r"robustfit\[edges\]"):
        EdgeImages().fit(images())


@pytest.mark.parametrize("transform", SMOOTH_MAPS + STEP_MAPS, ids=repr)
def test_flat_rows_are_the_same_images(transform):
    X = images()
    rows = clone(transform).set_params(image_shape=(2, 9, 7))
    expected = transform.fit_transform(X)
    assert expected.dtype == np.float32
    assert expected.shape == X.shape
    assert 0 <= expected.min() <= expected.max() <= 1
    np.testing.assert_array_equal(
        rows.fit_transform(X.reshape(5, -1)), expected.reshape(5, -1)
    )
    np.testing.assert_array_equal(transform.transform(X), expected)  # without fit
    restored = pickle.loads(pickle.dumps(clone(transform).fit(X)))
    np.testing.assert_array_equal(restored.transform(X), expected)


@pytest.mark.parametrize("transform", SMOOTH_MAPS + STEP_MAPS, ids=repr)
def test_other_ranges_are_scaled_and_back(transform):
    X = images()
    scaled = clone(transform).set_params(clip_range=(-1, 1))
    expected = 2 * transform.fit_transform(X) - 1
    np.testing.assert_allclose(scaled.fit_transform(2 * X - 1), expected, atol=1e-6)


@pytest.mark.parametrize("transform", SMOOTH_MAPS + STEP_MAPS, ids=repr)
def test_pixels_outside_the_range_are_an_error(transform):
    with pytest.raises(PixelRangeError, match="X / 255"):
        clone(transform).fit((images() * 255).round())
    fitted = clone(transform).fit(images())
    with pytest.raises(PixelRangeError):
        fitted.transform(images() - 0.5)


@pytest.mark.parametrize(
    "transform",
    [
        SaturateImages(0),
        SaturateImages("four"),
        GammaCorrect(0),
        GammaCorrect(np.inf),
        BinarizeImages(1.5),
        ScaleContrast(0),
        ScaleContrast(1.2),
        SmoothImages(0),
        SmoothImages(2.5),
        SmoothImages((3, 0)),
        SmoothImages((3, 1, 1)),
        EdgeImages(-1),
    ],
    ids=repr,
)
def test_bad_parameters_are_named(transform):
    name = next(iter(transform._parameter_constraints))
    with pytest.raises(ValueError, match=name):
        transform.fit(images())


def test_shapes_are_remembered():
    with pytest.raises(ImageShapeError, match="holds 64 numbers"):
        SmoothImages(image_shape=(1, 8, 8)).fit(np.zeros((2, 63)))
    fitted = SmoothImages().fit(images())
    with pytest.raises(ImageShapeError, match="was fitted on"):
        fitted.transform(images((5, 2, 7, 9)))


def test_vectors_where_neighbours_matter_are_announced(recwarn):
    SaturateImages().fit(np.zeros((2, 64)))
    SmoothImages(image_shape=(1, 1, 64)).fit(np.zeros((2, 64)))
    assert not recwarn.list
    with pytest.warns(FlatImagesWarning, match="image_shape"):
        SmoothImages().fit(np.zeros((2, 64)))


@pytest.mark.parametrize("transform", SMOOTH_MAPS, ids=repr)
@pytest.mark.parametrize("flat", [False, True])
def test_torch_form_is_the_transform_and_has_its_gradient(transform, flat):
    X = 0.05 + 0.4 * images((2, 1, 4, 3))  # away from kinks of |2x - 1|
    if flat:
        transform = clone(transform).set_params(image_shape=(1, 4, 3))
        X = X.reshape(2, -1)
    module = transformer_as_torch(transform.fit(X))
    x = torch.tensor(X)
    np.testing.assert_allclose(module(x), transform.transform(X), atol=1e-6)
    assert torch.autograd.gradcheck(module, x.double().requires_grad_(True))


@pytest.mark.parametrize(
    "transform", [SaturateImages(256), SaturateImages(1), GammaCorrect(0.3)], ids=repr
)
def test_gradients_are_finite_everywhere(transform):
    X = np.array([[0, 0.5, 1, np.nextafter(np.float32(0.5), np.float32(0))]])
    module = transformer_as_torch(transform.fit(X))
    x = torch.tensor(X, dtype=torch.float32, requires_grad=True)
    (gradient,) = torch.autograd.grad(module(x).sum(), x)
    assert torch.isfinite(gradient).all()
    assert (gradient >= 0).all()


@pytest.mark.parametrize("transform", STEP_MAPS, ids=repr)
def test_step_functions_name_the_black_box_way(transform, digits):
    X, y, _, _ = digits
    shape = clone(transform).set_params(image_shape=(1, 8, 8))
    model = make_pipeline(shape, LogisticRegression()).fit(X.reshape(400, -1), y)
    with pytest.raises(NotDifferentiableError, match="attack='square'") as error:
        attack_estimator(model, X[:2].reshape(2, -1), y[:2], attack="pgd")
    assert re.search(r"Step '\w+' of the pipeline", str(error.value))


def test_torch_form_needs_the_shape():
    with pytest.raises(NotDifferentiableError, match="call fit first"):
        transformer_as_torch(SmoothImages())


@pytest.mark.parametrize("transform", SMOOTH_MAPS, ids=repr)
def test_a_pipeline_is_attacked_in_the_pixels_it_is_given(transform, digits):
    X, y, X_test, y_test = digits
    X, X_test = X.reshape(400, -1), X_test.reshape(100, -1)
    rows = clone(transform).set_params(image_shape=(1, 8, 8))
    model = make_pipeline(rows, LogisticRegression(max_iter=300)).fit(X, y)
    result = attack_estimator(model, X_test, y_test, eps=0.1, n_steps=10)
    check_end_to_end(model, X_test, y_test, result)
    assert result.robust_accuracy < result.natural_accuracy


@pytest.mark.parametrize("transform", [SaturateImages(4), SmoothImages(2)], ids=repr)
@pytest.mark.parametrize("attack", ["pgd", "autoattack"])
def test_a_net_behind_a_transform(transform, attack, digits, net):
    X, y, X_test, y_test = digits
    torch.manual_seed(0)
    model = make_pipeline(clone(transform), net).fit(X, y)
    X_test, y_test = X_test[:20], y_test[:20]
    result = attack_estimator(
        model, X_test, y_test, attack=attack, eps=0.1, version=["apgd-ce"]
    )
    check_end_to_end(model, X_test, y_test, result)
    assert result.robust_accuracy < result.natural_accuracy


def check_end_to_end(model, X, y, result):
    """The budget holds before the transform; predict agrees with the verdicts."""
    assert 0.05 < np.abs(result.X_adv - X).max() <= 0.1 + 1e-5
    assert 0 <= result.X_adv.min() <= result.X_adv.max() <= 1
    np.testing.assert_array_equal(model.predict(result.X_adv) == y, result.robust)


def test_attack_through_contrast_is_the_attack_on_scaled_images(digits):
    """alpha x + c in front of a linear model: eps in X is alpha eps behind it."""
    X, y, X_test, y_test = digits
    X, X_test = X.reshape(400, -1), X_test.reshape(100, -1)
    contrast = ScaleContrast(0.5, clip_range=None)  # no clip where no box is
    model = make_pipeline(contrast, LogisticRegression(max_iter=300)).fit(X, y)
    through, behind = (
        attack_estimator(estimator, rows, y_test, eps=eps, clip_range=None, n_steps=20)
        for estimator, rows, eps in (
            (model, X_test, 0.1),
            (model[-1], contrast.transform(X_test), 0.05),
        )
    )
    assert through.robust_accuracy < through.natural_accuracy
    # The two searches see the same model; a sample on the edge may tip either way.
    assert (through.robust != behind.robust).mean() <= 0.02


def test_levels_can_be_searched(digits):
    X, y, _, _ = digits
    model = make_pipeline(SaturateImages(), LogisticRegression(max_iter=100))
    search = GridSearchCV(
        model,
        {"saturateimages__level": [1, 4]},
        scoring=RobustAccuracyScorer(eps=0.1, n_steps=3),
        cv=2,
        error_score="raise",
    ).fit(X[:100].reshape(100, -1), y[:100])
    assert search.best_params_["saturateimages__level"] in (1, 4)


def test_the_default_net_fits_behind_a_transform(digits):
    X, y, _, _ = digits
    net = default_classifier((1, 8, 8), 10, max_epochs=1)
    assert make_pipeline(SmoothImages(2), net).fit(X, y).predict(X[:3]).shape == (3,)
