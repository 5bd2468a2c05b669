"""Convolutions of images with one channel whose input gradient is quick on CPUs.

The kernels of CPU libraries work on blocks of channels, so the gradient to an input of
one channel costs several times what its arithmetic needs. As a matrix product of the
kernels, added up where they overlap, it does not.
"""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["ThinConvolution", "is_thin"]


def is_thin(part):
    """Return whether a module is a convolution that :class:`ThinConvolution` can be."""
    return (
        isinstance(part, nn.Conv2d)
        and part.in_channels == 1
        and part.padding_mode == "zeros"
        and not isinstance(part.padding, str)
    )


class ThinConvolution(nn.Module):
    """A frozen ``Conv2d`` of one input channel with another way to its gradient.

    Parameters
    ----------
    convolution : torch.nn.Conv2d
        One that :func:`is_thin`. Its parameters get no gradients.
    """

    def __init__(self, convolution):
        super().__init__()
        self.convolution = convolution

    def forward(self, x):
        """Return what the convolution returns."""
        if x.ndim != 4 or not (x.requires_grad and torch.is_grad_enabled()):
            return self.convolution(x)
        return _WithQuickGradient.apply(x, self.convolution)


class _WithQuickGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, convolution):
        ctx.convolution, ctx.size = convolution, x.shape[2:]
        return convolution(x)

    @staticmethod
    def backward(ctx, gradient):
        part = ctx.convolution
        dtype = torch.promote_types(part.weight.dtype, torch.float32)
        kernels = part.weight.detach().to(dtype).flatten(1)
        columns = kernels.T @ gradient.to(dtype).flatten(2)
        image = F.fold(
            columns,
            ctx.size,
            part.kernel_size,
            dilation=part.dilation,
            padding=part.padding,
            stride=part.stride,
        )
        return image, None
