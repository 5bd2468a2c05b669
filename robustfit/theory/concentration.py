"""When no classifier can be robust: concentration of measure.

For inputs that fill a cube or a ball uniformly, the neighbourhood of any set that is
not small is nearly everything, so an accurate classifier has its errors next to nearly
every point ("On the Sensitivity of Adversarial Robustness to Input Data
Distributions", Ding et al., 2019, section 2).
"""

import math

import numpy as np
from scipy.integrate import quad
from scipy.stats import norm

from robustfit._utils.argument_checks import check_integer, check_number

__all__ = [
    "ball_expansion_bound",
    "cube_expansion_bound",
    "diagonal_split_robust_error",
    "diagonal_split_robust_error_bound",
    "single_feature_robust_error",
    "vulnerable_fraction_bound",
]


def cube_expansion_bound(measure: float, eps: float, *, simple: bool = False) -> float:
    """Bound from below how much of the unit cube is within l2 distance eps of a set.

    Parameters
    ----------
    measure : float
        Share P(A) of the cube that the set holds, in (0, 1]; at least 1/2 for
        ``simple``.
    eps : float
        Distance, ``>= 0``, in units of the cube's side. The dimension plays no role.
    simple : bool, default=False
        Return the weaker ``1 - exp(-pi eps^2)``.

    Returns
    -------
    float
        ``Phi(sqrt(2 pi) eps + Phi^-1(measure))``.

    References
    ----------
    Ding et al. (2019), Theorem 2.1, Eq. 1. The appendix prints
    ``1 - exp(x^2 / 2)`` and ``Phi(Phi^-1(sqrt(2 pi) eps))`` on the way; a minus and
    one ``Phi^-1`` too many. The theorem itself is as implemented.

    Examples
    --------
    Half the cube, grown by a quarter of its side:

    >>> from robustfit.theory import cube_expansion_bound
    >>> round(cube_expansion_bound(0.5, 0.25), 3)
    0.735
    """
    measure, eps = _check_set(measure, eps, needs_half=simple)
    if simple:
        return 1 - math.exp(-math.pi * eps**2)
    return float(norm.cdf(math.sqrt(2 * math.pi) * eps + norm.ppf(measure)))


def ball_expansion_bound(
    measure: float, eps: float, *, n_features: int, simple: bool = False
) -> float:
    """Bound from below how much of the unit ball is within l2 distance eps of a set.

    Parameters
    ----------
    measure : float
        Share P(B) of the ball that the set holds, in [1/2, 1].
    eps : float
        Distance, in [0, 2], in units of the ball's radius.
    n_features : int
        Dimension d of the ball.
    simple : bool, default=False
        Return the weaker ``1 - exp(-2 d c eps^2) / measure`` with
        ``c = (2 - sqrt(3)) / 3``. (c = 1/8 holds too and is sharper, because
        ``1 - sqrt(1 - eps^2 / 4) >= eps^2 / 8``.)

    Returns
    -------
    float
        ``1 - (1 - eps^2 / 4)^d / measure``, or ``measure`` where that is more.

    References
    ----------
    Ding et al. (2019), Theorem 2.1, Eq. 2.

    Examples
    --------
    >>> from robustfit.theory import ball_expansion_bound
    >>> round(ball_expansion_bound(0.5, 0.09, n_features=3072), 3)
    0.996
    """
    measure, eps = _check_set(measure, eps, needs_half=True)
    eps = check_number("eps", eps, low=0, high=2)
    n_features = check_integer("n_features", n_features, low=1)
    if simple:
        rest = math.exp(-2 * n_features * (2 - math.sqrt(3)) / 3 * eps**2)
    else:
        rest = (1 - eps**2 / 4) ** n_features
    return max(measure, 1 - rest / measure)


def vulnerable_fraction_bound(
    n_classes: int, eps: float, *, n_features: int | None = None
) -> float:
    """Bound from below the robust error of a classifier that makes no clean error.

    Of each class, the points that no perturbation of l2 norm eps takes out of the
    class are those farther than eps from all other classes.

    Parameters
    ----------
    n_classes : int
        Classes of equal probability, at least 2.
    eps : float
        l2 budget, ``>= 0``.
    n_features : int or None, default=None
        None: inputs uniform on the unit cube, of any dimension. An integer: uniform
        on the unit ball of that dimension.

    Returns
    -------
    float
        In [0, 1].

    References
    ----------
    Ding et al. (2019), Example 2: at least 94 % for ten classes on the cube at
    eps = 0.5, at least 97 % on the ball of dimension 3072 at eps = 0.09.

    Examples
    --------
    >>> from robustfit.theory import vulnerable_fraction_bound
    >>> round(vulnerable_fraction_bound(10, 0.5), 3)
    0.944
    >>> round(vulnerable_fraction_bound(10, 0.09, n_features=3 * 32 * 32), 3)
    0.978
    """
    n_classes = check_integer("n_classes", n_classes, low=2)
    others = 1 - 1 / n_classes
    if n_features is None:
        reached = cube_expansion_bound(others, eps)
    else:
        reached = ball_expansion_bound(others, eps, n_features=n_features)
    return max(0.0, 1 - n_classes * (1 - reached))


