"""Settings of the two stages that answer to nets: fictitious play and Algorithm 1."""

from dataclasses import dataclass

__all__ = ["MetaEpochs", "Play", "PlayedRows"]


@dataclass(frozen=True)
class PlayedRows:
    """The rows of fictitious play, and how far they are perturbed.

    Attributes
    ----------
    every : int
        1 for all rows, 2 for every second one.
    radius_factor : float
        Radius of the perturbations over the budget to withstand.
    """

    every: int
    radius_factor: float


@dataclass(frozen=True)
class Play:
    """Rounds of fictitious play.

    Attributes
    ----------
    n_epochs : tuple of int
        Epochs of natural training that end each round.
    n_steps : int
        Gradient steps that perturb the set.
    alone, beside_patterns : PlayedRows or None
        Where no row is disturbed, or none by a pattern; and where patterns disturb the
        other rows. None where the candidate disturbances rule it out.
    """

    n_epochs: tuple[int, ...]
    n_steps: int
    alone: PlayedRows | None
    beside_patterns: PlayedRows | None

    def rows_beside(self, chosen):
        """Return the rows that take part where a Candidate (or None) was chosen."""
        is_patterned = chosen is not None and chosen.disturbance.amplitude > 0
        return self.beside_patterns if is_patterned else self.alone


@dataclass(frozen=True)
class MetaEpochs:
    """Epochs of Algorithm 1 and its constants.

    Attributes
    ----------
    n_epochs, n_unrolled : int
    derivative : {"finite-difference", "exact"}
    attack_steps : int
    attack_step_size : float or None
        None is PGD's default.
    t : float
        Learning rate of the unrolled training steps (gamma in the paper).
    beta : float
        Length of the signed step on the set.
    carry_lr : float
        Learning rate at which the parameters follow the set; 0 keeps theta_0.
    """

    n_epochs: int
    n_unrolled: int
    derivative: str
    attack_steps: int
    attack_step_size: float | None
    t: float
    beta: float
    carry_lr: float
