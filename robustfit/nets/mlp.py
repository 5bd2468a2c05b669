"""Fully connected networks."""

import math

from torch import nn

__all__ = ["MLP"]


class MLP(nn.Module):
    """Fully connected layers with ReLU between.

    Parameters
    ----------
    n_features : int or tuple of int
        Length of a flattened sample, or the shape of one.
    n_classes : int, default=10
    hidden : tuple of int, default=(256, 256)
        Width of each hidden layer.

    See Also
    --------
    SmallCNN : For images of at least 4x4 pixels.

    Examples
    --------
    >>> import torch
    >>> from robustfit.nets import MLP
    >>> MLP((1, 8, 8), hidden=(32,))(torch.zeros(2, 64)).shape
    torch.Size([2, 10])
    """

    def __init__(self, n_features, n_classes=10, hidden=(256, 256)):
        super().__init__()
        if not isinstance(n_features, int):
            n_features = math.prod(n_features)
        layers: list[nn.Module] = [nn.Flatten()]
        for width in hidden:
            layers += [nn.Linear(n_features, width), nn.ReLU()]
            n_features = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(n_features, n_classes)

    def forward(self, x):
        """Return logits (n_samples, n_classes)."""
        return self.head(self.features(x))
