"""Adversarial robustness through data, as scikit-learn estimators.

Robustifiers rewrite a training set so that a net naturally trained on it is robust;
scorers attack a fitted estimator and report what survives.
"""

from robustfit._version import __version__  # noqa: F401
from robustfit.classifiers import (
    AdversarialClassifier,
    AdversarialNet,
    KernelRegressionClassifier,
)
from robustfit.evaluation import (
    AttackResult,
    CertifiedAccuracy,
    GradientMaskingReport,
    MaskingCheck,
    ModelComparison,
    PredictionRobustnessReport,
    RobustAccuracyScorer,
    RobustnessReport,
    SecurityCurve,
    SecurityCurveDisplay,
    attack_estimator,
    certified_accuracy,
    check_gradient_masking,
    compare,
    minimal_distances,
    robust_accuracy_score,
    security_curve,
    write_report,
)
from robustfit.image_transforms import (
    BinarizeImages,
    EdgeImages,
    GammaCorrect,
    SaturateImages,
    ScaleContrast,
    SmoothImages,
)
from robustfit.input_distribution import (
    PixelHistogramDisplay,
    TrainingSizeRobustnessDisplay,
    TransformRobustnessDisplay,
    WidthRobustnessDisplay,
    inter_class_distance,
    perturbable_volume,
    pixel_histogram,
    robustness_by_training_size,
    robustness_by_transform,
    robustness_by_width,
)
from robustfit.inspection import (
    LossLandscapeDisplay,
    SaliencyDisplay,
    Transferability,
    TransferabilityDisplay,
    transferability_matrix,
)
from robustfit.robustifiers import (
    AdversarialDataset,
    AdversarialPruner,
    AdversarialRelabeler,
    AdvKIPDistiller,
    ConvexDatasetLearner,
    KIPDistiller,
    NoisyDataset,
    NonRobustFeatureExtractor,
    RobustDatasetLearner,
    RobustFeatureExtractor,
    RobustifiedClassifier,
    RobustSampler,
    as_sampler,
    is_convex,
)
from robustfit.sharing import RobustDataset, load_robust_dataset, save_robust_dataset
from robustfit.sklearn_to_torch import (
    TorchClassifier,
    TorchFunction,
    as_black_box,
    as_torch,
    transformer_as_torch,
)
from robustfit.theory import (
    FeatureUsefulnessDisplay,
    RobustGaussianClassifier,
    RobustGaussianDisplay,
)
from robustfit.threat_model import ThreatModel

__all__ = [
    # robustifiers
    "AdvKIPDistiller",
    "AdversarialDataset",
    "AdversarialPruner",
    "AdversarialRelabeler",
    "ConvexDatasetLearner",
    "KIPDistiller",
    "NoisyDataset",
    "NonRobustFeatureExtractor",
    "RobustDatasetLearner",
    "RobustFeatureExtractor",
    "RobustSampler",
    "RobustifiedClassifier",
    "as_sampler",
    "is_convex",
    # sharing
    "RobustDataset",
    "load_robust_dataset",
    "save_robust_dataset",
    # adversarial training
    "AdversarialClassifier",
    "AdversarialNet",
    # evaluation
    "AttackResult",
    "CertifiedAccuracy",
    "GradientMaskingReport",
    "MaskingCheck",
    "ModelComparison",
    "PredictionRobustnessReport",
    "RobustAccuracyScorer",
    "RobustnessReport",
    "SecurityCurve",
    "SecurityCurveDisplay",
    "ThreatModel",
    "attack_estimator",
    "certified_accuracy",
    "check_gradient_masking",
    "compare",
    "minimal_distances",
    "robust_accuracy_score",
    "security_curve",
    "write_report",
    # transfer, loss landscapes and saliency
    "LossLandscapeDisplay",
    "SaliencyDisplay",
    "Transferability",
    "TransferabilityDisplay",
    "transferability_matrix",
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
    # kernels
    "KernelRegressionClassifier",
    # torch
    "TorchClassifier",
    "TorchFunction",
    "as_black_box",
    "as_torch",
    "transformer_as_torch",
]


def __dir__():
    """Return the public names, and the modules that are documented as paths."""
    paths = ("attacks", "datasets", "exceptions", "image_transforms", "kernels")
    return sorted([*__all__, *paths, "nets", "theory", "__version__"])
