"""Closed forms of the papers' theorems, each tested against brute force."""

from robustfit.theory.abstraction_model import (
    linear_accuracy,
    natural_svm_weights,
    robust_svm_loss,
    robust_svm_weights,
    soft_svm,
)
from robustfit.theory.bernoulli import (
    bernoulli_bayes_error,
    bernoulli_best_threshold,
    bernoulli_l0_error,
    bernoulli_linf_error,
    bernoulli_threshold_rule,
    effective_dimension,
)
from robustfit.theory.concentration import (
    ball_expansion_bound,
    cube_expansion_bound,
    diagonal_split_robust_error,
    diagonal_split_robust_error_bound,
    single_feature_robust_error,
    vulnerable_fraction_bound,
)
from robustfit.theory.feature_display import FeatureUsefulnessDisplay
from robustfit.theory.gaussian_adversary import (
    adversarial_likelihood_gap,
    gaussian_worst_case_perturbation,
)
from robustfit.theory.gaussian_classifier import RobustGaussianClassifier
from robustfit.theory.gaussian_display import RobustGaussianDisplay
from robustfit.theory.gaussian_likelihood import (
    gaussian_linear_accuracy,
    robust_covariance,
    robust_multiplier,
    worst_case_alignment,
)
from robustfit.theory.isotropic_gaussian import (
    isotropic_gaussian_error,
    isotropic_gaussian_weights,
)
from robustfit.theory.linear_adversary import worst_case_perturbation
from robustfit.theory.penultimate_features import PenultimateFeatures
from robustfit.theory.usefulness import feature_usefulness, robust_usefulness

__all__ = [
    # one robust feature, many weak ones
    "linear_accuracy",
    "natural_svm_weights",
    "robust_svm_loss",
    "robust_svm_weights",
    "soft_svm",
    "worst_case_perturbation",
    # useful and robust features
    "FeatureUsefulnessDisplay",
    "PenultimateFeatures",
    "feature_usefulness",
    "robust_usefulness",
    # Gaussian maximum likelihood under an l2 adversary
    "RobustGaussianClassifier",
    "RobustGaussianDisplay",
    "adversarial_likelihood_gap",
    "gaussian_linear_accuracy",
    "gaussian_worst_case_perturbation",
    "robust_covariance",
    "robust_multiplier",
    "worst_case_alignment",
    # optimal robust classifiers
    "bernoulli_bayes_error",
    "bernoulli_best_threshold",
    "bernoulli_l0_error",
    "bernoulli_linf_error",
    "bernoulli_threshold_rule",
    "effective_dimension",
    "isotropic_gaussian_error",
    "isotropic_gaussian_weights",
    # concentration of measure
    "ball_expansion_bound",
    "cube_expansion_bound",
    "diagonal_split_robust_error",
    "diagonal_split_robust_error_bound",
    "single_feature_robust_error",
    "vulnerable_fraction_bound",
]
