"""Two classes of noisy sign vectors: optimal classifiers under l0 and linf attacks.

The data are :func:`robustfit.datasets.make_bernoulli_classes`. Only the ``k`` features
in which the two prototypes differ matter, so everything is a function of ``k``
("Towards Deep Learning Models Resistant to Large Perturbations", section 5.4).
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom

from robustfit._utils.argument_checks import (
    check_integer,
    check_number,
    check_signs,
    check_vector,
)

__all__ = [
    "bernoulli_bayes_error",
    "bernoulli_best_threshold",
    "bernoulli_l0_error",
    "bernoulli_linf_error",
    "bernoulli_threshold_rule",
    "effective_dimension",
]


def effective_dimension(theta_pos: ArrayLike, theta_neg: ArrayLike) -> int:
    """Return k, the number of features in which two prototypes differ.

    Parameters
    ----------
    theta_pos, theta_neg : array-like of shape (n_features,)
        Entries -1 and 1.

    Returns
    -------
    int

    References
    ----------
    "Towards Deep Learning Models Resistant to Large Perturbations", Theorem 3.

    Examples
    --------
    >>> from robustfit.theory import effective_dimension
    >>> effective_dimension([1, 1, 1], [1, -1, -1])
    2
    """
    theta_pos = check_signs("theta_pos", theta_pos)
    theta_neg = check_signs("theta_neg", theta_neg)
    check_vector("theta_neg", theta_neg, length=len(theta_pos))
    return int((theta_pos != theta_neg).sum())


def bernoulli_threshold_rule(
    X: ArrayLike, theta_pos: ArrayLike, *, theta_neg: ArrayLike, threshold: int
) -> np.ndarray:
    """Classify as 1 the rows with at most ``threshold`` signs against ``theta_pos``.

    Counted are effective features only. ``threshold = k // 2`` is the Bayes
    classifier. Rows of real numbers are classified by their signs (0 counts as +),
    which makes the rule optimal for linf attacks of less than 1, too.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    theta_pos, theta_neg : array-like of shape (n_features,)
        Prototypes, entries -1 and 1.
    threshold : int
        s, from -1 (never 1) to k (always 1).

    Returns
    -------
    y : ndarray of shape (n_samples,)
        Labels -1 and 1.

    References
    ----------
    "Towards Deep Learning Models Resistant to Large Perturbations", Eqs. 8, 11, 13.

    Examples
    --------
    >>> from robustfit.theory import bernoulli_threshold_rule
    >>> X = [[1, 1, 1], [1, -1, 1], [-1, -1, 1]]
    >>> bernoulli_threshold_rule(X, [1, 1, 1], theta_neg=[-1, -1, -1], threshold=1)
    array([ 1,  1, -1])
    """
    k = effective_dimension(theta_pos, theta_neg)
    threshold = check_integer("threshold", threshold, low=-1, high=k)
    theta_pos, theta_neg = np.asarray(theta_pos), np.asarray(theta_neg)
    X = np.asarray(X)
    if X.ndim != 2 or X.shape[1] != len(theta_pos):
        raise ValueError(
            f"X has shape {X.shape}; expected (n_samples, {len(theta_pos)}), one "
            "column an entry of the prototypes."
        )
    signs = np.where(X >= 0, 1, -1)
    effective = theta_pos != theta_neg
    against = (signs[:, effective] != theta_pos[effective]).sum(axis=1)
    return np.where(against <= threshold, 1, -1)


def bernoulli_bayes_error(k: int, t: float) -> float:
    """Return the error of the Bayes classifier.

    Parameters
    ----------
    k : int
        Effective dimension, ``>= 0``.
    t : float
        Strength of the signal, in [0, 1/2].

    Returns
    -------
    float
        Probability that more than half of k signs flip, plus half of that of a tie.

    References
    ----------
    "Towards Deep Learning Models Resistant to Large Perturbations", Theorem 3.

    Examples
    --------
    >>> from robustfit.theory import bernoulli_bayes_error
    >>> round(bernoulli_bayes_error(3, 0.3), 3)
    0.104
    """
    k, t = _check_model(k, t)
    below = binom.cdf(k // 2, k, 0.5 + t)
    tie = binom.pmf(k // 2, k, 0.5 + t) if k % 2 == 0 else 0.0
    return float(below - tie / 2)


def bernoulli_l0_error(
    k: int, threshold: ArrayLike, *, t: float, eps: float
) -> float | np.ndarray:
    """Return the robust error of the threshold rule when ``eps`` signs may be flipped.

    Parameters
    ----------
    k : int
        Effective dimension, ``>= 0``.
    threshold : int or array-like of int
        s: class 1 is predicted for at most s signs against its prototype. From -1
        (never class 1) to k (always).
    t : float
        Strength of the signal, in [0, 1/2].
    eps : float
        Features that an adversary may flip, ``>= 0`` (rounded down).

    Returns
    -------
    float or ndarray of the shape of ``threshold``

    See Also
    --------
    bernoulli_best_threshold : The optimal rule.

    Notes
    -----
    For ``0 <= s < k`` the formula is as printed. For s = k the printed sum counts rows
    of class 1 as lost although no row has more than k disagreements: a constant
    classifier cannot be attacked, and errs on one half. For k = 4, t = 0.3, eps = 4
    the least printed value is 0.795, for k = 50, eps = 40 it is 0.708; the truth
    (enumeration of all rows and perturbations) is 0.5.

    References
    ----------
    "Towards Deep Learning Models Resistant to Large Perturbations", Theorem 4, Eq. 12.

    Examples
    --------
    >>> from robustfit.theory import bernoulli_l0_error
    >>> bernoulli_l0_error(50, [24, 25, 50], t=0.3, eps=5).round(4).tolist()
    [0.0006, 0.0006, 0.5]
    """
    k, t = _check_model(k, t)
    flips = np.floor(check_number("eps", eps, low=0))
    s = np.asarray(threshold)
    if s.dtype.kind not in "iu" or (s < -1).any() or (s > k).any():
        raise ValueError(f"threshold is {threshold!r}; expected integers in [-1, {k}].")
    lost_neg = binom.cdf(s + flips, k, 0.5 + t)
    lost_pos = binom.cdf(k - s + flips - 1, k, 0.5 + t)
    error = np.where((s == k) | (s == -1), 0.5, (lost_neg + lost_pos) / 2)
    return error if error.ndim else float(error)


def bernoulli_best_threshold(k: int, t: float, *, eps: float) -> tuple[int, float]:
    """Return the best threshold under l0 attacks, and its robust error.

    Parameters
    ----------
    k : int
        Effective dimension, ``>= 0``.
    t : float
        Strength of the signal, in [0, 1/2].
    eps : float
        Features that an adversary may flip, ``>= 0`` (rounded down).

    Returns
    -------
    threshold : int
        The smallest of the best; ``k`` where no classifier beats a constant one.
    error : float
        The least robust error, in [0, 1/2].

    Notes
    -----
    The paper restricts the search to classifiers that depend on the number of
    disagreements only (Assumption 1). The restriction costs nothing: the optimum over
    all classifiers, a linear program, is the same for every k up to 7 and t and eps
    that were tried.

    References
    ----------
    "Towards Deep Learning Models Resistant to Large Perturbations", Theorem 4.

    Examples
    --------
    >>> from robustfit.theory import bernoulli_best_threshold
    >>> threshold, error = bernoulli_best_threshold(50, 0.3, eps=10)
    >>> threshold, round(error, 4)
    (24, 0.0458)
    """
    k, t = _check_model(k, t)
    thresholds = np.arange(k + 1)
    errors = np.asarray(bernoulli_l0_error(k, thresholds, t=t, eps=eps))
    best = errors.min()
    if best >= 0.5 - 1e-12:
        return k, 0.5
    return int(thresholds[errors <= best * (1 + 1e-9)][0]), float(best)


def bernoulli_linf_error(k: int, t: float, *, eps: float) -> float:
    """Return the least robust error under linf attacks.

    Parameters
    ----------
    k : int
        Effective dimension, ``>= 0``.
    t : float
        Strength of the signal, in [0, 1/2].
    eps : float
        linf budget, ``>= 0``; the features are -1 and 1.

    Returns
    -------
    float
        The Bayes error for ``eps < 1``, 1/2 from there on.

    References
    ----------
    "Towards Deep Learning Models Resistant to Large Perturbations", Theorem 5.

    Examples
    --------
    >>> from robustfit.theory import bernoulli_linf_error
    >>> [round(bernoulli_linf_error(3, 0.3, eps=e), 3) for e in (0, 0.99, 1)]
    [0.104, 0.104, 0.5]
    """
    if check_number("eps", eps, low=0) < 1:
        return bernoulli_bayes_error(k, t)
    _check_model(k, t)
    return 0.5


def _check_model(k, t):
    return check_integer("k", k), check_number("t", t, low=0, high=0.5)
