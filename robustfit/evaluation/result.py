"""What an attack did to each sample, as a value that prints itself."""

from dataclasses import dataclass, field

import numpy as np

from robustfit.evaluation.counting_error import wilson_interval

__all__ = ["AttackResult"]


@dataclass(frozen=True)
class AttackResult:
    """What an attack did to each sample.

    Attributes
    ----------
    X_adv : ndarray of the shape of X, float32
        Adversarial inputs; samples the model got wrong already are left as they were.
    natural_correct : ndarray of shape (n_samples,), bool
        Samples the model gets right unperturbed.
    robust : ndarray of shape (n_samples,), bool
        Samples it still gets right under attack; with ``labels="predicted"``, whose
        prediction the attack does not change, right or wrong.
    robust_after : dict of str to ndarray of shape (n_samples,), bool
        For ensembles: the survivors after each attack.
    seed : int or None, default=None
        What the random numbers of the attack were drawn from.
    certified : ndarray of shape (n_samples,), bool, or None, default=None
        Samples that are ``robust`` against every attack of this budget, proven by
        :func:`certified_accuracy`; None for a model without such a bound.

    See Also
    --------
    attack_estimator : Makes one.
    certified_accuracy : More about what is proven.
    compare : Whether two results differ by more than chance.

    Examples
    --------
    >>> import torch
    >>> from robustfit import attack_estimator
    >>> net = torch.nn.Linear(2, 2, bias=False)
    >>> _ = torch.nn.init.eye_(net.weight)
    >>> result = attack_estimator(net, [[0.1, 0.9], [0.4, 0.6]], [1, 1], eps=0.2)
    >>> result
    AttackResult(n_samples=2, natural_accuracy=1.000, robust_accuracy=0.500, \
certified_accuracy=0.500, natural_interval=[0.342, 1.000], \
robust_interval=[0.095, 0.905], certified_interval=[0.095, 0.905], seed=0)
    >>> result.robust.tolist()
    [True, False]
    """

    X_adv: np.ndarray
    natural_correct: np.ndarray
    robust: np.ndarray
    robust_after: dict[str, np.ndarray] = field(default_factory=dict)
    seed: int | None = None
    certified: np.ndarray | None = None

    def __repr__(self) -> str:
        accuracies = {
            "natural_accuracy": self.natural_accuracy,
            "robust_accuracy": self.robust_accuracy,
        }
        intervals = {
            "natural_interval": self.natural_interval,
            "robust_interval": self.robust_interval,
        }
        certified, interval = self.certified_accuracy, self.certified_interval
        if certified is not None and interval is not None:
            accuracies["certified_accuracy"] = certified
            intervals["certified_interval"] = interval
        accuracies |= {
            f"after {name}": kept.mean() for name, kept in self.robust_after.items()
        }
        shares = ", ".join(f"{name}={share:.3f}" for name, share in accuracies.items())
        ends = ", ".join(
            f"{name}=[{low:.3f}, {high:.3f}]" for name, (low, high) in intervals.items()
        )
        return (
            f"AttackResult(n_samples={self.n_samples}, {shares}, {ends}, "
            f"seed={self.seed})"
        )

    @property
    def n_samples(self) -> int:
        """How many samples the accuracies are shares of."""
        return len(self.robust)

    @property
    def natural_accuracy(self) -> float:
        """Share of samples that are right unperturbed, in [0, 1]."""
        return float(self.natural_correct.mean())

    @property
    def robust_accuracy(self) -> float:
        """Share of samples that are ``robust``, in [0, 1]."""
        return float(self.robust.mean())

    @property
    def certified_accuracy(self) -> float | None:
        """Share of samples that are ``certified``, in [0, 1]; None without a bound."""
        return None if self.certified is None else float(self.certified.mean())

    @property
    def certified_interval(self) -> tuple[float, float] | None:
        """95 % interval (Wilson) of the certified accuracy; None without a bound."""
        if self.certified is None:
            return None
        return wilson_interval(self.certified.sum(), self.n_samples)

    @property
    def natural_interval(self) -> tuple[float, float]:
        """95 % interval (Wilson) of the natural accuracy that more samples have."""
        return wilson_interval(self.natural_correct.sum(), self.n_samples)

    @property
    def robust_interval(self) -> tuple[float, float]:
        """95 % interval (Wilson) of the robust accuracy that more samples have."""
        return wilson_interval(self.robust.sum(), self.n_samples)

    @property
    def attack_success_rate(self) -> float:
        """Share of the right samples that the attack turns wrong, in [0, 1]."""
        n_correct = int(self.natural_correct.sum())
        n_kept = int((self.robust & self.natural_correct).sum())
        return 1 - n_kept / n_correct if n_correct else 0.0
