"""One nearest neighbour, exactly: how far the cells of other rows are.

A point is predicted as another class if one row b of another class is nearer to it than
all rows a of the class: a polyhedron. Its distance from the sample is a least-distance
problem, which non-negative least squares solves in l2 (Lawson & Hanson, 1974, chapter
23), and a linear program in linf and l1. Planes are added as they are found violated.
"""

import numpy as np
from scipy.optimize import linprog, nnls

from robustfit.certification.neighbours import halfway_distances, plane_distances

__all__ = ["decide_nearest", "point_beyond"]

_FIRST_PLANES = 8
_DISTANCES = 1e-6  # rounding, relative


def decide_nearest(rule, X, columns, threat_model):
    """Return which samples keep the class of their nearest row.

    Parameters
    ----------
    rule : NeighbourRule
        Of one neighbour.
    X : ndarray of shape (n_samples, n_features)
    columns : ndarray of shape (n_samples,), int
    threat_model : ThreatModel

    Returns
    -------
    ndarray of shape (n_samples,), bool
    """
    found = [
        _nearest_point_of_others(rule, x, column, threat_model) is None
        for x, column in zip(np.asarray(X, float), columns, strict=True)
    ]
    return np.array(found, bool)


def _nearest_point_of_others(rule, x, column, threat_model):
    """Return a point within the budget that is nearest to another class, or None."""
    own = rule.rows[rule.labels == column]
    others = rule.rows[rule.labels != column]
    if len(own) == 0 or len(others) == 0:
        return None if len(own) else x
    bound = halfway_distances(x, own, others, threat_model.norm).max(0)
    for b in np.argsort(bound, kind="stable"):
        if bound[b] > threat_model.eps * (1 + _DISTANCES):
            return None
        point = point_beyond(x, own, others[b : b + 1], threat_model)
        if point is not None:
            return point
    return None


def point_beyond(x, own, group, threat_model, *, margin=0.0):
    """Return the point next to x that is nearer to a group of rows than to others.

    Parameters
    ----------
    x : ndarray of shape (n_features,)
    own : ndarray of shape (n_own, n_features)
    group : ndarray of shape (n_group, n_features)
        All of these shall be nearer than all of ``own``.
    threat_model : ThreatModel
    margin : float, default=0
        How far the point shall be beyond each plane, in linf.

    Returns
    -------
    ndarray of shape (n_features,) or None
        None where there is none within the budget.
    """
    reach = threat_model.eps * (1 + _DISTANCES)
    order = np.argsort(((own - x) ** 2).sum(1), kind="stable")[:_FIRST_PLANES]
    single = plane_distances(
        x, np.broadcast_to(own[order][:, None], (len(order), *group.shape)), group,
        threat_model,
    )  # fmt: skip
    if single.max() > reach:
        return None
    chosen = [(a, b) for a in order for b in range(len(group))]
    while True:
        a, b = np.transpose(chosen)
        normal = 2 * (group[b] - own[a])
        gap = ((group[b] - x) ** 2).sum(1) - ((own[a] - x) ** 2).sum(1)
        gap = gap + margin * np.abs(normal).sum(1)
        move = _shortest_move(x, normal, gap, threat_model)
        if move is None or _length(move, threat_model.norm) > reach:
            return None
        point = x + move
        to_group = ((group - point) ** 2).sum(1)
        nearest = int(((own - point) ** 2).sum(1).argmin())
        pair = (nearest, int(to_group.argmax()))
        ahead = ((own[nearest] - point) ** 2).sum() - to_group.max()
        if ahead >= -1e-9 * max(1.0, to_group.max()) or pair in chosen:
            return point
        chosen.append(pair)


def _shortest_move(x, normal, gap, threat_model):
    """Return the shortest u with ``normal @ u >= gap`` and x + u in the range."""
    low, high = threat_model.bounds
    if threat_model.norm == "l2":
        return _least_distance(x, normal, gap, low, high)
    n_features = len(x)
    eye = np.eye(n_features)
    if threat_model.norm == "linf":
        size, cost = np.ones((n_features, 1)), np.ones(1)
    else:
        size, cost = eye, np.ones(n_features)
    n_sizes = len(cost)
    below = np.block(
        [[-normal, np.zeros((len(gap), n_sizes))], [eye, -size], [-eye, -size]]
    )
    limit = np.concatenate([-gap, np.zeros(2 * n_features)])
    ends = [(low - v, high - v) for v in x] + [(0, None)] * n_sizes
    found = linprog(
        np.concatenate([np.zeros(n_features), cost]), below, limit, bounds=ends
    )
    return found.x[:n_features] if found.status == 0 else None


def _least_distance(x, normal, gap, low, high):
    """Return the shortest u in l2, by non-negative least squares, or None."""
    eye = np.eye(len(x))
    rows, limits = [normal], [gap]
    if np.isfinite(low):
        rows.append(eye)
        limits.append(low - x)
    if np.isfinite(high):
        rows.append(-eye)
        limits.append(x - high)
    system = np.vstack([np.vstack(rows).T, np.concatenate(limits)])
    target = np.zeros(len(system))
    target[-1] = 1
    answer, residual = nnls(system, target, maxiter=50 * system.shape[1])
    rest = system @ answer - target
    if residual < 1e-9 or rest[-1] == 0:
        return None
    return -rest[:-1] / rest[-1]


def _length(move, norm):
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    return np.linalg.norm(move, order)
