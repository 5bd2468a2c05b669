"""What every image transform shares: validation, pixel range, the form in torch."""

import warnings
from abc import ABCMeta, abstractmethod

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin, clone
from torch import nn

from robustfit._utils.column_names import SameColumnsMixin
from robustfit._utils.image_validation import validate_images
from robustfit._utils.torch_bridge import batch_slices, to_tensor
from robustfit.exceptions import FlatImagesWarning, NotDifferentiableError
from robustfit.sklearn_to_torch.torch_classifier import transformer_as_torch
from robustfit.threat_model import ThreatModel

__all__ = ["ImageTransform", "as_image_shape"]

# Images mapped together: bounds the memory beyond the result.
_BATCH_SIZE = 1000


class ImageTransform(
    SameColumnsMixin, TransformerMixin, BaseEstimator, metaclass=ABCMeta
):
    """Base class of stateless image transforms.

    A subclass has the parameters ``clip_range`` and ``image_shape`` and implements
    ``_map_images``, one function of tensors that ``transform`` and the gradient attacks
    both run, so that the model that is attacked is the model that predicts.
    """

    # Whether an output pixel depends on other pixels of its image.
    _uses_neighbours = False

    def fit(self, X, y=None):
        """Check the parameters and ``X``; nothing is learned.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
            Images in ``clip_range``, 4-D or flattened.
        y : ignored

        Returns
        -------
        self : estimator
        """
        threat_model = ThreatModel(clip_range=self.clip_range)
        threat_model.refuse_per_feature(
            type(self).__name__, "Pixels of an image have one range."
        )
        self._validate_params()
        self._check_requirements()
        validate_images(self, X, threat_model)
        if self._uses_neighbours and len(self.image_shape_) == 1:
            self._warn_about_vectors()
        return self

    def transform(self, X):
        """Return the transformed images.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
            Images in ``clip_range``, of the shape given to ``fit``. As nothing is
            learned, ``fit`` need not have been called.

        Returns
        -------
        X_transformed : ndarray of the shape of X, float32
            In ``clip_range``.

        Raises
        ------
        PixelRangeError
            If ``X`` leaves ``clip_range``.
        ImageShapeError
            If ``X`` has images of another shape than in ``fit``.
        """
        if not hasattr(self, "image_shape_"):
            return clone(self).fit(X).transform(X)
        threat_model = ThreatModel(clip_range=self.clip_range)
        X, _ = validate_images(self, X, threat_model, reset=False)
        function, transformed = ImageFunction(self), np.empty_like(X)
        with torch.no_grad():
            for rows in batch_slices(len(X), _BATCH_SIZE):
                # In float64: float32 powers depend on a number's place in the array.
                transformed[rows] = function(to_tensor(X[rows], dtype=torch.float64))
        return transformed

    @abstractmethod
    def _map_images(self, images):
        """Map a tensor (n, C, H, W) with the pixel range [0, 1] to one of its shape."""

    def _is_differentiable(self):
        return True

    def _check_requirements(self):
        """Raise for what ``_parameter_constraints`` cannot express."""

    def _warn_about_vectors(self):
        warnings.warn(
            f"{type(self).__name__} was given rows of {self.image_shape_[0]} numbers "
            "and takes each for an image of one line, so pixels above and below each "
            "other are not neighbours. Pass image_shape=(C, H, W), or 4-D images; "
            f"image_shape=(1, 1, {self.image_shape_[0]}) says that one line is meant.",
            FlatImagesWarning,
            stacklevel=3,
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = ["float32"]
        tags.input_tags.two_d_array = True
        tags.input_tags.three_d_array = False
        return tags


class ImageFunction(nn.Module):
    """A fitted image transform on tensors of any pixel range, 4-D or flat."""

    def __init__(self, transform):
        super().__init__()
        self._map_images = transform._map_images
        self._image_shape = as_image_shape(transform.image_shape_)
        self._threat_model = ThreatModel(clip_range=transform.clip_range)

    def forward(self, x):
        """Return the transformed ``x``, of its own shape."""
        low, high = self._threat_model.clip_range or (0.0, 1.0)
        is_unit = (low, high) == (0, 1)
        images = x.reshape(len(x), *self._image_shape)
        images = self._map_images(images if is_unit else (images - low) / (high - low))
        if not is_unit:
            images = low + (high - low) * images
        # Moves nothing but rounding: the maps keep [0, 1].
        return self._threat_model.clip(images).reshape(x.shape)


def as_image_shape(shape):
    """Return ``shape`` as (C, H, W); a vector is an image of one line."""
    return tuple(shape) if len(shape) == 3 else (1, 1, *shape)


@transformer_as_torch.register
def _(transformer: ImageTransform):
    if not transformer._is_differentiable():
        raise NotDifferentiableError(
            f"{transformer} is a step function: its gradient is zero wherever it "
            "exists, so gradient attacks cannot see through it. Use attack='square' "
            "(it needs predict_proba only), or attack the classifier alone on "
            "transformed images, in whose pixels eps is then measured."
        )
    if not hasattr(transformer, "image_shape_"):
        raise NotDifferentiableError(
            f"{transformer} does not know the shape of its images yet: call fit first."
        )
    return ImageFunction(transformer)
