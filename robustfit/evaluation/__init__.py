"""Attack a fitted estimator and count what survives."""

from robustfit.evaluation.attacking import attack_estimator, robust_accuracy_score
from robustfit.evaluation.certified import CertifiedAccuracy, certified_accuracy
from robustfit.evaluation.comparison import ModelComparison, compare
from robustfit.evaluation.curve import SecurityCurve, minimal_distances, security_curve
from robustfit.evaluation.curve_display import SecurityCurveDisplay
from robustfit.evaluation.masking import (
    GradientMaskingReport,
    MaskingCheck,
    check_gradient_masking,
)
from robustfit.evaluation.report import write_report
from robustfit.evaluation.result import AttackResult
from robustfit.evaluation.scorers import (
    PredictionRobustnessReport,
    RobustAccuracyScorer,
    RobustnessReport,
)

__all__ = [
    "attack_estimator",
    "AttackResult",
    "certified_accuracy",
    "CertifiedAccuracy",
    "check_gradient_masking",
    "compare",
    "GradientMaskingReport",
    "MaskingCheck",
    "minimal_distances",
    "ModelComparison",
    "PredictionRobustnessReport",
    "robust_accuracy_score",
    "RobustAccuracyScorer",
    "RobustnessReport",
    "security_curve",
    "SecurityCurve",
    "SecurityCurveDisplay",
    "write_report",
]
