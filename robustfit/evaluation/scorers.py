"""Scorers that attack: robust accuracy inside ``cross_val_score`` and searches."""

import warnings
from dataclasses import replace

import numpy as np
from sklearn.base import BaseEstimator

from robustfit.attacks.by_name import with_attack_names
from robustfit.evaluation.attack_choice import is_differentiable
from robustfit.evaluation.attacking import attack_estimator, attack_in_turn
from robustfit.exceptions import GradientMaskingWarning
from robustfit.threat_model import ThreatModel

__all__ = ["PredictionRobustnessReport", "RobustAccuracyScorer", "RobustnessReport"]

# PGD and AutoAttack further apart than this, in accuracy, is worth a warning.
MASKING_GAP = 0.10


class _AttackingScorer(BaseEstimator):
    """Parameters of the attack, and a name, for every scorer."""

    def _attack(self, estimator, X, y, attack):
        parameters = self.get_params(deep=False)
        parameters["attack"] = attack
        return attack_estimator(estimator, X, y, **parameters)

    @property
    def __name__(self):
        attack = getattr(self, "attack", "report")
        attack = attack if isinstance(attack, str) else type(attack).__name__
        measure = "robust_accuracy"
        if getattr(self, "labels", "true") == "predicted":
            measure = "robustness_wrt_predictions"
        threat_model = ThreatModel(self.norm, self.eps)
        budget = f"{self.norm}_{threat_model.eps:.4g}"
        if threat_model.scale is not None:
            budget += "_per_feature"
        return f"{measure}_{attack}_{budget}"


@with_attack_names
class RobustAccuracyScorer(_AttackingScorer):
    """Share of samples a fitted estimator gets right under attack, as a scorer.

    Parameters
    ----------
    attack : {attacks} or callable, default="pgd"
        "pgd" is fast and only an upper bound of the robust accuracy; report
        "autoattack". "auto" is the attack that suits the estimator, see
        :func:`attack_estimator`.
    eps : float or array-like of shape (n_features,), default=8/255
        Budget of the adversary in the units of X, of all features or of each.
    norm : {"linf", "l2", "l1"}, default="linf"
    clip_range : tuple of (low, high) or None, default=(0.0, 1.0)
        Valid values of X, two numbers or arrays of one for each feature; None for
        unbounded features.
    n_steps : int, default=40
        Steps of PGD.
    step_size : float or None, default=None
        Step of PGD; None is ``2.5 * eps / n_steps``.
    n_restarts : int, default=1
        Random starts of PGD.
    loss : {"cross-entropy", "margin", "dlr"}, default="cross-entropy"
        What PGD and FGSM maximise.
    version : {"standard", "plus", "rand"} or sequence of str, default="standard"
        Version of AutoAttack.
    labels : {"true", "predicted"}, default="true"
        "predicted" attacks the model's own predictions, right or wrong: the score is
        the share of them that no perturbation changes.
    batch_size : int, default=128
        Samples attacked together; what bounds the memory.
    precision : {"float32", "bfloat16"}, default="float32"
        Of AutoAttack's first search, see :class:`robustfit.attacks.AutoAttack`; no
        verdict rests on bfloat16 alone.
    n_jobs : int or None, default=None
        Chunks of ``batch_size`` samples attacked at the same time.
    random_state : int, RandomState instance or None, default=0
        Seed of the attack; with an integer every call gives the same verdicts.

    See Also
    --------
    PredictionRobustnessReport : The scores with both labels from one attack.
    RobustnessReport : Natural, PGD and AutoAttack accuracy from one call.

    Notes
    -----
    Pass ``error_score="raise"`` to ``cross_val_score`` and ``GridSearchCV``: by
    default they turn an error of a scorer, such as pixels outside ``clip_range``,
    into a NaN score with a warning.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import cross_val_score
    >>> from robustfit import RobustAccuracyScorer
    >>> X, y = load_digits(return_X_y=True)
    >>> scores = cross_val_score(
    ...     LogisticRegression(), X / 16, y, cv=3,
    ...     scoring=RobustAccuracyScorer(attack="pgd", eps=0.05), error_score="raise")
    >>> scores.shape
    (3,)
    """

    def __init__(
        self,
        attack="pgd",
        *,
        eps=8 / 255,
        norm="linf",
        clip_range=(0.0, 1.0),
        n_steps=40,
        step_size=None,
        n_restarts=1,
        loss="cross-entropy",
        version="standard",
        labels="true",
        batch_size=128,
        precision="float32",
        n_jobs=None,
        random_state=0,
    ):
        self.attack = attack
        self.eps = eps
        self.norm = norm
        self.clip_range = clip_range
        self.n_steps = n_steps
        self.step_size = step_size
        self.n_restarts = n_restarts
        self.loss = loss
        self.version = version
        self.labels = labels
        self.batch_size = batch_size
        self.precision = precision
        self.n_jobs = n_jobs
        self.random_state = random_state

    def __call__(self, estimator, X, y):
        """Return the robust accuracy of a fitted ``estimator``, a float in [0, 1]."""
        return self._attack(estimator, X, y, self.attack).robust_accuracy


