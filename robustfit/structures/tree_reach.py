"""Which cells and leaves of an ensemble of trees a ball of perturbations reaches."""

import numpy as np

__all__ = ["Reach"]

_FULL = 1 + 1e-6  # of the budget, with the rounding of sums


class Reach:
    """The cells around some points that an adversary can move them to.

    Parameters
    ----------
    ensemble : TreeEnsemble
    X : ndarray of shape (n_samples, n_features)
    threat_model : ThreatModel
    rounding : bool, default=False
        Whether what float32 rounding adds to an attack's budget counts as reached.

    Attributes
    ----------
    own : ndarray of shape (n_samples, n_features), int
        Cells of the points themselves.
    lowest, highest : ndarray of shape (n_samples, n_features), int
        First and last cell that each feature can be moved to alone.
    """

    def __init__(self, ensemble, X, threat_model, *, rounding=False):
        self.ensemble, self.threat_model = ensemble, threat_model
        self.X = np.asarray(X, float)
        low, high = threat_model.box(self.X, rounding=rounding)
        self.own = ensemble.cells(self.X)
        # Rounding in the box must not lose the cell that a point is in.
        self.highest = np.maximum(self.own, _last_cells(ensemble, high))
        self.lowest = np.minimum(self.own, ensemble.cells(low))

    def shares(self, rows, features, first, last):
        """Return the shares of the budget that moves to cells first..last take.

        Parameters
        ----------
        rows, features, first, last : ndarray of int, of one shape
            The move is to the nearest of these cells, in order of the feature's axis.
        """
        x, start = self.X[rows, features], self.ensemble.offsets[features]
        up = self.ensemble.lower[start + first] - x
        down = x - self.ensemble.upper[start + last]
        distance = np.maximum(np.maximum(up, down), 0)
        return self.threat_model.budget_share(distance, features)

    def leaves(self):
        """Return all leaves that can be reached, in each tree by itself.

        Returns
        -------
        rows : ndarray of shape (n_pairs,), int
            The samples, in order; and for each sample its trees in order.
        leaves : ndarray of shape (n_pairs,), int
            Numbers of leaf nodes, of which every tree has at least one for a sample.
        """
        ensemble = self.ensemble
        n_trees = len(ensemble.roots)
        rows = np.repeat(np.arange(len(self.X)), n_trees)
        nodes, spent = np.tile(ensemble.roots, len(self.X)), np.zeros(len(rows))
        found = []
        while len(rows):
            ends = ensemble.is_leaf[nodes]
            found.append((rows[ends], nodes[ends]))
            rows, nodes, spent = self._descend(rows[~ends], nodes[~ends], spent[~ends])
        rows, leaves = (np.concatenate(part) for part in zip(*found, strict=True))
        order = np.argsort(rows * n_trees + ensemble.tree[leaves], kind="stable")
        return rows[order], leaves[order]

    def _descend(self, rows, nodes, spent):
        """Return the children of inner nodes that are reached, with what they cost."""
        ensemble = self.ensemble
        features, rank = ensemble.feature[nodes], ensemble.rank[nodes]
        first, last = (ends[nodes] for ends in ensemble.span)
        spent = spent - self.shares(rows, features, first, last)
        parts = []
        for child, low, high, open_ in (
            (ensemble.left, first, np.minimum(last, rank),
             self.lowest[rows, features] <= rank),
            (ensemble.right, np.maximum(first, rank + 1), last,
             self.highest[rows, features] > rank),
        ):  # fmt: skip
            cost = spent + self.shares(rows, features, low, high)
            kept = open_ & (low <= high) & (cost <= _FULL)
            parts.append((rows[kept], child[nodes[kept]], cost[kept]))
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def _last_cells(ensemble, high):
    """Return the last cell whose smallest float32 number is not above ``high``."""
    columns = []
    for j, start in enumerate(ensemble.offsets[:-1]):
        edges = ensemble.lower[start + 1 : ensemble.offsets[j + 1]]
        columns.append(np.searchsorted(edges, high[:, j], "right"))
    return np.stack(columns, 1)
