"""What every move of one feature to another cell gains, for all moves at once.

A point meets one leaf in each tree. Moving one feature changes the leaf of a tree only
if the tree asks for this feature on the way. So one walk through a tree, which may
leave the point's own path by one feature at a time, finds all leaves that differ by the
move of one feature, each with the interval of cells that leads to it: the neighbourhood
of leaf tuples of Zhang, Zhang & Hsieh (2020), for a whole batch at once.
"""

import numpy as np

__all__ = ["gains_of_moves"]

_OWN = -1  # still on the point's own path


def gains_of_moves(reach, cells, rows, lead):
    """Return how much every move of one feature changes what ``lead`` measures.

    Parameters
    ----------
    reach : Reach
        Of all samples: which cells may be entered.
    cells : ndarray of shape (n_points, n_features), int
        Where the points are now.
    rows : ndarray of shape (n_points,), int
        The sample that each point belongs to.
    lead : tuple of ndarray of shape (n_points,), int
        Two classes for each point; measured is the score of the first minus that of the
        second.

    Returns
    -------
    ndarray of shape (n_points, n_cells)
        For the cells of all features, one feature after the other.
    """
    walk = _Walk(reach, cells, rows, lead)
    points, changed, first, last, values = walk.finish()
    ensemble = reach.ensemble
    n_points, width = len(cells), ensemble.offsets[-1] + 1
    start = points * width + ensemble.offsets[changed]
    size = n_points * width
    steps = np.bincount(start + first, values, size)
    steps -= np.bincount(start + last + 1, values, size)
    return steps.reshape(n_points, width)[:, :-1].cumsum(1)


class _Walk:
    """A walk through all trees, level by level, that leaves the path by one feature."""

    def __init__(self, reach, cells, rows, lead):
        self.reach, self.ensemble = reach, reach.ensemble
        self.cells, self.lead = cells, lead
        self.lowest, self.highest = reach.lowest[rows], reach.highest[rows]
        self.own = self._measure(
            self.ensemble.leaves(cells), np.arange(len(cells))[:, None]
        )

    def _measure(self, nodes, points):
        """Return what leaves add to the lead of their points."""
        ahead, behind = self.lead
        values = self.ensemble.values
        return values[nodes, ahead[points]] - values[nodes, behind[points]]

    def finish(self):
        """Return (point, feature, first, last cell, change) of all other leaves."""
        ensemble, n_points = self.ensemble, len(self.cells)
        n_trees = len(ensemble.roots)
        points = np.repeat(np.arange(n_points), n_trees)
        nodes = np.tile(ensemble.roots, n_points)
        changed = np.full(len(points), _OWN)
        state = (points, nodes, changed, np.zeros_like(points), np.zeros_like(points))
        found = []
        while len(state[0]):
            ends = ensemble.is_leaf[state[1]]
            reached = ends & (state[2] != _OWN)
            found.append(tuple(part[reached] for part in state))
            state = self._descend(*(part[~ends] for part in state))
        points, leaves, changed, first, last = (
            np.concatenate(part) for part in zip(*found, strict=True)
        )
        values = self._measure(leaves, points)
        values -= self.own[points, ensemble.tree[leaves]]
        return points, changed, first, last, values

    def _descend(self, points, nodes, changed, first, last):
        ensemble = self.ensemble
        features, rank = ensemble.feature[nodes], ensemble.rank[nodes]
        left = self.cells[points, features] <= rank
        free, same = changed == _OWN, changed == features
        follows = ~same  # the point's own cell decides
        child = np.where(left, ensemble.left[nodes], ensemble.right[nodes])
        parts = [(points[follows], child[follows], changed[follows], first[follows],
                  last[follows])]  # fmt: skip
        # Off the path by this very feature, or leaving the path here by it.
        span_first, span_last = (ends[nodes] for ends in ensemble.span)
        low = np.maximum(self.lowest[points, features], span_first)
        high = np.minimum(self.highest[points, features], span_last)
        low, high = np.where(same, first, low), np.where(same, last, high)
        for side, child, start, stop in (
            (left, ensemble.left, low, np.minimum(high, rank)),
            (~left, ensemble.right, np.maximum(low, rank + 1), high),
        ):
            kept = (same | (free & ~side)) & (start <= stop)
            parts.append((points[kept], child[nodes[kept]], features[kept],
                          start[kept], stop[kept]))  # fmt: skip
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))
