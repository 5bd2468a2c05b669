"""Per-sample losses that an adversary maximises.

Each takes logits (n, C) and labels (n,) and returns (n,) values; larger is better for
the adversary. With the margin loss, a positive value is a misclassification.
"""

import torch
import torch.nn.functional as F

__all__ = ["ATTACK_LOSSES", "margin"]


def cross_entropy(logits, y):
    """Cross-entropy of the true class."""
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits, y):
    """Largest other logit minus the true one (Carlini & Wagner, 2017)."""
    true = logits.gather(1, y[:, None])[:, 0]
    others = logits.scatter(1, y[:, None], -torch.inf)
    return others.amax(1) - true


def dlr(logits, y):
    """Difference of logits ratio (Croce & Hein, 2020, Eq. 6): margin free of scale.

    Raises
    ------
    ValueError
        With fewer than three classes, where the ratio is not defined.
    """
    if logits.shape[1] < 3:
        raise ValueError(
            f"loss='dlr' needs at least 3 classes, the model has {logits.shape[1]}; "
            "use loss='margin'."
        )
    top = logits.topk(3, dim=1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2]).clamp_min(1e-12)


ATTACK_LOSSES = {"cross-entropy": cross_entropy, "margin": margin, "dlr": dlr}
