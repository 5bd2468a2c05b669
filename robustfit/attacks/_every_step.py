"""PGD that does not stop at the first success: what makes training sets."""

from robustfit.attacks.gradient import take_every_step

__all__ = ["EveryStepPGD"]


class EveryStepPGD:
    """All steps of PGD from the input itself, whether a sample is fooled or not.

    Its examples lie deep in the wrong class, where an evaluation's lie just behind the
    border; so they transfer to other models and carry features of their class.

    Parameters
    ----------
    n_steps : int
    step_size : float or None
        None is ``2.5 * eps / n_steps``.
    towards : bool, default=False
        Whether ``y`` is the class to reach, not the one to leave.
    """

    def __init__(self, n_steps, step_size=None, *, towards=False):
        self.n_steps = n_steps
        self.step_size = step_size
        self.towards = towards

    def __call__(self, logits_fn, x, y, threat_model, generator=None):
        """Return adversarial inputs of the shape of ``x`` (n_samples, ...)."""
        step_size = self.step_size or 2.5 * threat_model.eps / self.n_steps
        return take_every_step(
            logits_fn, x, x, y, threat_model, n_steps=self.n_steps,
            step_size=step_size, towards=self.towards,
        )  # fmt: skip
