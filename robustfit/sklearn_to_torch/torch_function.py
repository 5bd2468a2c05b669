"""Functions of tensors in ``FunctionTransformer``, for arrays and with gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from robustfit._utils.input_arrays import plain_array
from robustfit._utils.torch_bridge import to_array
from robustfit.exceptions import NotDifferentiableError
from robustfit.sklearn_to_torch.torch_classifier import transformer_as_torch

__all__ = ["TorchFunction"]

# Functions of NumPy that are the same function in torch.
_IN_TORCH: dict[Any, Callable] = {
    np.abs: torch.abs,
    np.arcsinh: torch.arcsinh,
    np.exp: torch.exp,
    np.expm1: torch.expm1,
    np.log: torch.log,
    np.log1p: torch.log1p,
    np.sqrt: torch.sqrt,
    np.square: torch.square,
    np.tanh: torch.tanh,
}


class TorchFunction:
    """A function of tensors that arrays can be given to, for ``FunctionTransformer``.

    The same function transforms the data and is seen through by gradient attacks, so
    that the model that is attacked is the model that predicts.

    Parameters
    ----------
    function : callable
        Maps a float tensor (n_samples, n_features) to one of as many rows, with torch's
        operations. A function of a module, not a lambda, where the pipeline is to be
        pickled.

    See Also
    --------
    transformer_as_torch : Takes a ``FunctionTransformer`` of one.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn.preprocessing import FunctionTransformer
    >>> from robustfit import TorchFunction, transformer_as_torch
    >>> logarithm = FunctionTransformer(TorchFunction(torch.log1p))
    >>> logarithm.fit_transform(np.array([[0.0, 1.0]])).round(2)
    array([[0.  , 0.69]])
    >>> transformer_as_torch(logarithm)(torch.tensor([[0.0, 1.0]]))
    tensor([[0.0000, 0.6931]])
    """

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]):
        if not callable(function):
            raise TypeError(
                f"function is {function!r}; expected a function of tensors, such as "
                "torch.log1p."
            )
        self.function = function

    def __call__(self, X):
        """Return the function of an array as an array of its float type."""
        X = np.asarray(plain_array(X))
        if X.dtype.kind != "f":
            X = X.astype(np.float64)
        with torch.no_grad():
            return to_array(self.function(torch.tensor(X)))

    def __repr__(self):
        name = getattr(self.function, "__name__", repr(self.function))
        return f"TorchFunction({name})"


class _Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@transformer_as_torch.register
def _(transformer: FunctionTransformer):
    function = transformer.func
    if function is None:
        return None
    if isinstance(function, TorchFunction):
        torch_function = function.function
    elif isinstance(function, np.ufunc) and function in _IN_TORCH:
        torch_function = _IN_TORCH[function]
    else:
        torch_function = None
    if torch_function is None or transformer.kw_args:
        raise NotDifferentiableError(
            f"FunctionTransformer(func={function!r}, kw_args={transformer.kw_args!r}) "
            "has no differentiable form in torch. Write it with torch's operations and "
            "wrap it, FunctionTransformer(TorchFunction(my_function)), without kw_args."
        )
    return _Function(torch_function)
