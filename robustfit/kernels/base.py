"""What every neural kernel shares: numpy and torch in and out, scikit-learn's API."""

import inspect
import math

import numpy as np
import torch
from sklearn.gaussian_process.kernels import Kernel

from robustfit._utils.argument_checks import check_integer, check_number
from robustfit._utils.memory import require_memory
from robustfit._utils.torch_bridge import resolve_device, to_tensor
from robustfit.kernels._blocks import (
    BlockedKernel,
    BlockedProduct,
    fill_blocks,
    peak_bytes,
)

__all__ = ["InfiniteWidthKernel", "NeuralKernel"]

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class NeuralKernel(Kernel):
    """Base class of the kernels; subclasses describe one square block.

    A subclass gives ``_plan(n_features, device)``: an object that fills a block of the
    kernel and takes its vector-Jacobian product (see :mod:`robustfit.kernels._blocks`).
    """

    def __init__(self, *, dtype, block_size, device):
        self.dtype = dtype
        self.block_size = block_size
        self.device = device

    def __call__(self, X, Y=None, eval_gradient=False):
        """Return the kernel between the rows of X and those of Y.

        Parameters
        ----------
        X : array or torch.Tensor of shape (n, n_features) or (n, channels, height, \
width)
        Y : array or torch.Tensor of shape (m, n_features) or more axes, default=None
            ``None`` means ``Y = X``: half the work, and an exactly symmetric result.
        eval_gradient : bool, default=False
            Also return the gradient in the tuned hyperparameters, of which there are
            none: an array (n, n, 0), as scikit-learn's Gaussian processes ask.

        Returns
        -------
        array or torch.Tensor of shape (n, m)
            Of ``dtype``; a tensor on the device of X, with a graph when X or Y has one.
            Do not change it in place before the backward pass, which reads it.
        """
        if eval_gradient and Y is not None and Y is not X:
            raise ValueError(
                "eval_gradient needs Y=None: the gradient is that of K(X)."
            )
        if isinstance(X, torch.Tensor):
            return self._evaluate(self._rows(X), self._rows(Y, X))
        x = self._rows(self._to_tensor(X))
        y = None if Y is None or Y is X else self._rows(self._to_tensor(Y), x)
        with torch.no_grad():
            K = self._evaluate(x, y).cpu().numpy()
        return (K, np.empty((*K.shape, 0))) if eval_gradient else K

    def diag(self, X):
        """Return the kernel of each row with itself, shape (n,), in closed form."""
        if isinstance(X, torch.Tensor):
            x = self._rows(X)
            return self._plan(x.shape[1], x.device).diagonal(x)
        with torch.no_grad():
            return self.diag(self._to_tensor(X)).cpu().numpy()

    def product(self, X, Y, weights):
        """Return ``kernel(X, Y) @ weights`` without ever holding the kernel.

        Parameters
        ----------
        X, Y : torch.Tensor of shape (n, n_features), (m, n_features) or more axes
        weights : torch.Tensor of shape (m, k)
            For example the dual coefficients of a kernel regression on k classes.

        Returns
        -------
        torch.Tensor of shape (n, k)
            Differentiable in all three; the backward pass holds one block of the
            kernel, which it computes anew.
        """
        x, y = self._rows(X), self._rows(Y, X)
        y, weights = x if y is None else y, weights.to(self._dtype)
        plan = self._plan(x.shape[1], x.device)
        return BlockedProduct.apply(plan, x, y, weights)

    def is_stationary(self):
        """Return False: the kernel depends on more than the difference of rows."""
        return False

    def memory_needed(self, n, m=None, *, n_features=None, gradient=False):
        """Return the bytes that ``kernel(X, Y)`` takes at its peak, output included.

        Parameters
        ----------
        n, m : int
            Rows of X and of Y; ``m=None`` means ``Y=None``.
        n_features : int, default=None
            Features a row. ``None`` takes those of ``image_shape``, or 784; they
            matter for the gradients and little for the rest.
        gradient : bool, default=False
            Count the backward pass: the gradient of the output and those of X and Y.

        Returns
        -------
        int
            The (n, m) output and the scratch of one block; not X and Y themselves.
        """
        self._check_parameters()
        if n_features is None:
            n_features = math.prod(getattr(self, "image_shape", None) or (784,))
        plan = self._plan(n_features, resolve_device(self.device))
        return peak_bytes(plan, n, m, n_features, self._dtype, gradient)

    @property
    def _dtype(self):
        return DTYPES[self.dtype]

    def _evaluate(self, x, y):
        needs_graph = torch.is_grad_enabled() and (
            x.requires_grad or (y is not None and y.requires_grad)
        )
        plan = self._plan(x.shape[1], x.device)
        m = None if y is None else len(y)
        needed = peak_bytes(plan, len(x), m, x.shape[1], self._dtype, False)
        require_memory(needed, x.device, f"{self!r} of {len(x)} x {m or len(x)} rows")
        if needs_graph:
            return BlockedKernel.apply(plan, x, y)
        return fill_blocks(plan, x.detach(), None if y is None else y.detach())

    def _rows(self, x, like=None):
        """Return tensor ``x`` as (n, n_features) of the kernel's dtype."""
        if x is None or x is like:
            return None
        if not isinstance(x, torch.Tensor):
            raise TypeError(
                f"X is a torch.Tensor and Y a {type(x).__name__}; pass two tensors or "
                "two arrays."
            )
        if x.ndim < 2:
            raise ValueError(
                f"A row set has shape {tuple(x.shape)}; expected (n, n_features), or "
                "(n, channels, height, width). Use x[None] for a single row."
            )
        self._check_parameters()
        x = x.reshape(len(x), math.prod(x.shape[1:])).to(self._dtype)
        if like is not None and math.prod(like.shape[1:]) != x.shape[1]:
            raise ValueError(
                f"X has {math.prod(like.shape[1:])} features a row and Y has "
                f"{x.shape[1]}; expected the same number."
            )
        return x

    def _to_tensor(self, X):
        self._check_parameters()
        X = np.asarray(X)
        if not np.isfinite(X).all():
            raise ValueError("X or Y holds NaN or infinity; expected finite numbers.")
        return to_tensor(X, resolve_device(self.device), self._dtype)

    def _check_parameters(self):
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is {self.dtype!r}; expected one of {[*DTYPES]}.")
        if self.block_size != "auto":
            check_integer("block_size", self.block_size, low=1)

    def __repr__(self):
        signature = inspect.signature(type(self).__init__)
        shown = [
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if value is not signature.parameters[name].default
            and value != signature.parameters[name].default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


class InfiniteWidthKernel(NeuralKernel):
    """Base class of the kernels of infinitely wide ReLU nets."""

    def __init__(self, depth, *, w_std, b_std, dtype, block_size, device):
        super().__init__(dtype=dtype, block_size=block_size, device=device)
        self.depth = depth
        self.w_std = w_std
        self.b_std = b_std

    def _check_parameters(self):
        super()._check_parameters()
        check_integer("depth", self.depth, low=1)
        check_number("w_std", self.w_std, low=0, open_low=True)
        check_number("b_std", self.b_std, low=0)
