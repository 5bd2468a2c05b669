"""The single checks behind :func:`robustfit.check_gradient_masking`.

Each takes an :class:`Evidence`, which runs every attack once, and returns what was
measured, in words and numbers, and whether that is what honest gradients look like
(None: not checked).
"""

import math
import warnings
from functools import cached_property

import numpy as np
import torch
from sklearn.neural_network import MLPClassifier
from sklearn.utils.validation import check_array

from robustfit._utils.torch_bridge import eval_mode, to_array, to_tensor
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
from robustfit.sklearn_to_torch.torch_classifier import as_torch
from robustfit.threat_model import ThreatModel

__all__ = ["CHECKS", "Evidence"]

_SLACK = 0.011  # of accuracies that must be ordered: one sample in a hundred
_EPS_STEPS = (0.0, 0.5, 1.0, 1.5, 2.0)
_VANISHED = 1e-4  # a gradient this much shorter than those of wrong samples


class Evidence:
    """Attacks on one estimator, each run once and only when a check asks for it."""

    def __init__(self, estimator, X, y, *, surrogate, baseline, tolerance, n_steps,
                 n_queries, shared):  # fmt: skip
        self.estimator, self.X, self.y = estimator, X, y
        self.surrogate, self.baseline = surrogate, baseline
        self.tolerance, self.n_steps, self.n_queries = tolerance, n_steps, n_queries
        self.shared, self.eps = shared, shared["eps"]

    def accuracy(self, attack, eps=None, estimator=None):
        """Return the robust accuracy under ``attack``, flags silenced."""
        return self.run(attack, eps, estimator).robust_accuracy

    def run(self, attack, eps=None, estimator=None):
        """Return the result of an attack, at the evidence's budget by default."""
        eps = self.eps if eps is None else eps
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return attack_estimator(
                self.estimator if estimator is None else estimator,
                self.X, self.y, attack=attack, **{**self.shared, "eps": eps},
            )  # fmt: skip

    @property
    def step_size(self):
        """Step of the PGD that all checks compare with."""
        return 2.5 * self.eps / self.n_steps

    @cached_property
    def pgd(self):
        """Robust accuracy under plain PGD."""
        return self.accuracy(PGD(self.n_steps))

    @cached_property
    def autoattack(self):
        """The result of AutoAttack."""
        return self.run(AutoAttack(n_queries=self.n_queries))

    def pgd_variant(self, n_steps=None, **settings):
        """Robust accuracy under PGD with other settings."""
        step_size = self.step_size or None
        return self.accuracy(PGD(n_steps or self.n_steps, step_size, **settings))

    def substitute(self):
        """Return the surrogate given, or one trained on the estimator's own answers."""
        if self.surrogate is not None:
            return self.surrogate
        X = check_array(self.X, allow_nd=True, dtype=np.float32)
        answers = np.asarray(self.estimator.predict(X)) if hasattr(
            self.estimator, "predict"
        ) else np.asarray(self.y)  # fmt: skip
        if len(np.unique(answers)) < 2:
            return None
        model = MLPClassifier((64,), max_iter=200, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X.reshape(len(X), -1), answers)
        return _FlatInputs(model, as_torch(self.estimator).classes)


class _FlatInputs(torch.nn.Module):
    """An estimator of flat rows, for images, with its logits in given columns."""

    def __init__(self, estimator, classes):
        super().__init__()
        classifier = as_torch(estimator)
        self.module = classifier.module
        own = classifier.classes
        self.columns = own if classes is None else np.searchsorted(classes, own)
        n_columns = len(own) if classes is None else len(classes)
        self.n_columns = max(n_columns, int(np.max(self.columns)) + 1)

    def forward(self, x):
        values = self.module(x.flatten(1))
        logits = values.new_full((len(x), self.n_columns), -1e4)
        logits[:, torch.as_tensor(self.columns.astype(int))] = values
        return logits


def _against_pgd(evidence, name, accuracy, worse_than):
    text = f"{name} {accuracy:.1%}, PGD-{evidence.n_steps} {evidence.pgd:.1%}"
    return text, accuracy >= evidence.pgd - worse_than


def fgsm_is_weaker(evidence):
    """One step must not beat many."""
    return _against_pgd(evidence, "FGSM", evidence.accuracy(FGSM()), _SLACK)


def unbounded_reaches_zero(evidence):
    """With the whole range as budget every sample can be turned wrong."""
    threat_model = ThreatModel(evidence.shared["norm"], 1.0,
                               evidence.shared["clip_range"])  # fmt: skip
    X = np.asarray(evidence.X, dtype=np.float32)
    low, high = threat_model.bounds
    span = (high - low) if math.isfinite(high - low) else float(np.ptp(X)) or 1.0
    corner = torch.full((1, X[0].size), float(span))
    eps = float(threat_model.distance(corner, torch.zeros_like(corner))[0])
    accuracy = evidence.accuracy(PGD(2 * evidence.n_steps), eps=eps)
    return f"PGD at eps={eps:.3g}: {accuracy:.1%}", accuracy <= evidence.tolerance


def random_offset_changes_little(evidence):
    """Expect about the same from a start at the input and a random one."""
    fixed = evidence.pgd_variant(random_start=False)
    text = f"random start {evidence.pgd:.1%}, none {fixed:.1%}"
    return text, fixed - evidence.pgd <= evidence.tolerance


