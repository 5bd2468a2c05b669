"""Neural tangent kernels of convolutional ReLU nets."""

import math

import torch
from torch.nn.functional import avg_pool2d, pad

from robustfit._utils.argument_checks import check_integer
from robustfit.exceptions import ImageShapeError
from robustfit.kernels._fully_connected_plans import AutogradPlan
from robustfit.kernels._relu_layer import ReluLayer
from robustfit.kernels.base import InfiniteWidthKernel

__all__ = ["ConvolutionalNTK"]

READOUTS = ("flatten", "gap")

# Covariances of pixels that one block holds, at about 10 + 6 depth buffers of them.
_BLOCK_ENTRIES = 2**20


class ConvolutionalNTK(InfiniteWidthKernel):
    """Neural tangent kernel of an infinitely wide convolutional ReLU net.

    The net has ``depth`` 3x3 convolutions of stride 1 with zero padding ("same"), each
    with a ReLU, and one linear output layer on all pixels ("flatten") or on their mean
    over the image ("gap"), in the NTK parametrisation of :class:`FullyConnectedNTK`.
    The Conv3 of the papers on kernel inducing points is depth 3 with "flatten".

    Parameters
    ----------
    depth : int
        Number of convolutions, >= 1.
    image_shape : tuple of (int, int, int)
        Channels, height and width. Rows may be flat or images of this shape.
    readout : {"flatten", "gap"}, default="flatten"
        "gap" needs the covariance of every pair of pixels: height x width times the
        work and memory of "flatten", so it is for small images.
    w_std : float, default=sqrt(2)
        Standard deviation of weights, > 0, output layer included.
    b_std : float, default=0.0
        Standard deviation of biases, >= 0.
    dtype : {"float32", "float64"}, default="float32"
        Of the computation and of the result.
    block_size : int or "auto", default="auto"
        Rows and columns of the blocks that the kernel is computed in.
    device : str, default="auto"
        Where numpy arrays are worked on; tensors stay where they are.

    See Also
    --------
    FullyConnectedNTK : Thousands of times faster.

    References
    ----------
    S. Arora, S. Du, W. Hu, Z. Li, R. Salakhutdinov, R. Wang, "On Exact Computation with
    an Infinitely Wide Neural Net", NeurIPS 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from robustfit.kernels import ConvolutionalNTK
    >>> kernel = ConvolutionalNTK(1, (1, 2, 2))
    >>> kernel(np.array([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]])).round(4)
    array([[0.8889, 0.1415],
           [0.1415, 0.8889]], dtype=float32)
    """

    def __init__(
        self,
        depth,
        image_shape,
        readout="flatten",
        *,
        w_std=2**0.5,
        b_std=0.0,
        dtype="float32",
        block_size="auto",
        device="auto",
    ):
        super().__init__(
            depth,
            w_std=w_std,
            b_std=b_std,
            dtype=dtype,
            block_size=block_size,
            device=device,
        )
        self.image_shape = image_shape
        self.readout = readout

    def _check_parameters(self):
        super()._check_parameters()
        if self.readout not in READOUTS:
            raise ValueError(
                f"readout is {self.readout!r}; expected one of {READOUTS}."
            )
        if len(self.image_shape) != 3:
            raise ImageShapeError(
                f"image_shape is {self.image_shape!r}; expected (channels, height, "
                "width)."
            )
        for name, size in zip(
            ("channels", "height", "width"), self.image_shape, strict=True
        ):
            check_integer(name, size, low=1)

    def _plan(self, n_features, device):
        if n_features != math.prod(self.image_shape):
            raise ImageShapeError(
                f"X has {n_features} features a row; image_shape="
                f"{tuple(self.image_shape)} has {math.prod(self.image_shape)}."
            )
        return _ConvolutionPlan(self, device)


class _ConvolutionPlan(AutogradPlan):
    """Covariances of a pixel with the same pixel, or of all pairs of pixels."""

    def __init__(self, kernel, device):
        self.depth, self.image_shape = kernel.depth, tuple(kernel.image_shape)
        self.all_pairs = kernel.readout == "gap"
        self.w_var, self.b_var = kernel.w_std**2, kernel.b_std**2
        n_pixels = math.prod(self.image_shape[1:])
        self.n_entries = n_pixels**2 if self.all_pairs else n_pixels
        self.block_size = kernel.block_size
        if self.block_size == "auto":
            larger = 1 if device.type == "cpu" else 64
            pairs = larger * _BLOCK_ENTRIES / self.n_entries
            self.block_size = max(1, int(math.sqrt(pairs)))

    def scratch_entries(self, n_rows, n_columns, n_features):
        """Return how many numbers a block holds at once."""
        return (12 + 8 * self.depth) * n_rows * n_columns * self.n_entries

    def diagonal(self, x):
        """Return the kernel of each row with itself."""
        blocks = x.split(self.block_size**2)
        return torch.cat([self._propagate(rows, rows) for rows in blocks])

    def plain(self, x, y):
        """Return the kernel by torch operations."""
        return self._propagate(x[:, None], y[None])

    def _propagate(self, x, y):
        """Return the kernel of rows against rows, whose leading axes broadcast."""
        x, y = (rows.reshape(*rows.shape[:-1], *self.image_shape) for rows in (x, y))
        q_x, q_y = (self._convolve_variance((rows**2).mean(-3)) for rows in (x, y))
        tangent = covariance = self._convolve(self._pixel_products(x, y))
        for layer in range(self.depth):
            moment, dot = ReluLayer.apply(covariance, *self._pair_up(q_x, q_y))
            is_last = layer == self.depth - 1
            average = self._average if is_last else self._filter
            covariance = self.w_var * average(moment) + self.b_var
            tangent = covariance + self.w_var * average(dot * tangent)
            if not is_last:
                q_x = self._convolve_variance(q_x / 2)
                q_y = self._convolve_variance(q_y / 2)
        return tangent

    def _pixel_products(self, x, y):
        """Return the mean over channels of products of pixels."""
        if self.all_pairs:
            x, y = x[..., None, None], y[..., None, None, :, :]
            return (x * y).mean(-5)
        return (x * y).mean(-3)

    def _pair_up(self, q_x, q_y):
        if self.all_pairs:
            return q_x[..., None, None], q_y[..., None, None, :, :]
        return q_x, q_y

    def _convolve(self, covariance):
        return self.w_var * self._filter(covariance) + self.b_var

    def _convolve_variance(self, q):
        return self.w_var * _mean_of_3x3(q) + self.b_var

    def _filter(self, covariance):
        if self.all_pairs:
            return _mean_of_shifts(covariance)
        return _mean_of_3x3(covariance)

    def _average(self, covariance):
        return covariance.mean((-4, -3, -2, -1) if self.all_pairs else (-2, -1))


def _mean_of_3x3(values):
    """Return the mean over 3x3 windows of the last two axes, zero-padded."""
    height, width = values.shape[-2:]
    flat = values.reshape(-1, 1, height, width)
    return avg_pool2d(flat, 3, stride=1, padding=1).reshape(values.shape)


def _mean_of_shifts(values):
    """Return the mean over shifts of both pixels of a pair by the same 3x3 window."""
    height, width = values.shape[-2:]
    padded = pad(values, (1, 1, 1, 1, 1, 1, 1, 1))
    rows, columns = slice(0, height), slice(0, width)
    total = torch.zeros_like(values)
    for i in range(3):
        rows = slice(i, i + height)
        for j in range(3):
            columns = slice(j, j + width)
            total = total + padded[..., rows, columns, rows, columns]
    return total / 9
