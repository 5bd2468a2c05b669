"""Trees as flat arrays: all nodes of all trees of an ensemble, and their thresholds.

The thresholds cut the axis of a feature into *cells*. Two points whose features lie in
the same cells meet the same leaves, so attacks and bounds count in cells, which are
whole numbers, and only a point that is given back is a point of float32 numbers.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["TreeEnsemble", "join_trees"]


@dataclass(frozen=True)
class TreeEnsemble:
    """The sum of the leaves that a point meets, one score a class.

    Attributes
    ----------
    thresholds : tuple of ndarray, float32
        For each feature, ascending: the largest float32 numbers that go left.
    feature, rank : ndarray of shape (n_nodes,), int
        A node sends cells ``<= rank`` of its feature to the left. Leaves send all
        points to themselves.
    left, right : ndarray of shape (n_nodes,), int
    values : ndarray of shape (n_nodes, n_classes)
        What a leaf adds to the scores.
    roots : ndarray of shape (n_trees,), int
    base : ndarray of shape (n_classes,)
        Scores of a point before any tree.
    """

    thresholds: tuple
    feature: np.ndarray
    rank: np.ndarray
    left: np.ndarray
    right: np.ndarray
    values: np.ndarray
    roots: np.ndarray
    base: np.ndarray

    @property
    def n_classes(self):
        """How many scores there are."""
        return len(self.base)

    @cached_property
    def is_leaf(self):
        """Which nodes are leaves."""
        return self.left == np.arange(len(self.left))

    @cached_property
    def tree(self):
        """The number of each node's tree: nodes are in the order of the trees."""
        return np.searchsorted(self.roots, np.arange(len(self.left)), "right") - 1

    @cached_property
    def rounding(self):
        """How far sums of leaves in another order may differ; 0 where they cannot.

        One tree is no sum, and multiples of 2**-20, as the votes of pure leaves, are
        added without rounding.
        """
        scaled = self.values * 2.0**20
        is_exact = (scaled == np.round(scaled)).all() and not self.base.any()
        if len(self.roots) == 1 or is_exact:
            return 0.0
        largest = np.abs(self.values).max() * len(self.roots) + np.abs(self.base).max()
        return 1e-13 * largest + 1e-9 * bool(self.base.any())

    @cached_property
    def offsets(self):
        """Where the cells of each feature begin in a list of all; one more at the end.

        A feature of n thresholds has n + 1 cells.
        """
        sizes = [len(t) + 1 for t in self.thresholds]
        return np.concatenate([[0], np.cumsum(sizes)])

    @cached_property
    def lower(self):
        """The smallest float32 number of each cell, as float64."""
        above = [np.nextafter(t, np.float32(np.inf)) for t in self.thresholds]
        ends = [np.concatenate([[-np.inf], a.astype(float)]) for a in above]
        return np.concatenate(ends)

    @cached_property
    def upper(self):
        """The largest number of each cell, as float64."""
        ends = [np.concatenate([t.astype(float), [np.inf]]) for t in self.thresholds]
        return np.concatenate(ends)

    def cells(self, X):
        """Return the cell of each number: (n_samples, n_features), int."""
        X = np.asarray(X)
        columns = [
            np.searchsorted(t.astype(float), X[:, j])
            for j, t in enumerate(self.thresholds)
        ]
        return np.stack(columns, 1)

    def points(self, cells, X):
        """Return the float32 points of ``cells`` next to the float32 points ``X``."""
        place = self.offsets[:-1] + cells
        nearest = np.minimum(np.maximum(X, self.lower[place]), self.upper[place])
        return nearest.astype(np.float32)

    def leaves(self, cells):
        """Return the leaf of each tree that cells (n_samples, n_features) meet."""
        rows = np.arange(len(cells))[:, None]
        node = np.broadcast_to(self.roots, (len(cells), len(self.roots)))
        while not self.is_leaf[node].all():
            goes_left = cells[rows, self.feature[node]] <= self.rank[node]
            node = np.where(goes_left, self.left[node], self.right[node])
        return node

    def scores(self, cells):
        """Return the scores (n_samples, n_classes) of cells."""
        return self.values[self.leaves(cells)].sum(1) + self.base

    def cells_in_leaves(self, leaves, cells):
        """Return cells (n_points, n_features) moved as little as a leaf each needs."""
        cells, child, rows = cells.copy(), leaves, np.arange(len(leaves))
        while True:
            above = self.parent[child]
            if (above == child).all():
                return cells
            feature, rank, is_root = (
                self.feature[above],
                self.rank[above],
                above == child,
            )
            cell = cells[rows, feature]
            left = self.left[above] == child
            moved = np.where(left, np.minimum(cell, rank), np.maximum(cell, rank + 1))
            cells[rows, feature] = np.where(is_root, cell, moved)
            child = above

    @cached_property
    def parent(self):
        """The node above each node; roots are their own."""
        parent = np.arange(len(self.left))
        inner = np.flatnonzero(~self.is_leaf)
        parent[self.left[inner]] = parent[self.right[inner]] = inner
        return parent

    @cached_property
    def span(self):
        """The cells (lowest, highest) of a node's feature that reach the node."""
        lowest = np.zeros(len(self.left), int)
        sizes = np.diff(self.offsets) - 1
        highest = sizes[self.feature]
        child = np.arange(len(self.left))
        while True:
            above = self.parent[child]
            if (above == child).all():
                return lowest, highest
            same = (above != child) & (self.feature[above] == self.feature)
            from_left = same & (self.left[above] == child)
            from_right = same & (self.right[above] == child)
            rank = self.rank[above]
            highest = np.where(from_left, np.minimum(highest, rank), highest)
            lowest = np.where(from_right, np.maximum(lowest, rank + 1), lowest)
            child = above


def join_trees(trees, base, n_features):
    """Return a :class:`TreeEnsemble` of single trees.

    Parameters
    ----------
    trees : list of tuple (feature, threshold, left, right, values)
        Arrays of each tree's nodes; ``left`` of leaves is below 1. A float ``x`` goes
        left if ``x <= threshold``.
    base : ndarray of shape (n_classes,)
    n_features : int
    """
    sizes = [len(tree[0]) for tree in trees]
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int)
    parts = zip(*trees, strict=True)
    feature, threshold, left, right, values = (np.concatenate(p) for p in parts)
    start = np.repeat(roots, sizes)
    is_leaf, itself = left < 1, np.arange(len(left))
    feature = np.where(is_leaf, 0, feature).astype(int)
    threshold = _round_down(threshold)
    thresholds = tuple(
        np.unique(threshold[~is_leaf & (feature == j)]) for j in range(n_features)
    )
    rank = np.zeros(len(left), int)
    for j, ends in enumerate(thresholds):
        here = ~is_leaf & (feature == j)
        rank[here] = np.searchsorted(ends, threshold[here])
    return TreeEnsemble(
        thresholds, feature, rank,
        np.where(is_leaf, itself, left + start),
        np.where(is_leaf, itself, right + start),
        np.where(is_leaf[:, None], values, 0.0), roots, np.asarray(base, float),
    )  # fmt: skip


def _round_down(threshold):
    """Return the largest float32 numbers that are not above float64 thresholds."""
    with np.errstate(over="ignore"):
        rounded = threshold.astype(np.float32)
    below = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded > threshold, below, rounded)