class RobustnessReport(_AttackingScorer):
    """Natural, PGD and AutoAttack accuracy from one pass, as a multi-metric scorer.

    An estimator without gradients is attacked by what suits it instead (see
    :func:`attack_estimator`): trees by "tree", neighbours by "neighbours". The report
    warns when PGD and AutoAttack are more than ten points apart: then PGD's number is
    not robustness (gradient masking).

    Parameters
    ----------
    eps : float or array-like of shape (n_features,), default=8/255
        Budget of the adversary in the units of X, of all features or of each.
    norm : {"linf", "l2", "l1"}, default="linf"
    clip_range : tuple of (low, high) or None, default=(0.0, 1.0)
        Numbers, or arrays of one for each feature.
    n_steps : int, default=40
        Steps of PGD.
    step_size : float or None, default=None
        Step of PGD; None is ``2.5 * eps / n_steps``.
    n_restarts : int, default=1
        Random starts of PGD.
    loss : {"cross-entropy", "margin", "dlr"}, default="cross-entropy"
        What PGD maximises.
    version : {"standard", "plus", "rand"} or sequence of str, default="standard"
        Version of AutoAttack.
    batch_size : int, default=128
    precision : {"float32", "bfloat16"}, default="float32"
        Of AutoAttack's first search, see :class:`robustfit.attacks.AutoAttack`; no
        verdict rests on bfloat16 alone.
    n_jobs : int or None, default=None
        Chunks of ``batch_size`` samples attacked at the same time.
    random_state : int, RandomState instance or None, default=0

    Notes
    -----
    A call returns a dict of numbers, all but the last two lines' in [0, 1]:

    - ``natural_accuracy``, ``robust_accuracy`` (right under every attack that was run)
      and ``certified_accuracy`` (proven, see :func:`certified_accuracy`; NaN for a
      model without such a bound, as scores have to be numbers);
    - ``pgd_accuracy``, ``autoattack_accuracy``, for models with gradients;
    - ``autoattack_after_<attack>``: robust accuracy after each attack of the ensemble
      (each runs on the survivors of those before it, so the last one equals
      ``autoattack_accuracy``);
    - ``worst_case_accuracy``: ``robust_accuracy`` by its older name;
    - ``attack_success_rate``: share of the naturally right samples that one of them
      turns wrong, 0 where none is right;
    - ``natural_accuracy_low``, ``natural_accuracy_high``, and so of the other
      accuracies: the ends of their 95 % intervals (Wilson);
    - ``n_samples``, how many samples the accuracies are shares of;
    - ``seed``, what the random numbers of the attacks were drawn from.

    It works in ``cross_validate(scoring=...)`` and in
    ``GridSearchCV(scoring=..., refit="autoattack_accuracy")``; ``cross_val_score``
    takes one number only, see :class:`RobustAccuracyScorer`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from robustfit import RobustnessReport
    >>> X, y = load_digits(return_X_y=True)
    >>> model = LogisticRegression().fit(X[:1000] / 16, y[:1000])
    >>> report = RobustnessReport(eps=0.05)(model, X[-5:] / 16, y[-5:])
    >>> report["autoattack_accuracy"] <= report["natural_accuracy"]
    True
    """

    def __init__(
        self,
        *,
        eps=8 / 255,
        norm="linf",
        clip_range=(0.0, 1.0),
        n_steps=40,
        step_size=None,
        n_restarts=1,
        loss="cross-entropy",
        version="standard",
        batch_size=128,
        precision="float32",
        n_jobs=None,
        random_state=0,
    ):
        self.eps = eps
        self.norm = norm
        self.clip_range = clip_range
        self.n_steps = n_steps
        self.step_size = step_size
        self.n_restarts = n_restarts
        self.loss = loss
        self.version = version
        self.batch_size = batch_size
        self.precision = precision
        self.n_jobs = n_jobs
        self.random_state = random_state

    def __call__(self, estimator, X, y):
        """Return a dict of accuracies of a fitted ``estimator``."""
        parameters = self.get_params(deep=False)
        budget = (parameters.pop(name) for name in ("norm", "eps", "clip_range"))
        names = ["pgd", "autoattack"] if is_differentiable(estimator) else ["auto"]
        results = attack_in_turn(
            estimator, X, y, names, threat_model=ThreatModel(*budget), **parameters
        )
        worst = replace(
            results[-1], robust=np.all([result.robust for result in results], axis=0)
        )
        report = _numbers(worst, dict(zip(names, results, strict=True)))
        if len(results) == 2:
            warn_if_masked(report["pgd_accuracy"], report["autoattack_accuracy"])
        return report


