"""The single checks behind :func:`robustfit.check_gradient_masking`.

Each takes an :class:`Evidence`, which runs every attack once, and returns what was
measured, in words and numbers, and whether that is what honest gradients look like
(None: not checked). A check fails where chance does not explain what was measured: all
attacks meet the same samples, so the tests are exact ones for pairs.
"""

import math
import warnings
from dataclasses import replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from scipy.stats import binom
from sklearn.neural_network import MLPClassifier

from robustfit._utils.torch_bridge import to_array, to_tensor
from robustfit.attacks import (
    APGD,
    FAB,
    FGSM,
    PGD,
    AutoAttack,
    SignAttack,
    Square,
    TransferAttack,
)
from robustfit.attacks.losses import loss_and_input_gradient
from robustfit.attacks.model_checks import model_flags
from robustfit.evaluation.attacking import attack_estimator
from robustfit.evaluation.counting_error import count_alone, mcnemar_p_value
from robustfit.evaluation.curve import search_distances
from robustfit.evaluation.gate import admit, validate_data
from robustfit.sklearn_to_torch.torch_classifier import as_torch
from robustfit.threat_model import ThreatModel

__all__ = ["CHECKS", "Evidence"]

# By chance fifteen checks together raise an alarm in five of a hundred reports.
_ALPHA = 0.05 / 15
_EPS_STEPS = (0.0, 0.5, 1.0, 1.5, 2.0)
_LEFT_TO_SQUARE = 0.02  # share of samples that gradient attacks may leave to Square
_VANISHED = 1e-4  # a gradient this much shorter than those of wrong samples
# What the literature's PGD climbs: with another loss it would not show the masking.
_LOSS = "plain-cross-entropy"


