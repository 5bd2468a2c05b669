"""One robust feature, many weak ones: what a linear SVM learns, in closed form.

The data are :func:`robustfit.datasets.make_robust_features` (Eq. 3 of "Towards Robust
Dataset Learning"); everything here is about the whole distribution, not a sample. By
symmetry (Lemma 2) all weak features share one weight, so a classifier is the pair
(weight of the robust feature, weight of each weak one).
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.stats import norm
from sklearn.svm import LinearSVC

from robustfit._utils.argument_checks import check_integer, check_number, check_vector

__all__ = [
    "linear_accuracy",
    "natural_svm_weights",
    "robust_svm_loss",
    "robust_svm_weights",
    "soft_svm",
]


def soft_svm(n_samples: int, reg: float = 1e-3) -> LinearSVC:
    """Return an unfitted linear SVM that minimises Eq. 4 on a sample of this size.

    The objective is ``mean(max(0, 1 - y w.x)) + reg * ||w||^2``, without intercept.

    Parameters
    ----------
    n_samples : int
        Rows it will be fitted on: scikit-learn's ``C`` is ``1 / (2 reg n_samples)``.
    reg : float, default=1e-3
        Lambda of Eq. 4, > 0.

    Returns
    -------
    sklearn.svm.LinearSVC
        With hinge loss.

    References
    ----------
    "Towards Robust Dataset Learning", Eq. 4.

    Examples
    --------
    >>> from robustfit.datasets import make_robust_features
    >>> from robustfit.theory import soft_svm
    >>> X, y = make_robust_features(2000, 100, random_state=0)
    >>> model = soft_svm(len(X), reg=0.01).fit(X, y)
    >>> model.score(X, y)
    1.0
    """
    n_samples = check_integer("n_samples", n_samples, low=1)
    reg = check_number("reg", reg, low=0, open_low=True)
    return LinearSVC(
        loss="hinge",
        C=1 / (2 * reg * n_samples),
        fit_intercept=False,
        max_iter=20_000,
        random_state=0,
    )


def linear_accuracy(coef: ArrayLike, mu: float, *, p: float, eps: float = 0.0) -> float:
    """Return the accuracy of sign(coef . x) on Eq. 3 under an linf adversary.

    Parameters
    ----------
    coef : array-like of shape (n_weak + 1,)
        Weight of the robust feature first. A margin of 0 counts as wrong.
    mu : float
        Mean of the weak features.
    p : float
        Probability that the robust feature has the sign of the label, in [0, 1].
    eps : float, default=0
        linf budget, ``>= 0``; 0 gives the natural accuracy.

    Returns
    -------
    float
        ``p Phi((w1 + m) / s) + (1 - p) Phi((-w1 + m) / s)`` with
        ``m = mu sum(w_weak) - eps ||coef||_1`` and ``s = ||w_weak||_2``.

    References
    ----------
    "Towards Robust Dataset Learning", Eqs. 9 to 11, for any weights.

    Examples
    --------
    The weak features alone are nearly perfect, until an adversary turns them around;
    one weak feature is worth little.

    >>> import numpy as np
    >>> from robustfit.theory import linear_accuracy
    >>> weak_only = np.r_[0.0, np.ones(100)]
    >>> round(linear_accuracy(weak_only, 0.4, p=0.95), 5)
    0.99997
    >>> round(linear_accuracy(weak_only, 0.4, p=0.95, eps=0.8), 5)
    3e-05
    >>> round(linear_accuracy([0.0, 1.0], 0.4, p=0.95), 3)
    0.655
    """
    coef = check_vector("coef", coef)
    mu = check_number("mu", mu)
    p = check_number("p", p, low=0, high=1)
    eps = check_number("eps", eps, low=0)
    shift = mu * coef[1:].sum() - eps * np.abs(coef).sum()
    margins = shift + np.array([coef[0], -coef[0]])
    spread = np.linalg.norm(coef[1:])
    correct = norm.cdf(margins / spread) if spread > 0 else margins > 0
    return float(p * correct[0] + (1 - p) * correct[1])


def robust_svm_loss(
    weights: ArrayLike,
    n_weak: int,
    *,
    p: float,
    mu: float,
    eps: float = 0.0,
    reg: float = 1e-3,
) -> float:
    """Return the population loss of Eq. 6 (Eq. 4 for ``eps=0``).

    Parameters
    ----------
    weights : array-like of shape (2,)
        Weight of the robust feature, weight shared by the weak ones.
    n_weak : int
        Number d of weak features.
    p : float
        In [0, 1].
    mu : float
        Mean of the weak features.
    eps : float, default=0
        linf budget, ``>= 0``.
    reg : float, default=1e-3
        Lambda, ``>= 0``.

    Returns
    -------
    float
        ``E[max(0, 1 - y w.x + eps ||w||_1)] + reg ||w||_2^2``, exactly.

    References
    ----------
    "Towards Robust Dataset Learning", Eqs. 4 and 6.

    Examples
    --------
    >>> from robustfit.theory import robust_svm_loss
    >>> robust_svm_loss([0.0, 0.0], 100, p=0.95, mu=0.4)
    1.0
    """
    strong, weak = check_vector("weights", weights, length=2)
    shift = n_weak * (mu * weak - eps * abs(weak)) - eps * abs(strong)
    spread = np.sqrt(n_weak) * abs(weak)
    hinge = _expected_hinge(shift + np.array([strong, -strong]), spread)
    penalty = reg * (strong**2 + n_weak * weak**2)
    return float(p * hinge[0] + (1 - p) * hinge[1] + penalty)


def _expected_hinge(margin, spread):
    """E[max(0, 1 - m)] for m ~ N(margin, spread^2)."""
    slack = 1 - margin
    if spread == 0:
        return np.maximum(0, slack)
    return slack * norm.cdf(slack / spread) + spread * norm.pdf(slack / spread)


def natural_svm_weights(
    n_weak: int, *, p: float, mu: float, reg: float = 1e-3
) -> np.ndarray:
    """Return what the soft SVM of Eq. 4 learns from Eq. 3, given infinite data.

    Parameters
    ----------
    n_weak : int
    p : float
        In [1/2, 1].
    mu : float
        ``>= 0``.
    reg : float, default=1e-3
        Lambda, > 0.

    Returns
    -------
    weights : ndarray of shape (2,)
        Weight of the robust feature, weight shared by the weak ones.

    Notes
    -----
    Theorem 1: for ``mu >= 4 / sqrt(n_weak)`` and ``p <= 0.975`` the accuracy is above
    99 % and, attacked with ``eps >= 2 mu``, below 1 %. Its text says that already
    ``sign(x_2)`` reaches 99 %; one weak feature reaches ``Phi(mu)``, 65.5 % for
    d = 100, and it is the sign of their *sum* that reaches ``Phi(sqrt(d) mu)``.

    References
    ----------
    "Towards Robust Dataset Learning", Theorem 1.

    Examples
    --------
    >>> import numpy as np
    >>> from robustfit.theory import linear_accuracy, natural_svm_weights
    >>> strong, weak = natural_svm_weights(100, p=0.95, mu=0.4)
    >>> coef = np.r_[strong, np.full(100, weak)]
    >>> linear_accuracy(coef, 0.4, p=0.95) > 0.99
    True
    >>> linear_accuracy(coef, 0.4, p=0.95, eps=0.8) < 0.01
    True
    """
    return robust_svm_weights(n_weak, p=p, mu=mu, eps=0.0, reg=reg)


def robust_svm_weights(
    n_weak: int, *, p: float, mu: float, eps: float, reg: float = 1e-3
) -> np.ndarray:
    """Return the weights that minimise the robust loss of Eq. 6.

    What a classifier trained naturally on the best possible dataset has to be.

    Parameters
    ----------
    n_weak : int
    p : float
        In [1/2, 1].
    mu : float
        ``>= 0``.
    eps : float
        linf budget, in [0, 1].
    reg : float, default=1e-3
        Lambda, > 0.

    Returns
    -------
    weights : ndarray of shape (2,)
        Weight of the robust feature, weight shared by the weak ones. For
        ``eps >= mu`` they are ``min(1 / (1 - eps), (2 p - 1 - eps) / (2 reg))``, or 0
        if that is negative, and 0.

    Notes
    -----
    Theorem 2 says that for ``mu <= eps < 1`` the weak weights are 0, which holds, and
    that the robust weight is positive, which holds for ``eps < 2 p - 1`` only: beyond,
    the rows whose robust feature lies cost more than the others gain, and the robust
    loss is least at 0. With p = 0.95 that happens at eps = 0.9.

    The dataset of Theorem 3 leads to the *direction* of these weights, hence to the
    accuracy p, but not to their length, so it is not the exact minimiser of Eq. 6
    (for small reg: 1 instead of ``1 / (1 - eps)``).

    References
    ----------
    "Towards Robust Dataset Learning", Theorem 2.

    Examples
    --------
    >>> from robustfit.theory import robust_svm_weights
    >>> robust_svm_weights(100, p=0.95, mu=0.4, eps=0.5).tolist()
    [2.0, 0.0]
    """
    n_weak = check_integer("n_weak", n_weak, low=1)
    p = check_number("p", p, low=0.5, high=1)
    mu = check_number("mu", mu, low=0)
    eps = check_number("eps", eps, low=0, high=1)
    reg = check_number("reg", reg, low=0, open_low=True)
    strong_only = np.array([_strong_weight(p, eps, reg), 0.0])
    if eps >= mu:
        return strong_only
    # In (w1, sqrt(d) w2) the problem is convex and well scaled; both are >= 0.
    scale = np.array([1.0, 1 / np.sqrt(n_weak)])
    result = minimize(
        lambda u: robust_svm_loss(u * scale, n_weak, p=p, mu=mu, eps=eps, reg=reg),
        np.array([0.1, 0.5]),
        bounds=[(0, None), (0, None)],
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000},
    )
    return result.x * scale


def _strong_weight(p, eps, reg):
    """Minimise the robust hinge loss in the weight of the robust feature alone."""
    slope = max(0.0, 2 * p - 1 - eps) / (2 * reg)
    return min(slope, 1 / (1 - eps)) if eps < 1 else slope
