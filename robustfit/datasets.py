"""Synthetic classification problems whose robust optimum is known in closed form.

Labels are -1 and 1, as in the papers. :mod:`robustfit.theory` holds the closed forms.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.utils import check_random_state

from robustfit._utils.argument_checks import (
    check_covariance,
    check_integer,
    check_number,
    check_signs,
    check_vector,
)

__all__ = [
    "make_bernoulli_classes",
    "make_gaussian_classes",
    "make_general_robust_features",
    "make_optimal_robust_features",
    "make_robust_features",
]


def make_robust_features(
    n_samples: int = 100,
    n_weak: int = 100,
    *,
    p: float = 0.95,
    mu: float | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one robust feature and many weak ones that are not robust.

    The first feature is the label with probability ``p`` and its opposite otherwise;
    an adversary needs a budget of 1 to change its sign. Each of the others is
    N(mu y, 1): almost useless alone, together nearly perfect, and any budget above
    ``mu`` turns all of them against the label.

    Parameters
    ----------
    n_samples : int, default=100
    n_weak : int, default=100
        Number d of weak features.
    p : float, default=0.95
        Probability that the first feature has the sign of the label, in [0, 1].
    mu : float or None, default=None
        Mean of the weak features in class 1, in units of their standard deviation,
        ``>= 0``. None is ``4 / sqrt(n_weak)``, the smallest mean that Theorem 1 allows.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    X : ndarray of shape (n_samples, n_weak + 1)
        The robust feature is column 0.
    y : ndarray of shape (n_samples,)
        Labels -1 and 1.

    Raises
    ------
    ValueError
        If a parameter is outside its range.

    See Also
    --------
    make_general_robust_features : Weak features of any distribution.
    make_optimal_robust_features : The robust dataset of this problem.
    robustfit.theory.natural_svm_weights : What a naturally trained SVM does on it.

    References
    ----------
    "Towards Robust Dataset Learning", Eq. 3, after Tsipras et al. (2019).

    Examples
    --------
    >>> from robustfit.datasets import make_robust_features
    >>> X, y = make_robust_features(1000, 100, p=0.95, random_state=0)
    >>> X.shape
    (1000, 101)
    >>> round(float((X[:, 0] == y).mean()), 2)
    0.94
    >>> bool(((X[:, 1:].sum(axis=1) > 0) == (y > 0)).all())
    True
    """
    n_weak = check_integer("n_weak", n_weak, low=1)
    mu = 4 / np.sqrt(n_weak) if mu is None else mu
    mu = check_number("mu", mu, low=0)
    rng, y, strong = _draw_strong_feature(n_samples, p, random_state)
    weak = rng.normal(size=(len(y), n_weak)) + mu * y[:, None]
    return np.column_stack([strong, weak]), y


