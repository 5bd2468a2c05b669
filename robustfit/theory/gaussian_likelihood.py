"""Robust maximum likelihood between two Gaussians, in closed form.

The classes are N(mean, covariance) and N(-mean, covariance), an adversary moves inputs
by l2 norm eps to lower their likelihood, and the learner fits mean and covariance to
what it sees ("Adversarial Examples Are Not Bugs, They Are Features", Ilyas et al.,
2019, section 4 and appendix E).
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import norm as standard_normal

from robustfit._utils.argument_checks import (
    check_covariance,
    check_number,
    check_vector,
)

__all__ = [
    "gaussian_linear_accuracy",
    "robust_covariance",
    "robust_multiplier",
    "worst_case_alignment",
]


def robust_covariance(covariance: ArrayLike, eps: float) -> np.ndarray:
    """Return the covariance that robust maximum likelihood learns.

    Parameters
    ----------
    covariance : array-like of shape (n_features, n_features) or (n_features,)
        True covariance, or variances on its diagonal.
    eps : float
        l2 budget, ``>= 0``, in the units of the features: the adversary moves x to
        ``x + M (x - mean)`` with ``E ||M (x - mean)||^2 = eps^2``.

    Returns
    -------
    ndarray of shape (n_features, n_features)
        ``S/2 + I/l + sqrt(S/l + S^2/4)`` for the covariance S and the multiplier l of
        :func:`robust_multiplier`. Same eigenvectors as S; an eigenvalue v becomes
        ``(sqrt(v)/2 + sqrt(v/4 + 1/l))^2``, at least v.

    See Also
    --------
    robustfit.theory.RobustGaussianClassifier : The classifier that uses it.

    Notes
    -----
    The mean is learned as it is. Two remarks on the printed theorem:

    - It is stated for eps below some ``eps_0``. It holds for every eps: with this
      covariance ``l`` times every eigenvalue is above 1, so the perturbation is the
      adversary's global maximum, and the loss is convex in the precision.
    - The adversary's constraint is on the mean squared norm, not on every
      perturbation. Against an adversary who spends exactly eps on every row the
      optimal variances are smaller: by up to 9 % in 2 dimensions, 2.3 % in 10 and
      0.24 % in 100 (variances 1 and 0.1, half each; eps^2 9 % or 100 % of the trace).

    References
    ----------
    Ilyas et al. (2019), Theorem 2 and Lemma 4.

    Examples
    --------
    In d equal directions every standard deviation grows by ``eps / sqrt(d)``; in
    unequal ones the small variances grow most, relatively.

    >>> import numpy as np
    >>> from robustfit.theory import robust_covariance
    >>> robust_covariance(np.ones(4), 2.0).diagonal().round(6).tolist()
    [4.0, 4.0, 4.0, 4.0]
    >>> robust_covariance([1.0, 0.01], 0.5).diagonal().round(3).tolist()
    [1.46, 0.307]
    """
    covariance = check_covariance("covariance", covariance)
    eps = check_number("eps", eps, low=0)
    variances, vectors = np.linalg.eigh(covariance)
    robust, _ = robust_variances(variances.clip(0), eps)
    return (vectors * robust) @ vectors.T


def robust_multiplier(covariance: ArrayLike, eps: float) -> float:
    """Return the Lagrange multiplier of the adversary's budget.

    Parameters
    ----------
    covariance : array-like of shape (n_features, n_features) or (n_features,)
        True covariance, or variances on its diagonal.
    eps : float
        l2 budget, ``>= 0``.

    Returns
    -------
    float
        Lambda such that ``tr(S M^2) = eps^2`` with ``M = (lambda S_r - I)^-1``;
        infinity for ``eps = 0``.

    Notes
    -----
    The paper defines the budget by ``E ||M v||^2 = eps^2`` (its Eqs. 14 and 20) but
    solves ``tr(S M^2) = eps`` (its Eq. 27), and with it states the bounds of Theorem 2
    on lambda. They hold with ``eps^2`` in place of ``eps``: for a standard normal in
    one dimension and eps = 0.1 the adversary of this function moves points by a root
    mean square of 0.1, that of Eq. 27 by 0.32.

    References
    ----------
    Ilyas et al. (2019), Lemma 2 and Eq. 27.

    Examples
    --------
    >>> from robustfit.theory import robust_multiplier
    >>> round(robust_multiplier([1.0], 1.0), 6)
    0.5
    """
    covariance = check_covariance("covariance", covariance)
    eps = check_number("eps", eps, low=0)
    _, inverse = robust_variances(np.linalg.eigvalsh(covariance).clip(0), eps)
    return 1 / inverse if inverse > 0 else math.inf


def robust_variances(variances, eps):
    """Return the robust variances for true ones, and 1 / lambda."""
    if eps == 0:
        return variances.copy(), 0.0
    scaled = variances / eps**2  # in units of the budget
    roots = np.sqrt(scaled)

    def spent(inverse):
        """Mean squared norm of the perturbation, for 1 / lambda."""
        return np.sum((inverse / (np.sqrt(inverse + scaled / 4) + roots / 2)) ** 2)

    # What 1 / lambda would be if the least variance took all of the budget, or if all
    # variances were the least.
    highest = 1 + roots.min()
    lowest = 1 / len(roots) + roots.min() / np.sqrt(len(roots))
    inverse = brentq(lambda u: spent(u) - 1, lowest / 2, highest * 2, xtol=1e-300)
    robust = (roots / 2 + np.sqrt(inverse + scaled / 4)) ** 2
    return robust * eps**2, inverse * eps**2


def worst_case_alignment(covariance: ArrayLike) -> float:
    """Return the least cosine between a mean vector and the classifier's gradient.

    The gradient of the likelihood classifier is along ``covariance^-1 mean``.

    Parameters
    ----------
    covariance : array-like of shape (n_features, n_features) or (n_features,)
        Positive definite, or its diagonal.

    Returns
    -------
    float
        ``2 sqrt(k) / (1 + k)`` with the condition number k, in (0, 1].

    Notes
    -----
    :func:`robust_covariance` has a smaller condition number, so in the worst case over
    means robust training aligns the gradient with the direction between the classes.
    More is true: it does so for *every* mean, in any dimension. The squared cosine is
    1 / (1 + CV^2) for the coefficient of variation of the precisions, weighted by the
    squared entries of the mean, and the robust precisions are a function of the natural
    ones that grows less than proportionally, which lowers every such coefficient.

    References
    ----------
    Ilyas et al. (2019), Theorem 3 and Lemma 8.

    Examples
    --------
    >>> from robustfit.theory import robust_covariance, worst_case_alignment
    >>> round(worst_case_alignment([1.0, 0.01]), 3)
    0.198
    >>> round(worst_case_alignment(robust_covariance([1.0, 0.01], 0.5)), 3)
    0.758
    """
    variances = np.linalg.eigvalsh(check_covariance("covariance", covariance))
    if variances[0] <= 0:
        return 0.0
    condition = variances[-1] / variances[0]
    return float(2 * np.sqrt(condition) / (1 + condition))


def gaussian_linear_accuracy(
    coef: ArrayLike,
    mean: ArrayLike,
    *,
    covariance: ArrayLike,
    eps: float = 0.0,
    norm: str = "l2",
) -> float:
    """Return the accuracy of sign(coef . x) on N(y mean, covariance) under attack.

    Parameters
    ----------
    coef, mean : array-like of shape (n_features,)
    covariance : array-like of shape (n_features, n_features) or (n_features,)
        Of both classes, or its diagonal.
    eps : float, default=0
        Budget, ``>= 0``.
    norm : {"l2", "linf"}, default="l2"

    Returns
    -------
    float
        ``Phi((coef . mean - eps ||coef||_dual) / sqrt(coef . covariance coef))``.

    See Also
    --------
    RobustGaussianClassifier : Learns ``coef`` from data.

    Examples
    --------
    >>> from robustfit.theory import gaussian_linear_accuracy
    >>> args = dict(mean=[1.0, 0.0], covariance=[1.0, 1.0])
    >>> round(gaussian_linear_accuracy([1.0, 0.0], **args), 3)
    0.841
    >>> gaussian_linear_accuracy([1.0, 0.0], **args, eps=1.0)
    0.5
    """
    coef = check_vector("coef", coef)
    mean = check_vector("mean", mean, length=len(coef))
    covariance = check_covariance("covariance", covariance, length=len(coef))
    eps = check_number("eps", eps, low=0)
    if norm not in ("l2", "linf"):
        raise ValueError(f"norm is {norm!r}; expected 'l2' or 'linf'.")
    lost = eps * np.linalg.norm(coef, 2 if norm == "l2" else 1)
    margin = coef @ mean - lost
    spread = np.sqrt(coef @ covariance @ coef)
    if spread > 0:
        return float(standard_normal.cdf(margin / spread))
    return float(margin > 0)
