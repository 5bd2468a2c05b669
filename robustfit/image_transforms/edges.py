"""Edge images by the Canny detector."""

from numbers import Real

import numpy as np
import torch

from robustfit._utils.sklearn_private import Interval
from robustfit.image_transforms._base import ImageTransform

__all__ = ["EdgeImages"]


class EdgeImages(ImageTransform):
    """Replace images by their edges, found by the Canny detector of scikit-image.

    Parameters
    ----------
    sigma : float, default=1.0
        Standard deviation, in pixels, of the Gaussian filter that comes first; at
        least 0. Section 4.2 of [1]_ makes edge-fashion-MNIST with 1.
    clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
        Smallest and largest pixel value; edges are the largest, the rest the smallest.
        None takes any number and returns 0 and 1.
    image_shape : tuple of (C, H, W) or None, default=None
        Shape that flat rows came from. Without it a row is an image of one line, which
        has no edges, with a :class:`~robustfit.exceptions.FlatImagesWarning`.

    Attributes
    ----------
    image_shape_ : tuple of int
    n_features_in_ : int
        Numbers in a (flattened) image.

    Raises
    ------
    ImportError
        In ``fit``, if scikit-image is missing.

    Notes
    -----
    Every channel is treated by itself, with the detector's own hysteresis thresholds
    (0.1 and 0.2 of the pixel range). It has no gradient: an attack through it raises
    :class:`~robustfit.exceptions.NotDifferentiableError`.

    References
    ----------
    .. [1] G. W. Ding, K. Y. C. Lui, X. Jin, L. Wang, R. Huang. "On the Sensitivity of
       Adversarial Robustness to Input Data Distributions", ICLR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from robustfit.image_transforms import EdgeImages
    >>> X = np.zeros((1, 1, 8, 8))
    >>> X[..., 4:] = 1
    >>> EdgeImages().fit_transform(X)[0, 0, 3]
    array([0., 0., 0., 1., 1., 0., 0., 0.], dtype=float32)
    """

    _uses_neighbours = True
    _parameter_constraints: dict = {"sigma": [Interval(Real, 0, None, closed="left")]}

    def __init__(self, sigma=1.0, *, clip_range=(0.0, 1.0), image_shape=None):
        self.sigma = sigma
        self.clip_range = clip_range
        self.image_shape = image_shape

    def _check_requirements(self):
        _import_canny()

    def _map_images(self, images):
        canny, pixels = _import_canny(), images.detach().cpu().numpy()
        edges = np.empty_like(pixels)
        for place in np.ndindex(pixels.shape[:2]):
            edges[place] = canny(pixels[place], sigma=self.sigma)
        return torch.from_numpy(edges).to(images.device)

    def _is_differentiable(self):
        return False


def _import_canny():
    try:
        from skimage.feature import canny
    except ImportError as error:
        raise ImportError(
            "EdgeImages needs scikit-image, which is not installed. Run "
            "pip install 'robustfit[edges]'."
        ) from error
    return canny
