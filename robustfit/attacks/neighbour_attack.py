"""An attack on nearest neighbours: over the planes half-way to other classes' rows."""

import numpy as np
import torch

from robustfit._utils.argument_checks import check_count
from robustfit._utils.torch_bridge import to_array
from robustfit.attacks.base import Attack, AttackOutcome
from robustfit.attacks.search import Survivors, is_fooled
from robustfit.certification.exact_neighbours import point_beyond
from robustfit.certification.neighbours import halfway_distances
from robustfit.exceptions import NoStructureError
from robustfit.structures.find_structure import structure_of
from robustfit.structures.neighbour_rule import NeighbourRule

__all__ = ["NeighbourAttack"]

_MARGIN = 1e-5  # beyond a plane: more than the rounding of float32 points


class NeighbourAttack(Attack):
    """Cross the planes half-way between the rows of a class and rows of another.

    Parameters
    ----------
    n_groups : int, default=20
        Groups of rows of another class that are aimed at for a sample that is not
        fooled, those first whose planes are nearest. With one neighbour a group is one
        row, and all are tried that are within the budget: the attack is then exact,
        up to the 1e-5 below.
    batch_size : int, default=128
        Samples in one call of the model.

    Raises
    ------
    ValueError
        For a count below one.
    NoStructureError
        When it is called with anything but a ``KNeighborsClassifier`` with uniform
        weights and Euclidean distances.

    Notes
    -----
    Called as ``attack(logits_fn, x, y, threat_model, generator=None)`` with the
    ``logits_fn`` of :func:`robustfit.as_black_box`. With k neighbours, a group is
    ``k // 2 + 1`` rows of one class that are close to each other (``k // 2`` where
    that is a tie, which the class wins). The point next to the sample that is nearer to
    all of them than to all rows of the true class, but for as many of the rows nearest
    to the group as have votes left, is found exactly, by a linear program (linf, l1) or
    non-negative least squares (l2), with planes added as they are found violated. It is
    taken 1e-5 beyond the planes, more than float32 numbers round. A
    sample counts as fooled if the model itself says so.

    References
    ----------
    L. Wang, X. Liu, J. Yi, Z.-H. Zhou, C.-J. Hsieh. "Evaluating the Robustness of
    Nearest Neighbor Classifiers: A Primal-Dual Perspective", 2019 (the program for one
    neighbour).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from robustfit import attack_estimator
    >>> from robustfit.attacks import NeighbourAttack
    >>> X, y = load_digits(return_X_y=True)
    >>> model = KNeighborsClassifier(1).fit(X[:500] / 16, y[:500])
    >>> result = attack_estimator(
    ...     model, X[500:540] / 16, y[500:540], attack=NeighbourAttack(), eps=0.15)
    >>> result.robust_accuracy == result.certified_accuracy
    True
    """

    needs_gradients = False
    wants_logits = False

    def __init__(self, n_groups: int = 20, *, batch_size: int = 128):
        check_count("n_groups", n_groups)
        check_count("batch_size", batch_size)
        self.n_groups = n_groups
        self.batch_size = batch_size

    def run(self, logits_fn, x, y, threat_model, generator=None):
        """Return what fools the model; robust samples unchanged."""
        rule = structure_of(logits_fn)
        if not isinstance(rule, NeighbourRule):
            raise NoStructureError(
                f"The attack on neighbours was called with a {type(rule).__name__}; "
                "expected a KNeighborsClassifier."
            )
        threat_model.refuse_per_feature(
            'attack "neighbours"', 'Scale the columns, or use attack="square".'
        )
        start = self._start(logits_fn, x, y, generator)
        survivors = Survivors(x, start.fooled)
        for row in survivors.rows():
            one = slice(int(row), int(row) + 1)
            for point in self._points(rule, x[row], int(y[row]), threat_model):
                x_try = torch.from_numpy(point).to(x).reshape(x[one].shape)
                x_try = threat_model.project(x_try, x[one])
                with torch.no_grad():
                    fooled = is_fooled(logits_fn(x_try), y[one])
                if not survivors.record(row[None], x_try, fooled).all():
                    break
        return AttackOutcome(survivors.x_adv)

    def _points(self, rule, x, column, threat_model):
        """Yield the points that should be predicted as another class."""
        x = to_array(x).astype(float).ravel()
        own = rule.rows[rule.labels == column]
        others = rule.labels != column
        if len(own) == 0 or not others.any():
            return
        rows, labels = rule.rows[others], rule.labels[others]
        # Of an even number of votes half are enough for a class that wins ties.
        wins_ties = (rule.n_neighbors % 2 == 0) & (labels < column)
        size = rule.n_neighbors // 2 + 1 - wins_ties
        allowed = rule.n_neighbors - size
        distances = -np.sort(-halfway_distances(x, own, rows, threat_model.norm), 0)
        bound = distances[np.minimum(allowed, len(distances) - 1), np.arange(len(rows))]
        n_groups = len(rows) if rule.n_neighbors == 1 else self.n_groups
        for b in np.argsort(bound, kind="stable")[:n_groups]:
            if bound[b] > threat_model.eps:
                return
            group = rows[labels == labels[b]]
            group = group[_order(group, rows[b])[: size[b]]]
            left = own[_order(own, rows[b])[allowed[b] :]]
            if len(group) < size[b] or len(left) == 0:
                continue
            point = point_beyond(x, left, group, threat_model, margin=_MARGIN)
            if point is not None:
                yield point


def _order(rows, point):
    return np.argsort(((rows - point) ** 2).sum(1), kind="stable")
