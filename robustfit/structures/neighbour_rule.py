"""Nearest neighbours: the rows that vote, and how many votes count."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import issparse
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.validation import check_is_fitted

from robustfit._utils.sklearn_private import neighbour_rows
from robustfit.exceptions import NoStructureError
from robustfit.structures.find_structure import structure_of_estimator

__all__ = ["NeighbourRule"]


@dataclass(frozen=True)
class NeighbourRule:
    """The majority of the ``n_neighbors`` rows next to a point, in Euclidean distance.

    Attributes
    ----------
    rows : ndarray of shape (n_rows, n_features), float64
    labels : ndarray of shape (n_rows,), int
        Column of each row's class.
    n_neighbors : int
    n_classes : int
    """

    rows: np.ndarray
    labels: np.ndarray
    n_neighbors: int
    n_classes: int


@structure_of_estimator.register
def _(estimator: KNeighborsClassifier):
    check_is_fitted(estimator)
    metric, power = estimator.metric, estimator.p

    if estimator.effective_metric_ != "euclidean":
        raise NoStructureError(
            f"KNeighborsClassifier measures distances by {metric!r} (p={power}); "
            "bounds and the attack on neighbours know metric='euclidean'. Use "
            "attack='square'."
        )
    if estimator.weights != "uniform":
        raise NoStructureError(
            f"KNeighborsClassifier has weights={estimator.weights!r}; bounds and the "
            "attack on neighbours know weights='uniform'. Use attack='square'."
        )
    rows, labels = neighbour_rows(estimator)
    if labels.ndim > 1 or issparse(rows):
        raise NoStructureError(
            "KNeighborsClassifier was fitted on sparse rows, or on several outputs; "
            "expected dense rows and one class a sample."
        )
    return NeighbourRule(
        np.asarray(rows, float), labels, estimator.n_neighbors, len(estimator.classes_)
    )
