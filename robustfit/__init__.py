"""Adversarial robustness through data, as scikit-learn estimators.

Robustifiers rewrite a training set so that a net naturally trained on it is robust;
scorers attack a fitted estimator and report what survives.
"""

from robustfit import _differentiable_sklearn  # noqa: F401  (registers with as_torch)
from robustfit.black_box import as_black_box
from robustfit.dataset_learning import RobustDatasetLearner
from robustfit.displays import SecurityCurveDisplay
from robustfit.evaluation import AttackResult, attack_estimator, robust_accuracy_score
from robustfit.masking import (
    GradientMaskingReport,
    MaskingCheck,
    check_gradient_masking,
)
from robustfit.robustified_classifier import (
    RobustifiedClassifier,
    RobustSampler,
    as_sampler,
)
from robustfit.scorers import RobustAccuracyScorer, RobustnessReport
from robustfit.security_curve import (
    SecurityCurve,
    minimal_distances,
    security_curve,
)
from robustfit.threat_model import ThreatModel
from robustfit.torch_classifier import TorchClassifier, as_torch, transformer_as_torch

__version__ = "0.1.0"

__all__ = [
    # robustifiers
    "RobustDatasetLearner",
    "RobustSampler",
    "RobustifiedClassifier",
    "as_sampler",
    # evaluation
    "AttackResult",
    "GradientMaskingReport",
    "MaskingCheck",
    "RobustAccuracyScorer",
    "RobustnessReport",
    "SecurityCurve",
    "SecurityCurveDisplay",
    "ThreatModel",
    "attack_estimator",
    "check_gradient_masking",
    "minimal_distances",
    "robust_accuracy_score",
    "security_curve",
    # torch
    "TorchClassifier",
    "as_black_box",
    "as_torch",
    "transformer_as_torch",
]
