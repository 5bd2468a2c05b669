"""The l2 adversary of a Gaussian likelihood: what it does and how much it gains."""

import math

import numpy as np
from numpy.typing import ArrayLike

from robustfit._utils.argument_checks import check_covariance, check_number

__all__ = ["adversarial_likelihood_gap", "gaussian_worst_case_perturbation"]


def gaussian_worst_case_perturbation(
    deviations: ArrayLike, covariance: ArrayLike, *, eps: float
) -> np.ndarray:
    """Return the perturbations of norm eps that lower a Gaussian likelihood most.

    Parameters
    ----------
    deviations : array-like of shape (n_samples, n_features)
        Rows x minus the mean of the Gaussian.
    covariance : array-like of shape (n_features, n_features) or (n_features,)
        Covariance of the Gaussian, positive definite, or its diagonal.
    eps : float
        l2 norm of every perturbation, ``>= 0``.

    Returns
    -------
    delta : ndarray of shape (n_samples, n_features)
        ``(l S - I)^-1 v`` with the multiplier l of each row such that its norm is eps.

    References
    ----------
    Ilyas et al. (2019), Lemma 1.

    Examples
    --------
    >>> from robustfit.theory import gaussian_worst_case_perturbation
    >>> gaussian_worst_case_perturbation([[3.0, 4.0]], [1.0, 1.0], eps=0.5).round(6)
    array([[0.3, 0.4]])
    """
    covariance = check_covariance("covariance", covariance)
    eps = check_number("eps", eps, low=0)
    deviations = np.asarray(deviations, dtype=float)
    if deviations.ndim != 2 or deviations.shape[1] != len(covariance):
        raise ValueError(
            f"deviations has shape {deviations.shape}; expected (n_samples, "
            f"{len(covariance)}), one column a feature of the covariance."
        )
    variances, vectors = np.linalg.eigh(covariance)
    if variances[0] <= 0:
        raise ValueError(
            "covariance is singular; expected positive definite (add a small "
            "multiple of the identity)."
        )
    if eps == 0:
        return np.zeros_like(deviations)
    rotated = deviations @ vectors
    # A row without any component along the least variance still moves that way.
    least = rotated[:, 0]
    rotated[:, 0] = np.where(np.abs(least) < 1e-12 * eps, 1e-12 * eps, least)
    delta = rotated / _multiplier_gaps(rotated, variances / variances[0], eps)
    delta *= eps / np.linalg.norm(delta, axis=1, keepdims=True)
    return delta @ vectors.T


def _multiplier_gaps(rotated, ratios, eps):
    """Return ``l s_i - 1`` of every row and direction, by bisection.

    ``u = l s_0 - 1`` is at least |v_0| / eps and at most ||v|| / eps.
    """
    low = np.log(np.abs(rotated[:, 0]) / eps)
    high = np.log(np.linalg.norm(rotated, axis=1) / eps)
    for _ in range(80):
        middle = (low + high) / 2
        gaps = (ratios - 1) + np.exp(middle)[:, None] * ratios
        too_long = np.linalg.norm(rotated / gaps, axis=1) > eps
        low, high = np.where(too_long, middle, low), np.where(too_long, high, middle)
    return (ratios - 1) + np.exp((low + high) / 2)[:, None] * ratios


def adversarial_likelihood_gap(covariance: ArrayLike, penalty: float) -> float:
    """Return how much a penalised adversary raises the negative log-likelihood.

    The adversary adds to each x the delta that maximises
    ``nll(x + delta) - penalty / 2 * ||delta||^2``; the learner is natural, that is, it
    holds the true parameters.

    Parameters
    ----------
    covariance : array-like of shape (n_features, n_features) or (n_features,)
        True covariance, positive definite, or its diagonal.
    penalty : float
        C, above 1 / (least eigenvalue of the covariance).

    Returns
    -------
    float
        ``(tr[(I + (C S - I)^-1)^2] - d) / 2``, in nats, without the penalty. Infinite
        for a penalty too small to hold the adversary.

    Notes
    -----
    The theorem is printed with the penalty ``C ||delta||_2`` and without the factor
    1/2. With a penalty that grows only linearly the maximum is infinite; the proof
    uses the squared norm. It also drops the 1/2 of the Gaussian log-likelihood, so the
    printed value is twice the difference of negative log-likelihoods: for variances 1
    and 0.25 and C = 8 the printed formula gives 3.306, Monte-Carlo 1.653.

    References
    ----------
    Ilyas et al. (2019), Theorem 1.

    Examples
    --------
    For a given trace the gap is least when all variances are equal.

    >>> from robustfit.theory import adversarial_likelihood_gap
    >>> round(adversarial_likelihood_gap([1.0, 1.0], 8.0), 3)
    0.306
    >>> round(adversarial_likelihood_gap([1.75, 0.25], 8.0), 3)
    1.58
    """
    covariance = check_covariance("covariance", covariance)
    penalty = check_number("penalty", penalty, low=0, open_low=True)
    variances = np.linalg.eigvalsh(covariance)
    if penalty * variances[0] <= 1:
        return math.inf
    grown = penalty * variances / (penalty * variances - 1)
    return float(np.sum(grown**2 - 1) / 2)
