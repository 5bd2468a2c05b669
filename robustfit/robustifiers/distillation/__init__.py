"""Kernel inducing points: training sets learned for a kernel predictor."""

from robustfit.robustifiers.distillation.adv_kip import AdvKIPDistiller
from robustfit.robustifiers.distillation.kip import KIPDistiller

__all__ = ["AdvKIPDistiller", "KIPDistiller"]