def make_general_robust_features(
    n_samples: int = 100,
    distributions: Sequence = (),
    *,
    p: float = 0.95,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one robust feature and weak ones of distributions of your choice.

    Feature i + 1 is ``y * z`` with z drawn from ``distributions[i]``.

    Parameters
    ----------
    n_samples : int, default=100
    distributions : sequence of frozen scipy.stats distributions
        One a weak feature, each symmetric about its finite mean (of absolute value at
        most 1), for example ``scipy.stats.laplace(0.2)``. Empty: the robust feature
        alone.
    p : float, default=0.95
        Probability that the first feature has the sign of the label, in [0, 1].
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    X : ndarray of shape (n_samples, len(distributions) + 1)
    y : ndarray of shape (n_samples,)
        Labels -1 and 1.

    Raises
    ------
    ValueError
        If a distribution has no finite mean, a mean above 1, or is not symmetric.

    See Also
    --------
    make_robust_features : The Gaussian case.
    robustfit.theory.robust_svm_loss : The loss that Lemma 5 is about.

    Notes
    -----
    The paper prints ``x_i ~ D_i`` without the label, which would make the weak
    features useless; its proof uses ``y x_i``, and so does this function.

    References
    ----------
    "Towards Robust Dataset Learning", Eq. 20 (section A.4).

    Examples
    --------
    >>> from scipy import stats
    >>> from robustfit.datasets import make_general_robust_features
    >>> weak = [stats.laplace(0.3), stats.uniform(-0.8, 2)]
    >>> X, y = make_general_robust_features(5000, weak, random_state=0)
    >>> (X * y[:, None]).mean(axis=0).round(1).tolist()
    [0.9, 0.3, 0.2]
    """
    for number, distribution in enumerate(distributions):
        _check_symmetric(number, distribution)
    rng, y, strong = _draw_strong_feature(n_samples, p, random_state)
    weak = [y * d.rvs(size=len(y), random_state=rng) for d in distributions]
    return np.column_stack([strong, *weak]), y


def make_optimal_robust_features(
    n_samples: int = 100,
    n_weak: int = 100,
    *,
    p: float = 0.95,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw from the robust dataset of :func:`make_robust_features`, D* of Theorem 3.

    The robust feature is kept, the weak ones are the constant 1: nothing is left for
    natural training to learn but what survives an attack.

    Parameters
    ----------
    n_samples : int, default=100
    n_weak : int, default=100
    p : float, default=0.95
        In [0, 1].
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    X : ndarray of shape (n_samples, n_weak + 1)
    y : ndarray of shape (n_samples,)
        Labels -1 and 1.

    References
    ----------
    "Towards Robust Dataset Learning", Theorem 3.

    Examples
    --------
    >>> from robustfit.datasets import make_optimal_robust_features
    >>> X, y = make_optimal_robust_features(4, 2, p=1.0, random_state=0)
    >>> X.tolist()
    [[-1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]]
    """
    n_weak = check_integer("n_weak", n_weak, low=1)
    _, y, strong = _draw_strong_feature(n_samples, p, random_state)
    return np.column_stack([strong, np.ones((len(y), n_weak))]), y


def make_gaussian_classes(
    n_samples: int = 100,
    mean: ArrayLike = (1.0, 1.0),
    *,
    covariance: ArrayLike | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw two Gaussian classes N(y mean, covariance), y = -1 or 1 with equal odds.

    Parameters
    ----------
    n_samples : int, default=100
    mean : array-like of shape (n_features,), default=(1.0, 1.0)
        Centre of class 1; class -1 has the opposite one.
    covariance : array-like of shape (n_features, n_features) or (n_features,), or None
        Covariance matrix, or variances on its diagonal. None is the identity.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
        Labels -1 and 1.

    See Also
    --------
    robustfit.theory.RobustGaussianClassifier : Robust maximum likelihood for it.
    robustfit.theory.isotropic_gaussian_error : The best robust error possible.

    References
    ----------
    "Adversarial Examples Are Not Bugs, They Are Features" (Ilyas et al., 2019),
    Eq. 10; "Towards Deep Learning Models Resistant to Large Perturbations",
    Definition 6 (isotropic).

    Examples
    --------
    >>> from robustfit.datasets import make_gaussian_classes
    >>> X, y = make_gaussian_classes(5000, [2.0, 0.0], covariance=[1.0, 4.0],
    ...                              random_state=0)
    >>> X[y == 1].mean(axis=0).round(1).tolist()
    [2.0, -0.0]
    """
    mean = check_vector("mean", mean)
    covariance = np.eye(len(mean)) if covariance is None else covariance
    covariance = check_covariance("covariance", covariance, length=len(mean))
    rng, y = _draw_labels(n_samples, random_state)
    values, vectors = np.linalg.eigh(covariance)
    noise = rng.normal(size=(len(y), len(mean))) * np.sqrt(values.clip(0))
    return y[:, None] * mean + noise @ vectors.T, y


def make_bernoulli_classes(
    n_samples: int = 100,
    theta_pos: ArrayLike = (1, 1, 1),
    *,
    theta_neg: ArrayLike | None = None,
    t: float = 0.3,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw two classes of sign vectors, each a noisy copy of its prototype.

    Each feature of class y keeps the sign of the prototype of y with probability
    ``1/2 + t`` and flips it otherwise, independently.

    Parameters
    ----------
    n_samples : int, default=100
    theta_pos : array-like of shape (n_features,), default=(1, 1, 1)
        Prototype of class 1, entries -1 and 1.
    theta_neg : array-like of shape (n_features,) or None, default=None
        Prototype of class -1. None is ``-theta_pos``, so that every feature differs.
    t : float, default=0.3
        Strength of the signal, in [0, 1/2].
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        Entries -1 and 1.
    y : ndarray of shape (n_samples,)
        Labels -1 and 1.

    See Also
    --------
    robustfit.theory.bernoulli_l0_error : Robust error when some features are flipped.

    References
    ----------
    "Towards Deep Learning Models Resistant to Large Perturbations", Definition 7.

    Examples
    --------
    >>> from robustfit.datasets import make_bernoulli_classes
    >>> X, y = make_bernoulli_classes(2000, [1, 1, -1], t=0.4, random_state=0)
    >>> (X * y[:, None]).mean(axis=0).round(1).tolist()
    [0.8, 0.8, -0.8]
    """
    theta_pos = check_signs("theta_pos", theta_pos)
    theta_neg = -theta_pos if theta_neg is None else check_signs("theta_neg", theta_neg)
    check_vector("theta_neg", theta_neg, length=len(theta_pos))
    t = check_number("t", t, low=0, high=0.5)
    rng, y = _draw_labels(n_samples, random_state)
    prototype = np.where(y[:, None] == 1, theta_pos, theta_neg)
    keeps = rng.uniform(size=prototype.shape) < 0.5 + t
    return np.where(keeps, prototype, -prototype), y


def _draw_labels(n_samples, random_state):
    n_samples = check_integer("n_samples", n_samples, low=1)
    rng = check_random_state(random_state)
    return rng, rng.choice([-1, 1], size=n_samples)


def _draw_strong_feature(n_samples, p, random_state):
    p = check_number("p", p, low=0, high=1)
    rng, y = _draw_labels(n_samples, random_state)
    return rng, y, np.where(rng.uniform(size=len(y)) < p, y, -y).astype(float)


def _check_symmetric(number, distribution):
    """Raise unless a frozen distribution is symmetric about a mean of at most 1."""
    if not hasattr(distribution, "rvs") or not hasattr(distribution, "cdf"):
        raise ValueError(
            f"distributions[{number}] is {distribution!r}; expected a frozen "
            "distribution of scipy.stats, for example scipy.stats.norm(0.2, 1)."
        )
    mean = float(distribution.mean())
    if not (np.isfinite(mean) and abs(mean) <= 1):
        raise ValueError(
            f"distributions[{number}] has mean {mean:g}; expected a finite mean in "
            "[-1, 1], no stronger than the robust feature."
        )
    distance = stats.norm.ppf(np.linspace(0.55, 0.99, 12)) * distribution.std()
    distance = np.where(np.isfinite(distance), distance, np.linspace(0.1, 9, 12))
    above = distribution.sf(mean + distance)
    below = distribution.cdf(mean - distance)
    if np.abs(above - below).max() > 1e-6:
        raise ValueError(
            f"distributions[{number}] is not symmetric about its mean {mean:g}; "
            "Lemma 5 is about symmetric distributions."
        )
