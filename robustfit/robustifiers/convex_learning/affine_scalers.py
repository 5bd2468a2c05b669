"""scikit-learn's affine scalers as differentiable functions of the training set."""

import numpy as np
import torch
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler

__all__ = ["AFFINE_SCALERS", "fit_scalers"]


def fit_scalers(scalers, x):
    """Return offset and scale that scalers learn from ``x``: ``(x - offset) / scale``.

    Parameters
    ----------
    scalers : list of estimators
        Unfitted, of the types of ``AFFINE_SCALERS``, applied one after the other.
    x : torch.Tensor of shape (n_samples, n_features)

    Returns
    -------
    offset, scale : torch.Tensor of shape (n_features,)
        With gradients to ``x``.
    """
    offset, scale = torch.zeros_like(x[0]), torch.ones_like(x[0])
    for scaler in scalers:
        own_offset, own_scale = AFFINE_SCALERS[type(scaler)](
            scaler, (x - offset) / scale
        )
        offset, scale = offset + scale * own_offset, scale * own_scale
    return offset, scale


def _standard(scaler, x):
    mean = x.mean(0)
    spread = (x - mean).square().mean(0)
    scale = torch.ones_like(mean)
    if scaler.with_std:
        scale = torch.where(_varies(x), spread, 1.0).sqrt()
    return (mean if scaler.with_mean else torch.zeros_like(mean)), scale


def _min_max(scaler, x):
    low, high = scaler.feature_range
    smallest = x.amin(0)
    width = torch.where(_varies(x), x.amax(0) - smallest, 1.0) / (high - low)
    return smallest - low * width, width


def _max_abs(scaler, x):
    largest = x.abs().amax(0)
    return torch.zeros_like(largest), torch.where(largest > 0, largest, 1.0)


def _varies(x):
    """Tell which columns scikit-learn does not take for constant."""
    spread = (x.amax(0) - x.amin(0)).detach()
    return spread > 10 * np.finfo(np.float64).eps * x.detach().abs().amax(0)


AFFINE_SCALERS = {
    StandardScaler: _standard,
    MinMaxScaler: _min_max,
    MaxAbsScaler: _max_abs,
}
