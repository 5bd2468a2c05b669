"""An attack on trees and their ensembles: it moves features across thresholds."""

import numpy as np
import torch

from robustfit._utils.argument_checks import check_count
from robustfit._utils.torch_bridge import to_array
from robustfit.attacks.base import Attack, AttackOutcome
from robustfit.attacks.search import Survivors, is_fooled
from robustfit.attacks.tree_search import TreeSearch
from robustfit.certification.trees import keeps_class
from robustfit.exceptions import NoStructureError
from robustfit.structures.find_structure import structure_of
from robustfit.structures.tree_ensemble import TreeEnsemble
from robustfit.structures.tree_reach import Reach

__all__ = ["TreeAttack"]

_BORDER = 1e-9  # leads up to here may be ties, or rounding: the model is asked


class TreeAttack(Attack):
    """Move features across the thresholds of trees while that helps, then kick.

    Parameters
    ----------
    n_starts : int, default=10
        Searches for a sample that is not fooled: from the sample itself, and then from
        the best point so far with a tenth of its features moved at random.
    batch_size : int, default=128
        Samples attacked together; what bounds the memory.

    Raises
    ------
    ValueError
        For a count below one.
    NoStructureError
        When it is called with a model that is no tree, forest or boosting of
        scikit-learn.

    Notes
    -----
    Called as ``attack(logits_fn, x, y, threat_model, generator=None)`` with the
    ``logits_fn`` of :func:`robustfit.as_black_box`. A point between the same thresholds
    gets the same scores, so the search counts in cells between thresholds. Each step
    finds what the move of one feature to any cell in the ball and the range gains, for
    all of them at once: the neighbourhood of leaf tuples of the paper. The best moves
    of one, two, four, ... features are tried together and the best of these is taken.
    Where none helps, it jumps into the leaves of single trees, several features at
    once. The lead of the true class over the runner-up goes down with every step. In l2
    and l1 balls moves are compared by what they gain for the budget that they take.
    Samples that the sum of worst leaves proves safe (see
    :func:`robustfit.certified_accuracy`) are not attacked, and a sample counts as
    fooled if the model itself says so.

    References
    ----------
    C. Zhang, H. Zhang, C.-J. Hsieh. "An Efficient Adversarial Attack for Tree
    Ensembles", NeurIPS 2020 (section 3, Algorithm 1).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from robustfit import attack_estimator
    >>> from robustfit.attacks import TreeAttack
    >>> X, y = load_digits(return_X_y=True)
    >>> forest = RandomForestClassifier(20, random_state=0).fit(X[:500] / 16, y[:500])
    >>> attack = TreeAttack(n_starts=3)
    >>> result = attack_estimator(
    ...     forest, X[500:600] / 16, y[500:600], attack=attack, eps=0.1)
    >>> result.robust_accuracy < 0.5
    True
    """

    needs_gradients = False
    wants_logits = False

    def __init__(self, n_starts: int = 10, *, batch_size: int = 128):
        check_count("n_starts", n_starts)
        check_count("batch_size", batch_size)
        self.n_starts = n_starts
        self.batch_size = batch_size

    def run(self, logits_fn, x, y, threat_model, generator=None):
        """Return what fools the model; robust samples unchanged."""
        ensemble = _read_trees(logits_fn)
        start = self._start(logits_fn, x, y, generator)
        survivors = Survivors(x, start.fooled)
        for rows in survivors.batches(self.batch_size):
            reach = Reach(ensemble, to_array(x[rows].flatten(1)), threat_model)
            columns = to_array(y[rows])
            search = TreeSearch(reach, columns)
            safe = keeps_class(ensemble, reach.X, columns, threat_model)
            standing = np.flatnonzero(~safe)
            for number in range(self.n_starts if len(standing) else 0):
                search.kick(standing, number, start.keys[rows])
                search.descend(standing, number)
                claimed = standing[search.lead[standing] <= _BORDER]
                points = torch.from_numpy(search.points(claimed)).to(x)
                at = rows[torch.from_numpy(claimed)]
                self._record(logits_fn, points.reshape(x[at].shape), y, at, survivors)
                standing = standing[to_array(~survivors.fooled[rows])[standing]]
                if len(standing) == 0:
                    break
        return AttackOutcome(survivors.x_adv)

    def _record(self, logits_fn, points, y, rows, survivors):
        """Ask the model about points that should fool it; its word counts."""
        if len(rows):
            with torch.no_grad():
                fooled = is_fooled(logits_fn(points), y[rows])
            survivors.record(rows, points, fooled)


def _read_trees(logits_fn):
    structure = structure_of(logits_fn)
    if isinstance(structure, TreeEnsemble):
        return structure
    raise NoStructureError(
        f"The attack on trees was called with a {type(structure).__name__}; expected a "
        "tree, forest or boosting of scikit-learn."
    )
