"""The net that robustfit trains when none is given, and how it is trained."""

import math
from typing import Any

import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn

from robustfit.nets.mlp import MLP
from robustfit.nets.photo_cnn import PhotoCNN
from robustfit.nets.resnet import ResNet18
from robustfit.nets.small_cnn import SmallCNN

__all__ = ["CosineSchedule", "default_classifier"]


class CosineSchedule(Callback):
    """Take the learning rate of each training from its start to zero on a cosine.

    It reads ``max_epochs`` and counts epochs from where training begins, so
    ``partial_fit`` and ``set_params(max_epochs=...)`` get a schedule of their own.

    See Also
    --------
    default_classifier : A net that is trained with it.

    Examples
    --------
    >>> from robustfit.nets import CosineSchedule, default_classifier
    >>> net = default_classifier((4,), 2)
    >>> isinstance(net.callbacks[0][1], CosineSchedule)
    True
    """

    def on_train_begin(self, net, **kwargs):
        """Remember the length of the training and the learning rates."""
        self.n_before_ = len(net.history)
        self.rates_ = [net.lr for _ in net.optimizer_.param_groups]

    def on_epoch_begin(self, net, **kwargs):
        """Set the learning rates of this epoch."""
        epoch = len(net.history) - 1 - self.n_before_  # this epoch's row is there
        factor = 0.5 * (1 + math.cos(math.pi * epoch / net.max_epochs))
        for group, rate in zip(net.optimizer_.param_groups, self.rates_, strict=True):
            group["lr"] = rate * factor


# Epochs of large sets, and the steps that small ones make up for with more epochs.
EPOCHS, FEWEST_STEPS = 10, 600
BATCH_SIZE = 128
# Values larger than this are unscaled pixels, on which training diverges.
LARGEST_VALUE = 10


class _Rescaled(nn.Module):
    """A net for values in [0, 1] behind the scaling of other values to them."""

    def __init__(self, net, low, high, **arguments):
        super().__init__()
        self.low, self.width = float(low), float(high) - float(low)
        self.net = net(**arguments)

    def forward(self, x):
        return self.net((x - self.low) / self.width)


def default_classifier(
    image_shape: Any,
    n_classes: int,
    *,
    max_epochs: int | None = 10,
    device: str = "cpu",
    value_range: tuple[float, float] | None = None,
    n_samples: int | None = None,
) -> NeuralNetClassifier:
    """Return an unfitted skorch net that suits inputs of shape ``image_shape``.

    Parameters
    ----------
    image_shape : tuple of (C, H, W) or (n_features,)
        ``PhotoCNN``, on a GPU ``ResNet18``, for images of three channels or more of
        at least 8x8 pixels; ``SmallCNN`` for other images of at least 4x4; ``MLP`` for
        everything else.
    n_classes : int
    max_epochs : int or None, default=10
        None is 10, or as many as make 600 steps of ``n_samples`` rows.
    device : str, default="cpu"
    value_range : tuple of (float, float) or None, default=None
        Smallest and largest value of X. If one is larger than 10, as in 0..255, the net
        scales X to [0, 1] first: it learns nothing from such values. None scales
        nothing.
    n_samples : int or None, default=None
        Rows of the set that it will be trained on, if known.

    Returns
    -------
    skorch.NeuralNetClassifier
        SGD with learning rate 0.05 on a cosine, momentum 0.9 and weight decay 5e-4,
        batches of 128, shuffled, cross-entropy on logits, silent.

    See Also
    --------
    CosineSchedule : Its learning rate.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from robustfit.nets import default_classifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X = (X[:200] / 16).astype("float32").reshape(-1, 1, 8, 8)
    >>> net = default_classifier((1, 8, 8), 10, max_epochs=2).fit(X, y[:200])
    >>> net.predict(X[:3]).shape
    (3,)
    """
    module = _choose_module(image_shape, str(device))
    arguments: dict[str, Any] = {"module__image_shape": tuple(image_shape)}
    if module is MLP:
        arguments = {"module__n_features": math.prod(image_shape)}
    if max_epochs is None:
        max_epochs = _enough_epochs(n_samples)
    if value_range is not None and max(map(abs, value_range)) > LARGEST_VALUE:
        low, high = value_range
        arguments |= {"module__net": module, "module__low": low, "module__high": high}
        module = _Rescaled
    return NeuralNetClassifier(
        module,
        **arguments,
        module__n_classes=n_classes,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        optimizer__weight_decay=5e-4,
        lr=0.05,
        batch_size=BATCH_SIZE,
        max_epochs=max_epochs,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=[("cosine", CosineSchedule())],
        verbose=0,
        device=str(device),
    )


def _choose_module(image_shape, device) -> type[nn.Module]:
    if len(image_shape) != 3 or min(image_shape[1:]) < 4:
        return MLP
    if image_shape[0] < 3 or min(image_shape[1:]) < 8:
        return SmallCNN
    return PhotoCNN if device.startswith("cpu") else ResNet18


def _enough_epochs(n_samples):
    n_batches = math.ceil((n_samples or FEWEST_STEPS * BATCH_SIZE) / BATCH_SIZE)
    return max(EPOCHS, math.ceil(FEWEST_STEPS / n_batches))
