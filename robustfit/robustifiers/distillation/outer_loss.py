"""Losses that the learned set is to make small, with gradients to the outputs.

Each term is a batch of points, and a function of the outputs at these points; the terms
share the predictor, so their gradients are pulled back together.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from robustfit.attacks.losses import LOSSES, loss_and_input_gradient
from robustfit.attacks.search import logits_in_batches
from robustfit.classifiers.kernel_regression import LOGIT_SCALE, one_hot

__all__ = [
    "OUTER_LOSSES",
    "Term",
    "classification_term",
    "evaluate_terms",
    "small_gradient_term",
]

# Robust or not, a predictor must fall by its margin within about two budgets; where it
# falls by less at first, its gradient hides what lies further out.
_LEAST_FALL = 0.5


class Term(NamedTuple):
    """Points (n, d), and what maps outputs there to a loss and its gradient (n, k)."""

    points: torch.Tensor
    evaluate: Callable


def evaluate_terms(regression, terms, batch_size):
    """Return the summed loss, all points, and the gradient to the outputs there."""
    points = torch.cat([term.points for term in terms])
    outputs = logits_in_batches(regression, points, batch_size)
    parts = outputs.split([len(term.points) for term in terms])
    evaluated = [t.evaluate(part) for t, part in zip(terms, parts, strict=True)]
    loss = sum(value for value, _ in evaluated)
    return loss, points, torch.cat([gradient for _, gradient in evaluated])


def mean_squared_error(outputs, y):
    """Half the squared distance to the centred one-hot labels."""
    residual = outputs - one_hot(y, outputs.shape[1]).to(outputs)
    return residual.square().sum(1) / 2, residual


def cross_entropy(outputs, y):
    """Cross-entropy of the scaled outputs, over the scale."""
    values, gradient = LOSSES["cross-entropy"](LOGIT_SCALE * outputs, y)
    return values / LOGIT_SCALE, gradient


OUTER_LOSSES = {"mse": mean_squared_error, "cross-entropy": cross_entropy}


def classification_term(points, y, loss, weight=1.0):
    """Return the mean loss at ``points`` with labels ``y``, times ``weight``."""

    def evaluate(outputs):
        values, gradient = OUTER_LOSSES[loss](outputs, y)
        return weight * float(values.mean()), gradient * (weight / len(points))

    return Term(points, evaluate)


def small_gradient_term(regression, x, y, threat_model, weight):
    """Return the penalty on input gradients so small that they hide the adversary.

    The fall of the margin along the steepest step, by a finite difference (the kernel's
    second derivative is not needed), scaled to the whole budget; less than 0.5 of it is
    penalised quadratically.
    """
    _, gradient, _ = loss_and_input_gradient(regression, x, y, "margin")
    step = threat_model.eps / 10
    moved = threat_model.ascent_step(x, gradient, step)

    def evaluate(outputs):
        values, upstream = LOSSES["margin"](outputs, torch.cat([y, y]))
        before, after = values.chunk(2)
        lacking = (_LEAST_FALL - 10 * (after - before)).clamp_min(0)
        slope = -20 * weight * lacking[:, None] / len(x)
        upstream = upstream * torch.cat([-slope, slope])
        return weight * float(lacking.square().mean()), upstream

    return Term(torch.cat([x, moved]), evaluate)
