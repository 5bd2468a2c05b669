"""Linear models, exactly: how far the planes between classes are, within the range."""

import numpy as np
import torch

__all__ = ["decide_linear"]

# Rounding of float32 scores, relative to the sum of what is added up; of distances.
_SCORES, _DISTANCES = 1e-6, 1e-6


def decide_linear(scores, X, columns, threat_model):
    """Return which samples keep their class whatever an adversary does.

    Parameters
    ----------
    scores : AffineScores
    X : ndarray of shape (n_samples, n_features)
    columns : ndarray of shape (n_samples,), int
    threat_model : ThreatModel

    Returns
    -------
    ndarray of shape (n_samples,), bool
        Exact in all norms, but for samples within the rounding of float32 numbers of
        the border, which do not keep it.

    Notes
    -----
    For each other class the shortest move, in the norm and within the range, to the
    plane where both scores are equal is known; the sample falls if one of these moves
    is within the budget.
    """
    x = torch.as_tensor(np.asarray(X, float))
    weight, bias = torch.from_numpy(scores.weight), torch.from_numpy(scores.bias)
    kept = torch.ones(len(x), dtype=torch.bool)
    for rival in range(scores.n_classes):
        normal = weight[columns] - weight[rival]
        offset = bias[columns] - bias[rival]
        falls = _reaches_plane(x, normal, offset, threat_model)
        kept &= ~falls | torch.from_numpy(columns == rival)
    return kept.numpy()


def _reaches_plane(x, normal, offset, threat_model):
    """Return for which rows ``normal @ z + offset`` can be made zero or less."""
    lead = (normal * x).sum(1) + offset
    rounding = _SCORES * ((normal * x).abs().sum(1) + offset.abs())
    move = threat_model.move_to_hyperplane(x, normal, rounding - offset)
    left = lead + (normal * move).sum(1)
    is_there = left <= rounding + _SCORES * lead.abs()
    is_near = threat_model.distance(move, torch.zeros_like(move)) <= (
        threat_model.eps * (1 + _DISTANCES)
    )
    return (lead <= rounding) | (is_there & is_near)
