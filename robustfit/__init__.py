"""Adversarial robustness through data, as scikit-learn estimators.

Robustifiers rewrite a training set so that a net naturally trained on it is robust;
scorers attack a fitted estimator and report what survives.
"""

from robustfit import sklearn_to_torch  # noqa: F401  (registers with as_torch)
from robustfit.classifiers.adversarial_training import (
    AdversarialClassifier,
    AdversarialNet,
)
from robustfit.classifiers.kernel_classifier import KernelRegressionClassifier
from robustfit.evaluation.attacking import (
    AttackResult,
    attack_estimator,
    robust_accuracy_score,
)
from robustfit.evaluation.curve import (
    SecurityCurve,
    minimal_distances,
    security_curve,
)
from robustfit.evaluation.curve_display import SecurityCurveDisplay
from robustfit.evaluation.masking import (
    GradientMaskingReport,
    MaskingCheck,
    check_gradient_masking,
)
from robustfit.evaluation.scorers import (
    PredictionRobustnessReport,
    RobustAccuracyScorer,
    RobustnessReport,
)
from robustfit.image_transforms import (
    BinarizeImages,
    EdgeImages,
    GammaCorrect,
    SaturateImages,
    ScaleContrast,
    SmoothImages,
)
from robustfit.input_distribution.diagnostics import (
    PixelHistogramDisplay,
    inter_class_distance,
    perturbable_volume,
    pixel_histogram,
)
from robustfit.input_distribution.studies import (
    robustness_by_training_size,
    robustness_by_transform,
    robustness_by_width,
)
from robustfit.input_distribution.study_displays import (
    TrainingSizeRobustnessDisplay,
    TransformRobustnessDisplay,
    WidthRobustnessDisplay,
)
from robustfit.inspection.loss_landscape_display import LossLandscapeDisplay
from robustfit.inspection.saliency import SaliencyDisplay
from robustfit.inspection.transferability import Transferability, transferability_matrix
from robustfit.inspection.transferability_display import TransferabilityDisplay
from robustfit.robustifiers.baselines import AdversarialDataset, NoisyDataset
from robustfit.robustifiers.dataset_learning import RobustDatasetLearner
from robustfit.robustifiers.distillation import AdvKIPDistiller, KIPDistiller
from robustfit.robustifiers.features.adversarial_relabeler import AdversarialRelabeler
from robustfit.robustifiers.features.robust_features import (
    NonRobustFeatureExtractor,
    RobustFeatureExtractor,
)
from robustfit.robustifiers.robustified_classifier import (
    RobustifiedClassifier,
    RobustSampler,
    as_sampler,
)
from robustfit.sharing import (
    RobustDataset,
    load_robust_dataset,
    save_robust_dataset,
)
from robustfit.sklearn_to_torch.black_box import as_black_box
from robustfit.sklearn_to_torch.torch_classifier import (
    TorchClassifier,
    as_torch,
    transformer_as_torch,
)
from robustfit.theory import (
    FeatureUsefulnessDisplay,
    RobustGaussianClassifier,
    RobustGaussianDisplay,
)
from robustfit.threat_model import ThreatModel

__version__ = "0.1.0"

__all__ = [
    # robustifiers
    "AdvKIPDistiller",
    "AdversarialDataset",
    "AdversarialRelabeler",
    "KIPDistiller",
    "NoisyDataset",
    "NonRobustFeatureExtractor",
    "RobustDatasetLearner",
    "RobustFeatureExtractor",
    "RobustSampler",
    "RobustifiedClassifier",
    "as_sampler",
    # sharing
    "RobustDataset",
    "load_robust_dataset",
    "save_robust_dataset",
    # adversarial training
    "AdversarialClassifier",
    "AdversarialNet",
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
    "as_black_box",
    "as_torch",
    "transformer_as_torch",
]
