"""What an attack did to each sample, as a value that prints itself."""

from dataclasses import dataclass, field

import numpy as np

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

    See Also
    --------
    attack_estimator : Makes one.

    Examples
    --------
    >>> import torch
    >>> from robustfit import attack_estimator
    >>> net = torch.nn.Linear(2, 2, bias=False)
    >>> _ = torch.nn.init.eye_(net.weight)
    >>> result = attack_estimator(net, [[0.1, 0.9], [0.4, 0.6]], [1, 1], eps=0.2)
    >>> result
    AttackResult(n_samples=2, natural_accuracy=1.000, robust_accuracy=0.500)
    >>> result.robust.tolist()
    [True, False]
    """

    X_adv: np.ndarray
    natural_correct: np.ndarray
    robust: np.ndarray
    robust_after: dict[str, np.ndarray] = field(default_factory=dict)

    def __repr__(self) -> str:
        accuracies = {
            "natural_accuracy": self.natural_accuracy,
            "robust_accuracy": self.robust_accuracy,
        } | {f"after {name}": kept.mean() for name, kept in self.robust_after.items()}
        shares = ", ".join(f"{name}={share:.3f}" for name, share in accuracies.items())
        return f"AttackResult(n_samples={len(self.robust)}, {shares})"

    @property
    def natural_accuracy(self) -> float:
        """Share of samples that are right unperturbed, in [0, 1]."""
        return float(self.natural_correct.mean())

    @property
    def robust_accuracy(self) -> float:
        """Share of samples that are ``robust``, in [0, 1]."""
        return float(self.robust.mean())

    @property
    def attack_success_rate(self) -> float:
        """Share of the right samples that the attack turns wrong, in [0, 1]."""
        n_correct = int(self.natural_correct.sum())
        n_kept = int((self.robust & self.natural_correct).sum())
        return 1 - n_kept / n_correct if n_correct else 0.0
