"""How many samples no attack can change: certified accuracy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from robustfit.certification.exact_neighbours import decide_nearest
from robustfit.certification.exact_trees import decide_trees
from robustfit.certification.linear import decide_linear
from robustfit.certification.neighbours import keeps_neighbours
from robustfit.certification.trees import keeps_class
from robustfit.evaluation.counting_error import wilson_interval
from robustfit.evaluation.gate import admit, validate_data
from robustfit.exceptions import NoStructureError
from robustfit.structures.affine import AffineScores
from robustfit.structures.find_structure import structure_of
from robustfit.structures.neighbour_rule import NeighbourRule
from robustfit.structures.tree_ensemble import TreeEnsemble
from robustfit.threat_model import ThreatModel

__all__ = ["CertifiedAccuracy", "certified_accuracy", "certified_or_none"]

METHODS = ("auto", "bound", "exact")


@dataclass(frozen=True)
class CertifiedAccuracy:
    """Which samples are proven to be classified correctly whatever an adversary does.

    Attributes
    ----------
    certified : ndarray of shape (n_samples,), bool
        Right, and proven to stay so in the whole ball and range.
    natural_correct : ndarray of shape (n_samples,), bool
        Right unperturbed.
    exact : bool
        Whether a sample that is not certified is proven to fall. If not, the robust
        accuracy lies between ``certified_accuracy`` and what an attack leaves.
    method : str
        What the proof rests on.

    See Also
    --------
    certified_accuracy : Makes one.
    attack_estimator : The number from the other side.

    Examples
    --------
    >>> import numpy as np
    >>> from robustfit import CertifiedAccuracy
    >>> CertifiedAccuracy(
    ...     np.array([True, False]), np.array([True, True]), True, "plane")
    CertifiedAccuracy(n_samples=2, natural_accuracy=1.000, certified_accuracy=0.500, \
certified_interval=[0.095, 0.905], exact=True, method='plane')
    """

    certified: np.ndarray
    natural_correct: np.ndarray
    exact: bool
    method: str

    def __repr__(self) -> str:
        low, high = self.certified_interval
        return (
            f"CertifiedAccuracy(n_samples={self.n_samples}, "
            f"natural_accuracy={self.natural_accuracy:.3f}, "
            f"certified_accuracy={self.certified_accuracy:.3f}, "
            f"certified_interval=[{low:.3f}, {high:.3f}], exact={self.exact}, "
            f"method={self.method!r})"
        )

    @property
    def n_samples(self) -> int:
        """How many samples the accuracies are shares of."""
        return len(self.certified)

    @property
    def natural_accuracy(self) -> float:
        """Share of samples that are right unperturbed, in [0, 1]."""
        return float(self.natural_correct.mean())

    @property
    def certified_accuracy(self) -> float:
        """Share of samples that are ``certified``, in [0, 1]."""
        return float(self.certified.mean())

    @property
    def certified_interval(self) -> tuple[float, float]:
        """95 % interval (Wilson) of the certified accuracy that more samples have."""
        return wilson_interval(self.certified.sum(), self.n_samples)


def certified_accuracy(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    eps: float = 8 / 255,
    norm: str = "linf",
    clip_range: tuple[float, float] | None = (0.0, 1.0),
    method: str = "auto",
    batch_size: int = 128,
) -> CertifiedAccuracy:
    """Return a lower bound of the robust accuracy that holds against every attack.

    Parameters
    ----------
    estimator : fitted classifier
        A linear classifier of scikit-learn, also behind scalers and ``PCA`` in a
        pipeline, or a torch module of linear layers only; a decision tree, random
        forest, ``ExtraTreesClassifier``, ``GradientBoostingClassifier`` or
        ``HistGradientBoostingClassifier`` without categories; a
        ``KNeighborsClassifier`` with uniform weights and Euclidean distances.
    X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
        Natural inputs in ``clip_range``, of the shape the estimator takes.
    y : array-like of shape (n_samples,)
        True labels.
    eps : float, default=8/255
        Budget in the units of X, in ``norm``.
    norm : {"linf", "l2", "l1"}, default="linf"
    clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
        Valid values of X; None for unbounded features.
    method : {"auto", "bound", "exact"}, default="auto"
        "bound" is fast for all models, and exact for linear models and single trees.
        "exact" proves both answers: by a mixed-integer program for ensembles of trees
        (a few dozen trees at most), by small programs for one neighbour. "auto" is
        "exact" for one neighbour and "bound" elsewhere.
    batch_size : int, default=128
        Samples in one prediction.

    Returns
    -------
    CertifiedAccuracy

    Raises
    ------
    NoStructureError
        For other models, and ``method="exact"`` with several neighbours.
    PixelRangeError, ValueError
        For bad input, as :func:`attack_estimator`.

    See Also
    --------
    attack_estimator : The upper bound; its result has ``certified_accuracy``, too.

    Notes
    -----
    The proofs are about float32 inputs, as attacks return them, with the rounding of
    ``x + eps`` counted in. XGBoost and LightGBM models are not read. The user guide
    has the mathematics.

    References
    ----------
    A. Kantchelian, J. D. Tygar, A. D. Joseph. "Evasion and Hardening of Tree Ensemble
    Classifiers", ICML 2016 (``method="exact"``).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from robustfit import attack_estimator, certified_accuracy
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> forest = RandomForestClassifier(20, random_state=0).fit(X[:500], y[:500])
    >>> proven = certified_accuracy(forest, X[500:600], y[500:600], eps=0.04)
    >>> attacked = attack_estimator(forest, X[500:600], y[500:600], eps=0.04)
    >>> 0.2 < proven.certified_accuracy <= attacked.robust_accuracy < 1
    True
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; expected one of {METHODS}.")
    threat_model = ThreatModel(norm, eps, clip_range)
    given, (X, y) = X, validate_data(X, y, threat_model)
    classifier, predicted, columns = admit(
        estimator, X, y, given=given, needs_gradients=False, batch_size=batch_size
    )
    with classifier.frozen():
        structure = structure_of(classifier)
        correct = predicted == columns
        kept, exact, how = _prove(structure, X, columns, correct, threat_model, method)
    return CertifiedAccuracy(kept, correct, exact, how)