def restarts_change_little(evidence):
    """Ten starts must find about what one finds."""
    accuracy = evidence.pgd_variant(n_restarts=10)
    return _against_pgd(evidence, "10 restarts", accuracy, evidence.tolerance)


def more_steps_change_little(evidence):
    """Five times the steps must find about what the steps find."""
    accuracy = evidence.pgd_variant(n_steps=5 * evidence.n_steps)
    name = f"PGD-{5 * evidence.n_steps}"
    return _against_pgd(evidence, name, accuracy, evidence.tolerance)


def accuracy_falls_with_eps(evidence):
    """Expect no more accuracy in a ball that holds every smaller one."""
    accuracies = [
        evidence.accuracy(PGD(evidence.n_steps), eps=scale * evidence.eps)
        for scale in _EPS_STEPS
    ]
    text = ", ".join(
        f"{scale:g}·eps {accuracy:.1%}"
        for scale, accuracy in zip(_EPS_STEPS, accuracies, strict=True)
    )
    return text, all(np.diff(accuracies) <= _SLACK)


def targeted_changes_little(evidence):
    """Aiming at each other class must find about what PGD finds."""
    attack = APGD(evidence.n_steps, "margin", n_targets=9)
    accuracy = evidence.accuracy(attack)
    return _against_pgd(evidence, "targeted", accuracy, evidence.tolerance)


def brute_force_is_weaker(evidence):
    """Random signs must not beat gradients."""
    accuracy = evidence.accuracy(SignAttack(evidence.n_queries))
    return _against_pgd(evidence, "random signs", accuracy, _SLACK)


def distortion_is_larger(evidence):
    """Fooling the model must take larger perturbations than the baseline."""
    if evidence.baseline is None:
        return "no baseline given", None
    own, base = (
        float(np.median(_distances(evidence, model)))
        for model in (evidence.estimator, evidence.baseline)
    )
    return f"median distance {own:.3g}, of the baseline {base:.3g}", own > base


def _distances(evidence, estimator):
    threat_model = ThreatModel(
        evidence.shared["norm"], evidence.eps, evidence.shared["clip_range"]
    )
    classifier, attack = as_torch(estimator), FAB(50, n_targets=3, minimal=True)
    with eval_mode(classifier.module):
        x = to_tensor(evidence.X, classifier.device)
        y = classifier.encode(evidence.y)
        x_adv = attack(classifier, x, y, threat_model)
        fooled = classifier(x_adv).argmax(1) != y
        distance = threat_model.distance(x_adv, x)
    return to_array(torch.where(fooled, distance, torch.inf))


def scores_are_weaker(evidence):
    """Expect no more from a search that sees scores only than from gradients."""
    accuracy = evidence.accuracy(Square(evidence.n_queries))
    return _against_pgd(evidence, "Square", accuracy, evidence.tolerance)


def black_box_is_weaker(evidence):
    """Examples made on a substitute must not beat those made on the model."""
    substitute = evidence.substitute()
    if substitute is None:
        return "the model answers one class only", None
    attack = TransferAttack([substitute], PGD(evidence.n_steps))
    return _against_pgd(evidence, "transferred", evidence.accuracy(attack), _SLACK)


def semi_black_box_is_weaker(evidence):
    """Examples made on the model it was trained from must not beat its own."""
    if evidence.baseline is None:
        return "no baseline given", None
    attack = TransferAttack([evidence.baseline], PGD(evidence.n_steps))
    name = "from the baseline"
    return _against_pgd(evidence, name, evidence.accuracy(attack), _SLACK)


def no_flags(evidence):
    """AutoAttack's flags: randomised, dynamic, probabilities, zero gradients."""
    classifier = as_torch(evidence.estimator)
    with eval_mode(classifier.module):
        x = to_tensor(evidence.X[:128], classifier.device)
        y = classifier.encode(evidence.y[:128])
        flags = [flag.__name__ for flag in model_flags(classifier, x, y)]
    after = evidence.autoattack.robust_after
    if "square" in after and after["square"].sum() < after["fab-t"].sum():
        flags.append("SquareAttackWarning")
    return ", ".join(flags) or "none", not flags


def autoattack_confirms(evidence):
    """AutoAttack must stay within ten points of PGD."""
    accuracy = evidence.autoattack.robust_accuracy
    return _against_pgd(evidence, "AutoAttack", accuracy, 0.10)


def gradients_do_not_vanish(evidence):
    """Right samples must keep a gradient: shattered ones vanish around them."""
    classifier = as_torch(evidence.estimator)
    with eval_mode(classifier.module):
        x = to_tensor(evidence.X, classifier.device)
        y = classifier.encode(evidence.y)
        _, gradient, logits = loss_and_input_gradient(classifier, x, y, "cross-entropy")
    size = to_array(torch.linalg.vector_norm(gradient.flatten(1), dim=1))
    right = to_array(logits.argmax(1) == y)
    if right.all() or not right.any():
        return "all samples are right, or none is", None
    wrong_size = float(np.median(size[~right]))
    vanished = float((size[right] <= _VANISHED * wrong_size).mean())
    text = (
        f"median norm {np.median(size[right]):.2g} on right samples, "
        f"{wrong_size:.2g} on wrong ones; {vanished:.1%} of the right ones vanish"
    )
    return text, vanished <= 0.10 and wrong_size > 0


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
