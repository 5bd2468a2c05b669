"""Differentiable forms of scikit-learn's transforms that bend each column."""

import numpy as np
import torch
from sklearn.preprocessing import PowerTransformer, QuantileTransformer
from sklearn.utils.validation import check_is_fitted
from torch import nn

from robustfit._utils.sklearn_private import power_scaler
from robustfit._utils.torch_bridge import to_tensor
from robustfit.sklearn_to_torch.torch_classifier import transformer_as_torch

_NEAR_THE_ENDS = 1e-7  # of the quantiles, as in scikit-learn


class _Power(nn.Module):
    """The transforms of Yeo & Johnson (2000) and Box & Cox (1964), in float64."""

    lambdas: torch.Tensor

    def __init__(self, lambdas, is_yeo_johnson):
        super().__init__()
        self.register_buffer("lambdas", to_tensor(lambdas, dtype=torch.float64))
        self.is_yeo_johnson = is_yeo_johnson

    def forward(self, x):
        x, power = x.double(), self.lambdas
        if not self.is_yeo_johnson:
            return _power_of_log(x.log(), power)
        # One of the two is 0, and keeps a gradient on its own side.
        above, below = torch.where(x >= 0, x, 0.0), torch.where(x < 0, -x, 0.0)
        return _power_of_log(above.log1p(), power) - _power_of_log(
            below.log1p(), 2 - power
        )


def _power_of_log(log, power):
    """Return ``(exp(log) ** power - 1) / power``, which is ``log`` for power 0."""
    divisor = torch.where(power == 0, 1.0, power)
    return torch.where(power == 0, log, torch.expm1(power * log) / divisor)


class _Float32(nn.Module):
    """Back to the float type that comes next."""

    def forward(self, x):
        return x.float()


class _Shift(nn.Module):
    """``(x - mean) / scale`` in float64."""

    def __init__(self, scaler):
        super().__init__()
        self.register_buffer("mean", to_tensor(scaler.mean_, dtype=torch.float64))
        self.register_buffer("scale", to_tensor(scaler.scale_, dtype=torch.float64))

    def forward(self, x):
        return (x - self.mean) / self.scale


@transformer_as_torch.register
def _(transformer: PowerTransformer):
    check_is_fitted(transformer)
    power = _Power(transformer.lambdas_, transformer.method == "yeo-johnson")
    if not transformer.standardize:
        return nn.Sequential(power, _Float32())
    return nn.Sequential(power, _Shift(power_scaler(transformer)), _Float32())


class _Quantiles(nn.Module):
    """The place of a value among the quantiles of its column, a broken line.

    Parameters
    ----------
    quantiles : ndarray of shape (n_quantiles, n_features)
    references : ndarray of shape (n_quantiles,)
    is_normal : bool
        Whether a normal distribution comes out, else a uniform one.
    """

    quantiles: torch.Tensor
    references: torch.Tensor

    def __init__(self, quantiles, references, is_normal):
        super().__init__()
        rising = np.ascontiguousarray(quantiles.T)
        self.register_buffer("quantiles", to_tensor(rising, dtype=torch.float64))
        self.register_buffer("references", to_tensor(references, dtype=torch.float64))
        self.is_normal = is_normal

    def forward(self, x):
        values = x.double().T.contiguous()
        rising, places = self.quantiles, self.references
        # Both ways, as scikit-learn does: equal quantiles share the middle place.
        place = 0.5 * (
            _interpolate(values, rising, places)
            - _interpolate(-values, -rising.flip(1), -places.flip(0))
        )
        margin = _NEAR_THE_ENDS if self.is_normal else 0.0
        place = torch.where(values + margin > rising[:, -1:], 1.0, place)
        place = torch.where(values - margin < rising[:, :1], 0.0, place)
        place = torch.where(values == rising[:, -1:], 1.0, place)
        place = torch.where(values == rising[:, :1], 0.0, place)
        if self.is_normal:
            nearest = _NEAR_THE_ENDS - np.spacing(1)
            place = place.clamp_min(nearest).clamp_max(1 - nearest)
            place = torch.special.ndtri(place)
        return place.T.to(x.dtype)


def _interpolate(values, points, heights):
    """Return ``np.interp`` row by row: ``values`` (n, m), ``points`` (n, k)."""
    right = torch.searchsorted(points, values, right=True)
    right = right.clamp_min(1).clamp_max(points.shape[1] - 1)
    start, end = points.gather(1, right - 1), points.gather(1, right)
    width = torch.where(end > start, end - start, 1.0)
    share = (values - start) / width
    share = torch.where(values > points[:, -1:], 1.0, share)
    share = torch.where(values < points[:, :1], 0.0, share)
    low, high = heights[right - 1], heights[right]
    return low + share * (high - low)


@transformer_as_torch.register
def _(transformer: QuantileTransformer):
    check_is_fitted(transformer)
    return _Quantiles(
        transformer.quantiles_,
        transformer.references_,
        transformer.output_distribution == "normal",
    )
