"""Linear models, with scalers and projections in front: scores that are affine."""

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from robustfit._utils.torch_bridge import batch_slices
from robustfit.exceptions import NoStructureError

__all__ = ["AffineScores", "affine_scores"]

_LAYERS = (nn.Flatten, nn.Identity, nn.Linear)
_UNIT_VECTORS = 512  # sent through a module together


@dataclass(frozen=True)
class AffineScores:
    """Scores ``weight @ x + bias`` of flattened inputs.

    Attributes
    ----------
    weight : ndarray of shape (n_classes, n_features), float64
    bias : ndarray of shape (n_classes,), float64
    """

    weight: np.ndarray
    bias: np.ndarray

    @property
    def n_classes(self):
        """How many scores there are."""
        return len(self.bias)


def affine_scores(classifier):
    """Return the weights of a classifier whose every layer is affine.

    Parameters
    ----------
    classifier : TorchClassifier

    Raises
    ------
    NoStructureError
        If it has a layer that may be something else.
    """
    # A Sequential does nothing by itself; a subclass, or another container, may.
    layers = [p for p in classifier.module.modules() if type(p) is not nn.Sequential]
    n_features = next(filter(None, map(_input_size, layers)), None)
    if n_features is None or not all(map(_is_affine, layers)):
        names = ", ".join(sorted({type(part).__name__ for part in layers}))
        raise NoStructureError(
            f"The model is made of {names}: no linear model, tree or nearest "
            "neighbour, so no bound of its robust accuracy is known here."
        )
    module = deepcopy(classifier.module).cpu().double()
    double = classifier.with_module(module)
    with torch.no_grad():
        # An affine function is known by its values at zero and at unit vectors.
        bias = double(torch.zeros(1, n_features, dtype=torch.float64))[0]
        rows = batch_slices(n_features, _UNIT_VECTORS)
        columns = [double(_unit_vectors(n_features, part)) - bias for part in rows]
    return AffineScores(torch.cat(columns).T.numpy(), bias.numpy())


def _is_affine(part):
    """Return whether a layer is affine; what a subclass computes is not known."""
    return type(part) in _LAYERS or "is_affine" in vars(type(part))


def _input_size(part):
    """Return how many numbers a row has for a layer, or None where it has no say."""
    if isinstance(part, nn.Linear):
        return part.in_features
    sizes = (getattr(part, name, None) for name in ("scale", "mean"))
    return next((size.numel() for size in sizes if torch.is_tensor(size)), None)


def _unit_vectors(n_features, rows):
    units = torch.zeros(rows.stop - rows.start, n_features, dtype=torch.float64)
    units[:, rows].fill_diagonal_(1)
    return units
