"""The worst that an adversary can do to a linear classifier."""

import numpy as np
from numpy.typing import ArrayLike

from robustfit._utils.argument_checks import check_number, check_vector

__all__ = ["worst_case_perturbation"]


def worst_case_perturbation(
    coef: ArrayLike, y: ArrayLike, *, eps: float, norm: str = "linf"
) -> np.ndarray:
    """Return the perturbation that hurts the linear classifier sign(coef . x) most.

    It is ``-eps y sign(coef)`` under linf and ``-eps y coef / ||coef||`` under l2, and
    lowers the margin ``y coef . x`` by eps times the dual norm of ``coef``.

    Parameters
    ----------
    coef : array-like of shape (n_features,)
    y : array-like of shape (n_samples,)
        Labels -1 and 1.
    eps : float
        Budget, ``>= 0``, in the units of the features.
    norm : {"linf", "l2"}, default="linf"

    Returns
    -------
    delta : ndarray of shape (n_samples, n_features)

    Notes
    -----
    The paper writes the maximum over one perturbation outside the expectation, and
    solves for one that depends on y, that is: inside. This function does the latter.

    References
    ----------
    "Towards Robust Dataset Learning", Lemma 1.

    Examples
    --------
    >>> from robustfit.theory import worst_case_perturbation
    >>> worst_case_perturbation([2.0, -1.0], [1, -1], eps=0.1).tolist()
    [[-0.1, 0.1], [0.1, -0.1]]
    """
    coef = check_vector("coef", coef)
    y = check_vector("y", y)
    eps = check_number("eps", eps, low=0)
    if not np.isin(y, (-1, 1)).all():
        raise ValueError("y holds other labels than -1 and 1; encode it so first.")
    if norm == "linf":
        direction = np.sign(coef)
    elif norm == "l2":
        length = np.linalg.norm(coef)
        direction = coef / length if length > 0 else coef
    else:
        raise ValueError(f"norm is {norm!r}; expected 'linf' or 'l2'.")
    return -eps * y[:, None] * direction
