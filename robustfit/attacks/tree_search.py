"""The search of the attack on trees: steps by features, jumps by leaves, kicks."""

import itertools

import numpy as np

from robustfit._utils.sample_random import sample_uniform, with_stream
from robustfit._utils.torch_bridge import to_array
from robustfit.attacks.tree_moves import gains_of_moves

__all__ = ["TreeSearch"]

# Share of the features that a new start moves: in a box anywhere, as that is free, and
# back to the sample where moves share a budget.
_KICKED, _RETURNED = 0.2, 0.3
# Leaves that one sample's jumps meet together, and the fewest jumps that are tried.
_LEAVES_MET, _FEWEST_JUMPS = 2000, 8
_SMALLEST = 1e-9  # gains and shares of a budget below this are none
_FIXED_TARGETS = 4  # starts that aim at one class throughout, after the first


class TreeSearch:
    """The best cells found for each sample, and the steps that lead to them.

    Parameters
    ----------
    reach : Reach
    columns : ndarray of shape (n_samples,), int
        The class that each sample shall lose.
    """

    def __init__(self, reach, columns):
        self.reach, self.ensemble, self.columns = reach, reach.ensemble, columns
        self.best = reach.own.copy()
        scores = self.ensemble.scores(self.best)
        self.lead = self._leads(scores, columns, None)
        self.rivals = np.argsort(-_without(scores, columns), axis=1, kind="stable")
        self.cells = self.best.copy()
        self._reached = reach.leaves()
        sizes = np.diff(self.ensemble.offsets)
        self._feature = np.repeat(np.arange(len(sizes)), sizes)
        self._cell = np.arange(len(self._feature)) - np.repeat(
            self.ensemble.offsets[:-1], sizes
        )

    def points(self, samples):
        """Return the best points found for some samples, float32."""
        return self.ensemble.points(self.best[samples], self.reach.X[samples])

    def kick(self, samples, number, keys):
        """Begin start ``number`` at the sample, or near the best point so far."""
        if number <= min(_FIXED_TARGETS, self.ensemble.n_classes - 2):
            self.cells[samples] = self.reach.own[samples]
            return
        shape = (len(samples), self.reach.X.shape[1])
        keys = with_stream(keys[samples], number)
        chance = to_array(sample_uniform(keys, shape))
        if self.reach.threat_model.norm != "linf":
            goal, is_kicked = self.reach.own[samples], chance < _RETURNED
        else:
            place = to_array(sample_uniform(with_stream(keys, 0), shape))
            low, high = self.reach.lowest[samples], self.reach.highest[samples]
            goal = low + (place * (high - low + 1)).astype(int)
            is_kicked = chance < _KICKED
        self.cells[samples] = np.where(is_kicked, goal, self.best[samples])

    def descend(self, samples, number):
        """Step down from ``cells`` while that helps; keep what is best so far."""
        fixed = 1 <= number <= _FIXED_TARGETS and number < self.ensemble.n_classes - 1
        rival = self.rivals[samples, number] if fixed else None
        cells = self.cells[samples]
        lead = self._leads(self.ensemble.scores(cells), self.columns[samples], rival)
        moving = np.arange(len(samples))
        for step in itertools.cycle((self._step, self._jump)):
            left = moving  # a step for all, then a jump for those whom it did not help
            while len(left):
                aim = None if rival is None else rival[left]
                tried, found = step(samples[left], cells[left], aim)
                better = found < lead[left] - _SMALLEST
                left = left[better]
                cells[left], lead[left] = tried[better], found[better]
                left = left[lead[left] >= 0]
                if step == self._jump:
                    break
            moving = moving[lead[moving] >= 0] if step == self._step else left
            if len(moving) == 0:
                break
        self._keep(samples, cells)

    def _keep(self, samples, cells):
        lead = self._leads(self.ensemble.scores(cells), self.columns[samples], None)
        better = lead < self.lead[samples]
        self.best[samples[better]] = cells[better]
        self.lead[samples[better]] = lead[better]

    def _leads(self, scores, columns, rival):
        """Return the score of each sample's class minus its rival's, or the best."""
        rows = np.arange(len(scores))
        if rival is None:
            rival = _without(scores, columns).argmax(1)
        return scores[rows, columns] - scores[rows, rival]

    def _step(self, samples, cells, rival):
        """Return the best of several sets of moves, and the leads after it."""
        columns = self.columns[samples]
        aim = self._aim(cells, columns, rival)
        gains = gains_of_moves(self.reach, cells, samples, (columns, aim))
        gain, target = self._best_cells(samples, cells, gains)
        order = np.argsort(gain, axis=1, kind="stable")
        target = np.where(gain < 0, target, cells)
        tries = np.stack(
            [
                self._within_budget(samples, cells, some, order)
                for some in _first_moves(cells, target, order)
            ]
        )
        repeat = len(tries)
        leads = self._leads(
            self.ensemble.scores(tries.reshape(-1, cells.shape[1])),
            np.tile(columns, repeat), None if rival is None else np.tile(rival, repeat),
        ).reshape(repeat, len(cells))  # fmt: skip
        choice, rows = leads.argmin(0), np.arange(len(cells))
        return tries[choice, rows], leads[choice, rows]

    def _jump(self, samples, cells, rival):
        """Return the best jump into another leaf of one tree, and the leads after it.

        What the move of one feature cannot reach; the leads are infinite where no leaf
        is worth a try.
        """
        points, leaves = self._promising_leaves(samples, cells, rival)
        tries = self.ensemble.cells_in_leaves(leaves, cells[points])
        over = self._spent(samples[points], tries).sum(1) > 1
        own = self.reach.own[samples[points[over]]]
        tries[over] = self.ensemble.cells_in_leaves(leaves[over], own)
        leads = self._leads(
            self.ensemble.scores(tries), self.columns[samples[points]],
            None if rival is None else rival[points],
        )  # fmt: skip
        best, lowest = cells.copy(), np.full(len(samples), np.inf)
        last_is_best = np.argsort(-leads, kind="stable")
        best[points[last_is_best]] = tries[last_is_best]
        lowest[points[last_is_best]] = leads[last_is_best]
        return best, lowest

    def _promising_leaves(self, samples, cells, rival):
        """Return (point, leaf) of the leaves that by themselves gain most."""
        ensemble, columns = self.ensemble, self.columns[samples]
        aim = self._aim(cells, columns, rival)
        position = np.full(len(self.columns), -1)
        position[samples] = np.arange(len(samples))
        points = position[self._reached[0]]
        points, leaves = points[points >= 0], self._reached[1][points >= 0]
        now = ensemble.leaves(cells)[points, ensemble.tree[leaves]]
        change = ensemble.values[leaves] - ensemble.values[now]
        rows = np.arange(len(points))
        gain = change[rows, columns[points]] - change[rows, aim[points]]
        order = np.lexsort((gain, points))
        points, leaves, gain = points[order], leaves[order], gain[order]
        rank = np.arange(len(points)) - np.searchsorted(points, points)
        most = max(_FEWEST_JUMPS, _LEAVES_MET // len(ensemble.roots))
        kept = (rank < most) & (gain < 0)
        return points[kept], leaves[kept]

    def _aim(self, cells, columns, rival):
        """Return the class that shall overtake: the fixed rival, or the runner-up."""
        if rival is not None:
            return rival
        return _without(self.ensemble.scores(cells), columns).argmax(1)

    def _best_cells(self, samples, cells, gains):
        """Return each feature's best gain (per budget) and the cell it lies in."""
        reach, feature, cell = self.reach, self._feature, self._cell
        allowed = (cell >= reach.lowest[samples][:, feature]) & (
            cell <= reach.highest[samples][:, feature]
        )
        if reach.threat_model.norm != "linf":
            everywhere = reach.shares(samples[:, None], feature, cell, cell)
            now = self._spent(samples, cells)
            more = everywhere - now[:, feature]
            allowed &= now.sum(1)[:, None] + more <= 1
            gains = gains / np.maximum(more, 1e-3)
        gains = np.where(allowed & (gains < -_SMALLEST), gains, 0.0)
        starts = self.ensemble.offsets[:-1]
        best = np.minimum.reduceat(gains, starts, axis=1)
        is_best = gains == best[:, feature]
        place = np.where(is_best, cell, np.iinfo(int).max)
        return best, np.minimum.reduceat(place, starts, axis=1)

    def _spent(self, samples, cells):
        features = np.arange(cells.shape[1])
        return self.reach.shares(samples[:, None], features, cells, cells)

    def _within_budget(self, samples, before, cells, order):
        """Return ``cells``, of the features from ``order`` that the budget holds."""
        if self.reach.threat_model.norm == "linf":
            return cells
        old, new = self._spent(samples, before), self._spent(samples, cells)
        more = np.take_along_axis(new - old, order, 1)
        fits = old.sum(1)[:, None] + more.cumsum(1) <= 1
        kept = np.zeros_like(fits)
        np.put_along_axis(kept, order, fits, 1)
        return np.where(kept, cells, before)


def _without(scores, columns):
    """Return scores in which each row's own class cannot be the largest."""
    scores = scores.copy()
    scores[np.arange(len(scores)), columns] = -np.inf
    return scores


def _first_moves(cells, target, order):
    """Yield cells with the first one, two, four, ... and all moves of an order made."""
    n_features = cells.shape[1]
    sizes = [2**k for k in range(n_features.bit_length()) if 2**k < n_features]
    for size in [*sizes, n_features]:
        some, first = cells.copy(), order[:, :size]
        np.put_along_axis(some, first, np.take_along_axis(target, first, 1), 1)
        yield some
