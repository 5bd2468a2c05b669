"""Differentiable forms of scikit-learn's scalers and projections.

Those that are no straight lines are in :mod:`robustfit.sklearn_to_torch.curves`.
"""

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    RobustScaler,
    StandardScaler,
)
from sklearn.utils.validation import check_is_fitted
from torch import nn

from robustfit._utils.torch_bridge import to_tensor
from robustfit.exceptions import NotDifferentiableError
from robustfit.sklearn_to_torch.torch_classifier import transformer_as_torch


class _Affine(nn.Module):
    """``x * scale + offset``, column by column, on flattened rows."""

    is_affine = True  # what structures/affine.py asks

    def __init__(self, scale, offset):
        super().__init__()
        self.register_buffer("scale", to_tensor(scale))
        self.register_buffer("offset", to_tensor(offset))

    def forward(self, x):
        return x * self.scale + self.offset


@transformer_as_torch.register
def _(transformer: StandardScaler):
    check_is_fitted(transformer)
    n_features = transformer.n_features_in_
    scale = transformer.scale_ if transformer.with_std else np.ones(n_features)
    mean = transformer.mean_ if transformer.with_mean else np.zeros(n_features)
    return _Affine(1 / scale, -mean / scale)


@transformer_as_torch.register
def _(transformer: MinMaxScaler):
    check_is_fitted(transformer)
    _refuse_clipping(transformer)
    return _Affine(transformer.scale_, transformer.min_)


@transformer_as_torch.register
def _(transformer: MaxAbsScaler):
    check_is_fitted(transformer)
    _refuse_clipping(transformer)
    return _Affine(1 / transformer.scale_, np.zeros_like(transformer.scale_))


def _refuse_clipping(scaler):
    if getattr(scaler, "clip", False):  # of MaxAbsScaler since scikit-learn 1.8
        raise NotDifferentiableError(
            f"{type(scaler).__name__}(clip=True) has zero gradients outside the "
            "training range; use clip=False."
        )


@transformer_as_torch.register
def _(transformer: RobustScaler):
    check_is_fitted(transformer)
    n_features = transformer.n_features_in_
    scale = transformer.scale_ if transformer.with_scaling else np.ones(n_features)
    center = transformer.center_ if transformer.with_centering else np.zeros(n_features)
    return _Affine(1 / scale, -center / scale)


class _Projection(nn.Module):
    """``(x - mean) @ components``, added up in float64."""

    is_affine = True

    def __init__(self, mean, components):
        super().__init__()
        self.register_buffer("mean", to_tensor(mean, dtype=torch.float64))
        self.register_buffer("components", to_tensor(components, dtype=torch.float64))

    def forward(self, x):
        return ((x.double() - self.mean) @ self.components).to(x.dtype)


@transformer_as_torch.register
def _(transformer: PCA):
    check_is_fitted(transformer)
    components = transformer.components_.T
    if transformer.whiten:
        scale = np.sqrt(transformer.explained_variance_)
        # Columns that never vary have no variance; scikit-learn divides by this, too.
        components = components / np.maximum(scale, np.finfo(scale.dtype).eps)
    return _Projection(transformer.mean_, components)


class _Normalize(nn.Module):
    """Rows divided by their norm; rows of zeros stay."""

    def __init__(self, order):
        super().__init__()
        self.order = order

    def forward(self, x):
        norm = torch.linalg.vector_norm(x, self.order, dim=1, keepdim=True)
        return x / torch.where(norm > 0, norm, 1.0)


@transformer_as_torch.register
def _(transformer: Normalizer):
    return _Normalize({"l1": 1, "l2": 2, "max": float("inf")}[transformer.norm])
