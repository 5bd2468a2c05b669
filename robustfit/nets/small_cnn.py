"""A small convolutional network for grey images."""

from torch import nn

__all__ = ["SmallCNN"]


class SmallCNN(nn.Module):
    """Two convolutional and two fully connected layers, with ReLU between.

    The MNIST network of "Towards Robust Dataset Learning" (section 5.1).

    Parameters
    ----------
    image_shape : tuple of (C, H, W), default=(1, 28, 28)
        Height and width at least 4.
    n_classes : int, default=10
    channels : tuple of (int, int), default=(16, 32)
        Output channels of the two 4x4 convolutions of stride 2.
    n_hidden : int, default=100
        Width of the hidden fully connected layer.

    Raises
    ------
    ValueError
        If height or width is below 4.

    Examples
    --------
    >>> import torch
    >>> from robustfit.nets import SmallCNN
    >>> SmallCNN()(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, image_shape=(1, 28, 28), n_classes=10, channels=(16, 32), n_hidden=100
    ):
        super().__init__()
        n_channels, height, width = image_shape
        if min(height, width) < 4:
            raise ValueError(
                f"image_shape is {tuple(image_shape)}; SmallCNN needs height and width "
                "of at least 4. Use MLP for smaller inputs."
            )
        self.image_shape = tuple(image_shape)
        n_flat = channels[1] * (height // 2 // 2) * (width // 2 // 2)
        self.features = nn.Sequential(
            nn.Conv2d(n_channels, channels[0], 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels[0], channels[1], 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(n_flat, n_hidden),
            nn.ReLU(),
        )
        self.head = nn.Linear(n_hidden, n_classes)

    def forward(self, x):
        """Return logits (n_samples, n_classes)."""
        return self.head(self.features(x.reshape(len(x), *self.image_shape)))
