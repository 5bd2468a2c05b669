"""Robust accuracy at every budget, from one pass of minimal-distance attacks."""

from dataclasses import dataclass

import numpy as np
import torch

from robustfit._utils.argument_checks import check_count
from robustfit._utils.torch_bridge import batch_slices, to_array, to_tensor
from robustfit.attacks import APGD, FAB
from robustfit.attacks.search import is_fooled
from robustfit.evaluation.attacking import validate_data
from robustfit.sklearn_to_torch.torch_classifier import as_torch
from robustfit.threat_model import ThreatModel

__all__ = ["SecurityCurve", "minimal_distances", "security_curve"]


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

    @classmethod
    def from_distances(cls, distances, *, eps, norm="linf"):
        """Return the curve of given minimal distances at the budgets ``eps``.

        Parameters
        ----------
        distances : array-like of shape (n_samples,)
            See :func:`minimal_distances`.
        eps : array-like of shape (n_budgets,)
        norm : {"linf", "l2", "l1"}, default="linf"

        Returns
        -------
        SecurityCurve
        """
        distances = np.asarray(distances, dtype=float)
        eps = np.sort(np.asarray(eps, dtype=float))
        accuracy = np.array([(distances > budget).mean() for budget in eps])
        return cls(eps, accuracy, distances, norm)


def minimal_distances(
    estimator,
    X,
    y,
    *,
    norm="linf",
    clip_range=(0.0, 1.0),
    n_steps=100,
    n_targets=9,
    batch_size=128,
):
    """Return the length of the shortest perturbation found for each sample.

    Parameters
    ----------
    estimator : fitted classifier
        Anything :func:`robustfit.as_torch` takes.
    X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
    y : array-like of shape (n_samples,)
    norm : {"linf", "l2", "l1"}, default="linf"
    clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
    n_steps : int, default=100
        Steps of FAB, each target.
    n_targets : int, default=9
        Classes aimed at, most likely first.
    batch_size : int, default=128

    Returns
    -------
    ndarray of shape (n_samples,)
        In the units of X: 0 where the estimator is wrong already, infinite where no
        perturbation was found. Distances found are upper bounds of the true ones.

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
    threat_model = ThreatModel(norm, 0.0, clip_range)
    check_count("batch_size", batch_size)
    attack = FAB(n_steps, n_targets=n_targets, minimal=True, batch_size=batch_size)
    X, y = validate_data(X, y, threat_model)
    classifier = as_torch(estimator)
    with classifier.frozen():
        distances = [
            _distances(attack, classifier, X[rows], y[rows], threat_model)
            for rows in batch_slices(len(X), batch_size)
        ]
    return np.concatenate(distances).astype(float)


def _distances(attack, classifier, X, y, threat_model):
    """Return how far the attack went; infinite for samples that it did not fool."""
    x, column = to_tensor(X, classifier.device), classifier.encode(y)
    x_adv = attack(classifier, x, column, threat_model)
    with torch.no_grad():
        fooled = is_fooled(classifier(x_adv), column)
    distance = threat_model.distance(x_adv, x)
    return to_array(torch.where(fooled, distance, torch.inf))


def security_curve(
    estimator,
    X,
    y,
    *,
    eps=None,
    norm="linf",
    clip_range=(0.0, 1.0),
    n_steps=100,
    n_targets=9,
    batch_size=128,
    confirm=True,
):
    """Return the robust accuracy at many budgets for the price of about one attack.

    Parameters
    ----------
    estimator : fitted classifier
        Anything :func:`robustfit.as_torch` takes.
    X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
    y : array-like of shape (n_samples,)
    eps : array-like of shape (n_budgets,) or None, default=None
        Budgets in the units of X; None is 50 of them, from 0 to where all fall.
    norm : {"linf", "l2", "l1"}, default="linf"
    clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
    n_steps, n_targets, batch_size
        See :func:`minimal_distances`.
    confirm : bool, default=True
        Attack each sample once more with APGD just within the distance FAB found
        (at 95 % of it), and keep the shorter: FAB alone is an optimistic upper bound.

    Returns
    -------
    SecurityCurve

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
    distances = minimal_distances(
        estimator, X, y, norm=norm, clip_range=clip_range, n_steps=n_steps,
        n_targets=n_targets, batch_size=batch_size,
    )  # fmt: skip
    if confirm:
        shared = {"norm": norm, "clip_range": clip_range, "batch_size": batch_size}
        distances = _confirm(estimator, X, y, distances, **shared)
    if eps is None:
        finite = distances[np.isfinite(distances)]
        largest = float(finite.max()) if len(finite) else 1.0
        eps = np.linspace(0, 1.05 * largest or 1.0, 50)
    return SecurityCurve.from_distances(distances, eps=eps, norm=norm)


def _confirm(estimator, X, y, distances, *, norm, clip_range, batch_size):
    """Shorten distances where APGD succeeds within 95 % of them.

    Every sample gets a ball of its own by attacking samples of like distance together,
    in the ball of the shortest among them.
    """
    threat_model = ThreatModel(norm, 0.0, clip_range)
    X, y = validate_data(X, y, threat_model)
    classifier, shorter = as_torch(estimator), distances.copy()
    attack = APGD(30, "margin", n_targets=3, batch_size=batch_size)
    rows = np.argsort(distances)
    rows = rows[(distances[rows] > 0) & np.isfinite(distances[rows])]
    with classifier.frozen():
        for part in np.array_split(rows, max(1, len(rows) // 16)) if len(rows) else ():
            ball = ThreatModel(norm, 0.95 * float(distances[part[0]]), clip_range)
            found = _distances(attack, classifier, X[part], y[part], ball)
            shorter[part] = np.minimum(found, distances[part])
    return shorter
