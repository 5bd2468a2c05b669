"""Natural training of the estimator on the learned set, and what it should end at."""

import numpy as np
import torch
from sklearn.base import clone

from robustfit.robustifiers.convex_learning.affine_scalers import fit_scalers
from robustfit.robustifiers.convex_learning.convex_form import split_pipeline

__all__ = ["fit_naturally", "put_robust_weights"]


def fit_naturally(estimator, X, y, sample_weight, seed):
    """Return a clone of ``estimator`` fitted on flat rows; the weights reach its end.

    Parameters
    ----------
    estimator : estimator
        For which :func:`is_convex` is true.
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    sample_weight : ndarray of shape (n_samples,) or None
    seed : int
        For a model without a ``random_state`` of its own.
    """
    fitted = clone(estimator)
    scalers, model = split_pipeline(fitted)
    if model.get_params().get("random_state", seed) is None:
        model.set_params(random_state=seed)
    for scaler in scalers:
        X = scaler.fit_transform(X)
    model.fit(X, y, sample_weight=sample_weight)
    return fitted


def put_robust_weights(fitted, function, X):
    """Give a fitted estimator the weights of ``function``; return how far it was off.

    Parameters
    ----------
    fitted : estimator
        Of :func:`fit_naturally`, on ``X``; changed in place.
    function : LinearFunction
    X : ndarray of shape (n_samples, n_features)

    Returns
    -------
    float
        Distance of its weights from those put there, relative to their length.
    """
    scalers, model = split_pipeline(fitted)
    offset, scale = fit_scalers(scalers, torch.as_tensor(X, dtype=torch.float64))
    weights, intercepts = function.seen_by_model(offset, scale)
    weights = weights.numpy().reshape(np.shape(model.coef_))
    distance = np.linalg.norm(model.coef_ - weights)
    model.coef_ = weights
    if model.fit_intercept:
        model.intercept_ = intercepts.numpy().reshape(np.shape(model.intercept_))
    return float(distance / max(np.linalg.norm(weights), np.finfo(float).tiny))
