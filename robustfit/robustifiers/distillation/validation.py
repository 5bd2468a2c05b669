"""What the kernel predictor of a set does on rows it was not learned for."""

import torch

from robustfit._utils.torch_bridge import batch_slices
from robustfit.attacks.gradient import PGD
from robustfit.attacks.losses import loss_and_input_gradient

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
        "natural", "robust" in [0, 1]: a row is robust that survives PGD-10 on the
        margin and on the cross-entropy. "gradient_norm": l2, of the cross-entropy.
    """
    natural = robust = norms = 0.0
    for rows in batch_slices(len(x), batch_size):
        x_rows, y_rows = x[rows], y[rows]
        _, gradient, logits = loss_and_input_gradient(
            logits_fn, x_rows, y_rows, "cross-entropy"
        )
        stands = logits.argmax(1) == y_rows
        natural += int(stands.sum())
        norms += float(torch.linalg.vector_norm(gradient, dim=1).sum())
        for loss in ("margin", "cross-entropy"):
            alive = torch.nonzero(stands)[:, 0]
            if len(alive):
                attack = PGD(VALIDATION_STEPS, loss=loss)
                x_adv = attack(
                    logits_fn, x_rows[alive], y_rows[alive], threat_model, generator
                )
                with torch.no_grad():
                    stands[alive] = logits_fn(x_adv).argmax(1) == y_rows[alive]
        robust += int(stands.sum())
    return {
        "natural": natural / len(x),
        "robust": robust / len(x),
        "gradient_norm": norms / len(x),
    }
