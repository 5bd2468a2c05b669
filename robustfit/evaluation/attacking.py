"""Attack a fitted estimator and count what survives.

:func:`attack_estimator` is the crossing: a scikit-learn estimator and arrays go in, an
attack on tensors runs, arrays and verdicts come out.
"""

import os
import warnings
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from robustfit._utils.argument_checks import check_count
from robustfit._utils.torch_bridge import (
    draw_seed,
    seeded_torch,
    to_tensor,
)
from robustfit.attacks.by_name import make_attack, with_attack_names
from robustfit.attacks.chunks import attack_in_chunks
from robustfit.attacks.model_checks import ADVICE
from robustfit.evaluation.attack_choice import resolve_attack
from robustfit.evaluation.certified import certified_or_none
from robustfit.evaluation.gate import admit, validate_data, warn_of_undefined
from robustfit.evaluation.result import AttackResult
from robustfit.exceptions import ProbabilityOutputWarning
from robustfit.sklearn_to_torch.fast_copy import fast_copy
from robustfit.sklearn_to_torch.probabilities import is_saturated, with_logits
from robustfit.threat_model import ThreatModel

__all__ = [
    "attack_estimator",
    "attack_in_turn",
    "flagged",
    "robust_accuracy_score",
]

LABELS = ("true", "predicted")


@with_attack_names
def attack_estimator(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    attack: str | Callable = "auto",
    eps: float | ArrayLike = 8 / 255,
    norm: str = "linf",
    clip_range: tuple[ArrayLike, ArrayLike] | None = (0.0, 1.0),
    n_steps: int = 40,
    step_size: float | None = None,
    n_restarts: int = 1,
    loss: str = "cross-entropy",
    version: str | Sequence[str] = "standard",
    labels: str = "true",
    batch_size: int = 128,
    precision: str = "float32",
    n_jobs: int | None = None,
    checkpoint: str | os.PathLike | None = None,
    random_state: int | np.random.RandomState | None = 0,
) -> AttackResult:
    """Attack a fitted estimator on ``X`` and return what happened to each sample.

    Parameters
    ----------
    estimator : fitted classifier
        Anything :func:`as_torch` takes. Attacks that need no gradients ("square",
        "sign", "hard-label", a transfer attack) take any classifier, "tree" and
        "neighbours" those that they are named after.
    X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
        Natural inputs in ``clip_range``, of the shape the estimator takes.
    y : array-like of shape (n_samples,)
        True labels.
    attack : {attacks} or callable, default="auto"
        A name, or an attack of :mod:`robustfit.attacks`, which is not written to.
        "auto" is "pgd" for models with gradients, "tree" for trees, forests and
        boosting, "neighbours" for nearest neighbours, and "square" for all others.
        "autoattack-reference" runs the authors' package.
    eps : float or array-like of shape (n_features,) or of a sample, default=8/255
        Budget in the units of X, in ``norm``: of all features, or of each, 0 for those
        that the adversary cannot touch. See :class:`robustfit.ThreatModel`.
    norm : {"linf", "l2", "l1"}, default="linf"
    clip_range : tuple of (low, high) or None, default=(0.0, 1.0)
        Valid values of X, two numbers or arrays of one for each feature (infinite where
        there is no bound); None for unbounded features.
    n_steps, step_size, n_restarts, loss
        Of PGD, see :class:`robustfit.attacks.PGD`; ``loss`` also of FGSM and APGD.
    version : {"standard", "plus", "rand"} or sequence of str, default="standard"
        Of AutoAttack, see :class:`robustfit.attacks.AutoAttack`.
    labels : {"true", "predicted"}, default="true"
        What the attack has to change: "predicted" is the model's own prediction, right
        or wrong. ``robust_accuracy`` is then the robustness with respect to predictions
        of Ding et al. (2019), the share of predictions that the attack cannot change.
    batch_size : int, default=128
        Samples attacked together; what bounds the memory.
    precision : {"float32", "bfloat16"}, default="float32"
        Of AutoAttack's first search, see :class:`robustfit.attacks.AutoAttack`; no
        verdict rests on bfloat16 alone.
    n_jobs : int or None, default=None
        Chunks of ``batch_size`` samples attacked at the same time, with joblib's
        backend: None is one, or what ``joblib.parallel_config`` says (with
        ``backend="dask"`` a cluster). The result does not depend on it.
    checkpoint : str, path or None, default=None
        Folder where finished chunks are kept. A run that was killed goes on from them
        when it is called again with the same estimator, data and parameters. An attack
        of your own is told apart by its code; a lambda cannot be.
    random_state : int, RandomState instance or None, default=0
        Seeds the attack: the same integer gives the same verdicts. AutoAttack is
        given the integer itself.

    Returns
    -------
    AttackResult
        With ``certified``, what no attack can change, for linear models, trees and
        their ensembles and nearest neighbours; see :func:`certified_accuracy`.

    Raises
    ------
    NotDifferentiableError, PixelRangeError, ValueError
        For bad input, before the attack starts: labels of another type than the
        model's classes, or beyond its outputs; a differentiable form that is not the
        estimator's ``predict``. Labels that it has not met are wrong predictions.
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
    (result,) = attack_in_turn(
        estimator, X, y, [attack], threat_model=ThreatModel(norm, eps, clip_range),
        labels=labels, batch_size=batch_size, n_jobs=n_jobs, checkpoint=checkpoint,
        random_state=random_state, n_steps=n_steps, step_size=step_size,
        n_restarts=n_restarts, loss=loss, version=version, precision=precision,
    )  # fmt: skip
    return result


def attack_in_turn(
    estimator,
    X,
    y,
    attacks,
    *,
    threat_model,
    labels="true",
    batch_size=128,
    n_jobs=None,
    checkpoint=None,
    random_state=0,
    **attack_parameters,
):
    """Run several attacks on one estimator; validate and predict once.

    Parameters
    ----------
    attacks : list of str or callable
        As ``attack`` of :func:`attack_estimator`; all with ``attack_parameters``.
    threat_model : ThreatModel

    Returns
    -------
    list of AttackResult
        Each what :func:`attack_estimator` returns for this attack alone.
    """
    if labels not in LABELS:
        raise ValueError(f"labels is {labels!r}; expected one of {LABELS}.")
    check_count("batch_size", batch_size)
    attack_parameters["batch_size"] = batch_size
    attacks = [
        make_attack(
            resolve_attack(attack, estimator, threat_model), **attack_parameters
        )
        for attack in attacks
    ]
    given, (X, y) = X, validate_data(X, y, threat_model)
    needs_gradients = any(attack.needs_gradients for attack in attacks)
    is_integer = isinstance(random_state, Integral)
    seed = int(random_state) if is_integer else draw_seed(random_state)
    with seeded_torch(seed):
        classifier, predicted, y_column = admit(
            estimator, X, y, given=given, needs_gradients=needs_gradients,
            batch_size=batch_size,
        )  # fmt: skip
        correct = predicted == y_column
        kept, rows = y_column, correct
        if labels == "predicted":
            kept, rows = predicted, predicted >= 0
        with classifier.frozen():
            certified = certified_or_none(classifier, X, kept, rows, threat_model)
            return [
                AttackResult(
                    natural_correct=correct,
                    seed=seed,
                    certified=certified,
                    **_run_attack(
                        attack, classifier, X, kept, rows, threat_model, seed=seed,
                        chunk_size=batch_size, n_jobs=n_jobs, folder=checkpoint,
                    ),
                )
                for attack in attacks
            ]  # fmt: skip


def _run_attack(attack, classifier, X, kept, rows, threat_model, **chunking):
    """Attack the samples ``rows`` (bool); return images and verdicts on all."""
    batch_size = chunking["chunk_size"]
    if attack.batches_by_itself:
        chunking["chunk_size"] = len(X)
    X_adv, robust_after = X.copy(), {n: rows.copy() for n in attack.part_names}
    with seeded_torch(chunking["seed"]):
        if rows.any() and threat_model.eps > 0:  # else there is nowhere to go
            X_adv[rows], after = _attack_rows(
                attack, classifier, X[rows], kept[rows], threat_model, **chunking
            )
            robust_after = {n: _spread(alive, rows) for n, alive in after.items()}
            attack.check_result(after)
        answers = classifier.columns(X_adv, batch_size)
    warn_of_undefined(rows & (answers == -2), "adversarial inputs")
    robust = rows & (answers == kept)
    return {"X_adv": X_adv, "robust": robust, "robust_after": robust_after}


def robust_accuracy_score(
    estimator: Any, X: ArrayLike, y: ArrayLike, **attack_parameters: Any
) -> float:
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


def flagged(attack, classifier, X, y_column):
    """Warn where the model's robustness may be feigned; return it with its logits."""
    x = to_tensor(X[: attack.batch_size], classifier.device)
    y = torch.as_tensor(y_column[: len(x)], device=classifier.device)
    attack.check_model(classifier, x, y)
    if not attack.wants_logits:
        return classifier
    if not attack.needs_gradients:
        return _unsaturated(classifier, x)
    return with_logits(classifier, x[:2])


