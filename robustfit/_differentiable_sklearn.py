"""Differentiable forms of scikit-learn's estimators, registered with ``as_torch``.

Importing this module registers all of them.
"""

from robustfit import (  # noqa: F401
    _differentiable_ensembles,
    _differentiable_kernels,
    _differentiable_linear,
    _differentiable_transformers,
)
