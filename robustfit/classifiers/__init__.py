"""Classifiers that are robust by their training, or by a kernel."""

from robustfit.classifiers.adversarial_training import (
    AdversarialClassifier,
    AdversarialNet,
)
from robustfit.classifiers.kernel_classifier import KernelRegressionClassifier

__all__ = [
    "AdversarialClassifier",
    "AdversarialNet",
    "KernelRegressionClassifier",
]
