"""Which rows of different classes are too close to each other."""

import numpy as np
from scipy.sparse import csr_array, vstack
from sklearn.metrics import pairwise_distances_chunked

__all__ = ["find_conflicts"]

_METRICS = {"linf": "chebyshev", "l2": "euclidean", "l1": "manhattan"}


def find_conflicts(X, y, distance, norm):
    """Return the graph of rows of different classes less than ``distance`` apart.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    distance : float
    norm : {"linf", "l2", "l1"}

    Returns
    -------
    csr_array of shape (n_samples, n_samples), bool
        Symmetric. Distances are worked out in blocks of scikit-learn's
        ``working_memory``; the graph holds the conflicts alone.
    """

    def conflicts_of(block, start):
        others = y[start : start + len(block), None] != y
        return csr_array((block < distance) & others)

    blocks = pairwise_distances_chunked(
        X.astype(np.float64), reduce_func=conflicts_of, metric=_METRICS[norm]
    )
    return vstack(list(blocks), format="csr")
