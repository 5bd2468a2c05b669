"""Look at a model: transferability, loss landscape, saliency, each with its picture."""

from robustfit.inspection.loss_landscape_display import LossLandscapeDisplay
from robustfit.inspection.saliency import SaliencyDisplay
from robustfit.inspection.transferability import Transferability, transferability_matrix
from robustfit.inspection.transferability_display import TransferabilityDisplay

__all__ = [
    "LossLandscapeDisplay",
    "SaliencyDisplay",
    "Transferability",
    "transferability_matrix",
    "TransferabilityDisplay",
]
