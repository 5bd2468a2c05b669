"""Validation on held-out rows: how robust a net trained on the set so far is.

A low adversarial loss along one trajectory of training is not robustness: the set is
judged by training a net on it again, naturally, from theta_0, and attacking this net on
images that neither it nor the set has seen.
"""

import copy
import time

import torch
import torch.nn.functional as F

from robustfit._utils.torch_bridge import batch_slices, eval_mode, to_tensor
from robustfit.evaluation.judge import judge
from robustfit.robustifiers.dataset_learning.natural_training import train_naturally
from robustfit.sklearn_to_torch.fast_copy import fast_copy
from robustfit.sklearn_to_torch.torch_classifier import as_torch

__all__ = ["Validation", "fine_tune", "has_stopped", "measure_robustness"]

# Training that a set is judged by: the length of the paper's fine-tuning is not given;
# a set that only holds for short training shows at this one.
N_EPOCHS = 5
ATTACK_STEPS = 20
BATCH_SIZE = 128


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
        and 3 of Eq. 1 of "Towards Robust Dataset Learning").
    """
    classifier = as_torch(classifier)
    x, y = to_tensor(X, classifier.device), classifier.encode(y)
    with eval_mode(classifier.module):
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


@torch.no_grad()
def _mean_loss(classifier, x, y):
    total = 0.0
    for rows in batch_slices(len(x), BATCH_SIZE):
        loss = F.cross_entropy(classifier(x[rows]), y[rows], reduction="sum")
        total += float(loss)
    return total / len(x)


def fine_tune(theta_0, x, y, batch_size, generator):
    """Return a copy of ``theta_0``, naturally trained on ``x, y`` for N_EPOCHS."""
    module = copy.deepcopy(theta_0)
    train_naturally(
        module, x, y, n_epochs=N_EPOCHS, batch_size=batch_size, generator=generator
    )
    return module


class Validation:
    """Steps that judge the set so far and, at the end, bring the best one back.

    Parameters
    ----------
    problem : LearningProblem
        With held-out rows ``X_held_out, y_held_out``.
    batch_size : int
    """

    def __init__(self, problem, batch_size):
        self.problem, self.batch_size = problem, batch_size

    def judge(self, state, generator):
        """Train a net on the set so far, attack it; remember the set if it is best."""
        measured = [
            self._train_and_attack(theta_0, state.x_robust, generator)
            for theta_0 in self.problem.theta_0s
        ]
        record = {
            name: sum(m[name] for m in measured) / len(measured) for name in measured[0]
        }
        record["seconds_train"] *= len(measured)
        best_so_far = max(robust_accuracies(state.history), default=-1)
        if record["robust_accuracy"] > best_so_far:
            state.x_best = state.x_robust
        return record

    def _train_and_attack(self, theta_0, x_robust, generator):
        problem, start = self.problem, time.perf_counter()
        module = fine_tune(theta_0, x_robust, problem.y, self.batch_size, generator)
        seconds = {"seconds_train": time.perf_counter() - start}
        X, y = problem.X_held_out, problem.y_held_out
        return measure_robustness(module, X, y, problem.threat_model) | seconds

    def keep_best(self, state, generator):
        """Put the set of the best validation in the place of the last one."""
        state.x_robust = state.x_best
        return {"robust_accuracy": max(robust_accuracies(state.history))}


def robust_accuracies(history):
    """Return the robust accuracy of every validation, in order."""
    return [r["robust_accuracy"] for r in history if r["step"] == "validate"]


def has_stopped(history, n_iter_no_change):
    """Tell whether the last ``n_iter_no_change`` validations brought nothing better."""
    scores = robust_accuracies(history)
    if n_iter_no_change is None or not scores:
        return False
    return len(scores) - 1 - scores.index(max(scores)) >= n_iter_no_change
