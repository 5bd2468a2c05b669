"""Which estimators minimise a convex loss, and which loss that is."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from robustfit.robustifiers.convex_learning.affine_scalers import AFFINE_SCALERS
from robustfit.robustifiers.convex_learning.losses import (
    Multinomial,
    OneAgainstRest,
    logistic,
    modified_huber,
    squared,
    squared_hinge,
)

__all__ = ["ConvexForm", "convex_form", "is_convex", "split_pipeline"]

_SGD_LOSSES = {
    "log_loss": logistic,
    "squared_error": squared,
    "squared_hinge": squared_hinge,
    "modified_huber": modified_huber,
}


@dataclass(frozen=True)
class ConvexForm:
    """What natural training of an estimator minimises.

    ``sum_i weights[i] loss(f(x_i), y_i) + penalty / 2 ||W||^2``, and
    ``intercept_penalty / 2 ||b||^2`` where the intercept is penalised.

    Parameters
    ----------
    loss : OneAgainstRest or Multinomial
    weights : ndarray of shape (n_samples,) or (n_samples, n_outputs), float64
    penalty : float
        > 0, which is what makes the minimum unique.
    has_intercept : bool
    intercept_penalty : float
        0 where the intercept is free.
    """

    loss: Any
    weights: np.ndarray
    penalty: float
    has_intercept: bool
    intercept_penalty: float = 0.0


def is_convex(estimator: Any) -> bool:
    """Tell whether :class:`ConvexDatasetLearner` can learn a set for an estimator.

    Parameters
    ----------
    estimator : estimator
        Unfitted or fitted; only its type and parameters are read.

    Returns
    -------
    bool
        True for LogisticRegression, LinearSVC (squared hinge), RidgeClassifier and
        SGDClassifier (smooth losses), all with an l2 penalty, and for a Pipeline of
        StandardScaler, MinMaxScaler or MaxAbsScaler that ends with one of them.

    See Also
    --------
    ConvexDatasetLearner : Learns sets for such estimators.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.svm import SVC
    >>> from robustfit import is_convex
    >>> is_convex(LogisticRegression()), is_convex(SVC())
    (True, False)
    """
    return why_not_convex(estimator) is None


def why_not_convex(estimator):
    """Return in words what keeps an estimator from being convex, or None."""
    scalers, model = split_pipeline(estimator)
    for scaler in scalers:
        if type(scaler) not in AFFINE_SCALERS or getattr(scaler, "clip", False):
            return f"its step {scaler!r} is no affine scaler"
    if type(model) not in _FORMS:
        return f"{type(model).__name__} minimises no smooth convex loss of its weights"
    return _objection(model)


def split_pipeline(estimator):
    """Return the scalers of a pipeline, in order, and the model at its end."""
    if not isinstance(estimator, Pipeline):
        return [], estimator
    steps = [step for _, step in estimator.steps]
    return [s for s in steps[:-1] if s is not None and s != "passthrough"], steps[-1]


def _objection(model):
    parameters = model.get_params(deep=False)
    strength = "C" if "C" in parameters else "alpha"
    allowed: dict[str, Any] = {
        "penalty": ("deprecated", "l2"),
        "loss": ("squared_hinge",) if isinstance(model, LinearSVC) else _SGD_LOSSES,
        "multi_class": ("ovr",),
        "positive": (False,),
        "early_stopping": (False,),
    }
    if isinstance(model, LogisticRegression):
        allowed["l1_ratio"] = (0, None)
    for name, values in allowed.items():
        if name in parameters and parameters[name] not in values:
            return f"{name} is {parameters[name]!r}; expected one of {tuple(values)}"
    value = parameters[strength]
    if not isinstance(value, Real) or not 0 < float(value) < math.inf:
        return f"{strength} is {value!r}; expected a finite number > 0"
    return None


def convex_form(model, y, sample_weight=None):
    """Return what the fit of a linear model (no pipeline) to labels y minimises.

    Parameters
    ----------
    model : estimator
        One for which :func:`is_convex` is true.
    y : ndarray of shape (n_samples,)
        The user's labels, which ``class_weight`` may name.
    sample_weight : ndarray of shape (n_samples,) or None
    """
    return _FORMS[type(model)](model, y, sample_weight)


def _row_weights(model, y, sample_weight, balanced_by=None, *, own_only=False):
    """Return each sample's weight times its class's.

    With ``own_only``, and more than two classes, a class's weight counts for the output
    of that class alone, as in liblinear and SGDClassifier.
    """
    weights = np.ones(len(y)) if sample_weight is None else sample_weight
    if model.class_weight is None:
        return weights
    classes, column = np.unique(y, return_inverse=True)
    of_class = compute_class_weight(
        model.class_weight, classes=classes, y=y, sample_weight=balanced_by
    )
    if own_only and len(classes) > 2:
        is_own = column[:, None] == np.arange(len(classes))
        return weights[:, None] * np.where(is_own, of_class, 1.0)
    return weights * of_class[column]


def _of_logistic_regression(model, y, sample_weight):
    is_liblinear = model.solver == "liblinear"
    weights = model.C * _row_weights(model, y, sample_weight, sample_weight)
    two = len(np.unique(y)) == 2
    return ConvexForm(
        OneAgainstRest(logistic) if two else Multinomial(), weights, 1.0,
        model.fit_intercept,
        model.intercept_scaling**-2 if is_liblinear else 0.0,
    )  # fmt: skip


def _of_linear_svc(model, y, sample_weight):
    weights = model.C * _row_weights(
        model, y, sample_weight, sample_weight, own_only=True
    )
    return ConvexForm(
        OneAgainstRest(squared_hinge), weights, 1.0, model.fit_intercept,
        model.intercept_scaling**-2,
    )  # fmt: skip


def _of_ridge(model, y, sample_weight):
    weights = np.ones(len(y)) if sample_weight is None else sample_weight
    if model.class_weight is not None:
        weights = weights * compute_sample_weight(model.class_weight, y)
    loss = OneAgainstRest(squared)
    return ConvexForm(loss, weights, float(model.alpha), model.fit_intercept)


def _of_sgd(model, y, sample_weight):
    loss = OneAgainstRest(_SGD_LOSSES[model.loss])
    weights = _row_weights(model, y, sample_weight, own_only=True)
    # Its objective is a mean over the rows; here the losses are added up.
    return ConvexForm(loss, weights, len(y) * model.alpha, model.fit_intercept)


_FORMS = {
    LogisticRegression: _of_logistic_regression,
    LinearSVC: _of_linear_svc,
    RidgeClassifier: _of_ridge,
    SGDClassifier: _of_sgd,
}
