"""Which budget each epoch of adversarial training uses."""

import math
from typing import NamedTuple

__all__ = ["Stage", "plan_stages"]

# Share of the first stage's epochs in which eps grows, when none is given.
WARMUP_SHARE = 1 / 3


class Stage(NamedTuple):
    """Epochs that lead to one budget: ``eps``, and what is used on the way to it."""

    eps: float
    budgets: tuple[float, ...]
    stops_at_jump: bool = False


def plan_stages(
    eps,
    *,
    eps_stages=None,
    eps_schedule="constant",
    n_epochs,
    n_stage_epochs,
    n_warmup_epochs=None,
    eps_increment=0.01,
    trained_eps=None,
):
    """Return the stages of one fit.

    Parameters
    ----------
    eps, eps_stages, eps_schedule, n_epochs, n_stage_epochs, n_warmup_epochs, \
eps_increment
        Of :class:`AdversarialClassifier`.
    trained_eps : float or None
        Budget that the weights were trained at before; None for new weights.

    Returns
    -------
    list of Stage

    Raises
    ------
    ValueError
        If the parameters contradict each other.
    """
    _check_schedule(eps_stages, eps_schedule, n_epochs, n_warmup_epochs)
    if eps_schedule == "iterative":
        budgets = _growing(trained_eps or 0.0, eps, eps_increment, n_epochs)
        return [Stage(eps, budgets, stops_at_jump=True)]
    first, *later = (eps,) if eps_stages is None else eps_stages
    if n_warmup_epochs is None:
        is_new = trained_eps is None
        n_warmup_epochs = math.ceil(WARMUP_SHARE * n_epochs) if is_new else 0
        n_warmup_epochs = min(n_warmup_epochs, n_epochs - 1)
    warmup = [first * (e + 1) / (n_warmup_epochs + 1) for e in range(n_warmup_epochs)]
    constant = [first] * (n_epochs - n_warmup_epochs)
    stages = [Stage(first, (*warmup, *constant))]
    return stages + [Stage(target, (target,) * n_stage_epochs) for target in later]


def _growing(start, eps, increment, n_epochs):
    """Return budgets that grow by ``increment`` an epoch, then stay at ``eps``."""
    n_growing = max(0, math.ceil((eps - start) / increment - 1e-9))
    growing = [min(start + increment * (e + 1), eps) for e in range(n_growing)]
    return (*growing, *[eps] * max(0, n_epochs - n_growing))


def _check_schedule(eps_stages, eps_schedule, n_epochs, n_warmup_epochs):
    if eps_stages is not None and eps_schedule == "iterative":
        raise ValueError(
            "eps_stages and eps_schedule='iterative' are two ways to a large eps; "
            "choose one: eps_stages=None, or eps_schedule='constant'."
        )
    if eps_stages is not None and len(eps_stages) == 0:
        raise ValueError("eps_stages is empty; expected for example (0.3, 0.4).")
    if n_warmup_epochs is not None and n_warmup_epochs >= n_epochs:
        raise ValueError(
            f"n_warmup_epochs is {n_warmup_epochs}; expected less than "
            f"n_epochs={n_epochs}."
        )