def single_feature_robust_error(eps: float) -> float:
    """Return the robust error of the Bayes classifier x_1 > 1/2 on the unit cube.

    Parameters
    ----------
    eps : float
        linf budget, ``>= 0``.

    Returns
    -------
    float
        ``min(1, 2 eps)``, in any dimension.

    References
    ----------
    Ding et al. (2019), Example 1, which prints the boundary as ``x_1 = 0``; it is
    ``x_1 = 1/2``.

    Examples
    --------
    >>> from robustfit.theory import single_feature_robust_error
    >>> single_feature_robust_error(0.1)
    0.2
    """
    return min(1.0, 2 * check_number("eps", eps, low=0))


def diagonal_split_robust_error(n_features: int, eps: float) -> float:
    """Return the robust error of the Bayes classifier sum(x) > d/2 on the unit cube.

    A point is lost when ``|sum(x) - d/2| <= d eps``; perturbed inputs may leave the
    cube.

    Parameters
    ----------
    n_features : int
        Dimension d.
    eps : float
        linf budget, ``>= 0``.

    Returns
    -------
    float
        Exact (Irwin-Hall distribution), to about 1e-9.

    See Also
    --------
    single_feature_robust_error : The same Bayes error, another robust error.

    References
    ----------
    Ding et al. (2019), Example 1 and Proposition A.1.

    Examples
    --------
    >>> from robustfit.theory import diagonal_split_robust_error
    >>> [round(diagonal_split_robust_error(d, 0.1), 3) for d in (1, 10, 100)]
    [0.2, 0.722, 0.999]
    """
    n_features = check_integer("n_features", n_features, low=1)
    eps = check_number("eps", eps, low=0)
    if eps >= 0.5:
        return 1.0
    if n_features <= 15:
        upper, lower = n_features * (0.5 + eps), n_features * (0.5 - eps)
        inside = _irwin_hall(n_features, upper) - _irwin_hall(n_features, lower)
        return min(max(float(inside), 0.0), 1.0)
    return _inside_by_inversion(n_features, n_features * eps)


def _irwin_hall(n, total):
    """P(sum of n uniforms <= total); the alternating sum is exact enough to n = 15."""
    terms = [
        (-1) ** k * math.comb(n, k) * (total - k) ** n
        for k in range(math.floor(total) + 1)
    ]
    return math.fsum(terms) / math.factorial(n)


def _inside_by_inversion(n, distance):
    """P(|sum of n centred uniforms| <= distance) from the characteristic function."""
    # (sin(t/2) / (t/2))^n is about exp(-n t^2 / 24): nothing is left beyond this point.
    end = 2 * math.sqrt(24 * 40 / n)

    def integrand(t):
        return np.sinc(t / (2 * np.pi)) ** n * distance * np.sinc(distance * t / np.pi)

    value, _ = quad(integrand, 0, end, limit=2000, epsabs=1e-10)
    return min(max(float(2 / np.pi * value), 0.0), 1.0)


def diagonal_split_robust_error_bound(n_features: int, eps: float) -> float:
    """Bound :func:`diagonal_split_robust_error` from below by Chebyshev's inequality.

    Parameters
    ----------
    n_features : int
        Dimension d.
    eps : float
        linf budget, ``>= 0``.

    Returns
    -------
    float
        ``max(0, 1 - 1 / (12 d eps^2))``.

    Notes
    -----
    The paper prints ``1 - 1 / (4 d eps^2)``: true, but three times as far from 1 as it
    need be, because it takes 1/4 for the variance of a uniform variable, which is 1/12.
    At d = 100, eps = 0.1 the error is 0.9995, this bound 0.917, the printed one 0.75.

    References
    ----------
    Ding et al. (2019), Proposition A.1.

    Examples
    --------
    >>> from robustfit.theory import diagonal_split_robust_error_bound
    >>> round(diagonal_split_robust_error_bound(100, 0.1), 3)
    0.917
    """
    n_features = check_integer("n_features", n_features, low=1)
    eps = check_number("eps", eps, low=0)
    if eps == 0:
        return 0.0
    return max(0.0, 1 - 1 / (12 * n_features * eps**2))


def _check_set(measure, eps, *, needs_half):
    measure = check_number("measure", measure, low=0, high=1, open_low=True)
    if needs_half and measure < 0.5:
        raise ValueError(
            f"measure is {measure:g}; this bound needs a set of at least half of the "
            "space (take the complement)."
        )
    return measure, check_number("eps", eps, low=0)
