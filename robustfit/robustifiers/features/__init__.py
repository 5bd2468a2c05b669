"""Training sets of robust, non-robust and relabelled features."""

from robustfit.robustifiers.features.adversarial_relabeler import AdversarialRelabeler
from robustfit.robustifiers.features.robust_features import (
    NonRobustFeatureExtractor,
    RobustFeatureExtractor,
)

__all__ = [
    "AdversarialRelabeler",
    "NonRobustFeatureExtractor",
    "RobustFeatureExtractor",
]
