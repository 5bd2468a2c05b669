"""Fitted scikit-learn estimators as differentiable functions of torch tensors.

Importing this package registers the forms of all estimators with ``as_torch``.
"""

from robustfit.sklearn_to_torch import (  # noqa: F401
    columns,
    curves,
    ensembles,
    kernel_machines,
    linear_models,
    transformers,
)
from robustfit.sklearn_to_torch.black_box import as_black_box
from robustfit.sklearn_to_torch.torch_classifier import (
    TorchClassifier,
    as_torch,
    transformer_as_torch,
)
from robustfit.sklearn_to_torch.torch_function import TorchFunction

__all__ = [
    "TorchClassifier",
    "TorchFunction",
    "as_black_box",
    "as_torch",
    "transformer_as_torch",
]
