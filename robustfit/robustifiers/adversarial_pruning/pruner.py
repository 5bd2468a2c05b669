"""``AdversarialPruner``: drop the rows that keep classes from being apart."""

import numpy as np

from robustfit.robustifiers.adversarial_pruning.conflicts import find_conflicts
from robustfit.robustifiers.adversarial_pruning.vertex_cover import (
    cover_bipartite,
    cover_graph,
)
from robustfit.robustifiers.base import TrainingSetRewriter
from robustfit.threat_model import ThreatModel

__all__ = ["AdversarialPruner"]


class AdversarialPruner(TrainingSetRewriter):
    """Drop the fewest rows such that classes are at least 2 eps apart.

    For nearest neighbours and trees: around each row that is left, a ball of radius
    eps holds no row's ball of another class, so that a classifier can be constant
    there. Rows themselves are not changed.

    Parameters
    ----------
    eps : float, default=8/255
        Budget of the adversary, in the units of X.
    norm : {"linf", "l2", "l1"}, default="linf"
    clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
        Valid values of X.
    image_shape : tuple of (C, H, W) or None, default=None
        Shape that flat rows came from.

    Attributes
    ----------
    X_robust_ : ndarray of shape (n_kept, ...), float32
        The rows that are left, as they were, in their order.
    y_robust_ : ndarray of shape (n_kept,)
        Their labels.
    sample_indices_ : ndarray of shape (n_kept,)
        Which rows of X they are.
    n_dropped_ : int
        Rows that are not left.
    n_dropped_at_least_ : int
        No other choice drops fewer. For two classes it is ``n_dropped_``; for more,
        where the problem is NP-hard, at least half of it.
    classes_, image_shape_, n_features_in_
        As for :class:`RobustDatasetLearner`.

    Raises
    ------
    ValueError
        If rows of one class only are left.

    See Also
    --------
    RobustifiedClassifier, as_sampler : Use it in front of a classifier; rows are
        dropped, which ``fit_transform`` and ``Pipeline`` cannot do.

    Notes
    -----
    Two rows of different classes that are less than ``2 * eps`` apart are a conflict;
    the rows that are dropped are a vertex cover of the graph of conflicts. For two
    classes it is a smallest one, by a largest matching and König's theorem; for more,
    the better of the rounded linear relaxation and a greedy choice, at most twice as
    large. Time grows with the square of the rows; distances are worked out in blocks
    (``sklearn.config_context(working_memory=...)``). Nothing is random.

    References
    ----------
    Y.-Y. Yang, C. Rashtchian, Y. Wang, K. Chaudhuri. "Robustness for Non-Parametric
    Classification: A Generic Attack and Defense", AISTATS 2020, section 4.

    Examples
    --------
    >>> from robustfit import AdversarialPruner
    >>> X, y = [[0.0], [0.3], [0.4], [0.9]], ["a", "a", "b", "b"]
    >>> AdversarialPruner(eps=0.1).fit(X, y).sample_indices_.tolist()
    [0, 2, 3]
    """

    _parameter_constraints: dict = {}

    def __init__(
        self, eps=8 / 255, norm="linf", *, clip_range=(0.0, 1.0), image_shape=None
    ):
        self.eps = eps
        self.norm = norm
        self.clip_range = clip_range
        self.image_shape = image_shape

    def _validate_parameters(self):
        """Check the parameters; l1 is fine, as nothing is trained."""
        self._validate_params()
        return ThreatModel(self.norm, self.eps, self.clip_range)

    def _changes_rows_or_labels(self):
        return True

    def _learn(self, X, y, image_shape, threat_model):
        conflicts = find_conflicts(
            X.reshape(len(X), -1), y, 2 * threat_model.eps, threat_model.norm
        )
        dropped, at_least = _choose_rows(conflicts, y)
        kept = np.flatnonzero(~dropped)
        if len(np.unique(y[kept])) < 2:
            raise ValueError(
                f"With eps={self.eps:.4g} ({self.norm}) the rows that are at least "
                f"2 eps apart are all of the class {self.classes_[y[kept[0]]]}; "
                "expected two classes to be left. Use a smaller eps."
            )
        self.X_robust_, self.y_robust_ = X[kept], self.classes_[y[kept]]
        self.sample_indices_ = kept
        self.n_dropped_, self.n_dropped_at_least_ = int(dropped.sum()), at_least


def _choose_rows(conflicts, y):
    """Return the rows to drop (bool), and how many have to be dropped at least."""
    if y.max() > 1:
        return cover_graph(conflicts)
    dropped = np.zeros(len(y), dtype=bool)
    first, second = np.flatnonzero(y == 0), np.flatnonzero(y == 1)
    dropped[first], dropped[second] = cover_bipartite(conflicts[first][:, second])
    return dropped, int(dropped.sum())
