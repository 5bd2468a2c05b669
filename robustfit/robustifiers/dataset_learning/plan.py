"""The steps of a fit, in order.

The learner runs them one after the other, reports progress and saves a checkpoint
after each; a step draws from a generator of its own, so resuming changes nothing.
"""

import copy
import math
from dataclasses import fields, replace

import torch

from robustfit._utils.torch_bridge import to_tensor
from robustfit.attacks import PGD
from robustfit.classifiers.adversarial_training.module_training import (
    train_adversarially,
)
from robustfit.robustifiers.dataset_learning.disturbance import Disturbance
from robustfit.robustifiers.dataset_learning.disturbance_steps import (
    apply_disturbance,
    disturbance_steps,
)
from robustfit.robustifiers.dataset_learning.fictitious_play import (
    EPOCHS_CYCLE,
    RADIUS_FACTOR,
    FictitiousPlay,
)
from robustfit.robustifiers.dataset_learning.learning_problem import Step
from robustfit.robustifiers.dataset_learning.meta_gradient import MetaGradient
from robustfit.robustifiers.dataset_learning.validation import Validation

__all__ = ["may_play", "plan_steps"]

# "auto", where rows that do not play keep the set like natural images: the others move
# as far as WIDEST_RADIUS_FACTOR budgets, but not beyond LARGEST_REACH where images of
# other classes begin (a share of the range; l2: spread over an eighth of the values).
WIDEST_RADIUS_FACTOR = 2.25
LARGEST_REACH = {"linf": 0.3, "l2": 0.2}
# Adversarial training of the teacher that gives soft labels: fewest and most epochs,
# and the batches that a small set makes up for with more epochs.
TEACHER_EPOCHS = (4, 60)
TEACHER_BATCHES = 1000


def plan_steps(problem, learner, protocol):
    """Return the steps for a learner's parameters and a protocol.

    Parameters
    ----------
    problem : LearningProblem
    learner : RobustDatasetLearner
    protocol : {"scratch", "fine-tune"}

    Returns
    -------
    list of Step
    """
    steps = _method_steps(problem, learner, protocol)
    return steps + (_soft_label_steps(problem, learner) if learner.soft_labels else [])


def _method_steps(problem, learner, protocol):
    if learner.method == "paper":
        n_epochs = 4 if learner.n_meta_epochs is None else learner.n_meta_epochs
        steps = _meta_gradient_steps(problem, learner, n_epochs)
        return _with_validation(steps, problem, learner)
    steps = []
    if learner.method != "fictitious-play":
        steps = disturbance_steps(problem, learner, protocol)
    if may_play(learner.method, protocol):
        play = _fictitious_play_steps(problem, learner)
        if learner.n_meta_epochs:
            play += _meta_gradient_steps(problem, learner, learner.n_meta_epochs)
        steps += _with_validation(play, problem, learner)
    return steps


def may_play(method, protocol):
    """Tell whether a fit with these parameters may answer to naturally trained nets."""
    return method in ("fictitious-play", "paper") or (
        method == "default" and protocol == "fine-tune"
    )


def playing_rows(x, disturbance):
    """Return the rows that play: every second one, the others stay disturbed.

    All rows where none is disturbed, or where no pattern did better than noise: nets
    that are fine-tuned on noise gain little from it.
    """
    step = 2 if disturbance is not None and disturbance.amplitude > 0 else 1
    return torch.arange(0, len(x), step, device=x.device)


def _chosen_disturbance(history):
    """Return the disturbance of the rows that do not play, None if there is none."""
    record = next((r for r in history if r["step"] == "disturb"), None)
    if record is None:
        return None
    names = (field.name for field in fields(Disturbance))
    return Disturbance(**{name: record[name] for name in names if name in record})


def _noise_on_played_rows(problem, disturbance):
    """Return what lays the noise of the other rows over those that have answered.

    Without it, nets that are fine-tuned for long on a set against large l2 budgets are
    not robust any more.
    """
    if disturbance is None or 0 in (disturbance.amplitude, disturbance.noise):
        return None
    noise = Disturbance(0, 1, disturbance.noise)
    return lambda x, generator: apply_disturbance(problem, noise, x, generator)


def _with_validation(steps, problem, learner):
    """Judge the set after each cycle of rounds and each epoch; keep the best.

    Only with held-out rows. Disturbances were judged when they were chosen.
    """
    if not steps or problem.X_held_out is None:
        return steps
    validation = Validation(problem, learner.batch_size)
    validated = []
    for number, step in enumerate(steps, 1):
        validated.append(replace(step, optional=True))
        is_due = step.name == "meta-gradient" or number % len(EPOCHS_CYCLE) == 0
        if is_due or number == len(steps):
            validated.append(Step("validate", validation.judge, optional=True))
    return [*validated, Step("keep-best", validation.keep_best)]


