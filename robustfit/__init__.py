"""Adversarial robustness through data, as scikit-learn estimators.

Robustifiers rewrite a training set so that a net naturally trained on it is robust;
scorers attack a fitted estimator and report what survives.
"""

from robustfit import _differentiable_sklearn  # noqa: F401  (registers with as_torch)
from robustfit.adversarial_dataset import AdversarialDataset, NoisyDataset
from robustfit.black_box import as_black_box
from robustfit.dataset_diagnostics import (
    PixelHistogramDisplay,
    inter_class_distance,
    perturbable_volume,
    pixel_histogram,
)
from robustfit.dataset_learning import RobustDatasetLearner
from robustfit.displays import SecurityCurveDisplay
from robustfit.evaluation import AttackResult, attack_estimator, robust_accuracy_score
from robustfit.image_transforms import (
    BinarizeImages,
    EdgeImages,
    GammaCorrect,
    SaturateImages,
    ScaleContrast,
    SmoothImages,
)
from robustfit.input_distribution_studies import (
    robustness_by_training_size,
    robustness_by_transform,
    robustness_by_width,
)
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
from robustfit.robustness_curve_displays import (
    TrainingSizeRobustnessDisplay,
    TransformRobustnessDisplay,
    WidthRobustnessDisplay,
)
from robustfit.scorers import (
    PredictionRobustnessReport,
    RobustAccuracyScorer,
    RobustnessReport,
)
from robustfit.security_curve import (
    SecurityCurve,
    minimal_distances,
    security_curve,
)
from robustfit.sharing import (
    RobustDataset,
    load_robust_dataset,
    save_robust_dataset,
)
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
    # sharing
    "RobustDataset",
    "load_robust_dataset",
    "save_robust_dataset",
    # evaluation
    "AttackResult",
    "GradientMaskingReport",
    "MaskingCheck",
    "PredictionRobustnessReport",
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
    # theory
    "FeatureUsefulnessDisplay",
    "RobustGaussianClassifier",
    "RobustGaussianDisplay",
    # image transforms
    "BinarizeImages",
    "EdgeImages",
    "GammaCorrect",
    "SaturateImages",
    "ScaleContrast",
    "SmoothImages",
    # data sets without a model
    "PixelHistogramDisplay",
    "inter_class_distance",
    "perturbable_volume",
    "pixel_histogram",
    # studies of the input distribution
    "TrainingSizeRobustnessDisplay",
    "TransformRobustnessDisplay",
    "WidthRobustnessDisplay",
    "robustness_by_training_size",
    "robustness_by_transform",
    "robustness_by_width",
    # torch
    "TorchClassifier",
    "as_black_box",
    "as_torch",
    "transformer_as_torch",
]
