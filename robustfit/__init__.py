"""Adversarial robustness through data, as scikit-learn estimators.

Robustifiers rewrite a training set so that a net naturally trained on it is robust;
scorers attack a fitted estimator and report what survives.
"""

from robustfit import _differentiable_sklearn  # noqa: F401  (registers with as_torch)
from robustfit.adversarial_dataset import AdversarialDataset, NoisyDataset
from robustfit.dataset_learning import RobustDatasetLearner
from robustfit.evaluation import AttackResult, attack_estimator, robust_accuracy_score
from robustfit.robustified_classifier import (
    RobustifiedClassifier,
    RobustSampler,
    as_sampler,
)
from robustfit.scorers import RobustAccuracyScorer, RobustnessReport
from robustfit.theory import (
    FeatureUsefulnessDisplay,
    RobustGaussianClassifier,
    RobustGaussianDisplay,
)
from robustfit.threat_model import ThreatModel
from robustfit.torch_classifier import TorchClassifier, as_torch, transformer_as_torch

__version__ = "0.1.0"

__all__ = [
    # robustifiers
    "AdversarialDataset",
    "NoisyDataset",
    "RobustDatasetLearner",
    "RobustSampler",
    "RobustifiedClassifier",
    "as_sampler",
    # evaluation
    "AttackResult",
    "RobustAccuracyScorer",
    "RobustnessReport",
    "ThreatModel",
    "attack_estimator",
    "robust_accuracy_score",
    # theory
    "FeatureUsefulnessDisplay",
    "RobustGaussianClassifier",
    "RobustGaussianDisplay",
    # torch
    "TorchClassifier",
    "as_torch",
    "transformer_as_torch",
]
