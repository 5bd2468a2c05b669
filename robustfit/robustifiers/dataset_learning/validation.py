"""Steps that validate on held-out rows: how robust a net trained on the set so far is.

A low adversarial loss along one trajectory of training is not robustness: the set is
judged by training a net on it again, naturally, from theta_0, and attacking this net on
images that neither it nor the set has seen.
"""

import copy
import time
from dataclasses import dataclass

import torch.nn.functional as F

from robustfit._utils.torch_bridge import batch_slices, to_tensor
from robustfit.attacks import Square
from robustfit.evaluation.attack_choice import attack_for
from robustfit.evaluation.attacking import attack_estimator
from robustfit.evaluation.judge import judge
from robustfit.exceptions import NotDifferentiableError
from robustfit.robustifiers.dataset_learning.natural_training import train_naturally
from robustfit.robustifiers.dataset_learning.step import Step
from robustfit.sklearn_to_torch.fast_copy import fast_copy
from robustfit.sklearn_to_torch.torch_classifier import as_torch

__all__ = ["KeepBest", "Validate", "fine_tune", "measure_robustness"]

# Training that a set is judged by: the length of the paper's fine-tuning is not given;
# a set that only holds for short training shows at this one.
N_EPOCHS = 5
ATTACK_STEPS = 20
BATCH_SIZE = 128
# Of estimators without gradients, which are asked one time after the other.
BLACK_BOX_ROWS = 300
BLACK_BOX_QUERIES = 300


def measure_robustness(classifier, X, y, threat_model):
    """Attack ``classifier`` with PGD-20 on two losses; a row counts if it stands both.

    Parameters
    ----------
    classifier : fitted classifier
        What :func:`robustfit.as_torch` takes.
    X : ndarray of shape (n_samples, ...)
        Natural images.
    y : ndarray of shape (n_samples,)
        Their columns of the logits.
    threat_model : ThreatModel

    Returns
    -------
    dict
        ``natural_accuracy`` and ``robust_accuracy``, in [0, 1], and ``outer_loss``, the
        mean cross-entropy on the images that PGD on the cross-entropy found (level 2
        and 3 of Eq. 1 of "Towards Robust Dataset Learning"). Estimators without
        gradients are attacked by their scores, on at most BLACK_BOX_ROWS rows, and have
        no ``outer_loss``.
    """
    try:
        classifier = as_torch(classifier)
    except NotDifferentiableError:
        return _ask_black_box(classifier, X, y, threat_model)
    x, y = to_tensor(X, classifier.device), classifier.encode(y)
    with classifier.frozen():
        measured, x_crossed = judge(
            classifier,
            x,
            y,
            threat_model,
            losses=("cross-entropy", "margin"),
            n_steps=ATTACK_STEPS,
            batch_size=BATCH_SIZE,
            generator=0,
            search_fn=fast_copy(classifier, x[:8]),
        )
        return measured | {"outer_loss": _mean_loss(classifier, x_crossed, y)}


def _ask_black_box(estimator, X, y, threat_model):
    """Attack trees and neighbours by what they are, others by their scores."""
    attack = attack_for(estimator, threat_model)
    if attack == "square":
        attack = Square(n_queries=BLACK_BOX_QUERIES)
    result = attack_estimator(
        estimator,
        X[:BLACK_BOX_ROWS],
        y[:BLACK_BOX_ROWS],
        attack=attack,
        eps=threat_model.eps,
        norm=threat_model.norm,
        clip_range=threat_model.clip_range,
    )
    return {
        "natural_accuracy": result.natural_accuracy,
        "robust_accuracy": result.robust_accuracy,
    }


def _mean_loss(classifier, x, y):
    logits = classifier.logits(x, BATCH_SIZE)
    sums = (
        float(F.cross_entropy(logits[rows], y[rows], reduction="sum"))
        for rows in batch_slices(len(x), BATCH_SIZE)
    )
    return sum(sums) / len(x)


def fine_tune(theta_0, x, y, batch_size, generator):
    """Return a copy of ``theta_0``, naturally trained on ``x, y`` for N_EPOCHS."""
    module = copy.deepcopy(theta_0)
    train_naturally(
        module, x, y, n_epochs=N_EPOCHS, batch_size=batch_size, generator=generator
    )
    return module


@dataclass(frozen=True)
class Validate(Step):
    """Judge the set so far by nets trained on it, one from each theta_0."""

    name = "validate"

    def run(self, state, generator):
        """Note the set's score; the record has the means over the nets."""
        measured = [
            self._train_and_attack(theta_0, state.x_robust, generator)
            for theta_0 in self.problem.theta_0s
        ]
        record = {
            name: sum(m[name] for m in measured) / len(measured) for name in measured[0]
        }
        record["seconds_train"] *= len(measured)
        state.note_validation(record["robust_accuracy"])
        return record

    def _train_and_attack(self, theta_0, x_robust, generator):
        problem, start = self.problem, time.perf_counter()
        batch_size = self.recipe.batch_size
        module = fine_tune(theta_0, x_robust, problem.y, batch_size, generator)
        seconds = {"seconds_train": time.perf_counter() - start}
        X, y = problem.X_held_out, problem.y_held_out
        return measure_robustness(module, X, y, problem.threat_model) | seconds


@dataclass(frozen=True)
class KeepBest(Step):
    """Put the set of the best validation in the place of the last one."""

    name = "keep-best"

    def run(self, state, generator):
        """Bring the best set back; the record tells its robust accuracy."""
        state.x_robust = state.x_best
        return {"robust_accuracy": state.best_score}
