"""Convolutional nets without shortcuts for images of 32x32: AlexNet and VGG11."""

from torch import nn

__all__ = ["AlexNet", "VGG11"]


class AlexNet(nn.Module):
    """AlexNet (Krizhevsky et al., 2012) in the size of CIFAR-10.

    The five convolutions of the single-column network with the field's adaptation to
    32x32: the first of size 11, stride 4 and padding 5, max pooling of size 2 after
    the first, second and fifth, and one linear layer on the 256 features that are
    left: 2,472,266 parameters for CIFAR-10.

    Parameters
    ----------
    image_shape : tuple of (C, H, W), default=(3, 32, 32)
        Height and width at least 29: fewer pixels leave nothing to pool.
    n_classes : int, default=10

    Raises
    ------
    ValueError
        If height or width is below 29.

    References
    ----------
    A. Krizhevsky, I. Sutskever, G. E. Hinton. "ImageNet Classification with Deep
    Convolutional Neural Networks", NIPS 2012.

    Examples
    --------
    >>> import torch
    >>> from robustfit.nets import AlexNet
    >>> AlexNet()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, image_shape=(3, 32, 32), n_classes=10):
        super().__init__()
        _check_sides("AlexNet", image_shape, 29)
        self.image_shape = tuple(image_shape)
        self.features = nn.Sequential(
            nn.Conv2d(image_shape[0], 64, 11, stride=4, padding=5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(256, n_classes)

    def forward(self, x):
        """Return logits (n_samples, n_classes)."""
        return self.head(self.features(x.reshape(len(x), *self.image_shape)))


# Channels of the convolutions of configuration A, and where max pooling follows.
_VGG11 = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")


class VGG11(nn.Module):
    """VGG of 11 layers (Simonyan & Zisserman, 2015, configuration A) for 32x32.

    Eight 3x3 convolutions, each followed by batch norm and ReLU, five max poolings, and
    one linear layer on the 512 features that are left of 32x32 pixels: 9,231,114
    parameters for CIFAR-10.

    Parameters
    ----------
    image_shape : tuple of (C, H, W), default=(3, 32, 32)
        Height and width at least 32: five poolings halve them.
    n_classes : int, default=10

    Raises
    ------
    ValueError
        If height or width is below 32.

    References
    ----------
    K. Simonyan, A. Zisserman. "Very Deep Convolutional Networks for Large-Scale Image
    Recognition", ICLR 2015.

    Examples
    --------
    >>> import torch
    >>> from robustfit.nets import VGG11
    >>> VGG11()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, image_shape=(3, 32, 32), n_classes=10):
        super().__init__()
        _check_sides("VGG11", image_shape, 32)
        self.image_shape = tuple(image_shape)
        layers: list[nn.Module] = []
        n_in = image_shape[0]
        for n_out in _VGG11:
            if isinstance(n_out, str):  # "pool"
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [
                nn.Conv2d(n_in, n_out, 3, padding=1),
                nn.BatchNorm2d(n_out),
                nn.ReLU(),
            ]
            n_in = n_out
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(n_in, n_classes)

    def forward(self, x):
        """Return logits (n_samples, n_classes)."""
        return self.head(self.features(x.reshape(len(x), *self.image_shape)))


def _check_sides(name, image_shape, smallest):
    if min(image_shape[1:]) < smallest:
        raise ValueError(
            f"image_shape is {tuple(image_shape)}; {name} needs height and width of at "
            f"least {smallest}. Use SmallCNN or ResNet for smaller images."
        )
