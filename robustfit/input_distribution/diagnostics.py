"""Numbers about the images of a data set that may explain its robustness.

:func:`inter_class_distance`, :func:`perturbable_volume` and the histogram of pixels,
all without a model.
"""

from numbers import Real

import numpy as np
import sklearn
import torch
from numpy.typing import ArrayLike
from sklearn.utils import gen_batches
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_X_y

from robustfit._utils.display_style import add_legend, color, get_axes, tidy
from robustfit._utils.input_arrays import as_numbers, plain_array
from robustfit.exceptions import PixelRangeError
from robustfit.threat_model import ThreatModel

__all__ = [
    "PixelHistogramDisplay",
    "inter_class_distance",
    "perturbable_volume",
    "pixel_histogram",
]


def inter_class_distance(
    X: ArrayLike,
    y: ArrayLike,
    *,
    neighbor_fraction: float = 0.1,
    sample_fraction: float = 0.1,
    average: str | None = "macro",
    n_jobs: int | None = None,
) -> float | np.ndarray:
    """Return how far the classes are from each other in l2 distance.

    The margin of a sample is its average distance to the ``neighbor_fraction`` nearest
    samples of other classes; the distance of a class is the average of the smallest
    ``sample_fraction`` of its margins (appendix D.2.1 of [1]_).

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
    y : array-like of shape (n_samples,)
        Class labels; at least two classes.
    neighbor_fraction : float, default=0.1
        In (0, 1], of the samples of other classes; at least one is taken.
    sample_fraction : float, default=0.1
        In (0, 1], of the samples of the class; at least one is taken.
    average : {"macro"} or None, default="macro"
        "macro" averages over the classes; None returns one number a class.
    n_jobs : int or None, default=None
        Threads. Each holds a block of distances of at most
        ``sklearn.get_config()["working_memory"]`` MiB divided by eight.

    Returns
    -------
    float or ndarray of shape (n_classes,)
        In the units of X; classes in the order of ``np.unique(y)``.

    Raises
    ------
    ValueError
        For fewer than two classes or a fraction outside (0, 1].

    Notes
    -----
    Distances are of float32 precision. All pairs of different classes are compared:
    60,000 images of 784 pixels take one to two minutes on one core, and one gigabyte.

    References
    ----------
    .. [1] G. W. Ding, K. Y. C. Lui, X. Jin, L. Wang, R. Huang. "On the Sensitivity of
       Adversarial Robustness to Input Data Distributions", ICLR 2019.

    Examples
    --------
    >>> from robustfit import inter_class_distance
    >>> inter_class_distance([[0.0], [1.0], [4.0], [8.0]], ["a", "a", "b", "b"])
    3.0
    """
    X, y = check_X_y(
        plain_array(X), plain_array(y, "y"), allow_nd=True, dtype=np.float32
    )
    _check_fraction("neighbor_fraction", neighbor_fraction)
    _check_fraction("sample_fraction", sample_fraction)
    if average not in ("macro", None):
        raise ValueError(f"average is {average!r}; expected 'macro' or None.")
    X, classes = X.reshape(len(X), -1), np.unique(y)
    if len(classes) < 2:
        raise ValueError(f"y holds one class, {y[0]!r}; expected at least two.")
    X = X - X.mean(0)  # smaller norms: less cancellation in the distances
    distances = np.array(
        [
            _class_distance(
                X[y == label], X[y != label], neighbor_fraction, sample_fraction, n_jobs
            )
            for label in classes
        ]
    )
    return float(distances.mean()) if average == "macro" else distances


def _class_distance(X_class, X_other, neighbor_fraction, sample_fraction, n_jobs):
    n_neighbors = _count(neighbor_fraction, len(X_other))
    squared_norms = np.einsum("ij,ij->i", X_other, X_other)
    block = sklearn.get_config()["working_memory"] / 8 * 2**20
    n_rows = max(1, int(block / (squared_norms.nbytes * 2)))  # and the copy sorted
    margins = np.concatenate(
        Parallel(n_jobs=n_jobs, prefer="threads")(
            delayed(_margins)(X_class[rows], X_other, squared_norms, n_neighbors)
            for rows in gen_batches(len(X_class), n_rows)
        )
    )
    n_smallest = _count(sample_fraction, len(margins))
    return np.sort(margins)[:n_smallest].mean()


def _margins(X_rows, X_other, squared_norms, n_neighbors):
    """Return each row's average distance to its nearest rows of ``X_other``."""
    squared = X_rows @ X_other.T
    squared *= -2
    squared += squared_norms
    squared += np.einsum("ij,ij->i", X_rows, X_rows)[:, None]
    squared.partition(n_neighbors - 1, axis=1)
    nearest = np.maximum(squared[:, :n_neighbors], 0).astype(np.float64)
    return np.sqrt(nearest).mean(1)


def _count(fraction, n_samples):
    return max(1, round(fraction * n_samples))


def _check_fraction(name, value):
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not 0 < value <= 1:
        raise ValueError(f"{name} is {value!r}; expected a number in (0, 1].")


