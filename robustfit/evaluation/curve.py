"""Robust accuracy at every budget, from one pass of minimal-distance attacks."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from robustfit._utils.argument_checks import check_count
from robustfit._utils.torch_bridge import batch_slices, to_array, to_tensor
from robustfit.attacks import APGD, FAB
from robustfit.attacks.search import is_fooled
from robustfit.evaluation.attacking import flagged
from robustfit.evaluation.counting_error import wilson_interval
from robustfit.evaluation.gate import admit, validate_data, warn_of_undefined
from robustfit.sklearn_to_torch.probabilities import with_logits
from robustfit.threat_model import ThreatModel

__all__ = ["SecurityCurve", "minimal_distances", "security_curve"]

# Of the random starts: a curve is the same in every call.
_SEED = 0


@dataclass(frozen=True)
class SecurityCurve:
    """Robust accuracy as a function of the budget.

    Attributes
    ----------
    eps : ndarray of shape (n_budgets,)
        Budgets in the units of X, rising.
    accuracy : ndarray of shape (n_budgets,)
        Share of samples that no perturbation found of that length turns wrong: an
        upper bound of the robust accuracy, in [0, 1], falling.
    distances : ndarray of shape (n_samples,)
        Length of the shortest perturbation found for each sample; 0 for samples that
        are wrong already, infinite where none was found.
    norm : str
    unit : str, default="units of X"
        Of budgets and distances; "units of scale" where features have their own.
    seed : int or None, default=None
        What the random numbers of the search were drawn from; None where the distances
        do not say.

    See Also
    --------
    security_curve : Measures one.
    SecurityCurveDisplay : Draws one.

    Examples
    --------
    >>> import numpy as np
    >>> from robustfit import SecurityCurve
    >>> curve = SecurityCurve.from_distances([0.0, 0.1, 0.3], eps=[0.0, 0.2])
    >>> curve.accuracy.round(2)
    array([0.67, 0.33])
    """

    eps: np.ndarray
    accuracy: np.ndarray
    distances: np.ndarray
    norm: str = "linf"
    unit: str = "units of X"
    seed: int | None = None

    @property
    def n_samples(self) -> int:
        """How many samples the accuracies are shares of."""
        return len(self.distances)

    @property
    def interval(self) -> np.ndarray:
        """95 % interval (Wilson) of each accuracy, shape (n_budgets, 2)."""
        n_right = [(self.distances > budget).sum() for budget in self.eps]
        return np.array([wilson_interval(n, self.n_samples) for n in n_right])

    @classmethod
    def from_distances(
        cls, distances, *, eps, norm="linf", unit="units of X", seed=None
    ):
        """Return the curve of given minimal distances at the budgets ``eps``.

        Parameters
        ----------
        distances : array-like of shape (n_samples,)
            See :func:`minimal_distances`.
        eps : array-like of shape (n_budgets,)
        norm : {"linf", "l2", "l1"}, default="linf"
        unit : str, default="units of X"
        seed : int or None, default=None
            What the random numbers of the search were drawn from.

        Returns
        -------
        SecurityCurve

        Raises
        ------
        ValueError
            For distances or budgets that are no vector of numbers >= 0.
        """
        distances = _check_lengths("distances", distances)
        eps = np.sort(_check_lengths("eps", eps, is_finite=True))
        accuracy = np.array([(distances > budget).mean() for budget in eps])
        return cls(eps, accuracy, distances, norm, unit, seed)


def _check_lengths(name, lengths, *, is_finite=False):
    """Return lengths in the units of X as a vector of float64, else raise."""
    values = np.asarray(lengths)
    if values.ndim == 1 and len(values) and values.dtype.kind in "iuf":
        values = values.astype(float)
        if (values >= 0).all() and (not is_finite or np.isfinite(values).all()):
            return values
    finite = "finite " if is_finite else ""
    raise ValueError(
        f"{name} is {lengths!r}; expected a list of {finite}numbers >= 0 in the units "
        "of X, say [0, 0.05, 0.1]."
    )


def minimal_distances(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    norm: str = "linf",
    clip_range: tuple[ArrayLike, ArrayLike] | None = (0.0, 1.0),
    scale: ArrayLike | None = None,
    n_steps: int = 100,
    n_targets: int = 9,
    batch_size: int = 128,
) -> np.ndarray:
    """Return the length of the shortest perturbation found for each sample.

    Parameters
    ----------
    estimator : fitted classifier
        Anything :func:`robustfit.as_torch` takes.
    X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
    y : array-like of shape (n_samples,)
    norm : {"linf", "l2", "l1"}, default="linf"
    clip_range : tuple of (low, high) or None, default=(0.0, 1.0)
        Numbers, or arrays of one for each feature.
    scale : array-like of shape (n_features,) or of a sample, or None, default=None
        What the distance is measured in, feature by feature, such as their standard
        deviations; 0 for features that do not move. None is one for all.
    n_steps : int, default=100
        Steps of FAB, each target.
    n_targets : int, default=9
        Classes aimed at, most likely first.
    batch_size : int, default=128

    Returns
    -------
    ndarray of shape (n_samples,)
        In the units of X, or of ``scale``: 0 where the estimator is wrong already (also
        for labels that it was never trained on), infinite where no perturbation was
        found. Distances found are upper bounds of the true ones.

    Notes
    -----
    Targeted FAB (Croce & Hein, "Minimally distorted adversarial examples with a fast
    adaptive boundary attack", ICML 2020).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from robustfit import minimal_distances
    >>> X, y = load_digits(return_X_y=True)
    >>> model = LogisticRegression(C=0.01).fit(X[:1000] / 16, y[:1000])
    >>> distances = minimal_distances(model, X[-5:] / 16, y[-5:], n_steps=20)
    >>> bool((distances < 0.5).all())
    True
    """
    threat_model = ThreatModel(norm, 0.0, clip_range, scale)
    model = _admit(estimator, X, y, threat_model, batch_size)
    return _minimal_distances(*model, n_steps=n_steps, n_targets=n_targets,
                              batch_size=batch_size)  # fmt: skip


def _admit(estimator, X, y, threat_model, batch_size):
    """Return what a search needs: classifier, inputs, columns, threat model."""
    check_count("batch_size", batch_size)
    given, (X, y) = X, validate_data(X, y, threat_model)
    classifier, _, columns = admit(estimator, X, y, given=given, batch_size=batch_size)
    return classifier, X, columns, threat_model


def _minimal_distances(
    classifier, X, columns, threat_model, *, n_steps, n_targets, batch_size
):
    attack = FAB(n_steps, n_targets=n_targets, minimal=True, batch_size=batch_size)
    first = np.flatnonzero(columns >= 0)[:batch_size]
    if len(first):
        with classifier.frozen():
            flagged(attack, classifier, X[first], columns[first])
    return search_distances(
        attack, classifier, X, columns, threat_model, batch_size=batch_size
    )


def search_distances(attack, classifier, X, columns, threat_model, *, batch_size):
    """Return how far an attack went for each sample.

    Parameters
    ----------
    attack : Attack
    classifier : TorchClassifier
    X : ndarray of shape (n_samples, ...), float32
    columns : ndarray of shape (n_samples,), int64
        Of the labels; -1 for labels that the classifier was never trained on, which it
        gets wrong unperturbed.
    threat_model : ThreatModel
    batch_size : int

    Returns
    -------
    ndarray of shape (n_samples,), float64
        Infinite for samples that it did not fool.
    """
    distances = np.zeros(len(X))
    known = np.flatnonzero(columns >= 0)
    with classifier.frozen():
        classifier = with_logits(classifier, to_tensor(X[:2], classifier.device))
        for part in batch_slices(len(known), batch_size):
            rows = known[part]
            distances[rows] = _distances(
                attack, classifier, X[rows], columns[rows], threat_model
            )
    return distances


def _distances(attack, classifier, X, columns, threat_model):
    """Return how far the attack went; infinite for samples that it did not fool."""
    x = to_tensor(X, classifier.device)
    y = torch.as_tensor(columns, device=classifier.device)
    generator = torch.Generator(classifier.device).manual_seed(_SEED)
    x_adv = attack.run(classifier, x, y, threat_model, generator).x_adv
    with torch.no_grad():
        logits = classifier(x_adv)
    fooled, distance = is_fooled(logits, y), threat_model.distance(x_adv, x)
    is_undefined = ~torch.isfinite(logits).all(1) & (distance > 0)
    warn_of_undefined(to_array(is_undefined), "adversarial inputs")
    return to_array(torch.where(fooled, distance, torch.inf))


def security_curve(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    eps: ArrayLike | None = None,
    norm: str = "linf",
    clip_range: tuple[ArrayLike, ArrayLike] | None = (0.0, 1.0),
    scale: ArrayLike | None = None,
    n_steps: int = 100,
    n_targets: int = 9,
    batch_size: int = 128,
    confirm: bool = True,
) -> SecurityCurve:
    """Return the robust accuracy at many budgets for the price of about one attack.

    Parameters
    ----------
    estimator : fitted classifier
        Anything :func:`robustfit.as_torch` takes.
    X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
    y : array-like of shape (n_samples,)
    eps : array-like of shape (n_budgets,) or None, default=None
        Budgets in the units of X, or of ``scale``: the budget of a feature is eps times
        its scale. Finite and >= 0; None is 50 of them, from 0 to where all fall.
    norm : {"linf", "l2", "l1"}, default="linf"
    clip_range, scale, n_steps, n_targets, batch_size
        See :func:`minimal_distances`.
    confirm : bool, default=True
        Attack each sample once more with APGD just within the distance FAB found
        (at 95 % of it), and keep the shorter: FAB alone is an optimistic upper bound.

    Returns
    -------
    SecurityCurve

    Raises
    ------
    ValueError
        For budgets that are no list of numbers >= 0, and labels that the model cannot
        have.

    See Also
    --------
    SecurityCurveDisplay : Draws it.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from robustfit import security_curve
    >>> X, y = load_digits(return_X_y=True)
    >>> model = LogisticRegression(C=0.01).fit(X[:1000] / 16, y[:1000])
    >>> curve = security_curve(
    ...     model, X[-20:] / 16, y[-20:], eps=[0, 0.1, 1], n_steps=20)
    >>> bool(curve.accuracy[0] >= curve.accuracy[1] >= curve.accuracy[2] == 0)
    True
    """
    threat_model = ThreatModel(norm, 0.0, clip_range, scale)
    if eps is not None:
        eps = np.sort(_check_lengths("eps", eps, is_finite=True))
    model = _admit(estimator, X, y, threat_model, batch_size)
    if eps is not None and eps[-1] > 0:  # one budget of many may be meant to be large
        positive = eps[eps > 0]
        middle = replace(model[-1], eps=float(positive[(len(positive) - 1) // 2]))
        middle.warn_of_unit(model[1])
    distances = _minimal_distances(*model, n_steps=n_steps, n_targets=n_targets,
                                   batch_size=batch_size)  # fmt: skip
    if confirm:
        distances = _confirm(*model, distances=distances, batch_size=batch_size)
    if eps is None:
        finite = distances[np.isfinite(distances)]
        largest = float(finite.max()) if len(finite) else 1.0
        eps = np.linspace(0, 1.05 * largest or 1.0, 50)
    unit = "units of X" if scale is None else "units of scale"
    return SecurityCurve.from_distances(
        distances, eps=eps, norm=norm, unit=unit, seed=_SEED
    )


def _confirm(classifier, X, columns, threat_model, *, distances, batch_size):
    """Shorten distances where APGD succeeds within 95 % of them.

    Every sample gets a ball of its own by attacking samples of like distance together,
    in the ball of the shortest among them.
    """
    shorter = distances.copy()
    attack = APGD(30, "margin", n_targets=3, batch_size=batch_size)
    rows = np.argsort(distances)
    rows = rows[(distances[rows] > 0) & np.isfinite(distances[rows])]
    with classifier.frozen():
        classifier = with_logits(classifier, to_tensor(X[:2], classifier.device))
        for part in np.array_split(rows, max(1, len(rows) // 16)) if len(rows) else ():
            ball = replace(threat_model, eps=0.95 * float(distances[part[0]]))
            found = _distances(attack, classifier, X[part], columns[part], ball)
            shorter[part] = np.minimum(found, distances[part])
    return shorter
