"""Find a set close to X on which given weights are what natural training ends at."""

import numpy as np
import torch
from scipy.optimize import Bounds, minimize

from robustfit.robustifiers.convex_learning.silent_outputs import wake_silent_outputs

__all__ = ["gradient_length", "search_one_round"]


def gradient_length(problem, function, x):
    """Return the length of the relative gradient at ``function`` on ``x``, a float."""
    return float(problem.relative_gradient(function, x).detach().norm())


def search_one_round(problem, function, x, start, threat_model, *, tol, max_iter):
    """Move ``start`` towards where the natural gradient at ``function`` is zero.

    L-BFGS on half the squared length of that gradient, within the range. Columns of X
    that a scaler takes for constant stay as they are.

    Parameters
    ----------
    problem : ConvexProblem
    function : LinearFunction
    x, start : torch.Tensor of shape (n_samples, n_features), float64
        The natural set, and where to go on from.
    threat_model : ThreatModel
        Whose range holds the set; its budget does not.
    tol : float
        Relative gradient that is small enough.
    max_iter : int

    Returns
    -------
    torch.Tensor of the shape of x, float64
    """
    if problem.form.loss.is_flat_beyond_one and start is not x:
        start = wake_silent_outputs(problem, function, start, threat_model)

    def value_and_gradient(vector):
        moved = torch.tensor(vector.reshape(x.shape), requires_grad=True)
        value = problem.relative_gradient(function, moved).square().sum() / 2
        (gradient,) = torch.autograd.grad(value, moved)
        return value.item(), gradient.numpy().ravel()

    def stop_when_close(intermediate_result):
        if 2 * intermediate_result.fun <= tol**2:
            raise StopIteration

    found = minimize(
        value_and_gradient, start.numpy().ravel(), jac=True, method="L-BFGS-B",
        bounds=_bounds(problem, x, threat_model), callback=stop_when_close,
        options={"maxiter": max_iter, "maxfun": 2 * max_iter, "ftol": 0, "gtol": 0},
    )  # fmt: skip
    return torch.as_tensor(found.x.reshape(x.shape))


def _bounds(problem, x, threat_model):
    low, high = (np.full(x.shape, bound) for bound in threat_model.bounds)
    if problem.scalers:  # the scale of a constant column jumps when it is moved
        fixed = (x == x[0]).all(0).numpy()
        low[:, fixed] = high[:, fixed] = x[0, fixed].numpy()
    return Bounds(low.ravel(), high.ravel())
