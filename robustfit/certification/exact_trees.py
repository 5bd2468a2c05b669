"""The worst point for an ensemble of trees, exactly, by mixed-integer programming.

The program of Kantchelian, Tygar & Joseph (2016): a binary variable for each threshold
that the ball reaches says whether the point lies below it, a number in [0, 1] for each
leaf says whether the point meets it, and what is minimised is the lead of the true
class over one other. In l2 and l1 balls the budget that a feature takes depends only on
the cell that it lies in, so the ball is one more linear constraint.
"""

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from robustfit.certification.trees import wins, worst_margins
from robustfit.structures.tree_reach import Reach

__all__ = ["decide_trees"]

_GAP = 1e-6  # HiGHS' tolerance


def decide_trees(ensemble, X, columns, threat_model):
    """Return which samples keep their class, by a proof for each, either way.

    Parameters
    ----------
    ensemble : TreeEnsemble
        A small one: the time grows exponentially with what the ball reaches.
    X : ndarray of shape (n_samples, n_features)
    columns : ndarray of shape (n_samples,), int
    threat_model : ThreatModel

    Returns
    -------
    ndarray of shape (n_samples,), bool

    Notes
    -----
    Pairs of classes that the sum of worst leaves decides need no program. Verdicts are
    taken on the scores of the worst point; that it is the worst is proven up to 1e-6.
    """
    kept = np.ones(len(X), bool)
    for i, (x, column) in enumerate(zip(X, columns, strict=True)):
        reach = Reach(ensemble, x[None], threat_model, rounding=True)
        column = np.array([column])
        safe = wins(worst_margins(ensemble, reach, column), column, ensemble.rounding)
        for rival in np.flatnonzero(~safe[0]):
            cells = worst_cells(ensemble, reach, column[0], rival)
            scores = ensemble.scores(cells)
            if not wins(scores[:, column[0], None] - scores, column,
                        ensemble.rounding)[0, rival]:  # fmt: skip
                kept[i] = False
                break
    return kept


def worst_cells(ensemble, reach, column, rival):
    """Return the cells (1, n_features) with the smallest lead over a rival.

    Parameters
    ----------
    ensemble : TreeEnsemble
    reach : Reach
        Of one sample.
    column, rival : int
        The lead is the score of the first minus that of the second.

    Raises
    ------
    RuntimeError
        If the solver does not end with a proof.
    """
    _, leaves = reach.leaves()
    below = _Below(ensemble, reach)
    leads = ensemble.values[leaves, column] - ensemble.values[leaves, rival]
    n_leaves = len(leaves)
    found = milp(
        np.concatenate([leads, np.zeros(below.count)]),
        integrality=np.repeat([0, 1], [n_leaves, below.count]),
        bounds=Bounds(0, 1),
        constraints=[
            _one_leaf_a_tree(ensemble, leaves, below),
            *_leaves_agree(ensemble, leaves, below),
            *below.constraints(n_leaves),
        ],
        options={"mip_rel_gap": 0},
    )
    slack = _GAP * max(1.0, np.abs(leads).sum())
    if found.x is None or found.fun - found.mip_dual_bound > slack:
        raise RuntimeError(
            f"HiGHS found no proof for a sample: {found.message} Use method='bound'."
        )
    return below.cells(found.x[n_leaves:])


class _Below:
    """A binary variable for each threshold within reach, 1 for points below it."""

    def __init__(self, ensemble, reach):
        self.reach, self.first = reach, reach.lowest[0]
        self.sizes = reach.highest[0] - self.first
        self.offsets = np.concatenate([[0], np.cumsum(self.sizes)])
        self.count = int(self.offsets[-1])
        self.feature = np.repeat(np.arange(len(self.sizes)), self.sizes)
        self.rank = (
            np.arange(self.count) - (self.offsets[:-1] - self.first)[self.feature]
        )

    def variable(self, features, ranks):
        """Return the number of a variable, or -1 where the answer is always the same.

        Parameters
        ----------
        features, ranks : ndarray of int
            Thresholds.
        """
        place = ranks - self.first[features]
        inside = (place >= 0) & (place < self.sizes[features])
        return np.where(inside, self.offsets[features] + place, -1)

    def constraints(self, n_leaves):
        """Yield that who is below a threshold is below the next; and the budget."""
        if self.count == 0:
            return
        pairs = np.flatnonzero(np.diff(self.feature) == 0)
        if len(pairs):
            row = np.tile(np.arange(len(pairs)), 2)
            column = n_leaves + np.concatenate([pairs, pairs + 1])
            sign = np.repeat([1.0, -1.0], len(pairs))
            shape = (len(pairs), n_leaves + self.count)
            yield LinearConstraint(_sparse(sign, row, column, shape), -np.inf, 0)
        here, beyond = self._share(self.rank), self._share(self.rank + 1)
        features = np.arange(len(self.first))
        last = self.reach.highest[0]
        whole = self.reach.shares(np.zeros_like(features), features, last, last).sum()
        if here.any() or beyond.any():
            weights = np.concatenate([np.zeros(n_leaves), here - beyond])
            yield LinearConstraint(weights[None], -np.inf, 1 + _GAP - whole)

    def _share(self, cells):
        return self.reach.shares(np.zeros_like(cells), self.feature, cells, cells)

    def cells(self, answers):
        """Return the cells (1, n_features) that answers lead to."""
        above = np.bincount(self.feature, answers < 0.5, len(self.first))
        return (self.first + above.astype(int))[None]


def _one_leaf_a_tree(ensemble, leaves, below):
    shape = (len(ensemble.roots), len(leaves) + below.count)
    at = np.arange(len(leaves))
    matrix = _sparse(np.ones(len(leaves)), ensemble.tree[leaves], at, shape)
    return LinearConstraint(matrix, 1, 1)


def _leaves_agree(ensemble, leaves, below):
    """Yield that leaves left of a threshold need a point below it, and right above."""
    child, at = leaves, np.arange(len(leaves))
    left, right = [], []
    while len(child):
        above = ensemble.parent[child]
        inner = above != child
        child, above, at = child[inner], above[inner], at[inner]
        variable = below.variable(ensemble.feature[above], ensemble.rank[above])
        from_left = ensemble.left[above] == child
        left.append(np.stack([above, variable, at])[:, from_left & (variable >= 0)])
        right.append(np.stack([above, variable, at])[:, ~from_left & (variable >= 0)])
        child = above
    for sign, parts in ((-1.0, left), (1.0, right)):
        nodes, variables, leaf = np.concatenate(parts, axis=1)
        if len(nodes) == 0:
            continue
        _, first, row = np.unique(nodes, return_index=True, return_inverse=True)
        shape = (len(first), len(leaves) + below.count)
        data = np.concatenate([np.ones(len(row)), np.full(len(first), sign)])
        rows = np.concatenate([row, np.arange(len(first))])
        columns = np.concatenate([leaf, len(leaves) + variables[first]])
        matrix = _sparse(data, rows, columns, shape)
        yield LinearConstraint(matrix, -np.inf, (1 + sign) / 2)


def _sparse(data, row, column, shape):
    return coo_array((data, (row, column)), shape=shape).tocsr()
