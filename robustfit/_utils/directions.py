"""Directions of steepest ascent, of length one, for whole batches at once.

Only :class:`robustfit.ThreatModel` calls these.
"""

import torch

from robustfit._utils.torch_bridge import per_sample

__all__ = ["l2_direction", "l2_length", "sparse_sign"]


def l2_length(delta):
    """L2 norm of each sample, shaped to broadcast against it."""
    norm = torch.linalg.vector_norm(delta.reshape(len(delta), -1), dim=1)
    return per_sample(norm, delta)


def l2_direction(gradient):
    """Return each sample's gradient with l2 norm one, or zero where it vanishes."""
    # Scaled by the largest entry first: squares of tiny gradients underflow.
    axes = tuple(range(1, gradient.ndim))
    largest = gradient.abs().amax(axes, keepdim=True) if axes else gradient.abs()
    scaled = gradient / torch.where(largest > 0, largest, 1.0)
    return scaled / l2_length(scaled).clamp_min(1e-12)


def sparse_sign(gradient, share):
    """Signs of each sample's largest entries, scaled to l1 norm one."""
    flat = gradient.flatten(1)
    n_kept = max(1, round(share * flat.shape[1]))
    smallest = flat.abs().topk(n_kept, dim=1).values[:, -1:]
    signs = torch.where(flat.abs() >= smallest, flat.sign(), 0.0)
    signs = signs / signs.abs().sum(1, keepdim=True).clamp_min(1)
    return signs.reshape(gradient.shape)
