"""Kernel inducing points: training sets learned for a kernel predictor."""

from robustfit.distillation.adv_kip import AdvKIPDistiller
from robustfit.distillation.kip import KIPDistiller

__all__ = ["AdvKIPDistiller", "KIPDistiller"]
