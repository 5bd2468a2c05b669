"""Wide residual networks for colour images."""

import math

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["WideResNet"]


class WideResNet(nn.Module):
    """Residual network with wide layers (Zagoruyko & Komodakis, 2016): WRN-depth-k.

    The CIFAR-10 network of [1]_ is ``WideResNet(widen_factor=4)``, WRN-28-4 (appendix
    B.1); table 5 has the widen factors 0.25, 1 and 4.

    Parameters
    ----------
    image_shape : tuple of (C, H, W), default=(3, 32, 32)
        Height and width at least 4.
    n_classes : int, default=10
    depth : int, default=28
        Number of convolutions along the longest path; 6 n + 4.
    widen_factor : float, default=4
        The three groups have 16, 32 and 64 channels times this; at least 1/16.
    standardize : bool, default=True
        Subtract the mean of each image and divide by its standard deviation (at least
        one over the square root of its size) first, as [1]_ does. Inside the net, so
        that attacks see through it and their budget is in pixels.

    Raises
    ------
    ValueError
        If the image, depth or widen factor is none the network has.

    References
    ----------
    .. [1] G. W. Ding, K. Y. C. Lui, X. Jin, L. Wang, R. Huang. "On the Sensitivity of
       Adversarial Robustness to Input Data Distributions", ICLR 2019.

    Examples
    --------
    >>> import torch
    >>> from robustfit.nets import WideResNet
    >>> WideResNet(depth=10, widen_factor=0.25)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        image_shape=(3, 32, 32),
        n_classes=10,
        *,
        depth=28,
        widen_factor=4,
        standardize=True,
    ):
        super().__init__()
        _check_size(image_shape, depth, widen_factor)
        self.image_shape = tuple(image_shape)
        self.standardize = standardize
        widths = [16, *(int(widen_factor * n) for n in (16, 32, 64))]
        n_blocks = (depth - 4) // 6
        layers: list[nn.Module] = [_convolution(image_shape[0], widths[0])]
        for group in range(3):
            for block in range(n_blocks):
                stride = 2 if group > 0 and block == 0 else 1
                n_in = widths[group] if block == 0 else widths[group + 1]
                layers.append(_ResidualBlock(n_in, widths[group + 1], stride))
        layers += [nn.BatchNorm2d(widths[3]), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(widths[3], n_classes)

    def forward(self, x):
        """Return logits (n_samples, n_classes)."""
        images = x.reshape(len(x), *self.image_shape)
        if self.standardize:
            images = _standardize_images(images)
        return self.head(self.features(images))


class _ResidualBlock(nn.Module):
    """Batch norm, ReLU and 3x3 convolution, twice, added to the input."""

    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.norm_1 = nn.BatchNorm2d(n_in)
        self.convolution_1 = _convolution(n_in, n_out, stride)
        self.norm_2 = nn.BatchNorm2d(n_out)
        self.convolution_2 = _convolution(n_out, n_out)
        self.shortcut = None
        if n_in != n_out or stride != 1:
            self.shortcut = nn.Conv2d(n_in, n_out, 1, stride=stride, bias=False)
            _initialize(self.shortcut)

    def forward(self, x):
        active = F.relu(self.norm_1(x))
        skipped = x if self.shortcut is None else self.shortcut(active)
        hidden = F.relu(self.norm_2(self.convolution_1(active)))
        return skipped + self.convolution_2(hidden)


def _convolution(n_in, n_out, stride=1):
    layer = nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False)
    _initialize(layer)
    return layer


def _initialize(layer):
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def _standardize_images(images):
    axes = (1, 2, 3)
    smallest = 1 / math.sqrt(images[0].numel())
    centred = images - images.mean(axes, keepdim=True)
    variance = centred.square().mean(axes, keepdim=True)
    # The floor is under the root: the slope of a root is infinite at zero.
    return centred / torch.sqrt(variance.clamp_min(smallest**2))


def _check_size(image_shape, depth, widen_factor):
    if min(image_shape[1:]) < 4:
        raise ValueError(
            f"image_shape is {tuple(image_shape)}; WideResNet needs height and width "
            "of at least 4."
        )
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(
            f"depth is {depth!r}; expected 6 n + 4 with n >= 1, for example 16 or 28."
        )
    if int(16 * widen_factor) < 1:
        raise ValueError(
            f"widen_factor is {widen_factor!r}, which leaves a group of WideResNet "
            "without channels; expected at least 1/16."
        )
