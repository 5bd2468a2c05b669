"""Lower bounds for nearest neighbours, from planes half-way between two rows.

Let q = k // 2. If the prediction of k neighbours at z is not y, at most q of the k
nearest rows are of class y, so at least k - q are of others, and each of these, b, is
nearer to z than all rows a of class y but q. So z lies beyond the planes half-way
between b and these a: its distance from x is at least the (q + 1)-th largest distance
of x from the planes of b, and at least the (k - q)-th smallest such number over all b.
In l2 a distance to a plane is never below half the difference of the distances to its
rows, so this is never below what the triangle inequality says.
"""

import numpy as np
import torch
from scipy.spatial.distance import cdist

__all__ = ["halfway_distances", "keeps_neighbours", "plane_distances"]

_OWN_ROWS = 32  # nearest rows of the class whose planes are looked at
_BOXED_PLANES = 6  # of one other row, the farthest, that the range is counted in for
_BOXED_ROWS = 100  # with more other rows within the budget the range does not help
_DISTANCES = 1e-6  # rounding, relative
_DUAL = {"linf": "cityblock", "l2": "euclidean", "l1": "chebyshev"}


def keeps_neighbours(rule, X, columns, threat_model):
    """Return which samples are proven to keep their class in the whole ball.

    Parameters
    ----------
    rule : NeighbourRule
    X : ndarray of shape (n_samples, n_features)
    columns : ndarray of shape (n_samples,), int
    threat_model : ThreatModel

    Returns
    -------
    ndarray of shape (n_samples,), bool
    """
    X, kept = np.asarray(X, float), np.zeros(len(X), bool)
    for column in np.unique(columns):
        mine = np.flatnonzero(columns == column)
        own = rule.rows[rule.labels == column]
        others = rule.rows[rule.labels != column]
        for i in mine:
            kept[i] = _keeps_one(rule, X[i], own, others, threat_model)
    return kept


def _keeps_one(rule, x, own, others, threat_model):
    allowed = rule.n_neighbors // 2  # rows of the class among the nearest
    needed = rule.n_neighbors - allowed
    if len(own) <= allowed:
        return False
    if len(others) < needed:
        return True
    distances = halfway_distances(x, own, others, threat_model.norm)
    reach = threat_model.eps * (1 + _DISTANCES)
    ranked = -np.sort(-distances, axis=0)
    near = np.flatnonzero(ranked[allowed] <= reach)
    if len(near) < needed or len(near) > _BOXED_ROWS:
        return len(near) < needed
    own = _nearest(x, own, _OWN_ROWS)
    first = np.argsort(-distances[:, near], axis=0)[: allowed + _BOXED_PLANES]
    boxed = plane_distances(x, own[first], others[near], threat_model)
    return int((-np.sort(-boxed, axis=0)[allowed] <= reach).sum()) < needed


def halfway_distances(x, own, others, norm):
    """Return how far x is from the planes between rows of its class and others.

    Parameters
    ----------
    x : ndarray of shape (n_features,)
    own : ndarray of shape (n_own, n_features)
        Of which the nearest 32 are taken.
    others : ndarray of shape (n_others, n_features)
    norm : {"linf", "l2", "l1"}

    Returns
    -------
    ndarray of shape (at most 32, n_others)
        Negative where x is beyond the plane. Without regard to any range.
    """
    own = _nearest(x, own, _OWN_ROWS)
    gap = ((others - x) ** 2).sum(1) - ((own - x) ** 2).sum(1)[:, None]
    width = 2 * cdist(own, others, _DUAL[norm])
    never = np.where(gap > 0, np.inf, -np.inf)  # equal rows
    return np.divide(gap, width, out=never, where=width > 0)


def plane_distances(x, own, others, threat_model):
    """Return the distances to planes within the range; infinite if it has none of it.

    Parameters
    ----------
    x : ndarray of shape (n_features,)
    own : ndarray of shape (n_planes, n_others, n_features)
        For each other row the rows of the class.
    others : ndarray of shape (n_others, n_features)
    threat_model : ThreatModel

    Returns
    -------
    ndarray of shape (n_planes, n_others)
    """
    normal = 2 * (others - own)
    offset = (others**2).sum(-1) - (own**2).sum(-1)
    normal = torch.from_numpy(normal.reshape(-1, len(x)))
    offset = torch.from_numpy(offset.reshape(-1))
    start = torch.from_numpy(x).expand_as(normal)
    lead = offset - (normal * start).sum(1)
    move = threat_model.move_to_hyperplane(start, normal, offset)
    distance = threat_model.distance(move, torch.zeros_like(move))
    is_there = (normal * move).sum(1) >= lead - 1e-6 * lead.abs()
    distance = torch.where(is_there, distance, torch.inf)
    return torch.where(lead > 0, distance, 0.0).reshape(own.shape[:2]).numpy()


def _nearest(x, rows, count):
    distances = ((rows - x) ** 2).sum(1)
    return rows[np.argsort(distances, kind="stable")[:count]]
