"""Training sets whose classes are kept apart by dropping rows."""

from robustfit.robustifiers.adversarial_pruning.pruner import AdversarialPruner

__all__ = ["AdversarialPruner"]
