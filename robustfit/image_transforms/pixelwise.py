"""Transforms of each pixel by itself: saturation, gamma, contrast, threshold."""

from numbers import Real

from robustfit._utils.sklearn_private import Interval
from robustfit.image_transforms._base import ImageTransform

__all__ = ["BinarizeImages", "GammaCorrect", "SaturateImages", "ScaleContrast"]

# Below the smallest step of a float32 pixel around 0.5, so no pixel's value changes:
# it bounds the slope of roots at zero, which is infinite.
_SMALLEST_BASE = 2.0**-26


def _odd_power(base, exponent):
    """Return ``sign(base) * |base| ** exponent`` with a finite gradient at zero."""
    return base * base.abs().clamp_min(_SMALLEST_BASE) ** (exponent - 1)


class SaturateImages(ImageTransform):
    """Push pixels to the ends of their range, or pull them to its middle.

    A pixel x in [0, 1] becomes ``sign(2x - 1) |2x - 1|^(2 / level) / 2 + 1/2``
    (section 3.1 of [1]_).

    Parameters
    ----------
    level : float, default=8.0
        In (0, inf]. 2 is the identity; more saturates, ``inf`` binarises (a pixel at
        exactly 1/2 stays there); less pulls pixels to 1/2.
    clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
        Smallest and largest pixel value; images of another range than [0, 1] are
        scaled to it and back. None applies the formula to any number.
    image_shape : tuple of (C, H, W) or None, default=None
        Shape that flat rows came from; it is only checked.

    Attributes
    ----------
    image_shape_ : tuple of int
    n_features_in_ : int
        Numbers in a (flattened) image.

    See Also
    --------
    BinarizeImages : The same as ``level=inf``, with a threshold.

    Notes
    -----
    Gradient attacks see through it for every finite level. For levels above 2 the
    slope at 1/2 is infinite; there the gradient is a large finite number.

    References
    ----------
    .. [1] G. W. Ding, K. Y. C. Lui, X. Jin, L. Wang, R. Huang. "On the Sensitivity of
       Adversarial Robustness to Input Data Distributions", ICLR 2019.

    Examples
    --------
    >>> from robustfit.image_transforms import SaturateImages
    >>> SaturateImages(level=4).fit_transform([[0.0, 0.375, 0.5, 1.0]])
    array([[0.  , 0.25, 0.5 , 1.  ]], dtype=float32)
    """

    _parameter_constraints: dict = {"level": [Interval(Real, 0, None, closed="right")]}

    def __init__(self, level=8.0, *, clip_range=(0.0, 1.0), image_shape=None):
        self.level = level
        self.clip_range = clip_range
        self.image_shape = image_shape

    def _map_images(self, images):
        if self.level == 2:
            return images
        signed = 2 * images - 1
        if self._is_differentiable():
            return _odd_power(signed, 2 / self.level) / 2 + 0.5
        return signed.sign() / 2 + 0.5

    def _is_differentiable(self):
        return self.level != float("inf")


class GammaCorrect(ImageTransform):
    """Raise pixels to a power, as another exposure would.

    A pixel x in [0, 1] becomes ``x ** gamma`` (section 4.1 of [1]_).

    Parameters
    ----------
    gamma : float, default=1.0
        Above 0. Below 1 images become brighter, above 1 darker.
    clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
        Smallest and largest pixel value; images of another range than [0, 1] are
        scaled to it and back. None applies ``sign(x) |x| ** gamma`` to any number.
    image_shape : tuple of (C, H, W) or None, default=None
        Shape that flat rows came from; it is only checked.

    Attributes
    ----------
    image_shape_ : tuple of int
    n_features_in_ : int
        Numbers in a (flattened) image.

    Notes
    -----
    Gradient attacks see through it. For ``gamma < 1`` the slope at 0 is infinite;
    there the gradient is a large finite number.

    References
    ----------
    .. [1] G. W. Ding, K. Y. C. Lui, X. Jin, L. Wang, R. Huang. "On the Sensitivity of
       Adversarial Robustness to Input Data Distributions", ICLR 2019.

    Examples
    --------
    >>> from robustfit.image_transforms import GammaCorrect
    >>> GammaCorrect(gamma=2).fit_transform([[0.0, 0.5, 1.0]])
    array([[0.  , 0.25, 1.  ]], dtype=float32)
    """

    _parameter_constraints: dict = {
        "gamma": [Interval(Real, 0, None, closed="neither")]
    }

    def __init__(self, gamma=1.0, *, clip_range=(0.0, 1.0), image_shape=None):
        self.gamma = gamma
        self.clip_range = clip_range
        self.image_shape = image_shape

    def _map_images(self, images):
        return _odd_power(images, self.gamma)


