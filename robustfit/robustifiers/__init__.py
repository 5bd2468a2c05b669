"""Estimators that rewrite a training set so that nets trained on it are robust."""

from robustfit.robustifiers.baselines import AdversarialDataset, NoisyDataset
from robustfit.robustifiers.dataset_learning import RobustDatasetLearner
from robustfit.robustifiers.distillation import AdvKIPDistiller, KIPDistiller
from robustfit.robustifiers.features import (
    AdversarialRelabeler,
    NonRobustFeatureExtractor,
    RobustFeatureExtractor,
)
from robustfit.robustifiers.robustified_classifier import (
    RobustifiedClassifier,
    RobustSampler,
    as_sampler,
)

__all__ = [
    "AdversarialDataset",
    "AdversarialRelabeler",
    "AdvKIPDistiller",
    "as_sampler",
    "KIPDistiller",
    "NoisyDataset",
    "NonRobustFeatureExtractor",
    "RobustDatasetLearner",
    "RobustFeatureExtractor",
    "RobustifiedClassifier",
    "RobustSampler",
]