def _fictitious_play_steps(problem, learner):
    game = FictitiousPlay(
        problem.theta_0s,
        problem.x,
        problem.y,
        n_classes=problem.n_classes,
        threat_model=problem.threat_model,
        n_steps=learner.n_steps,
        batch_size=learner.batch_size,
    )

    def play(n_round):
        def run(state, generator):
            disturbance = _chosen_disturbance(state.history)
            playing = playing_rows(problem.x, disturbance)
            radius_factor = _radius_factor(problem, learner, playing)
            state.x_robust, state.player, measured = game.play_round(
                state.x_robust,
                state.player,
                n_round,
                generator,
                playing=playing,
                sources=state.sources,
                radius_factor=radius_factor,
                finish=_noise_on_played_rows(problem, disturbance),
            )
            told = {"n_playing": len(playing), "radius_factor": radius_factor}
            return {"round": n_round, **told, **measured}

        return Step("fictitious-play", run)

    return [play(n_round) for n_round in range(learner.n_rounds)]


def _radius_factor(problem, learner, playing):
    if learner.radius_factor != "auto":
        return learner.radius_factor
    if len(playing) == len(problem.x):
        return RADIUS_FACTOR
    reach = LARGEST_REACH[problem.threat_model.norm]
    factor = reach / max(problem.budget, 1e-12)
    return round(min(max(factor, 1.0), WIDEST_RADIUS_FACTOR), 3)


def _soft_label_steps(problem, learner):
    """Train a robust teacher from theta_0, then let it label the clean images."""
    device = problem.x.device
    x = to_tensor(problem.X_all, device)
    y = to_tensor(problem.y_all, device, torch.int64)
    fewest, most = TEACHER_EPOCHS
    n_batches = math.ceil(len(x) / learner.batch_size)
    n_epochs = min(most, max(fewest, math.ceil(TEACHER_BATCHES / n_batches)))

    def train(epoch):
        def run(state, generator):
            if epoch == 0:
                state.player = copy.deepcopy(problem.theta_0)
            train_adversarially(
                state.player,
                x,
                y,
                problem.threat_model,
                epoch=epoch,
                n_epochs=n_epochs,
                batch_size=learner.batch_size,
                generator=generator,
            )
            return {"epoch": epoch}

        return Step("robust-teacher", run)

    def label(state, generator):
        with torch.no_grad():
            x_shown = state.natural_images(problem)
            logits = [state.player(part) for part in x_shown.split(1000)]
        state.soft_labels = torch.cat(logits).softmax(1)
        agreement = state.soft_labels.argmax(1) == problem.y
        return {"agreement": float(agreement.float().mean())}

    epochs = [train(epoch) for epoch in range(n_epochs)]
    return [*epochs, Step("soft-labels", label)]


def _meta_gradient_steps(problem, learner, n_epochs):
    literal = learner.method == "paper"
    algorithms = [_meta_gradient(problem, learner, t) for t in problem.theta_0s]

    def step(n_epoch):
        algorithm = algorithms[n_epoch % len(algorithms)]

        def run(state, generator):
            theta_0 = {k: v.detach() for k, v in algorithm.module.named_parameters()}
            state.x_robust, _, loss = algorithm.run_epoch(
                state.x_robust, theta_0, generator, carry_lr=0 if literal else 0.01
            )
            return {"epoch": n_epoch, "outer_loss": loss}

        return Step("meta-gradient", run)

    return [step(n_epoch) for n_epoch in range(n_epochs)]


def _meta_gradient(problem, learner, theta_0):
    """Return Algorithm 1 from ``theta_0`` with the constants of ``method``."""
    literal = learner.method == "paper"
    eps = problem.threat_model.eps
    low, high = problem.value_range
    return MetaGradient(
        copy.deepcopy(theta_0).eval(),
        problem.x,
        problem.y,
        attack=PGD(20, eps / 10 or None) if literal else PGD(4, eps / 3 or None),
        threat_model=problem.threat_model,
        t=0.01 if literal else 0.1,
        beta=(0.5 if literal else 4.0) / 255 * (high - low),
        n_unrolled=learner.n_unrolled,
        derivative=learner.meta_gradient,
        batch_size=learner.batch_size,
    )
