"""The attack that a name stands for: one entry a name, here and nowhere else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from robustfit.attacks.apgd import APGD
from robustfit.attacks.autoattack import AutoAttack
from robustfit.attacks.autoattack_reference import AutoAttackReference
from robustfit.attacks.base import Attack, as_attack
from robustfit.attacks.fab import FAB
from robustfit.attacks.gradient import FGSM, PGD
from robustfit.attacks.hard_label import HardLabelAttack
from robustfit.attacks.neighbour_attack import NeighbourAttack
from robustfit.attacks.sign_attack import SignAttack
from robustfit.attacks.square import Square
from robustfit.attacks.tree_attack import TreeAttack

__all__ = ["ATTACKS", "AttackParameters", "make_attack", "with_attack_names"]

_Documented = TypeVar("_Documented")


@dataclass(frozen=True)
class AttackParameters:
    """What evaluations may say about an attack by name; each takes what it knows."""

    n_steps: int = 40
    step_size: float | None = None
    n_restarts: int = 1
    loss: str = "cross-entropy"
    version: str | Sequence[str] = "standard"
    batch_size: int = 128
    precision: str = "float32"


def _pgd(p):
    return PGD(p.n_steps, p.step_size, n_restarts=p.n_restarts, loss=p.loss)


def _apgd(p):
    return APGD(loss=p.loss, n_restarts=p.n_restarts, batch_size=p.batch_size)


def _autoattack(p):
    return AutoAttack(p.version, batch_size=p.batch_size, precision=p.precision)


ATTACKS: dict[str, Callable[[AttackParameters], Attack]] = {
    "fgsm": lambda p: FGSM(loss=p.loss),
    "pgd": _pgd,
    "apgd": _apgd,
    "fab": lambda p: FAB(batch_size=p.batch_size),
    "autoattack": _autoattack,
    "autoattack-reference": lambda p: AutoAttackReference(
        p.version, batch_size=p.batch_size
    ),
    "square": lambda p: Square(batch_size=p.batch_size),
    "sign": lambda p: SignAttack(batch_size=p.batch_size),
    "hard-label": lambda p: HardLabelAttack(batch_size=p.batch_size),
    "tree": lambda p: TreeAttack(batch_size=p.batch_size),
    "neighbours": lambda p: NeighbourAttack(batch_size=p.batch_size),
}


def make_attack(attack: str | Callable, **parameters: Any) -> Attack:
    """Return the attack that a name stands for, or the attack that is given.

    Parameters
    ----------
    attack : str or callable
        A key of ``ATTACKS``, an attack, or a function called as one.
    **parameters
        Fields of :class:`AttackParameters`, for attacks by name.

    Raises
    ------
    TypeError
        For a class instead of an attack.
    ValueError
        For what is none of these, listing the known names.
    """
    if isinstance(attack, str) and attack in ATTACKS:
        return ATTACKS[attack](AttackParameters(**parameters))
    if callable(attack) and not isinstance(attack, type):
        return as_attack(attack)
    if isinstance(attack, type):
        raise TypeError(
            f"attack is the class {attack.__name__}; expected an attack, say "
            f"{attack.__name__}()."
        )
    raise ValueError(
        f"attack is {attack!r}; expected one of {tuple(ATTACKS)}, or an attack object."
    )


def with_attack_names(documented: _Documented) -> _Documented:
    """Fill the names of all attacks in for ``{attacks}`` in a docstring."""
    names = ", ".join(f'"{name}"' for name in ATTACKS)
    if documented.__doc__:  # python -OO has none
        documented.__doc__ = documented.__doc__.replace("{attacks}", f"{{{names}}}")
    return documented