class ScaleContrast(ImageTransform):
    """Shrink every pixel towards the middle of the range by the same factor.

    A pixel x in [0, 1] becomes ``alpha (x - 1/2) + 1/2`` (section 5.2 of [1]_, where
    it makes two sets equal in :func:`robustfit.inter_class_distance`).

    Parameters
    ----------
    alpha : float, default=0.8
        In (0, 1]; 1 is the identity. Distances between images shrink by it.
    clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
        Smallest and largest pixel value; images of another range than [0, 1] are
        scaled to it and back. None applies the formula to any number.
    image_shape : tuple of (C, H, W) or None, default=None
        Shape that flat rows came from; it is only checked.

    Attributes
    ----------
    image_shape_ : tuple of int
    n_features_in_ : int
        Numbers in a (flattened) image.

    References
    ----------
    .. [1] G. W. Ding, K. Y. C. Lui, X. Jin, L. Wang, R. Huang. "On the Sensitivity of
       Adversarial Robustness to Input Data Distributions", ICLR 2019.

    Examples
    --------
    >>> from robustfit.image_transforms import ScaleContrast
    >>> ScaleContrast(alpha=0.5).fit_transform([[0.0, 0.5, 1.0]])
    array([[0.25, 0.5 , 0.75]], dtype=float32)
    """

    _parameter_constraints: dict = {"alpha": [Interval(Real, 0, 1, closed="right")]}

    def __init__(self, alpha=0.8, *, clip_range=(0.0, 1.0), image_shape=None):
        self.alpha = alpha
        self.clip_range = clip_range
        self.image_shape = image_shape

    def _map_images(self, images):
        return self.alpha * (images - 0.5) + 0.5


class BinarizeImages(ImageTransform):
    """Round every pixel to one end of the range.

    Parameters
    ----------
    threshold : float, default=0.5
        In [0, 1], as a share of the pixel range. Pixels above it become the largest
        value, the others the smallest.
    clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
        Smallest and largest pixel value. None takes any number and returns 0 and 1.
    image_shape : tuple of (C, H, W) or None, default=None
        Shape that flat rows came from; it is only checked.

    Attributes
    ----------
    image_shape_ : tuple of int
    n_features_in_ : int
        Numbers in a (flattened) image.

    See Also
    --------
    SaturateImages : The way there in steps, with gradients.

    Notes
    -----
    It is the binarized MNIST of [1]_ (section 2.2). It has no gradient: an attack
    through it raises :class:`~robustfit.exceptions.NotDifferentiableError`.

    References
    ----------
    .. [1] G. W. Ding, K. Y. C. Lui, X. Jin, L. Wang, R. Huang. "On the Sensitivity of
       Adversarial Robustness to Input Data Distributions", ICLR 2019.

    Examples
    --------
    >>> from robustfit.image_transforms import BinarizeImages
    >>> BinarizeImages().fit_transform([[0.0, 0.3, 0.7]])
    array([[0., 0., 1.]], dtype=float32)
    """

    _parameter_constraints: dict = {"threshold": [Interval(Real, 0, 1, closed="both")]}

    def __init__(self, threshold=0.5, *, clip_range=(0.0, 1.0), image_shape=None):
        self.threshold = threshold
        self.clip_range = clip_range
        self.image_shape = image_shape

    def _map_images(self, images):
        return (images > self.threshold).to(images.dtype)

    def _is_differentiable(self):
        return False
