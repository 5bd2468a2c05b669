"""Robust dataset learning: the estimator and its stages, one a file."""

from robustfit.dataset_learning.learner import RobustDatasetLearner

__all__ = ["RobustDatasetLearner"]