def perturbable_volume(
    X: ArrayLike,
    eps: float = 8 / 255,
    *,
    clip_range: tuple[float, float] | None = (0.0, 1.0),
    average: bool = True,
) -> float | np.ndarray:
    """Return the volume, in bits, of what a linf adversary may turn an image into.

    The binary logarithm of the volume of the box of half side ``eps`` around the
    image, cut by the pixel range (appendix D.1 of [1]_). It lies between
    ``d log2(eps)``, at a corner of the range, and ``d log2(2 eps)``, inside, for d
    pixels and eps of at most half the range.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
        Images in ``clip_range``.
    eps : float, default=8/255
        Budget in linf, in the units of X, above 0.
    clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
        None: the box is not cut.
    average : bool, default=True
        If False, return one number an image.

    Returns
    -------
    float or ndarray of shape (n_samples,)
        In bits, averaged over the images.

    Raises
    ------
    PixelRangeError
        If ``X`` leaves ``clip_range``.
    ValueError
        If ``eps`` is not above 0.

    References
    ----------
    .. [1] G. W. Ding, K. Y. C. Lui, X. Jin, L. Wang, R. Huang. "On the Sensitivity of
       Adversarial Robustness to Input Data Distributions", ICLR 2019.

    Examples
    --------
    >>> from robustfit import perturbable_volume
    >>> perturbable_volume([[0.0, 0.5]], eps=0.25)  # log2(0.25) + log2(0.5)
    -3.0
    """
    threat_model = ThreatModel("linf", eps, clip_range)
    if np.min(threat_model.budget) == 0:
        raise ValueError("eps is 0, whose box has no volume; expected a number > 0.")
    X = threat_model.check_range(as_numbers(X))
    volumes = np.empty(len(X))
    for rows in gen_batches(len(X), 1000):
        pixels = torch.tensor(X[rows], dtype=torch.float64).flatten(1)
        low, high = threat_model.corners(pixels)
        sides = high - low
        volumes[rows] = sides.log2().sum(1).numpy()
    return float(volumes.mean()) if average else volumes


def pixel_histogram(
    X: ArrayLike, *, bins: int = 32, clip_range: tuple[float, float] = (0.0, 1.0)
) -> tuple[np.ndarray, np.ndarray]:
    """Return which share of all pixels falls into each part of their range.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
        Images in ``clip_range``.
    bins : int, default=32
        Parts of equal width, at least 1.
    clip_range : tuple of (float, float), default=(0.0, 1.0)
        The range that is divided.

    Returns
    -------
    share : ndarray of shape (bins,)
        Sums to 1.
    edges : ndarray of shape (bins + 1,)

    Raises
    ------
    PixelRangeError
        If ``X`` leaves ``clip_range``.

    See Also
    --------
    PixelHistogramDisplay : Draws it.

    Examples
    --------
    >>> from robustfit import pixel_histogram
    >>> share, edges = pixel_histogram([[0.0, 0.1, 0.2, 1.0]], bins=2)
    >>> share
    array([0.75, 0.25])
    """
    if clip_range is None:
        raise PixelRangeError(
            "clip_range is None; expected (low, high), the range that is divided."
        )
    threat_model = ThreatModel(clip_range=clip_range)
    threat_model.refuse_per_feature("a histogram", "Take one column after another.")
    X = threat_model.check_range(as_numbers(X))
    counts, edges = np.histogram(X, bins=bins, range=clip_range)
    return counts / X.size, edges


class PixelHistogramDisplay:
    """Histograms of pixels, the share of each value on a logarithmic axis.

    Use :meth:`from_images` to make one (figure 1 of [1]_).

    Parameters
    ----------
    shares : dict of str to ndarray of shape (bins,)
        Histogram of each set of images, by its name.
    edges : ndarray of shape (bins + 1,)

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    References
    ----------
    .. [1] G. W. Ding, K. Y. C. Lui, X. Jin, L. Wang, R. Huang. "On the Sensitivity of
       Adversarial Robustness to Input Data Distributions", ICLR 2019.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from robustfit import PixelHistogramDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> display = PixelHistogramDisplay.from_images({"digits": X / 16}, bins=16)
    >>> display.ax_.get_ylabel()
    'Share of pixels'
    """

    def __init__(self, shares, edges):
        self.shares = shares
        self.edges = edges

    @classmethod
    def from_images(cls, images, *, bins=32, clip_range=(0.0, 1.0), ax=None):
        """Count and draw the pixels of several sets of images.

        Parameters
        ----------
        images : dict of str to array-like, or array-like
            Sets of images (n_samples, ...) by name.
        bins : int, default=32
        clip_range : tuple of (float, float), default=(0.0, 1.0)
        ax : matplotlib Axes or None, default=None

        Returns
        -------
        PixelHistogramDisplay
        """
        if not isinstance(images, dict):
            images = {"images": images}
        shares = {}
        for name, X in images.items():
            shares[name], edges = pixel_histogram(X, bins=bins, clip_range=clip_range)
        return cls(shares, edges).plot(ax=ax)

    def plot(self, ax=None):
        """Draw the histograms.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            None makes a new figure.

        Returns
        -------
        PixelHistogramDisplay
        """
        ax = get_axes(ax)
        for number, (name, share) in enumerate(self.shares.items()):
            ax.stairs(share, self.edges, label=name, linewidth=1.8, color=color(number))
        ax.set(yscale="log", xlabel="Pixel value (in units of X)")
        ax.set_ylabel("Share of pixels")
        tidy(ax)
        add_legend(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self
