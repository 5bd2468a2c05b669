"""Neural tangent and Gaussian process kernels of fully connected ReLU nets."""

from robustfit.kernels._fully_connected_plans import LayerPlan, PolynomialPlan
from robustfit.kernels._polynomials import is_exact
from robustfit.kernels.base import InfiniteWidthKernel

__all__ = ["FullyConnectedNNGP", "FullyConnectedNTK"]


class _FullyConnectedKernel(InfiniteWidthKernel):
    _kind = "ntk"

    def __init__(
        self,
        depth=3,
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

    def _plan(self, n_features, device):
        block_size = self.block_size
        if block_size == "auto":  # on a CPU a block fits in the second-level cache
            block_size = 512 if device.type == "cpu" else 4096
        if self.b_std > 0 or not is_exact(self.depth, self._kind, self._dtype):
            return LayerPlan(self.depth, self._kind, self.w_std, self.b_std, block_size)
        return PolynomialPlan(
            self.depth, self._kind, self.w_std, n_features, self._dtype, block_size
        )


class FullyConnectedNTK(_FullyConnectedKernel):
    """Neural tangent kernel of an infinitely wide fully connected ReLU net.

    The net has ``depth`` hidden layers and one linear output layer in the NTK
    parametrisation: a layer computes ``w_std W h / sqrt(fan_in) + b_std b`` with
    standard normal W and b. It is that of ``neural_tangents.stax.serial(Dense(512,
    w_std, b_std), Relu(), ..., Dense(1, w_std, b_std))`` with ``depth`` pairs of Dense
    and Relu. The FC3 and FC7 of the papers on kernel inducing points are depth 3 and 7.

    Parameters
    ----------
    depth : int, default=3
        Number of hidden (ReLU) layers, >= 1. Without bias it costs no time.
    w_std : float, default=sqrt(2)
        Standard deviation of weights, > 0, output layer included. ``sqrt(2)`` keeps
        the variance of activations.
    b_std : float, default=0.0
        Standard deviation of biases, >= 0. Above 0 the kernel is computed layer by
        layer, which is several times slower.
    dtype : {"float32", "float64"}, default="float32"
        Of the computation and of the result.
    block_size : int or "auto", default="auto"
        Rows and columns of the blocks that the kernel is computed in.
    device : str, default="auto"
        Where numpy arrays are worked on; tensors stay where they are.

    See Also
    --------
    FullyConnectedNNGP : The kernel of the net at its initialisation.

    Notes
    -----
    Gradients in X and Y are closed forms. The kernel has a cusp where a row of X and a
    row of Y are parallel (duplicates): there the gradient of the angle counts as zero,
    the mean over all directions. On the diagonal of ``kernel(X)`` that is exact.

    Without bias the NTK is ``|x| |y| kappa(t)`` times a constant, with t the cosine,
    and kappa of any depth is a polynomial in ``sqrt((1 - t) / 2)`` to within rounding.

    References
    ----------
    A. Jacot, F. Gabriel, C. Hongler, "Neural Tangent Kernel: Convergence and
    Generalization in Neural Networks", NeurIPS 2018. Y. Cho, L. Saul, "Kernel Methods
    for Deep Learning", NeurIPS 2009. N. Tsilivis, J. Su, J. Kempe, "Can we achieve
    robustness from data alone?", 2022, Eq. 5.

    Examples
    --------
    >>> import numpy as np
    >>> from robustfit.kernels import FullyConnectedNTK
    >>> kernel = FullyConnectedNTK(depth=1)
    >>> kernel(np.array([[1.0, 0.0], [0.0, 1.0]])).round(4)
    array([[2.    , 0.3183],
           [0.3183, 2.    ]], dtype=float32)
    """


class FullyConnectedNNGP(_FullyConnectedKernel):
    """Covariance of an infinitely wide fully connected ReLU net at initialisation.

    The net is that of :class:`FullyConnectedNTK`, and so are the parameters.

    Parameters
    ----------
    depth : int, default=3
        Number of hidden (ReLU) layers, >= 1.
    w_std : float, default=sqrt(2)
        Standard deviation of weights, > 0.
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
    FullyConnectedNTK : The kernel that describes the net's training.

    References
    ----------
    J. Lee et al., "Deep Neural Networks as Gaussian Processes", ICLR 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from robustfit.kernels import FullyConnectedNNGP
    >>> kernel = FullyConnectedNNGP(depth=1)
    >>> kernel(np.array([[1.0, 0.0], [0.0, 1.0]])).round(4)
    array([[1.    , 0.3183],
           [0.3183, 1.    ]], dtype=float32)
    """

    _kind = "nngp"
