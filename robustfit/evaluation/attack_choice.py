"""The attack that "auto" stands for: the one that sees most of a model."""

from robustfit.exceptions import NoStructureError, NotDifferentiableError
from robustfit.sklearn_to_torch.black_box import as_black_box
from robustfit.sklearn_to_torch.torch_classifier import as_torch
from robustfit.structures.find_structure import structure_of
from robustfit.structures.neighbour_rule import NeighbourRule

__all__ = ["attack_for", "is_differentiable", "resolve_attack"]


def is_differentiable(estimator):
    """Return whether a fitted estimator has a differentiable form.

    Raises
    ------
    NotDifferentiableError
        If it has none, and is no fitted classifier either.
    """
    try:
        as_torch(estimator)
    except NotDifferentiableError:
        if not (hasattr(estimator, "classes_") and hasattr(estimator, "predict")):
            raise
        return False
    return True


def attack_for(estimator, threat_model):
    """Return the name of the attack to begin with.

    Parameters
    ----------
    estimator : fitted classifier
    threat_model : ThreatModel
        The attack on neighbours takes one budget for all features.

    Returns
    -------
    str
        "pgd" for a model with gradients, "tree" for trees and their ensembles,
        "neighbours" for nearest neighbours, and "square" for all others.
    """
    if is_differentiable(estimator):
        return "pgd"
    try:
        structure = structure_of(as_black_box(estimator))
    except NoStructureError:
        return "square"
    if isinstance(structure, NeighbourRule):
        return "square" if threat_model.is_per_feature else "neighbours"
    return "tree"


def resolve_attack(attack, estimator, threat_model):
    """Return the attack that is asked for, the name of one where that is "auto"."""
    is_open = isinstance(attack, str) and attack == "auto"
    return attack_for(estimator, threat_model) if is_open else attack
