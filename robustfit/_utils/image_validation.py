"""What counts as images, and the errors for what does not."""

import warnings
from typing import NamedTuple

import numpy as np
from sklearn.utils.validation import validate_data

from robustfit._utils.input_arrays import as_numbers, plain_array
from robustfit.exceptions import ChannelsLastWarning, ImageShapeError

__all__ = ["check_image_shape", "validate_images"]


class ValidatedImages(NamedTuple):
    """X as float32 with its own shape, and the shape of one sample as an image."""

    X: np.ndarray
    image_shape: tuple[int, ...]


def check_image_shape(image_shape, n_features=None):
    """Return ``image_shape`` as a tuple (C, H, W), checked.

    Raises
    ------
    ImageShapeError
        If it is not three positive integers or does not hold ``n_features`` numbers.
    """
    try:
        shape = tuple(int(side) for side in image_shape)
    except TypeError:
        shape = ()
    if len(shape) != 3 or min(shape) < 1:
        raise ImageShapeError(
            f"image_shape is {image_shape!r}; expected (channels, height, width), "
            "for example (1, 28, 28)."
        )
    if n_features is not None and int(np.prod(shape)) != n_features:
        raise ImageShapeError(
            f"image_shape={shape} holds {int(np.prod(shape))} numbers, but a row of X "
            f"has {n_features}. Pass the shape that X was flattened from."
        )
    return shape


def validate_images(estimator, X, threat_model, *, reset=True):
    """Check X (flat or 4-D) and return it as float32 with the shape of one sample.

    Parameters
    ----------
    estimator : estimator
        Its parameter ``image_shape``, where it has one, is the shape (C, H, W) that
        flat rows came from; None leaves them vectors. Gets ``n_features_in_`` (flat
        length of a sample) and ``image_shape_`` when ``reset``; is compared with them
        otherwise.
    X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
    threat_model : ThreatModel
        Its ``clip_range`` bounds the pixels.
    reset : bool
        True in ``fit``.

    Returns
    -------
    ValidatedImages
        ``X`` is a fresh or read-only-safe float32 array of X's own shape.
    """
    X = plain_array(X)
    image_shape = getattr(estimator, "image_shape", None)
    n_dimensions = X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim
    if n_dimensions == 4:
        X = as_numbers(X, estimator=estimator)
        shape = X.shape[1:]
        if image_shape is not None and check_image_shape(image_shape) != shape:
            raise ImageShapeError(
                f"X has images of shape {shape}, but image_shape={image_shape!r}. "
                "Leave image_shape=None for 4-D images."
            )
        _compare_image_shape(estimator, shape, reset)
        if reset:
            _warn_of_channels_last(X.shape)
        validate_data(estimator, X.reshape(len(X), -1), reset=reset, dtype=np.float32)
    elif n_dimensions == 3 or n_dimensions > 4:
        advice = "Add the channel axis with X[:, None] for grey images."
        if n_dimensions > 4:
            advice = "Flatten what is more than an image: X.reshape(len(X), -1)."
        raise ImageShapeError(
            f"X has shape {np.shape(X)}; expected (n_samples, C, H, W). {advice}"
        )
    else:
        X = plain_array(validate_data(estimator, X, reset=reset, dtype=np.float32))
        shape = (X.shape[1],)
        if image_shape is not None:
            shape = check_image_shape(image_shape, X.shape[1])
        _compare_image_shape(estimator, shape, reset)
    X = threat_model.check_range(X)
    if not X.flags.writeable:
        X = X.copy()  # torch shares memory with arrays and takes writable ones only
    return ValidatedImages(X, shape)


def _warn_of_channels_last(shape):
    _, channels, height, width = shape
    if width not in (1, 3, 4) or min(channels, height) <= 4:
        return
    warnings.warn(
        f"X has shape {shape}, read as {channels} channels of {height}x{width} pixels. "
        "It looks like channels-last images (n_samples, height, width, channels); "
        "expected (n_samples, channels, height, width). Pass np.moveaxis(X, -1, 1).",
        ChannelsLastWarning,
        stacklevel=4,
    )


def _compare_image_shape(estimator, shape, reset):
    if reset:
        estimator.image_shape_ = shape
        return
    if tuple(shape) != tuple(estimator.image_shape_):
        if len(shape) == 1:
            return  # flat rows: validate_data compares their length
        raise ImageShapeError(
            f"X has images of shape {tuple(shape)}; "
            f"{type(estimator).__name__} was fitted on {tuple(estimator.image_shape_)}."
        )
