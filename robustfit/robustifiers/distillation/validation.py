"""What the kernel predictor of a set does on rows it was not learned for."""

import torch

from robustfit._utils.torch_bridge import batch_slices
from robustfit.attacks.losses import loss_and_input_gradient
from robustfit.evaluation.judge import judge

__all__ = ["validate"]

VALIDATION_STEPS = 10


def validate(logits_fn, x, y, threat_model, batch_size, generator):
    """Return natural and robust accuracy and the mean norm of the input gradient.

    Parameters
    ----------
    logits_fn : callable
    x : torch.Tensor of shape (n_samples, n_features)
    y : torch.Tensor of shape (n_samples,)
    threat_model : ThreatModel
    batch_size : int
    generator : torch.Generator

    Returns
    -------
    dict
        ``natural_accuracy`` and ``robust_accuracy`` in [0, 1]: a row is robust that
        survives PGD-10 on the margin and on the cross-entropy; ``gradient_norm``: l2,
        of the cross-entropy.
    """
    measured, _ = judge(
        logits_fn,
        x,
        y,
        threat_model,
        losses=("margin", "cross-entropy"),
        n_steps=VALIDATION_STEPS,
        batch_size=batch_size,
        generator=generator,
    )
    norm = _mean_gradient_norm(logits_fn, x, y, batch_size)
    return measured | {"gradient_norm": norm}


def _mean_gradient_norm(logits_fn, x, y, batch_size):
    total = 0.0
    for rows in batch_slices(len(x), batch_size):
        _, gradient, _ = loss_and_input_gradient(
            logits_fn, x[rows], y[rows], "cross-entropy"
        )
        total += float(torch.linalg.vector_norm(gradient, dim=1).sum())
    return total / len(x)
