"""Attacks: ``attack(logits_fn, x, y, threat_model, generator) -> x_adv``, on tensors.

An attack never sees a scikit-learn object; :func:`robustfit.attack_estimator` crosses
from one to the other.
"""

from robustfit.attacks.apgd import APGD
from robustfit.attacks.autoattack import AutoAttack
from robustfit.attacks.autoattack_reference import AutoAttackReference
from robustfit.attacks.base import Attack, AttackOutcome
from robustfit.attacks.fab import FAB
from robustfit.attacks.gradient import FGSM, PGD
from robustfit.attacks.hard_label import HardLabelAttack
from robustfit.attacks.neighbour_attack import NeighbourAttack
from robustfit.attacks.sign_attack import SignAttack
from robustfit.attacks.square import Square
from robustfit.attacks.transfer import TransferAttack
from robustfit.attacks.tree_attack import TreeAttack

__all__ = [
    "APGD",
    "FAB",
    "FGSM",
    "PGD",
    "Attack",
    "AttackOutcome",
    "AutoAttack",
    "AutoAttackReference",
    "HardLabelAttack",
    "NeighbourAttack",
    "SignAttack",
    "Square",
    "TransferAttack",
    "TreeAttack",
]
