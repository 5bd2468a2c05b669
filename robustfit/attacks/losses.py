"""Losses of the adversary with their gradients to the logits in closed form.

Each takes logits (n, C), the true classes y (n,) and target classes (n,) or None, and
returns per-sample values (n,) and gradients (n, C), which saves the graph of the loss.
"""

import torch

__all__ = ["ANALYTIC_LOSSES", "loss_and_input_gradient"]


def loss_and_input_gradient(logits_fn, x, y, loss, targets=None):
    """Return loss values (n,), input gradients like ``x``, and logits (n, C)."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = logits_fn(x)
        values, upstream = ANALYTIC_LOSSES[loss](logits.detach(), y, targets)
        # Given as grad_outputs, torch would import its symbolic shapes: a second.
        total = (logits * upstream).sum()
    (gradient,) = torch.autograd.grad(total, x)
    return values, gradient, logits.detach()


def cross_entropy(logits, y, targets=None):
    """Cross-entropy of the true class."""
    log_probabilities = logits.log_softmax(1)
    gradient = log_probabilities.exp()
    gradient[_rows(y), y] -= 1
    return -log_probabilities[_rows(y), y], gradient


def margin(logits, y, targets=None):
    """Logit of the target (default: the largest other) minus the true one."""
    if targets is None:
        targets = logits.scatter(1, y[:, None], -torch.inf).argmax(1)
    gradient = torch.zeros_like(logits)
    gradient[_rows(y), targets] = 1
    gradient[_rows(y), y] -= 1
    return logits[_rows(y), targets] - logits[_rows(y), y], gradient


def dlr(logits, y, targets=None):
    """Difference of logits ratio (Croce & Hein, 2020, Eq. 6; targeted: Eq. 7).

    The margin divided by a spread of the largest logits: ``z1 - z3`` untargeted,
    ``z1 - (z3 + z4) / 2`` targeted. Where these are not defined, with two classes, or
    three when targeted, it is the margin itself.
    """
    values, gradient = margin(logits, y, targets)
    n_top = 3 if targets is None else 4
    if logits.shape[1] < n_top:
        return values, gradient
    top, columns = logits.topk(n_top, dim=1)
    spread = (top[:, 0] - top[:, 2:].mean(1)).clamp_min(1e-12)
    ratio = values / spread
    spread_gradient = torch.zeros_like(logits)
    spread_gradient.scatter_(1, columns[:, 2:], -1 / (n_top - 2))
    spread_gradient.scatter_(1, columns[:, :1], 1.0)
    gradient = (gradient - ratio[:, None] * spread_gradient) / spread[:, None]
    return ratio, gradient


def _rows(y):
    return torch.arange(len(y), device=y.device)


ANALYTIC_LOSSES = {"cross-entropy": cross_entropy, "margin": margin, "dlr": dlr}
