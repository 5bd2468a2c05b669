"""The only file that uses names scikit-learn does not promise to keep."""

import numpy as np
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils._param_validation import Interval, StrOptions

__all__ = [
    "BaseSearchCV",
    "Interval",
    "StrOptions",
    "boosting_nodes",
    "callback_context",
    "column_numbers",
    "power_scaler",
    "neighbour_rows",
    "svm_gamma",
    "svm_support_rows",
    "voting_weights",
]


def callback_context(estimator, n_tasks):
    """Return the context of a fit of ``n_tasks`` for scikit-learn's callbacks."""
    return estimator._init_callback_context(max_subtasks=n_tasks)


def column_numbers(column_transformer):
    """Return a dict: the input columns of each part of a fitted ColumnTransformer."""
    return column_transformer._transformer_to_input_indices


def power_scaler(transformer):
    """Return the StandardScaler behind a fitted PowerTransformer."""
    return transformer._scaler


def boosting_nodes(estimator):
    """Yield (column of the raw score, node array) for each tree of a boosting."""
    for stage in estimator._predictors:
        for column, predictor in enumerate(stage):
            yield column, predictor.nodes


def neighbour_rows(estimator):
    """Return a neighbours classifier's training rows, and the column of each label."""
    return estimator._fit_X, np.asarray(estimator._y)


def svm_gamma(estimator):
    """Return the number that ``gamma`` of a fitted SVC stands for."""
    return estimator._gamma


def svm_support_rows(estimator):
    """Return the rows of the training set that a fitted SVC is made of."""
    if callable(estimator.kernel):  # then scikit-learn leaves support_vectors_ empty
        return np.asarray(estimator._BaseLibSVM__Xfit)[estimator.support_]
    return np.asarray(estimator.support_vectors_)


def voting_weights(estimator):
    """Return a weight for each of a VotingClassifier's ``estimators_``."""
    weights = estimator._weights_not_none
    if weights is None:
        return np.ones(len(estimator.estimators_))
    return np.asarray(weights, float)
