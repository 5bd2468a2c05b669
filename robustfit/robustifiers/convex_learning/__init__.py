"""Sets for learners that minimise a convex loss: exactly, by convexity."""

from robustfit.robustifiers.convex_learning.convex_form import is_convex
from robustfit.robustifiers.convex_learning.learner import (
    ConvexDatasetLearner,
    learn_convex_set,
)

__all__ = ["ConvexDatasetLearner", "is_convex", "learn_convex_set"]
