"""What both implementations of AutoAttack share: versions, survivors, the last flag."""

from collections.abc import Sequence

from robustfit._utils.argument_checks import check_count
from robustfit.attacks._sanity import warn_if_square_helped
from robustfit.attacks.base import Attack
from robustfit.attacks.model_checks import check_model

__all__ = ["Ensemble"]

VERSIONS = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
ATTACK_NAMES = ("apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square")


class Ensemble(Attack):
    """Attacks in turn, each on the samples that those before it left standing.

    Parameters
    ----------
    version : str or sequence of str
        A key of ``VERSIONS``, or names from ``ATTACK_NAMES``.
    batch_size : int
    """

    def __init__(self, version: str | Sequence[str], batch_size: int):
        self.version = version
        self.attacks = _resolve_attacks(version)
        check_count("batch_size", batch_size)
        self.batch_size = int(batch_size)
        self.robust_after_ = {}

    def check_model(self, logits_fn, x, y):
        """Warn about a model whose robustness may be feigned, by the paper's flags."""
        rows = slice(0, self.batch_size)
        expects_noise = self.version == "rand"
        return check_model(
            logits_fn, x[rows], y[rows], loss="dlr", expects_noise=expects_noise
        )

    @property
    def part_names(self):
        """The names of the attacks, in the order they run."""
        return self.attacks

    def check_result(self, robust_after):
        """Warn if Square found what the gradient attacks missed."""
        warn_if_square_helped(robust_after)


def _resolve_attacks(version):
    """Return the names of a version's attacks, in the order they run."""
    if isinstance(version, str):
        if version not in VERSIONS:
            raise ValueError(
                f"version is {version!r}; expected one of {sorted(VERSIONS)} or a "
                f"list of attacks from {ATTACK_NAMES}."
            )
        return VERSIONS[version]
    attacks = tuple(version)
    unknown = [attack for attack in attacks if attack not in ATTACK_NAMES]
    if unknown or not attacks:
        raise ValueError(
            f"version is {version!r}; expected a non-empty list of attacks from "
            f"{ATTACK_NAMES}."
        )
    return attacks
