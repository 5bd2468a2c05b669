"""Fitted scikit-learn estimators as differentiable functions of torch tensors.

Importing this package registers the forms of all estimators with ``as_torch``.
"""

from robustfit.sklearn_to_torch import (  # noqa: F401
    ensembles,
    kernel_machines,
    linear_models,
    transformers,
)
