"""Adversarial training: a net sees adversarial examples instead of its images."""

from robustfit.adversarial_training.classifier import AdversarialClassifier
from robustfit.adversarial_training.skorch_net import AdversarialNet

__all__ = ["AdversarialClassifier", "AdversarialNet"]
