"""Robust dataset learning: the estimator and its stages, one a file."""

from robustfit.robustifiers.dataset_learning.learner import RobustDatasetLearner

__all__ = ["RobustDatasetLearner"]