def certified_or_none(classifier, X, columns, rows, threat_model):
    """Return which samples are proven to keep their column, or None without a bound.

    Parameters
    ----------
    classifier : TorchClassifier
    X : ndarray of shape (n_samples, ...)
    columns : ndarray of shape (n_samples,), int
    rows : ndarray of shape (n_samples,), bool
        Samples whose prediction is their column.
    threat_model : ThreatModel
    """
    try:
        structure = structure_of(classifier)
    except NoStructureError:
        return None
    return _prove(structure, X, columns, rows, threat_model, "bound")[0]


def _prove(structure, X, columns, rows, threat_model, method):
    """Return (certified, whether it is exact, what it rests on)."""
    prove, exact, how = _method_for(structure, method)
    certified = rows.copy()
    if rows.any() and threat_model.eps > 0 and structure.n_classes > 1:
        flat = X[rows].reshape(int(rows.sum()), -1)
        certified[rows] = prove(structure, flat, columns[rows], threat_model)
    return certified, exact or threat_model.eps == 0, how


def _method_for(structure, method):
    if isinstance(structure, AffineScores):
        return decide_linear, True, "distance to the planes between classes"
    if isinstance(structure, TreeEnsemble):
        if len(structure.roots) == 1:
            return keeps_class, True, "every leaf within reach"
        if method == "exact":
            return decide_trees, True, "mixed-integer program"
        return keeps_class, False, "sum of each tree's worst leaf"
    return _method_for_neighbours(structure, method)


def _method_for_neighbours(rule: NeighbourRule, method):
    if method != "bound" and rule.n_neighbors == 1:
        return decide_nearest, True, "distance to the cells of other rows"
    if method == "exact":
        raise NoStructureError(
            f"method is 'exact' and the model votes with {rule.n_neighbors} "
            "neighbours; expected one. Use method='bound'."
        )
    return keeps_neighbours, False, "distances to the planes half-way between rows"
