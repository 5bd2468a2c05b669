"""Adversarial training: a net sees adversarial examples instead of its images."""

from robustfit.classifiers.adversarial_training.classifier import AdversarialClassifier
from robustfit.classifiers.adversarial_training.skorch_net import AdversarialNet

__all__ = ["AdversarialClassifier", "AdversarialNet"]
