"""Lower bounds for trees: the worst leaf that each tree can be moved to, added up.

For an ensemble whose score of class k is ``s_k(z) = b_k + sum_t v_t,k(leaf_t(z))``,
every point z of the ball has

    ``s_y(z) - s_c(z) >= b_y - b_c + sum_t min_l (v_t,y(l) - v_t,c(l))``

where l runs over the leaves of tree t whose box meets the ball and the range. The sum
is taken for each pair of classes by itself, and for a single tree it is exact.
"""

import numpy as np

from robustfit._utils.torch_bridge import batch_slices
from robustfit.structures.tree_reach import Reach

__all__ = ["keeps_class", "wins", "worst_margins"]

_NUMBERS = 2_000_000  # in one array; what bounds the memory


def keeps_class(ensemble, X, columns, threat_model):
    """Return which samples are proven to keep their class in the whole ball.

    Parameters
    ----------
    ensemble : TreeEnsemble
    X : ndarray of shape (n_samples, n_features)
    columns : ndarray of shape (n_samples,), int
        The class of each sample.
    threat_model : ThreatModel

    Returns
    -------
    ndarray of shape (n_samples,), bool
        True is proven. False is proven only for a single tree.
    """
    n_leaves = int(ensemble.is_leaf.sum())
    size = max(1, _NUMBERS // (n_leaves * ensemble.n_classes))
    parts = []
    for part in batch_slices(len(X), size):
        reach = Reach(ensemble, X[part], threat_model, rounding=True)
        margins = worst_margins(ensemble, reach, columns[part])
        parts.append(wins(margins, columns[part], ensemble.rounding).all(1))
    return np.concatenate(parts)


def worst_margins(ensemble, reach, columns):
    """Return a lower bound of the score of the class minus that of each other.

    Parameters
    ----------
    ensemble : TreeEnsemble
    reach : Reach
        Of the samples.
    columns : ndarray of shape (n_samples,), int

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        0 for the class itself.
    """
    rows, leaves = reach.leaves()
    values = ensemble.values[leaves]
    leads = values[np.arange(len(rows)), columns[rows], None] - values
    group = rows * len(ensemble.roots) + ensemble.tree[leaves]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    worst = np.minimum.reduceat(leads, starts)
    shape = (len(columns), len(ensemble.roots), ensemble.n_classes)
    return worst.reshape(shape).sum(1) + ensemble.base[columns, None] - ensemble.base


def wins(margins, columns, rounding):
    """Return which margins over other classes are those of the prediction.

    Parameters
    ----------
    margins : ndarray of shape (n_samples, n_classes)
        Scores of the classes ``columns`` minus all scores.
    columns : ndarray of shape (n_samples,), int
    rounding : float
        Margins up to here say nothing. Where it is 0, a tie goes to the first class.

    Returns
    -------
    ndarray of shape (n_samples, n_classes), bool
    """
    found = margins > rounding
    if rounding == 0:
        first = np.arange(margins.shape[1]) > columns[:, None]
        found |= (margins == 0) & first
    found[np.arange(len(margins)), columns] = True
    return found
