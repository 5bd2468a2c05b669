"""Two isotropic Gaussian classes: the best natural and the best robust error.

For an l2 adversary the Bayes classifier is also the best robust one: here robustness
costs no accuracy at all ("Towards Deep Learning Models Resistant to Large
Perturbations", Theorem 2).
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm as standard_normal

from robustfit._utils.argument_checks import check_number, check_vector

__all__ = ["isotropic_gaussian_error", "isotropic_gaussian_weights"]


def isotropic_gaussian_weights(
    mean_pos: ArrayLike, mean_neg: ArrayLike, *, eps: float = 0.0, norm: str = "l2"
) -> np.ndarray:
    """Return the direction of the best robust linear classifier.

    Parameters
    ----------
    mean_pos, mean_neg : array-like of shape (n_features,)
        Centres of the classes 1 and -1, of equal probability and covariance
        ``sigma^2 I``.
    eps : float, default=0
        Budget, ``>= 0``.
    norm : {"l2", "linf"}, default="l2"

    Returns
    -------
    w : ndarray of shape (n_features,)
        Under l2 ``(mean_pos - mean_neg) / 2`` whatever eps; under linf the same with
        every entry shrunk towards 0 by eps (soft thresholding). The classifier is
        the sign of ``w . (x - (mean_pos + mean_neg) / 2)``.

    References
    ----------
    "Towards Deep Learning Models Resistant to Large Perturbations", Theorem 2 (l2).
    Bhagoji, Cullina and Mittal, "Lower Bounds on Adversarial Robustness from Optimal
    Transport" (2019), Theorem 2 (any norm).

    Examples
    --------
    >>> from robustfit.theory import isotropic_gaussian_weights
    >>> isotropic_gaussian_weights([2.0, 0.5], [-2.0, -0.5], eps=1.0).tolist()
    [2.0, 0.5]
    >>> isotropic_gaussian_weights([2.0, 0.5], [-2.0, -0.5], eps=1.0, norm="linf")
    array([1., 0.])
    """
    mean_pos = check_vector("mean_pos", mean_pos)
    mean_neg = check_vector("mean_neg", mean_neg, length=len(mean_pos))
    eps = check_number("eps", eps, low=0)
    half = (mean_pos - mean_neg) / 2
    if norm == "l2":
        return half
    if norm == "linf":
        return np.sign(half) * np.maximum(np.abs(half) - eps, 0) + 0.0
    raise ValueError(f"norm is {norm!r}; expected 'l2' or 'linf'.")


def isotropic_gaussian_error(
    mean_pos: ArrayLike,
    mean_neg: ArrayLike,
    *,
    sigma: float = 1.0,
    eps: float = 0.0,
    norm: str = "l2",
) -> float:
    """Return the least error that any classifier can have under attack.

    Parameters
    ----------
    mean_pos, mean_neg : array-like of shape (n_features,)
        Centres of the classes 1 and -1, of equal probability.
    sigma : float, default=1
        Standard deviation of every feature, > 0.
    eps : float, default=0
        Budget, ``>= 0``; 0 gives the Bayes error.
    norm : {"l2", "linf"}, default="l2"

    Returns
    -------
    float
        In [0, 1/2]. Under l2 ``Phi((2 eps - ||mean_pos - mean_neg||) / (2 sigma))``,
        and 1/2 for ``eps`` beyond half the distance between the means.

    Notes
    -----
    The formula as printed goes on above 1/2: it is the error of the classifier
    ``w . x >= 0``, which beyond half the distance is no longer optimal, because a
    constant classifier errs on half of the rows, attacked or not. With means at
    distance 2, sigma 1 and eps 2 the printed formula gives 0.841 (which Monte-Carlo
    confirms for that classifier), the optimum is 0.5.

    References
    ----------
    "Towards Deep Learning Models Resistant to Large Perturbations", Theorem 2 and
    Remark 2.

    Examples
    --------
    >>> from robustfit.theory import isotropic_gaussian_error
    >>> means = [1.0, 0.0], [-1.0, 0.0]
    >>> [round(isotropic_gaussian_error(*means, eps=e), 3) for e in (0, 0.5, 1, 2)]
    [0.159, 0.309, 0.5, 0.5]
    """
    sigma = check_number("sigma", sigma, low=0, open_low=True)
    half = isotropic_gaussian_weights(mean_pos, mean_neg, eps=eps, norm=norm)
    distance = float(np.linalg.norm(half))
    if norm == "l2":
        distance = max(0.0, distance - eps)
    return float(standard_normal.cdf(-distance / sigma))
