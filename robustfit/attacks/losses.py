"""Losses that an adversary maximises, each with its gradient to the logits.

Each takes logits (n, C), the true classes y (n,) and target classes (n,) or None, and
returns per-sample values (n,), larger where it is better for the adversary, and
gradients (n, C), written down, which saves the graph of the loss. With
``value_only=True`` it returns the values alone, and autograd can see through them.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from robustfit._utils.torch_bridge import per_sample
from robustfit.exceptions import NotDifferentiableError

__all__ = [
    "LOSSES",
    "check_loss",
    "cross_entropy",
    "differentiate",
    "exact_gradient",
    "input_gradient",
    "loss_and_input_gradient",
    "margin",
]


def loss_and_input_gradient(
    logits_fn: Callable,
    x: torch.Tensor,
    y: torch.Tensor,
    loss: str,
    targets: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return loss values (n,), input gradients like ``x``, and logits (n, C)."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = logits_fn(x)
        values, upstream = LOSSES[loss](logits.detach(), y, targets)
        # Given as grad_outputs, torch would import its symbolic shapes: a second.
        total = (logits * upstream).sum()
    return values, differentiate(total, x, logits_fn), logits.detach()


def input_gradient(
    logits_fn: Callable,
    x: torch.Tensor,
    y: torch.Tensor,
    loss_fn: Callable | None = None,
) -> torch.Tensor:
    """Return the gradient of the summed loss with respect to ``x``, by autograd.

    Parameters
    ----------
    logits_fn : callable
    x : torch.Tensor of shape (n_samples, ...)
    y : torch.Tensor of shape (n_samples,)
        Classes, or what else ``loss_fn`` takes.
    loss_fn : callable or None, default=None
        Maps logits (n_samples, n_classes) and ``y`` to losses (n_samples,). None is
        the cross-entropy; training sets depend on how autograd rounds it.

    Returns
    -------
    torch.Tensor of the shape of ``x``
    """
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = logits_fn(x)
        if loss_fn is None:
            values = _off_plateau(cross_entropy(logits, y, value_only=True), logits, y)
        else:
            values = loss_fn(logits, y)
    return differentiate(values.sum(), x, logits_fn)


def differentiate(
    total: torch.Tensor,
    x: torch.Tensor,
    logits_fn: Callable,
    *,
    retain_graph: bool = False,
) -> torch.Tensor:
    """Return the gradient of the scalar ``total`` with respect to ``x``, all finite.

    NaN, which leads nowhere, becomes zero, and infinity, as of a root at zero, the
    largest number of the sample's gradient.

    Raises
    ------
    NotDifferentiableError
        If ``logits_fn``, which made it, cuts the graph; its name is told.
    """
    gradient = exact_gradient(total, x, logits_fn, retain_graph=retain_graph)
    if math.isfinite(gradient.sum()):
        return gradient
    return _make_finite(gradient)


def exact_gradient(total, x, logits_fn, *, retain_graph=False):
    """Do the same, with the NaN and infinity that autograd returns."""
    gradient = None
    if total.requires_grad:
        (gradient,) = torch.autograd.grad(
            total, x, retain_graph=retain_graph, allow_unused=True
        )
    if gradient is None:
        raise NotDifferentiableError(
            f"The output of {_name(logits_fn)} does not depend on its input by any "
            "gradient, as under torch.no_grad or after detach. Remove these from its "
            "forward, or use attack='square', which needs no gradients."
        )
    return gradient


def _make_finite(gradient):
    finite = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    largest = finite.flatten(1).abs().amax(1)
    largest = per_sample(torch.where(largest > 0, largest, 1.0), gradient)
    return torch.where(gradient.isinf(), gradient.sign() * largest, finite)


def _name(logits_fn):
    """Return the name of the module inside the wrappers around it."""
    for wrapped in ("module", "probability_fn", "logits_fn"):
        inner = getattr(logits_fn, wrapped, None)
        if callable(inner):
            return _name(inner)
    return getattr(logits_fn, "__name__", type(logits_fn).__name__)


def _off_plateau(values, logits, y):
    """Return cross-entropies that autograd sees, margins where they have no gradient.

    Only where it is zero to the last bit: training sets keep theirs.
    """
    if not (values <= 0).any():
        return values
    others = logits.detach().softmax(1).scatter(1, y[:, None], 0.0)
    is_flat = (values.detach() <= 0) & (others == 0).all(1)
    return torch.where(is_flat, margin(logits, y, value_only=True), values)


def check_loss(loss: str) -> None:
    """Raise a ValueError that lists the known losses unless ``loss`` is one of them."""
    if not isinstance(loss, str) or loss not in LOSSES:
        raise ValueError(f"loss is {loss!r}; expected one of {sorted(LOSSES)}.")


def cross_entropy(logits, y, targets=None, *, value_only=False):
    """Cross-entropy of the true class; the margin where it is rounded to zero.

    There its gradient has lost the true class, or all, and the margin, which is
    negative and rises towards that plateau, shows the way: no scale of the logits
    stops an ascent. The values alone are those of the cross-entropy everywhere.
    """
    if value_only:
        return plain_cross_entropy(logits, y, value_only=True)
    values, gradient = plain_cross_entropy(logits, y)
    is_zero = values <= 0
    if is_zero.any():
        margins, upstream = margin(logits, y)
        values = torch.where(is_zero, margins, values)
        gradient = torch.where(is_zero[:, None], upstream, gradient)
    return values, gradient


def plain_cross_entropy(logits, y, targets=None, *, value_only=False):
    """Cross-entropy of the true class, with gradients that large logits make vanish."""
    if value_only:
        return F.cross_entropy(logits, y, reduction="none")
    log_probabilities = logits.log_softmax(1)
    gradient = log_probabilities.exp()
    gradient[_rows(y), y] -= 1
    return -log_probabilities[_rows(y), y], gradient


def margin(logits, y, targets=None, *, value_only=False):
    """Logit of the target (default: the largest other) minus the true one.

    A positive value is a misclassification (Carlini & Wagner, 2017).
    """
    if targets is None:
        targets = logits.scatter(1, y[:, None], -torch.inf).argmax(1)
    values = logits[_rows(y), targets] - logits[_rows(y), y]
    if value_only:
        return values
    gradient = torch.zeros_like(logits)
    gradient[_rows(y), targets] = 1
    gradient[_rows(y), y] -= 1
    return values, gradient


def dlr(logits, y, targets=None, *, value_only=False):
    """Difference of logits ratio (Croce & Hein, 2020, Eq. 6; targeted: Eq. 7).

    The margin divided by a spread of the largest logits: ``z1 - z3`` untargeted,
    ``z1 - (z3 + z4) / 2`` targeted. Where these are not defined, with two classes, or
    three when targeted, it is the margin itself.
    """
    n_top = 3 if targets is None else 4
    if logits.shape[1] < n_top:
        return margin(logits, y, targets, value_only=value_only)
    values, gradient = margin(logits, y, targets)
    top, columns = logits.topk(n_top, dim=1)
    spread = (top[:, 0] - top[:, 2:].mean(1)).clamp_min(1e-12)
    ratio = values / spread
    if value_only:
        return ratio
    spread_gradient = torch.zeros_like(logits)
    spread_gradient.scatter_(1, columns[:, 2:], -1 / (n_top - 2))
    spread_gradient.scatter_(1, columns[:, :1], 1.0)
    gradient = (gradient - ratio[:, None] * spread_gradient) / spread[:, None]
    return ratio, gradient


def _rows(y):
    return torch.arange(len(y), device=y.device)


LOSSES = {
    "cross-entropy": cross_entropy,
    "margin": margin,
    "dlr": dlr,
    "plain-cross-entropy": plain_cross_entropy,
}
