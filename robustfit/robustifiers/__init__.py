"""Estimators that rewrite a training set so that nets trained on it are robust."""

from robustfit.robustifiers.adversarial_pruning import AdversarialPruner
from robustfit.robustifiers.baselines import AdversarialDataset, NoisyDataset
from robustfit.robustifiers.convex_learning import ConvexDatasetLearner, is_convex
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
    "AdversarialPruner",
    "AdversarialRelabeler",
    "AdvKIPDistiller",
    "as_sampler",
    "ConvexDatasetLearner",
    "is_convex",
    "KIPDistiller",
    "NoisyDataset",
    "NonRobustFeatureExtractor",
    "RobustDatasetLearner",
    "RobustFeatureExtractor",
    "RobustifiedClassifier",
    "RobustSampler",
]
