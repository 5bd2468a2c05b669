"""How often adversarial examples of one estimator fool another."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from robustfit.attacks.gradient import EveryStepPGD
from robustfit.evaluation.attacking import attack_estimator
from robustfit.evaluation.gate import admit, validate_data
from robustfit.sklearn_to_torch.torch_classifier import as_torch
from robustfit.threat_model import ThreatModel

__all__ = ["Transferability", "transferability_matrix"]


@dataclass(frozen=True)
class Transferability:
    """What the adversarial examples of each source did to each target.

    Attributes
    ----------
    source_names : list of str
    target_names : list of str
    source_correct : ndarray of shape (n_sources, n_samples), bool
        Samples that each source gets right unperturbed.
    target_correct : ndarray of shape (n_targets, n_samples), bool
    source_fooled : ndarray of shape (n_sources, n_samples), bool
        Samples that the source gets right and its own adversarial example wrong.
    target_fooled : ndarray of shape (n_sources, n_targets, n_samples), bool
        Samples whose adversarial example from the source the target gets wrong.
    threat_model : ThreatModel

    See Also
    --------
    transferability_matrix : Makes one.

    Examples
    --------
    >>> import torch
    >>> from robustfit import Transferability, transferability_matrix
    >>> net = torch.nn.Linear(2, 2)
    >>> transfer = transferability_matrix([net], [[0.2, 0.4]], [0], eps=0.1)
    >>> isinstance(transfer, Transferability)
    True
    >>> transfer.target_fooled.shape
    (1, 1, 1)
    """

    source_names: list
    target_names: list
    source_correct: np.ndarray
    target_correct: np.ndarray
    source_fooled: np.ndarray
    target_fooled: np.ndarray
    threat_model: ThreatModel

    @property
    def both_correct(self):
        """Samples both get right, bool, shape (n_sources, n_targets, n_samples)."""
        return self.source_correct[:, None] & self.target_correct[None]

    @property
    def rates(self):
        """Share of the samples both get right that fool the target, in [0, 1].

        An ndarray of shape (n_sources, n_targets); not-a-number where there is no such
        sample. Where source and target are one estimator it is the success rate of the
        attack itself.
        """
        return _share(self.target_fooled, self.both_correct)

    @property
    def rates_of_successes(self):
        """The same among those of the samples whose example fools the source."""
        return _share(
            self.target_fooled, self.both_correct & self.source_fooled[:, None]
        )

    @property
    def target_accuracy(self):
        """Natural accuracy of each target, shape (n_targets,), in [0, 1]."""
        return self.target_correct.mean(1)


def transferability_matrix(
    estimators: Mapping[str, Any] | list,
    X: ArrayLike,
    y: ArrayLike,
    *,
    targets: dict | list | None = None,
    attack: str | Callable = "pgd",
    eps: float = 8 / 255,
    norm: str = "linf",
    clip_range: tuple[float, float] | None = (0.0, 1.0),
    n_steps: int = 40,
    step_size: float | None = None,
    batch_size: int = 128,
    n_jobs: int | None = None,
    random_state: int | np.random.RandomState | None = 0,
    **attack_parameters: Any,
) -> Transferability:
    """Attack each estimator and try its adversarial examples on every other.

    Parameters
    ----------
    estimators : dict of str to fitted classifier, or list of fitted classifiers
        The sources, attacked with their own gradients: anything :func:`as_torch` takes.
        A list is named by number and class.
    X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
        Natural inputs in ``clip_range``, of the shape all estimators take.
    y : array-like of shape (n_samples,)
        True labels.
    targets : dict, list or None, default=None
        The estimators that the examples are tried on: any classifier with ``predict``,
        ``predict_proba`` or ``decision_function``. None is the sources.
    attack : str or callable, default="pgd"
        "pgd" takes all of its steps on every sample, so that its examples lie deep in
        the wrong class; any other name or attack is that of :func:`attack_estimator`,
        most of which stop at the source's border and transfer less.
    eps : float, default=8/255
        Budget in the units of X, in ``norm``.
    norm : {"linf", "l2", "l1"}, default="linf"
    clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
    n_steps : int, default=40
    step_size : float or None, default=None
        None is ``2.5 * eps / n_steps``.
    batch_size, n_jobs, random_state
        As for :func:`attack_estimator`.
    **attack_parameters
        Of :func:`attack_estimator`, for example ``checkpoint``.

    Returns
    -------
    Transferability
        Its ``rates[i, j]`` is the share, among the samples that source i and target j
        both get right, of those whose adversarial example made on i fools j.

    Raises
    ------
    NotDifferentiableError
        If a source has no differentiable form, or one that is not its ``predict``.
        Make it a target.
    ValueError
        For an empty list of estimators, and labels that one of them cannot have.

    See Also
    --------
    TransferabilityDisplay : The same as a figure.
    robustfit.attacks.TransferAttack : Surrogates as an attack.

    References
    ----------
    A. Ilyas et al. "Adversarial Examples Are Not Bugs, They Are Features", NeurIPS
    2019: section 3.3, Figure 3. The paper does not say among which samples its rate is
    taken; both shares in use are here, see :class:`Transferability`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from robustfit import transferability_matrix
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> linear = LogisticRegression().fit(X[:1000], y[:1000])
    >>> tree = DecisionTreeClassifier(random_state=0).fit(X[:1000], y[:1000])
    >>> transfer = transferability_matrix(
    ...     {"linear": linear}, X[1000:1200], y[1000:1200],
    ...     targets={"linear": linear, "tree": tree}, eps=0.15)
    >>> transfer.rates.shape
    (1, 2)
    """
    threat_model = ThreatModel(norm, eps, clip_range)
    sources = _name_estimators(estimators, "estimators")
    targets = sources if targets is None else _name_estimators(targets, "targets")
    given, (X, y) = X, validate_data(X, y, threat_model)
    for source in sources.values():
        as_torch(source)  # fails here, before long work
    judges = [
        admit(target, X, y, given=given, needs_gradients=False, batch_size=batch_size)
        for target in targets.values()
    ]
    if attack == "pgd":
        attack = EveryStepPGD(n_steps, step_size)
    results = [
        attack_estimator(
            source, given, y, attack=attack, eps=eps, norm=norm, clip_range=clip_range,
            n_steps=n_steps, step_size=step_size, batch_size=batch_size, n_jobs=n_jobs,
            random_state=random_state, **attack_parameters,
        )
        for source in sources.values()
    ]  # fmt: skip
    fooled = [
        [~_right_samples(judge, result.X_adv, batch_size) for judge in judges]
        for result in results
    ]
    return Transferability(
        source_names=list(sources),
        target_names=list(targets),
        source_correct=np.stack([r.natural_correct for r in results]),
        target_correct=np.stack([j.predicted == j.columns for j in judges]),
        source_fooled=np.stack([r.natural_correct & ~r.robust for r in results]),
        target_fooled=np.array(fooled),
        threat_model=threat_model,
    )


def _right_samples(judge, X, batch_size):
    """Return which inputs a target gets right."""
    return judge.classifier.columns(X, batch_size) == judge.columns


def _name_estimators(estimators, parameter):
    if not isinstance(estimators, dict):
        if not isinstance(estimators, list | tuple):
            estimators = [estimators]
        estimators = {
            f"{number} {type(estimator).__name__}": estimator
            for number, estimator in enumerate(estimators, 1)
        }
    if not estimators:
        raise ValueError(f"{parameter} is empty; expected at least one estimator.")
    return estimators


def _share(fooled, among):
    """Return the share of ``among`` that is ``fooled``, over the last axis."""
    count = among.sum(-1)
    share = np.full(count.shape, np.nan)
    np.divide((fooled & among).sum(-1), count, out=share, where=count > 0)
    return share