def _numbers(worst, results):
    """Return what RobustnessReport does, of the worst case and of each attack."""
    certified = worst.certified_interval or (np.nan, np.nan)
    shares = {
        "natural_accuracy": (worst.natural_accuracy, worst.natural_interval),
        "robust_accuracy": (worst.robust_accuracy, worst.robust_interval),
        "certified_accuracy": (
            np.nan if worst.certified is None else worst.certified_accuracy,
            certified,
        ),
        **{
            f"{name}_accuracy": (result.robust_accuracy, result.robust_interval)
            for name, result in results.items()
            if name != "auto"
        },
        "worst_case_accuracy": (worst.robust_accuracy, worst.robust_interval),
    }
    return {
        "n_samples": worst.n_samples,
        "seed": worst.seed,
        **{name: share for name, (share, _) in shares.items()},
        **{f"{name}_low": low for name, (_, (low, _)) in shares.items()},
        **{f"{name}_high": high for name, (_, (_, high)) in shares.items()},
        **{
            f"autoattack_after_{name.replace('-', '_')}": float(np.mean(survived))
            for name, survived in worst.robust_after.items()
        },
        "attack_success_rate": worst.attack_success_rate,
    }


@with_attack_names
class PredictionRobustnessReport(_AttackingScorer):
    """Accuracy, robust accuracy and robustness with respect to predictions.

    The three curves of figure 2 of [1]_ from one attack, as a multi-metric scorer.

    Parameters
    ----------
    attack : {attacks} or callable, default="pgd"
    eps : float or array-like of shape (n_features,), default=8/255
        Budget of the adversary in the units of X, of all features or of each.
    norm : {"linf", "l2"}, default="linf"
    clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
        None lets the attack leave the pixel range (table 7 of [1]_).
    n_steps : int, default=40
        Steps of PGD.
    step_size : float or None, default=None
        Step of PGD; None is ``2.5 * eps / n_steps``.
    n_restarts : int, default=1
        Random starts of PGD.
    batch_size : int, default=250
    random_state : int, RandomState instance or None, default=0

    See Also
    --------
    RobustnessReport : PGD and AutoAttack side by side.

    Notes
    -----
    A call returns a dict of floats in [0, 1]: ``natural_accuracy``,
    ``robust_accuracy`` and ``robustness_wrt_predictions`` (the share of predictions,
    right or wrong, that no perturbation found changes). A low robust accuracy with a
    high last number is a matter of accuracy, not of vulnerability.

    References
    ----------
    .. [1] G. W. Ding, K. Y. C. Lui, X. Jin, L. Wang, R. Huang. "On the Sensitivity of
       Adversarial Robustness to Input Data Distributions", ICLR 2019.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from robustfit import PredictionRobustnessReport
    >>> X, y = load_digits(return_X_y=True)
    >>> model = LogisticRegression().fit(X[:1000] / 16, y[:1000])
    >>> report = PredictionRobustnessReport(eps=0.05)
    >>> sorted(report(model, X[1000:] / 16, y[1000:]))
    ['natural_accuracy', 'robust_accuracy', 'robustness_wrt_predictions']
    """

    def __init__(
        self,
        attack="pgd",
        *,
        eps=8 / 255,
        norm="linf",
        clip_range=(0.0, 1.0),
        n_steps=40,
        step_size=None,
        n_restarts=1,
        batch_size=250,
        random_state=0,
    ):
        self.attack = attack
        self.eps = eps
        self.norm = norm
        self.clip_range = clip_range
        self.n_steps = n_steps
        self.step_size = step_size
        self.n_restarts = n_restarts
        self.batch_size = batch_size
        self.random_state = random_state

    def __call__(self, estimator, X, y):
        """Return a dict of three numbers about a fitted ``estimator``."""
        parameters = self.get_params(deep=False)
        result = attack_estimator(estimator, X, y, labels="predicted", **parameters)
        # Where the prediction is right, it is the label that the attack has to change.
        still_right = result.robust & result.natural_correct
        return {
            "natural_accuracy": result.natural_accuracy,
            "robust_accuracy": float(still_right.mean()),
            "robustness_wrt_predictions": result.robust_accuracy,
        }


def warn_if_masked(pgd_accuracy, autoattack_accuracy):
    """Warn when AutoAttack does not confirm what PGD reports."""
    if pgd_accuracy - autoattack_accuracy > MASKING_GAP:
        warnings.warn(
            f"PGD reports {pgd_accuracy:.1%} robust accuracy, AutoAttack "
            f"{autoattack_accuracy:.1%}. A number that AutoAttack does not confirm is "
            "not robustness: the gradients PGD follows are masked, or it takes too "
            "few steps. Report AutoAttack's number.",
            GradientMaskingWarning,
            stacklevel=3,
        )