def _unsaturated(classifier, x):
    """Return it with its logits if rounded probabilities hide what an attack gains."""
    if not is_saturated(classifier, x):
        return classifier
    advice = ADVICE[ProbabilityOutputWarning]
    warnings.warn(advice, ProbabilityOutputWarning, stacklevel=4)
    return with_logits(classifier, x[:2])


def _attack_rows(attack, classifier, X, y_column, threat_model, **chunking):
    """Attack through a fast copy; where only the copy is fooled, the model itself."""
    fast = fast_copy(classifier, to_tensor(X[:8], classifier.device))
    fast = flagged(attack, fast, X, y_column)
    X_adv, after = attack_in_chunks(attack, fast, X, y_column, threat_model, **chunking)
    if fast is classifier:
        return X_adv, after
    size = chunking["chunk_size"]
    stands = classifier.columns(X_adv, size) == y_column
    disputed = stands & (fast.columns(X_adv, size) != y_column)
    if disputed.any():
        X_adv[disputed], again = attack_in_chunks(
            attack,
            classifier,
            X[disputed],
            y_column[disputed],
            threat_model,
            **chunking,
        )
        for name, alive in again.items():
            after[name][disputed] = alive
    return X_adv, after


def _spread(alive, rows):
    """Return verdicts on the samples ``rows`` (bool) as verdicts on all samples."""
    spread = np.zeros(len(rows), dtype=bool)
    spread[rows] = alive
    return spread
