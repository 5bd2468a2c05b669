import math

import numpy as np
import pytest
import sklearn
from sklearn.metrics import pairwise_distances

from robustfit import (
    PixelHistogramDisplay,
    inter_class_distance,
    perturbable_volume,
    pixel_histogram,
)
from robustfit.exceptions import PixelRangeError
from robustfit.image_transforms import BinarizeImages, ScaleContrast


def plain_inter_class_distance(X, y, neighbors, samples):
    """Appendix D.2.1 of Ding et al. (2019), written down without blocks."""
    distances = []
    for label in np.unique(y):
        between = np.sort(pairwise_distances(X[y == label], X[y != label]), axis=1)
        margins = between[:, : max(1, round(neighbors * between.shape[1]))].mean(1)
        n_smallest = max(1, round(samples * len(margins)))
        distances.append(np.sort(margins)[:n_smallest].mean())
    return np.array(distances)


@pytest.mark.parametrize(("neighbors", "samples"), [(0.1, 0.1), (0.001, 0.5), (1, 1)])
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_distance_is_the_definition(digits, neighbors, samples, n_jobs):
    X, y, _, _ = digits
    with sklearn.config_context(working_memory=1):  # several blocks
        distances = inter_class_distance(
            X,
            np.array(list("jihgfedcba"))[y],
            neighbor_fraction=neighbors,
            sample_fraction=samples,
            average=None,
            n_jobs=n_jobs,
        )
    expected = plain_inter_class_distance(X.reshape(400, -1), y, neighbors, samples)
    np.testing.assert_allclose(distances, expected[::-1], rtol=1e-5)


def test_distance_by_hand_and_average():
    X, y = [[0.0, 0.0], [3.0, 4.0], [3.0, 4.0]], [0, 1, 1]
    np.testing.assert_allclose(inter_class_distance(X, y, average=None), [5, 5])
    assert inter_class_distance(X, y) == pytest.approx(5)


def test_distance_scales_with_contrast(digits):
    X, y, _, _ = digits
    scaled = ScaleContrast(0.6).fit_transform(X)
    assert inter_class_distance(scaled, y) == pytest.approx(
        0.6 * inter_class_distance(X, y), rel=1e-4
    )


def test_distance_of_equal_images_is_zero():
    X = np.full((6, 50), 0.7)
    assert inter_class_distance(X, [0, 1] * 3) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neighbor_fraction": 0}, "neighbor_fraction is 0"),
        ({"sample_fraction": 1.5}, "sample_fraction is 1.5"),
        ({"average": "micro"}, "average is 'micro'"),
        ({"y": [1, 1, 1]}, "at least two"),
    ],
)
def test_distance_with_bad_parameters(change, message):
    arguments = {"X": np.eye(3), "y": [0, 1, 1], **change}
    with pytest.raises(ValueError, match=message):
        inter_class_distance(**arguments)


def test_volume_of_corner_inside_and_between():
    eps = 0.3
    corner, inside = np.zeros((1, 5)), np.full((1, 5), 0.5)
    assert perturbable_volume(corner, eps) == pytest.approx(5 * math.log2(eps))
    assert perturbable_volume(inside, eps) == pytest.approx(5 * math.log2(2 * eps))
    assert perturbable_volume([[0.1, 0.9]], eps) == pytest.approx(2 * math.log2(0.4))
    assert perturbable_volume([[5.0]], eps, clip_range=None) == pytest.approx(
        math.log2(0.6)
    )


def test_volumes_of_mnist_and_cifar10_lie_in_the_range_of_table_6():
    assert int(784 * math.log2(0.3)) == -1361
    assert round(784 * math.log2(0.6)) == -578  # the table says -577
    corners = BinarizeImages().fit_transform(np.zeros((2, 1, 28, 28)))
    assert int(perturbable_volume(corners, 0.3)) == -1361
    grey = np.full((2, 3, 32, 32), 0.5)
    assert int(perturbable_volume(grey, 8 / 255)) == -12270


def test_volume_of_each_image():
    X = np.random.RandomState(0).rand(2500, 3)
    volumes = perturbable_volume(X, 0.1, average=False)
    assert volumes.shape == (2500,)
    assert volumes.mean() == pytest.approx(perturbable_volume(X, 0.1))
    assert ((3 * math.log2(0.1) <= volumes) & (volumes <= 3 * math.log2(0.2))).all()


def test_volume_with_bad_input():
    with pytest.raises(PixelRangeError):
        perturbable_volume([[255.0]], 0.1)
    with pytest.raises(ValueError, match="eps is 0"):
        perturbable_volume([[0.5]], 0)


def test_histogram_counts_every_pixel(digits):
    X, _, _, _ = digits
    share, edges = pixel_histogram(X, bins=17)
    assert share.sum() == pytest.approx(1)
    assert edges[[0, -1]].tolist() == [0, 1]
    assert share[-1] == pytest.approx((X == 1).mean())
    with pytest.raises(PixelRangeError):
        pixel_histogram(X * 16)
    with pytest.raises(PixelRangeError, match="clip_range is None"):
        pixel_histogram(X, clip_range=None)


def test_histogram_display(digits):
    plt = pytest.importorskip("matplotlib.pyplot")
    X, _, _, _ = digits
    display = PixelHistogramDisplay.from_images(
        {"original": X, "binarized": BinarizeImages().fit_transform(X)}, bins=8
    )
    assert set(display.shares) == {"original", "binarized"}
    assert display.figure_ is display.ax_.figure
    _, ax = plt.subplots()
    assert PixelHistogramDisplay.from_images(X, ax=ax).ax_ is ax
    plt.close("all")
