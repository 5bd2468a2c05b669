"""The convolutional kernel against a direct sum, wide nets and finite differences."""

import numpy as np
import pytest
import torch
from torch import nn

from robustfit.exceptions import ImageShapeError
from robustfit.kernels import ConvolutionalNTK, EmpiricalNTK, FullyConnectedNTK


class NTKConvolution(nn.Module):
    """A 3x3 convolution of standard normal weights, scaled in the forward pass."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in, 3, 3))

    def forward(self, x):
        scale = (2 / (9 * self.weight.shape[1])) ** 0.5
        return nn.functional.conv2d(x, self.weight * scale, padding=1)


class Readout(nn.Module):
    def __init__(self, n_in, is_gap):
        super().__init__()
        self.weight, self.is_gap = nn.Parameter(torch.randn(n_in)), is_gap

    def forward(self, x):
        x = x.mean((2, 3)) if self.is_gap else x.flatten(1)
        return (x @ self.weight)[:, None] * (2 / len(self.weight)) ** 0.5


def wide_net(width, channels, side, is_gap):
    return nn.Sequential(
        NTKConvolution(channels, width),
        nn.ReLU(),
        NTKConvolution(width, width),
        nn.ReLU(),
        Readout(width if is_gap else width * side**2, is_gap),
    )


@pytest.mark.parametrize("readout", ["flatten", "gap"])
def test_wide_nets_converge_to_the_kernel(readout):
    shape = (2, 3, 3)
    X = torch.rand(
        3, 18, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    exact = ConvolutionalNTK(2, shape, readout, dtype="float64")(X)
    errors = []
    for width in (16, 256):
        torch.manual_seed(0)
        nets = [wide_net(width, 2, 3, readout == "gap") for _ in range(4)]
        found = [EmpiricalNTK(n, image_shape=shape, dtype="float64")(X) for n in nets]
        errors.append(((sum(found) / 4 - exact).norm() / exact.norm()).item())
    assert errors[1] < 0.06
    assert errors[1] < errors[0]


@pytest.mark.parametrize("readout", ["flatten", "gap"])
def test_one_pixel_is_fully_connected(readout):
    """On 1x1 images only a window's centre counts: a ninth of the variance a layer."""
    X = np.random.default_rng(0).normal(size=(4, 5))
    convolutional = ConvolutionalNTK(3, (5, 1, 1), readout, w_std=1.2, dtype="float64")
    dense = FullyConnectedNTK(3, w_std=1.2 / 3, dtype="float64")
    # The output layer is no convolution, so it lacks the ninth.
    np.testing.assert_allclose(convolutional(X), 9 * dense(X), rtol=1e-9)


@pytest.mark.parametrize("readout", ["flatten", "gap"])
@pytest.mark.parametrize("b_std", [0.0, 0.3])
def test_gradients_equal_finite_differences(readout, b_std):
    kernel = ConvolutionalNTK(
        2, (2, 2, 3), readout, b_std=b_std, dtype="float64", block_size=2
    )
    generator = torch.Generator().manual_seed(0)
    x, y = (
        torch.rand(n, 12, dtype=torch.float64, generator=generator, requires_grad=True)
        for n in (2, 1)
    )
    assert torch.autograd.gradcheck(kernel, (x, y))
    assert torch.autograd.gradcheck(kernel, (x,))
    assert torch.autograd.gradcheck(kernel.diag, (x,))


@pytest.mark.parametrize("readout", ["flatten", "gap"])
def test_duplicates_zero_borders_and_blank_images(readout):
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(5, 1, 6, 6)
    x[:3, :, 2:4, 2:4] = torch.rand(3, 1, 2, 2, generator=generator)
    x[3] = x[0]
    x.requires_grad_()
    kernel = ConvolutionalNTK(2, (1, 6, 6), readout, block_size=2)
    K = kernel(x)
    (gradient,) = torch.autograd.grad(K.sum(), x)
    assert torch.isfinite(K).all()
    assert torch.isfinite(gradient).all()
    assert torch.equal(K, K.T)
    torch.testing.assert_close(K[0, 3], K[0, 0])
    torch.testing.assert_close(K.diagonal(), kernel.diag(x))
    assert K[4].abs().max() == 0
    assert torch.linalg.eigvalsh(K.detach().double()).min() > -1e-5 * K.max()


def test_gap_does_not_know_where_things_are():
    x = torch.zeros(2, 1, 8, 8, dtype=torch.float64)
    x[0, 0, 3, 3] = x[1, 0, 4, 4] = 1.0
    options = {"dtype": "float64"}
    gap = ConvolutionalNTK(1, (1, 8, 8), "gap", **options)(x)
    flat = ConvolutionalNTK(1, (1, 8, 8), "flatten", **options)(x)
    torch.testing.assert_close(gap[0, 1], gap[0, 0])
    assert flat[0, 1] < 0.9 * flat[0, 0]


def test_wrong_shapes_are_named():
    with pytest.raises(ImageShapeError, match="64 features"):
        ConvolutionalNTK(1, (1, 4, 4))(np.zeros((2, 64)))
    with pytest.raises(ImageShapeError, match="channels"):
        ConvolutionalNTK(1, (4, 4))(np.zeros((2, 16)))
    with pytest.raises(ValueError, match="readout"):
        ConvolutionalNTK(1, (1, 4, 4), "mean")(np.zeros((2, 16)))
