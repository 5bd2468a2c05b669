"""Attacks: ``attack(logits_fn, x, y, threat_model, generator) -> x_adv``, on tensors.

An attack never sees a scikit-learn object; :func:`robustfit.attack_estimator` crosses
from one to the other.
"""

from robustfit.attacks.autoattack_reference import AutoAttackReference
from robustfit.attacks.gradient import FGSM, PGD

__all__ = ["FGSM", "PGD", "AutoAttackReference"]
