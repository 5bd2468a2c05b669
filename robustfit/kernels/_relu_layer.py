"""The ReLU layer of an infinitely wide net, in closed form, twice differentiable.

With ``t`` the cosine between two inputs and ``theta = arccos(t)``, the arc-cosine
kernels of order 0 and 1 (Cho & Saul, "Kernel Methods for Deep Learning", NeurIPS 2009)
are ``k0 = (pi - theta) / pi`` and ``k1 = (sin(theta) + (pi - theta) t) / pi``.
"""

import math

import torch

__all__ = ["ReluLayer", "snap_below"]


def snap_below(dtype):
    """Return the ``1 - t`` below which two rows count as parallel.

    It is above the rounding of t, so that duplicates get the value and the gradient
    of the diagonal.
    """
    return 6 * torch.finfo(dtype).eps


class ReluLayer(torch.autograd.Function):
    """Covariance and derivative covariance after a ReLU, with a finite gradient.

    ``forward(covariance, q_x, q_y)`` returns ``E[relu(f) relu(g)]`` and
    ``E[relu'(f) relu'(g)]`` for centred Gaussian (f, g) of that covariance and
    variances. ``q_x`` and ``q_y`` broadcast against ``covariance``. Where rows are
    parallel the derivative covariance has a cusp, and its gradient counts as zero.
    """

    @staticmethod
    def forward(ctx, covariance, q_x, q_y):
        """Return both moments."""
        ctx.save_for_backward(covariance, q_x, q_y)
        scale, inverse = _scale(q_x, q_y)
        t = covariance * inverse
        is_same, is_opposite = _parallel(t)
        t = torch.where(is_same, 1.0, torch.where(is_opposite, -1.0, t))
        rest = math.pi - torch.arccos(t)
        sine = ((1 - t) * (1 + t)).sqrt()
        return scale * (sine + rest * t) / (2 * math.pi), rest / (2 * math.pi)

    @staticmethod
    def backward(ctx, grad_moment, grad_dot):
        """Return the gradients of the covariance and of the variances."""
        covariance, q_x, q_y = ctx.saved_tensors
        scale, inverse = _scale(q_x, q_y)
        t = covariance * inverse
        is_same, is_opposite = _parallel(t.detach())
        is_parallel = is_same | is_opposite
        # Zero stands in for t where sine is 0, so that second derivatives are finite.
        t = torch.where(is_parallel, 0.0, t)
        cosecant = torch.where(is_parallel, 0.0, ((1 - t) * (1 + t)).rsqrt())
        sine = (1 - t) * (1 + t) * cosecant
        rest = math.pi - torch.arccos(t)
        rest = torch.where(is_same, math.pi, torch.where(is_opposite, 0.0, rest))
        grad = grad_moment * rest + grad_dot * cosecant * inverse
        grad_log_q = grad_moment * scale * sine - grad_dot * t * cosecant
        return (
            grad / (2 * math.pi),
            _sum_to(grad_log_q, q_x) / (4 * math.pi) * _inverse(q_x),
            _sum_to(grad_log_q, q_y) / (4 * math.pi) * _inverse(q_y),
        )


def _scale(q_x, q_y):
    """Return sqrt(q_x q_y) and its inverse, both 0 where a variance is 0."""
    is_positive = (q_x > 0) & (q_y > 0)
    root = _safe(q_x).sqrt() * _safe(q_y).sqrt()  # q_x q_y itself may overflow
    return torch.where(is_positive, root, 0.0), torch.where(is_positive, 1 / root, 0.0)


def _inverse(values):
    return torch.where(values > 0, 1 / _safe(values), 0.0)


def _safe(values):
    """Return the values with 1 for 0, so that roots and inverses have gradients."""
    return torch.where(values > 0, values, 1.0)


def _parallel(t):
    """Return where t is 1 and where it is -1; rounding may take it beyond."""
    snap = snap_below(t.dtype)
    return 1 - t < snap, 1 + t < snap


def _sum_to(values, like):
    return values.sum_to_size(like.shape)
