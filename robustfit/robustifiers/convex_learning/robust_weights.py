"""Adversarial training of a linear model with its own regularisation: convex."""

import numpy as np
import torch
from scipy.optimize import minimize

from robustfit.robustifiers.convex_learning.affine_scalers import fit_scalers
from robustfit.robustifiers.convex_learning.problem import LinearFunction
from robustfit.robustifiers.convex_learning.reach import Reach

__all__ = ["train_robust_weights"]

# Slopes below these shares of the largest count as smooth, in turn: L-BFGS gets stuck
# in the kinks of the l1 norm when it starts among them.
_SMOOTHING = (0.03, 0.003)
_MAX_ITER = 200


def train_robust_weights(problem, x, threat_model):
    """Return the linear function that adversarial training ends at.

    Scalers are those of ``x``; the adversary moves what comes before them.

    Parameters
    ----------
    problem : ConvexProblem
    x : torch.Tensor of shape (n_samples, n_features), float64
    threat_model : ThreatModel
        "linf" or "l2".

    Returns
    -------
    LinearFunction
    """
    offset, scale = fit_scalers(problem.scalers, x)
    z = (x - offset) / scale
    parameters, slope = np.zeros((problem.n_outputs, x.shape[1] + 1)), 1.0
    for share in _SMOOTHING:
        reach = Reach(x, threat_model, share * slope)

        def objective(parameters, reach=reach):
            weights, intercepts = _split(problem, parameters)
            outputs = z @ weights.T + intercepts
            losses = problem.form.loss.worst(outputs, problem.y, weights / scale, reach)
            return problem.total(losses, weights, intercepts)

        parameters = _minimize(objective, parameters)
        weights, intercepts = _split(problem, torch.as_tensor(parameters))
        slope = float((weights / scale).abs().max())
    coefficients = weights / scale
    return LinearFunction(coefficients, intercepts - coefficients @ offset)


def _split(problem, parameters):
    """Return weights and intercepts, among those that natural training can end at."""
    weights, intercepts = parameters[:, :-1], parameters[:, -1]
    if not problem.form.has_intercept:
        return weights, torch.zeros_like(intercepts)
    total = problem.form.loss.fixed_sum(len(parameters))
    if total is None:
        return weights, intercepts
    excess = intercepts.mean() - total / len(parameters)
    return weights - weights.mean(0), intercepts - excess


def _minimize(objective, start):
    """Return where L-BFGS ends that starts from an array."""

    def value_and_gradient(vector):
        parameters = torch.tensor(vector.reshape(start.shape), requires_grad=True)
        value = objective(parameters)
        (gradient,) = torch.autograd.grad(value, parameters)
        return value.item(), gradient.numpy().ravel()

    found = minimize(
        value_and_gradient, start.ravel(), jac=True, method="L-BFGS-B",
        options={"maxiter": _MAX_ITER, "ftol": 1e-9, "gtol": 1e-8, "maxcor": 20},
    )  # fmt: skip
    return found.x.reshape(start.shape)
