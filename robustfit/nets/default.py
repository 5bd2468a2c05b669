"""The net that robustfit trains when none is given."""

import math

import torch
from skorch import NeuralNetClassifier
from torch import nn

from robustfit.nets.mlp import MLP
from robustfit.nets.small_cnn import SmallCNN

__all__ = ["default_classifier"]


def default_classifier(image_shape, n_classes, *, max_epochs=10, device="cpu"):
    """Return an unfitted skorch net that suits inputs of shape ``image_shape``.

    Parameters
    ----------
    image_shape : tuple of (C, H, W) or (n_features,)
        ``SmallCNN`` for images of at least 4x4 pixels, ``MLP`` for everything else.
    n_classes : int
    max_epochs : int, default=10
    device : str, default="cpu"

    Returns
    -------
    skorch.NeuralNetClassifier
        Adam at 1e-3, batches of 128, shuffled, cross-entropy on logits, silent.
    """
    is_image = len(image_shape) == 3 and min(image_shape[1:]) >= 4
    if is_image:
        module, arguments = SmallCNN, {"module__image_shape": tuple(image_shape)}
    else:
        module, arguments = MLP, {"module__n_features": math.prod(image_shape)}
    return NeuralNetClassifier(
        module,
        **arguments,
        module__n_classes=n_classes,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=128,
        max_epochs=max_epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        device=str(device),
    )
