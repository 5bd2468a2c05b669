"""Attack a fitted estimator and count what survives.

:func:`attack_estimator` is the crossing: a scikit-learn estimator and arrays go in, an
attack on tensors runs, arrays and verdicts come out.
"""

import warnings
from dataclasses import dataclass, field
from numbers import Integral

import numpy as np
import torch
from sklearn.utils.validation import check_array, check_consistent_length, column_or_1d

from robustfit._torch_bridge import (
    batch_slices,
    draw_seed,
    eval_mode,
    make_generator,
    seeded_torch,
    to_array,
    to_tensor,
)
from robustfit.attacks import FGSM, PGD, AutoAttackReference
from robustfit.attacks.gradient import check_count
from robustfit.exceptions import RobustnessWarning
from robustfit.threat_model import ThreatModel
from robustfit.torch_classifier import as_torch

__all__ = ["AttackResult", "attack_estimator", "robust_accuracy_score"]

ATTACKS = ("fgsm", "pgd", "autoattack", "autoattack-reference")
LABELS = ("true", "predicted")


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
    """

    X_adv: np.ndarray
    natural_correct: np.ndarray
    robust: np.ndarray
    robust_after: dict = field(default_factory=dict)

    @property
    def natural_accuracy(self):
        """Share of samples that are right unperturbed, in [0, 1]."""
        return float(self.natural_correct.mean())

    @property
    def robust_accuracy(self):
        """Share of samples that are ``robust``, in [0, 1]."""
        return float(self.robust.mean())

    @property
    def attack_success_rate(self):
        """Share of the right samples that the attack turns wrong, in [0, 1]."""
        n_correct = int(self.natural_correct.sum())
        n_kept = int((self.robust & self.natural_correct).sum())
        return 1 - n_kept / n_correct if n_correct else 0.0


def make_attack(
    attack,
    *,
    n_steps=40,
    step_size=None,
    n_restarts=1,
    loss="cross-entropy",
    version="standard",
    batch_size=250,
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
    if attack in ("autoattack", "autoattack-reference"):
        return AutoAttackReference(version, batch_size=batch_size)
    raise ValueError(
        f"attack is {attack!r}; expected one of {ATTACKS}, or an attack object."
    )


def attack_estimator(
    estimator,
    X,
    y,
    *,
    attack="pgd",
    eps=8 / 255,
    norm="linf",
    clip_range=(0.0, 1.0),
    n_steps=40,
    step_size=None,
    n_restarts=1,
    loss="cross-entropy",
    version="standard",
    labels="true",
    batch_size=250,
    random_state=0,
):
    """Attack a fitted estimator on ``X`` and return what happened to each sample.

    Parameters
    ----------
    estimator : fitted classifier
        Anything :func:`as_torch` takes.
    X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
        Natural inputs in ``clip_range``, of the shape the estimator takes.
    y : array-like of shape (n_samples,)
        True labels.
    attack : {"fgsm", "pgd", "autoattack", "autoattack-reference"} or callable
        A name, or an attack of :mod:`robustfit.attacks`. Default "pgd".
    eps : float, default=8/255
        Budget in the units of X, in ``norm``.
    norm : {"linf", "l2"}, default="linf"
    clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
        Valid values of X; None for unbounded features.
    n_steps, step_size, n_restarts, loss
        Of PGD, see :class:`robustfit.attacks.PGD`; ``loss`` also of FGSM.
    version : {"standard", "plus", "rand"} or sequence of str, default="standard"
        Of AutoAttack, see :class:`robustfit.attacks.AutoAttackReference`.
    labels : {"true", "predicted"}, default="true"
        What the attack has to change: "predicted" is the model's own prediction, right
        or wrong. ``robust_accuracy`` is then the robustness with respect to predictions
        of Ding et al. (2019), the share of predictions that the attack cannot change.
    batch_size : int, default=250
        Samples attacked together.
    random_state : int, RandomState instance or None, default=0
        Seeds the attack: the same integer gives the same verdicts. AutoAttack is
        given the integer itself.

    Returns
    -------
    AttackResult

    Raises
    ------
    NotDifferentiableError, PixelRangeError, ValueError
        For bad input, before the attack starts.
    AttackBudgetError
        If an attack leaves the threat model, which no result is made of.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from robustfit import attack_estimator
    >>> X, y = load_digits(return_X_y=True)
    >>> model = LogisticRegression().fit(X[:1000] / 16, y[:1000])
    >>> result = attack_estimator(model, X[1000:] / 16, y[1000:], eps=0.1)
    >>> bool(result.robust_accuracy < result.natural_accuracy)
    True
    """
    threat_model = ThreatModel(norm, eps, clip_range)
    if labels not in LABELS:
        raise ValueError(f"labels is {labels!r}; expected one of {LABELS}.")
    check_count("batch_size", batch_size)
    attack = make_attack(
        attack,
        n_steps=n_steps,
        step_size=step_size,
        n_restarts=n_restarts,
        loss=loss,
        version=version,
        batch_size=batch_size,
    )
    X, y = _validate(X, y, threat_model)
    classifier = as_torch(estimator)
    if not isinstance(random_state, Integral):
        random_state = draw_seed(random_state)
    seed = int(random_state)
    with seeded_torch(seed), eval_mode(classifier.module):
        x, y_column = to_tensor(X, classifier.device), classifier.encode(y)
        predicted = _predict(classifier, x, batch_size)
        _compare_with_predict(estimator, X, predicted, classifier)
        correct = predicted == y_column
        kept, rows = y_column, correct
        if labels == "predicted":
            kept, rows = predicted, predicted >= 0
        x_adv, robust_after = _attack_rows(
            attack, classifier, x, kept, rows, threat_model, seed, batch_size
        )
        threat_model.check_perturbation(x_adv, x)
        robust = rows & (_predict(classifier, x_adv, batch_size) == kept)
    return AttackResult(
        to_array(x_adv), to_array(correct), to_array(robust), robust_after
    )


def robust_accuracy_score(estimator, X, y, **attack_parameters):
    """Return the share of samples that a fitted estimator gets right under attack.

    Parameters
    ----------
    estimator : fitted classifier
    X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
    y : array-like of shape (n_samples,)
    **attack_parameters
        Keyword arguments of :func:`attack_estimator`.

    Returns
    -------
    float
        In [0, 1].

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from robustfit import robust_accuracy_score
    >>> X, y = load_digits(return_X_y=True)
    >>> model = LogisticRegression().fit(X[:1000] / 16, y[:1000])
    >>> robust_accuracy_score(model, X[1000:] / 16, y[1000:], eps=0) > 0.9
    True
    """
    return attack_estimator(estimator, X, y, **attack_parameters).robust_accuracy


def _validate(X, y, threat_model):
    X = check_array(X, allow_nd=True, dtype=np.float32, input_name="X")
    y = column_or_1d(y)
    check_consistent_length(X, y)
    threat_model.check_range(X)
    return X, y


def _predict(classifier, x, batch_size):
    """Return the predicted column of every sample; -2 where logits are not finite."""
    columns = []
    with torch.no_grad():
        for rows in batch_slices(len(x), batch_size):
            logits = classifier(x[rows])
            finite = torch.isfinite(logits).all(1)
            columns.append(torch.where(finite, logits.argmax(1), -2))
    return torch.cat(columns)


def _attack_rows(attack, classifier, x, y_column, rows, threat_model, seed, batch_size):
    """Attack the samples marked in ``rows``; the others are returned as they are."""
    generator = make_generator(seed, classifier.device)
    x_adv, indices = x.clone(), torch.nonzero(rows)[:, 0]
    if isinstance(attack, AutoAttackReference):  # it batches by itself
        batch_size = max(1, len(indices))
    for batch in batch_slices(len(indices), batch_size):
        i = indices[batch]
        x_adv[i] = attack(classifier, x[i], y_column[i], threat_model, generator)
    robust_after = {}
    if len(indices):
        for name, survived in getattr(attack, "robust_after_", {}).items():
            robust_after[name] = np.zeros(len(x), dtype=bool)
            robust_after[name][to_array(indices)] = to_array(survived)
    return x_adv, robust_after


def _compare_with_predict(estimator, X, predicted, classifier):
    """Warn when the differentiable form is not the estimator it stands for."""
    if not hasattr(estimator, "predict"):
        return
    own = classifier.encode(estimator.predict(X))
    disagreement = float((own != predicted).float().mean())
    if disagreement > 0.01:
        warnings.warn(
            f"The differentiable form of {type(estimator).__name__} disagrees with its "
            f"own predict on {disagreement:.1%} of the samples, so the robust accuracy "
            "is that of another model. Is X of the dtype and shape it was trained on?",
            RobustnessWarning,
            stacklevel=3,
        )
