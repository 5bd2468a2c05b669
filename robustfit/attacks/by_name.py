"""The attack that a name stands for."""

from robustfit.attacks.apgd import APGD
from robustfit.attacks.autoattack import AutoAttack
from robustfit.attacks.autoattack_reference import AutoAttackReference
from robustfit.attacks.fab import FAB
from robustfit.attacks.gradient import FGSM, PGD
from robustfit.attacks.hard_label import HardLabelAttack
from robustfit.attacks.sign_attack import SignAttack
from robustfit.attacks.square import Square

__all__ = ["ATTACKS", "make_attack"]

ATTACKS = (
    "fgsm",
    "pgd",
    "apgd",
    "fab",
    "autoattack",
    "autoattack-reference",
    "square",
    "sign",
    "hard-label",
)

_PLAIN_ATTACKS = {
    "fab": FAB,
    "square": Square,
    "sign": SignAttack,
    "hard-label": HardLabelAttack,
}


def make_attack(
    attack,
    *,
    n_steps=40,
    step_size=None,
    n_restarts=1,
    loss="cross-entropy",
    version="standard",
    batch_size=128,
    precision="float32",
):
    """Return the attack that a name stands for (an attack itself is returned as is).

    Raises
    ------
    ValueError
        For an unknown name, listing the known ones.
    """
    if callable(attack):
        return attack
    if attack == "fgsm":
        return FGSM(loss=loss)
    if attack == "pgd":
        return PGD(n_steps, step_size, n_restarts=n_restarts, loss=loss)
    if attack == "apgd":
        return APGD(loss=loss, n_restarts=n_restarts, batch_size=batch_size)
    if attack == "autoattack":
        return AutoAttack(version, batch_size=batch_size, precision=precision)
    if attack == "autoattack-reference":
        return AutoAttackReference(version, batch_size=batch_size)
    if attack in _PLAIN_ATTACKS:
        return _PLAIN_ATTACKS[attack](batch_size=batch_size)
    raise ValueError(
        f"attack is {attack!r}; expected one of {ATTACKS}, or an attack object."
    )