class Evidence:
    """Attacks on one estimator, each run once and only when a check asks for it."""

    def __init__(self, estimator, X, y, *, surrogate, baseline, tolerance, n_steps,
                 n_queries, shared):  # fmt: skip
        self.estimator, self.X, self.y = estimator, X, y
        self.surrogate, self.baseline = surrogate, baseline
        self.tolerance, self.n_steps, self.n_queries = tolerance, n_steps, n_queries
        self.threat_model = ThreatModel(
            shared["norm"], shared["eps"], shared["clip_range"]
        )
        self.shared, self.eps = shared, self.threat_model.budget
        self.x, self.labels = validate_data(X, y, self.threat_model)

    @cached_property
    def model(self):
        """The estimator, its answers and the columns of the labels."""
        return self.admit(self.estimator)

    def admit(self, estimator):
        """Return an estimator as it passes the gate with the evidence's samples."""
        return admit(
            estimator, self.x, self.labels, given=self.X,
            batch_size=self.shared["batch_size"],
        )  # fmt: skip

    def known_samples(self, n_samples=None):
        """Return the classifier, inputs and columns of the labels that it knows.

        Of the first ``n_samples``, or of all. Other labels have no loss to climb.
        """
        classifier, _, columns = self.model
        known = columns[:n_samples] >= 0
        x = to_tensor(self.x[:n_samples][known], classifier.device)
        y = torch.as_tensor(columns[:n_samples][known], device=classifier.device)
        return classifier, x, y

    def robust(self, attack, eps=None):
        """Return which samples (bool) stand the attack, flags silenced."""
        return self.run(attack, eps).robust

    def run(self, attack, eps=None):
        """Return the result of an attack, at the evidence's budget by default."""
        eps = self.eps if eps is None else eps
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return attack_estimator(
                self.estimator, self.X, self.y, attack=attack,
                **{**self.shared, "eps": eps},
            )  # fmt: skip

    @cached_property
    def pgd(self):
        """Samples that stand plain PGD, which the other attacks are compared with."""
        return self.robust(PGD(self.n_steps, loss=_LOSS))

    @cached_property
    def autoattack(self):
        """The result of AutoAttack."""
        return self.run(AutoAttack(n_queries=self.n_queries))

    def pgd_variant(self, n_steps=None, **settings):
        """Return which samples stand PGD with other settings, and steps as long."""
        step_size = self.threat_model.default_step(self.n_steps)
        n_steps = n_steps or self.n_steps
        return self.robust(PGD(n_steps, step_size, loss=_LOSS, **settings))

    def substitute(self):
        """Return the surrogate given, or one trained on the estimator's own answers."""
        if self.surrogate is not None:
            return self.surrogate
        answers = self.labels
        if hasattr(self.estimator, "predict"):
            with self.model.classifier.frozen():  # skorch's leaves it in eval mode
                answers = np.asarray(self.estimator.predict(self.x))
        if len(np.unique(answers)) < 2:
            return None
        model = MLPClassifier((64,), max_iter=200, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(self.x.reshape(len(self.x), -1), answers)
        n_columns = self.model.classifier.logits(self.x[:1]).shape[1]
        return _FlatInputs(model, as_torch(self.estimator).classes, n_columns)


class _FlatInputs(torch.nn.Module):
    """An estimator of flat rows, for images, with its logits in given columns."""

    def __init__(self, estimator, classes, n_columns):
        super().__init__()
        classifier = as_torch(estimator)
        self.module = classifier.module
        own = np.asarray(classifier.classes)
        columns = own if classes is None else np.searchsorted(classes, own)
        self.columns = torch.as_tensor(columns.astype(int))
        self.n_columns = n_columns

    def forward(self, x):
        values = self.module(x.flatten(1))
        logits = values.new_full((len(x), self.n_columns), -1e4)
        logits[:, self.columns] = values
        return logits


def _is_weaker(evidence, name, robust):
    """Return text and verdict: the attack must not beat PGD, but by chance."""
    return _compare(evidence, name, robust), not beats(robust, evidence.pgd)


def _finds_little_more(evidence, name, robust, tolerance):
    """Return text and verdict: the attack may find ``tolerance`` more than PGD."""
    gain = int(evidence.pgd.sum()) - int(robust.sum())
    text = _compare(evidence, name, robust)
    return text, not is_above(gain, len(robust), tolerance)


def _compare(evidence, name, robust):
    pgd = evidence.pgd
    alone, other = count_alone(pgd, robust)
    return (
        f"{name} {robust.mean():.1%}, PGD-{evidence.n_steps} {pgd.mean():.1%} "
        f"({alone} and {other} of {len(pgd)} samples "
        "fall to the one alone)"
    )


def beats(robust, reference, alpha=_ALPHA):
    """Return whether an attack breaks more samples than another, beyond chance.

    McNemar's exact test, one-sided: samples that fall to one of two equally strong
    attacks alone fall to either with probability one half.

    Parameters
    ----------
    robust, reference : ndarray of shape (n_samples,), bool
        The samples that stand the attack, and those that stand the other.
    alpha : float
        Probability of a false alarm.
    """
    return mcnemar_p_value(reference, robust, "greater") < alpha


def is_above(count, n_samples, tolerance):
    """Return whether ``count`` of ``n_samples`` is more than tolerated, beyond chance.

    More than ``tolerance`` of the samples, and, by the exact binomial test, more than
    chance makes of a true share of half of it: what has to be exceeded shrinks to the
    tolerance as ``n_samples`` grows.
    """
    beyond_chance = binom.sf(count - 1, n_samples, tolerance / 2) < _ALPHA
    return bool(count > tolerance * n_samples and beyond_chance)


def fgsm_is_weaker(evidence):
    """One step must not beat many."""
    return _is_weaker(evidence, "FGSM", evidence.robust(FGSM(loss=_LOSS)))


def unbounded_reaches_zero(evidence):
    """With the whole range as budget every sample can be turned wrong."""
    threat_model, x = evidence.threat_model, to_tensor(evidence.x[:1])
    if threat_model.n_touchable(x) < x.numel():
        return "some features cannot be touched", None
    eps = float(threat_model.diameter(x))
    if not math.isfinite(eps):
        span = float(np.ptp(evidence.x)) or 1.0
        corner = torch.full_like(x, span)
        eps = float(threat_model.distance(corner, torch.zeros_like(x)))
    budget = replace(threat_model, eps=eps).budget
    robust = evidence.robust(PGD(2 * evidence.n_steps, loss=_LOSS), eps=budget)
    text = f"PGD at eps={eps:.3g}: {robust.mean():.1%}"
    return text, not is_above(robust.sum(), len(robust), evidence.tolerance)


def random_offset_changes_little(evidence):
    """Expect about the same from a start at the input and a random one."""
    fixed = evidence.pgd_variant(random_start=False)
    text = f"random start {evidence.pgd.mean():.1%}, none {fixed.mean():.1%}"
    loss = int(fixed.sum()) - int(evidence.pgd.sum())
    return text, not is_above(loss, len(fixed), evidence.tolerance)


def restarts_change_little(evidence):
    """Ten starts must find about what one finds."""
    robust = evidence.pgd_variant(n_restarts=10)
    return _finds_little_more(evidence, "10 restarts", robust, evidence.tolerance)


def more_steps_change_little(evidence):
    """Five times the steps must find about what the steps find."""
    robust = evidence.pgd_variant(n_steps=5 * evidence.n_steps)
    name = f"PGD-{5 * evidence.n_steps}"
    return _finds_little_more(evidence, name, robust, evidence.tolerance)


def accuracy_falls_with_eps(evidence):
    """Expect no more accuracy in a ball that holds every smaller one."""
    robust = [
        evidence.robust(PGD(evidence.n_steps, loss=_LOSS), scale * evidence.eps)
        for scale in _EPS_STEPS
    ]
    text = ", ".join(
        f"{scale:g}·eps {stands.mean():.1%}"
        for scale, stands in zip(_EPS_STEPS, robust, strict=True)
    )
    alpha = _ALPHA / (len(robust) - 1)
    rises = (beats(smaller, larger, alpha) for smaller, larger in pairwise(robust))
    return text, not any(rises)


def targeted_changes_little(evidence):
    """Aiming at each other class must find about what PGD finds."""
    attack = APGD(evidence.n_steps, "margin", n_targets=9)
    robust = evidence.robust(attack)
    return _finds_little_more(evidence, "targeted", robust, evidence.tolerance)


def brute_force_is_weaker(evidence):
    """Random signs must not beat gradients."""
    robust = evidence.robust(SignAttack(evidence.n_queries))
    return _is_weaker(evidence, "random signs", robust)


def distortion_is_larger(evidence):
    """Fooling the model must take larger perturbations than the baseline."""
    if evidence.baseline is None:
        return "no baseline given", None
    own, base = (
        _distances(evidence, model) for model in (evidence.estimator, evidence.baseline)
    )
    text = (
        f"median distance {np.median(own):.3g}, of the baseline {np.median(base):.3g}"
    )
    not_larger = int((own <= base).sum())
    if 0.5 ** len(own) > _ALPHA:
        return f"{text}; {len(own)} samples are too few to tell", None
    return text, binom.sf(not_larger - 1, len(own), 0.5) >= _ALPHA


def _distances(evidence, estimator):
    admitted = evidence.admit(estimator)
    return search_distances(
        FAB(50, n_targets=3, minimal=True), admitted.classifier, evidence.x,
        admitted.columns, evidence.threat_model, batch_size=len(evidence.x),
    )  # fmt: skip


def scores_are_weaker(evidence):
    """Expect no more from a search that sees scores only than from gradients."""
    robust = evidence.robust(Square(evidence.n_queries))
    return _finds_little_more(evidence, "Square", robust, evidence.tolerance)


def black_box_is_weaker(evidence):
    """Examples made on a substitute must not beat those made on the model."""
    substitute = evidence.substitute()
    if substitute is None:
        return "the model answers one class only", None
    attack = TransferAttack([substitute], PGD(evidence.n_steps))
    return _is_weaker(evidence, "transferred", evidence.robust(attack))


def semi_black_box_is_weaker(evidence):
    """Examples made on the model it was trained from must not beat its own."""
    if evidence.baseline is None:
        return "no baseline given", None
    attack = TransferAttack([evidence.baseline], PGD(evidence.n_steps))
    return _is_weaker(evidence, "from the baseline", evidence.robust(attack))


def no_flags(evidence):
    """AutoAttack's flags: randomised, dynamic, probabilities, zero gradients."""
    classifier, x, y = evidence.known_samples(128)
    flags = []
    if len(x):
        with classifier.frozen():
            flags = [flag.__name__ for flag in model_flags(classifier, x, y)]
    after = evidence.autoattack.robust_after
    if "square" in after:  # the last attack of the ensemble
        found = int(after["fab-t"].sum()) - int(after["square"].sum())
        if is_above(found, len(after["square"]), _LEFT_TO_SQUARE):
            flags.append("SquareAttackWarning")
    return ", ".join(flags) or "none", not flags


def autoattack_confirms(evidence):
    """AutoAttack must stay within ten points of PGD."""
    robust = evidence.autoattack.robust
    return _finds_little_more(evidence, "AutoAttack", robust, 0.10)


def gradients_do_not_vanish(evidence):
    """Right samples must keep a gradient: shattered ones vanish around them."""
    classifier, x, y = evidence.known_samples()
    if not len(x):
        return "no label is one of the model's classes", None
    with classifier.frozen():
        _, gradient, logits = loss_and_input_gradient(classifier, x, y, _LOSS)
    size = to_array(torch.linalg.vector_norm(gradient.flatten(1), dim=1))
    right = to_array(logits.argmax(1) == y)
    if right.all() or not right.any():
        return "all samples are right, or none is", None
    wrong_size = float(np.median(size[~right]))
    vanished = size[right] <= _VANISHED * wrong_size
    text = (
        f"median norm {np.median(size[right]):.2g} on right samples, "
        f"{wrong_size:.2g} on wrong ones; {vanished.mean():.1%} of the right ones "
        "vanish"
    )
    too_many = is_above(int(vanished.sum()), len(vanished), 0.10)
    return text, wrong_size > 0 and not too_many


# Name, check, what a failure means.
CHECKS = (
    ("FGSM weaker than PGD", fgsm_is_weaker,
     "A single large step escapes where small ones do not: gradients mislead locally."),
    ("unbounded attack reaches zero", unbounded_reaches_zero,
     "The attack gets stuck even without a budget: its gradients do not lead out."),
    ("random offset changes little", random_offset_changes_little,
     "Gradients at the inputs themselves are masked."),
    ("restarts change little", restarts_change_little,
     "The loss is rugged: one start does not find its maxima."),
    ("more steps change little", more_steps_change_little,
     "PGD had not converged; its number is too high."),
    ("accuracy falls with eps", accuracy_falls_with_eps,
     "A larger budget made the attack weaker, so the attack failed."),
    ("targeted changes little", targeted_changes_little,
     "The loss hides examples that aiming at classes finds: its gradients saturate."),
    ("brute force weaker than PGD", brute_force_is_weaker,
     "Random signs beat gradients."),
    ("larger distortion than the baseline", distortion_is_larger,
     "The decision boundary is as close as before."),
    ("score-based attack weaker", scores_are_weaker,
     "A black-box search beats gradients: they are masked."),
    ("black box weaker than white box", black_box_is_weaker,
     "Another model's gradients are better guides than its own: they are masked."),
    ("semi-black box weaker", semi_black_box_is_weaker,
     "The gradients of the model it was trained from are better guides than its own."),
    ("AutoAttack raises no flag", no_flags,
     "AutoAttack's own warnings apply; see their text."),
    ("AutoAttack confirms PGD", autoattack_confirms,
     "PGD's number is not robustness; report AutoAttack's."),
    ("gradients stay on right samples", gradients_do_not_vanish,
     "Gradients vanish around right samples, as on shattered adv-KIP models."),
)  # fmt: skip
