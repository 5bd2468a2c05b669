"""Residual networks for small colour images."""

import torch.nn.functional as F
from torch import nn

__all__ = ["ResNet", "ResNet18", "ResNet34", "ResNet50"]

# Blocks of the four stages, by depth (He et al., 2016, table 1).
_N_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


class ResNet(nn.Module):
    """Residual network (He et al., 2016) with a stem for images of 32 or 64 pixels.

    The standard form (post-activation: batch norm and ReLU follow the convolutions, the
    last ReLU follows the addition) with the stem that the field uses for CIFAR-10: one
    3x3 convolution and no pooling in place of the 7x7 convolution of stride 2 and the
    max pooling that images of 224 pixels want.

    Parameters
    ----------
    image_shape : tuple of (C, H, W), default=(3, 32, 32)
        Height and width at least 4.
    n_classes : int, default=10
    depth : {18, 34, 50}, default=18
        18 and 34 have blocks of two 3x3 convolutions, 50 has bottlenecks.
    width : int, default=64
        Channels of the stem and the first stage; each stage doubles them.
    stem_stride : int or None, default=None
        Stride of the stem. None is 1 below 64 pixels and 2 from there, so that images
        of 64x64 cost what those of 32x32 do.

    Raises
    ------
    ValueError
        If the image, depth, width or stride is none the network has.

    See Also
    --------
    WideResNet : The pre-activation form, wide and of three stages.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun. "Deep Residual Learning for Image Recognition",
    CVPR 2016.

    Examples
    --------
    >>> import torch
    >>> from robustfit.nets import ResNet
    >>> ResNet((1, 8, 8), depth=18, width=4)(torch.zeros(2, 64)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        image_shape=(3, 32, 32),
        n_classes=10,
        *,
        depth=18,
        width=64,
        stem_stride=None,
    ):
        super().__init__()
        _check_size(image_shape, depth, width, stem_stride)
        if stem_stride is None:
            stem_stride = 2 if min(image_shape[1:]) >= 64 else 1
        self.image_shape = tuple(image_shape)
        block = _Bottleneck if depth == 50 else _BasicBlock
        layers: list[nn.Module] = [
            _convolution(image_shape[0], width, 3, stem_stride),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        n_in = width
        for stage, n_blocks in enumerate(_N_BLOCKS[depth]):
            for number in range(n_blocks):
                stride = 2 if stage > 0 and number == 0 else 1
                layers.append(block(n_in, width * 2**stage, stride))
                n_in = width * 2**stage * block.expansion
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(n_in, n_classes)

    def forward(self, x):
        """Return logits (n_samples, n_classes)."""
        return self.head(self.features(x.reshape(len(x), *self.image_shape)))


class ResNet18(ResNet):
    """:class:`ResNet` of 18 layers: 11,173,962 parameters for CIFAR-10.

    Parameters
    ----------
    image_shape : tuple of (C, H, W), default=(3, 32, 32)
    n_classes : int, default=10
    width : int, default=64
        Channels of the first stage.
    stem_stride : int or None, default=None
        As for :class:`ResNet`.

    Examples
    --------
    >>> from robustfit.nets import ResNet18
    >>> sum(p.numel() for p in ResNet18().parameters())
    11173962
    """

    def __init__(
        self, image_shape=(3, 32, 32), n_classes=10, *, width=64, stem_stride=None
    ):
        super().__init__(
            image_shape, n_classes, depth=18, width=width, stem_stride=stem_stride
        )


class ResNet34(ResNet):
    """:class:`ResNet` of 34 layers: 21,282,122 parameters for CIFAR-10.

    Parameters
    ----------
    image_shape : tuple of (C, H, W), default=(3, 32, 32)
    n_classes : int, default=10
    width : int, default=64
        Channels of the first stage.
    stem_stride : int or None, default=None
        As for :class:`ResNet`.

    Examples
    --------
    >>> import torch
    >>> from robustfit.nets import ResNet34
    >>> ResNet34(width=4)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, image_shape=(3, 32, 32), n_classes=10, *, width=64, stem_stride=None
    ):
        super().__init__(
            image_shape, n_classes, depth=34, width=width, stem_stride=stem_stride
        )


class ResNet50(ResNet):
    """:class:`ResNet` of 50 layers: 23,520,842 parameters for CIFAR-10.

    Parameters
    ----------
    image_shape : tuple of (C, H, W), default=(3, 32, 32)
    n_classes : int, default=10
    width : int, default=64
        Channels of the first stage.
    stem_stride : int or None, default=None
        As for :class:`ResNet`.

    Examples
    --------
    >>> import torch
    >>> from robustfit.nets import ResNet50
    >>> ResNet50(width=4)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, image_shape=(3, 32, 32), n_classes=10, *, width=64, stem_stride=None
    ):
        super().__init__(
            image_shape, n_classes, depth=50, width=width, stem_stride=stem_stride
        )


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions added to the input."""

    expansion = 1

    def __init__(self, n_in, width, stride):
        super().__init__()
        self.branch = nn.Sequential(
            _convolution(n_in, width, 3, stride),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            _convolution(width, width, 3),
            nn.BatchNorm2d(width),
        )
        self.shortcut = _shortcut(n_in, width, stride)

    def forward(self, x):
        return F.relu(self.branch(x) + self.shortcut(x))


class _Bottleneck(nn.Module):
    """A 3x3 convolution between two of 1x1, added to the input."""

    expansion = 4

    def __init__(self, n_in, width, stride):
        super().__init__()
        self.branch = nn.Sequential(
            _convolution(n_in, width, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            _convolution(width, width, 3, stride),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            _convolution(width, 4 * width, 1),
            nn.BatchNorm2d(4 * width),
        )
        self.shortcut = _shortcut(n_in, 4 * width, stride)

    def forward(self, x):
        return F.relu(self.branch(x) + self.shortcut(x))


def _shortcut(n_in, n_out, stride):
    """Return the identity, or a projection where the shape changes."""
    if n_in == n_out and stride == 1:
        return nn.Identity()
    return nn.Sequential(_convolution(n_in, n_out, 1, stride), nn.BatchNorm2d(n_out))


def _convolution(n_in, n_out, size, stride=1):
    layer = nn.Conv2d(n_in, n_out, size, stride=stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def _check_size(image_shape, depth, width, stem_stride):
    if min(image_shape[1:]) < 4:
        raise ValueError(
            f"image_shape is {tuple(image_shape)}; ResNet needs height and width of at "
            "least 4. Use MLP for smaller inputs."
        )
    if depth not in _N_BLOCKS:
        raise ValueError(f"depth is {depth!r}; expected one of {sorted(_N_BLOCKS)}.")
    if width < 1:
        raise ValueError(f"width is {width!r}; expected at least 1 channel.")
    if stem_stride is not None and stem_stride < 1:
        raise ValueError(f"stem_stride is {stem_stride!r}; expected None or >= 1.")
