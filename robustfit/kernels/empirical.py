"""The neural tangent kernel of a torch module as it is, with finite width."""

import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap

from robustfit._utils.torch_bridge import eval_mode
from robustfit.kernels._fully_connected_plans import AutogradPlan
from robustfit.kernels.base import NeuralKernel

__all__ = ["EmpiricalNTK"]

# Numbers in the Jacobian of one block's rows.
_JACOBIAN_ENTRIES = 2**24


class EmpiricalNTK(NeuralKernel):
    r"""Neural tangent kernel of a torch module at its present weights.

    Parameters
    ----------
    module : torch.nn.Module
        Takes (n, n_features), or (n, \*image_shape), to (n, n_outputs). It is used in
        eval mode and not changed.
    image_shape : tuple of int or None, default=None
        Shape of one input of the module; None for flat inputs.
    dtype : {"float32", "float64"}, default="float32"
        Of the computation and of the result; parameters are cast.
    block_size : int or "auto", default="auto"
        Rows and columns of the blocks that the kernel is computed in.
    device : str, default="auto"
        Where numpy arrays are worked on; tensors stay where they are.

    See Also
    --------
    FullyConnectedNTK : The limit of infinite width.

    Notes
    -----
    ``k(x, y) = mean_c <d f_c(x) / d theta, d f_c(y) / d theta>``: Eq. 5 of Tsilivis,
    Su and Kempe, "Can we achieve robustness from data alone?", with the trace over
    outputs divided by their number, as neural-tangents does.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from robustfit.kernels import EmpiricalNTK
    >>> kernel = EmpiricalNTK(nn.Linear(2, 3))
    >>> kernel(np.array([[1.0, 0.0], [1.0, 2.0]]))
    array([[2., 2.],
           [2., 6.]], dtype=float32)
    """

    def __init__(
        self,
        module,
        *,
        image_shape=None,
        dtype="float32",
        block_size="auto",
        device="auto",
    ):
        super().__init__(dtype=dtype, block_size=block_size, device=device)
        self.module = module
        self.image_shape = image_shape

    def _check_parameters(self):
        super()._check_parameters()
        if not isinstance(self.module, nn.Module):
            raise TypeError(
                f"module is a {type(self.module).__name__}; expected a torch.nn.Module."
            )

    def _plan(self, n_features, device):
        return _JacobianPlan(self, n_features, device)


class _JacobianPlan(AutogradPlan):
    """Products of Jacobians, parameter by parameter."""

    def __init__(self, kernel, n_features, device):
        self.module = kernel.module
        self.shape = kernel.image_shape or (n_features,)
        where = {"dtype": kernel._dtype, "device": device}
        self.parameters = {
            name: parameter.detach().to(**where)
            for name, parameter in self.module.named_parameters()
        }
        self.buffers = {
            name: buffer.to(**where)
            if buffer.is_floating_point()
            else buffer.to(device)
            for name, buffer in self.module.named_buffers()
        }
        with torch.no_grad(), eval_mode(self.module):
            n_outputs = self._output(self.parameters, torch.zeros(n_features, **where))
        n_parameters = sum(p.numel() for p in self.parameters.values())
        self.row_entries = n_parameters * n_outputs.numel()
        self.block_size = kernel.block_size
        if self.block_size == "auto":
            self.block_size = max(1, min(512, _JACOBIAN_ENTRIES // self.row_entries))

    def scratch_entries(self, n_rows, n_columns, n_features):
        """Return how many numbers a block holds at once."""
        return 3 * (n_rows + n_columns) * self.row_entries + 2 * n_rows * n_columns

    def diagonal(self, x):
        """Return the kernel of each row with itself."""
        blocks = [self._jacobians(rows) for rows in x.split(self.block_size)]
        return torch.cat(
            [
                sum((part**2).sum((1, 2)) / part.shape[1] for part in jacobians)
                for jacobians in blocks
            ]
        )

    def plain(self, x, y):
        """Return the kernel by torch operations."""
        return sum(
            of_x.flatten(1) @ of_y.flatten(1).T / of_x.shape[1]
            for of_x, of_y in zip(self._jacobians(x), self._jacobians(y), strict=True)
        )

    def _jacobians(self, x):
        """Return a tensor (n, n_outputs, size) for each parameter."""
        with eval_mode(self.module):
            found = vmap(jacrev(self._output), (None, 0))(self.parameters, x)
        return [jacobian.flatten(2) for jacobian in found.values()]

    def _output(self, parameters, row):
        state = {**parameters, **self.buffers}
        return functional_call(
            self.module, state, row.reshape(1, *self.shape)
        ).flatten()
