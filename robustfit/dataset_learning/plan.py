"""The steps of a fit, in order: each a name and a function of the learning state.

The learner runs them one after the other, reports progress and saves a checkpoint
after each; a step draws from a generator of its own, so resuming changes nothing.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from robustfit._torch_bridge import seeded_torch, to_array, to_tensor
from robustfit.attacks import PGD
from robustfit.dataset_learning.clear_rows import judge_clarity, replace_unclear
from robustfit.dataset_learning.disturbance import (
    budget_per_value,
    default_disturbances,
)
from robustfit.dataset_learning.fictitious_play import (
    EPOCHS_CYCLE,
    RADIUS_FACTOR,
    FictitiousPlay,
)
from robustfit.dataset_learning.meta_gradient import MetaGradient
from robustfit.dataset_learning.robust_teacher import train_adversarially
from robustfit.dataset_learning.validation import (
    Validation,
    fine_tune,
    measure_robustness,
)
from robustfit.threat_model import ThreatModel

__all__ = [
    "LearningProblem",
    "LearningState",
    "Step",
    "may_play",
    "plan_steps",
]

# Rows that a candidate disturbance is judged with: trained on, and attacked.
SEARCH_ROWS = 8000
VALIDATION_ROWS = 1000
# Fewer rows than this say nothing about robustness: the first candidate is taken.
SMALLEST_SEARCH = 100
# Natural plus robust accuracy by which a later candidate has to beat an earlier one:
# less is within the noise of one training and of so few validation images.
WINNING_MARGIN = 0.05
# "auto": the share of rows that are replaced by clearer ones, and the rows from which
# on it pays: nets do not learn the unclear images of smaller sets anyway.
UNCLEAR_FRACTION = 0.05
SMALLEST_CLEARED = 20_000
# "auto": rows that play may move further than RADIUS_FACTOR where the budget is a small
# share of the range and rows that do not play keep the set like natural images.
WIDE_RADIUS_FACTOR, SMALL_BUDGET = 2.25, 0.15
# Adversarial training of the teacher that gives soft labels: fewest and most epochs,
# and the batches that a small set makes up for with more epochs.
TEACHER_EPOCHS = (4, 60)
TEACHER_BATCHES = 1000


@dataclass(frozen=True)
class LearningProblem:
    """What is given: data, threat model, naturally trained nets, how to make new ones.

    Attributes
    ----------
    x, y : torch.Tensor of shape (n_samples, ...), (n_samples,)
        Rows of the natural set that are learned.
    X_all, y_all : ndarray
        The whole natural set but the held-out rows, for judging candidates.
    X_held_out, y_held_out : ndarray or None
        Rows that the set is validated on; None where none are held out.
    image_shape : tuple of int
    n_classes : int
    threat_model : ThreatModel
    theta_0s : list of torch.nn.Module
        Naturally trained, return logits; the first is theta_0.
    new_net : callable
        Returns an unfitted estimator of theta_0's kind.
    """

    x: torch.Tensor
    y: torch.Tensor
    X_all: np.ndarray
    y_all: np.ndarray
    image_shape: tuple[int, ...]
    n_classes: int
    threat_model: ThreatModel
    theta_0s: list[torch.nn.Module]
    new_net: Callable
    X_held_out: np.ndarray | None = None
    y_held_out: np.ndarray | None = None

    @property
    def theta_0(self):
        """The naturally trained net that is the learner's ``estimator_``."""
        return self.theta_0s[0]

    @property
    def value_range(self):
        """Values that count as dark and bright."""
        if self.threat_model.clip_range is not None:
            return self.threat_model.clip_range
        low, high = float(self.X_all.min()), float(self.X_all.max())
        return low, max(high, low + 1e-6)

    def as_images(self, x):
        """Return ``x`` as (n, C, H, W) where the image shape is known."""
        return x.reshape(len(x), *self.image_shape)


@dataclass
class LearningState:
    """What changes from step to step, and is saved in a checkpoint.

    ``sources`` are the rows of the problem whose images the rows of the set show; None
    is each its own.
    """

    x_robust: torch.Tensor
    player: torch.nn.Module
    sources: torch.Tensor | None = None
    soft_labels: torch.Tensor | None = None
    x_best: torch.Tensor | None = None
    n_done: int = 0
    history: list = field(default_factory=list)

    def natural_images(self, problem):
        """Return the natural image that each row of the set shows."""
        return problem.x if self.sources is None else problem.x[self.sources]


@dataclass(frozen=True)
class Step:
    """One unit of progress: ``run(state, generator)`` returns its record (a dict).

    An ``optional`` one is left out once validation has stopped the learning.
    """

    name: str
    run: Callable
    optional: bool = False


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
        steps = _disturbance_steps(problem, learner, protocol)
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


def playing_rows(x, history):
    """Return the rows that play: every second one, the others stay disturbed.

    All rows where none is disturbed, or where no pattern did better than noise: nets
    that are fine-tuned on noise gain little from it.
    """
    chosen = next((r for r in history if r["step"] == "disturb"), {"amplitude": 0})
    step = 2 if chosen["amplitude"] > 0 else 1
    return torch.arange(0, len(x), step, device=x.device)


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


def _disturbance_steps(problem, learner, protocol):
    candidates = default_disturbances(
        problem.threat_model, problem.image_shape, problem.value_range
    )
    searchable = len(problem.X_all) >= SMALLEST_SEARCH
    candidates = candidates[: learner.n_candidates if searchable else 1]

    def judge(candidate):
        def run(state, generator):
            return candidate.as_dict() | judge_disturbance(
                problem, candidate, protocol, learner.batch_size, generator
            )

        return Step("disturbance-search", run)

    def choose(state):
        judged = [r for r in state.history if r["step"] == "disturbance-search"]
        return candidates[_best_candidate(judged)] if judged else candidates[0]

    def clear(state, generator):
        clarity = judge_clarity(
            problem.x,
            problem.y,
            lambda x: apply_disturbance(problem, choose(state), x, generator),
            problem.new_net,
            generator,
        )
        state.sources = replace_unclear(clarity, problem.y, unclear, generator)
        replaced = state.sources != torch.arange(len(clarity), device=clarity.device)
        return {"n_replaced": int(replaced.sum())}

    def disturb(state, generator):
        x = state.natural_images(problem)
        state.x_robust = apply_disturbance(problem, choose(state), x, generator)
        return choose(state).as_dict()

    steps = [judge(c) for c in candidates] if len(candidates) > 1 else []
    unclear = _unclear_fraction(problem, learner, protocol)
    steps += [Step("clear-rows", clear)] if unclear > 0 else []
    return [*steps, Step("disturb", disturb)]


def _unclear_fraction(problem, learner, protocol):
    """Fine-tuned nets know unclear images already; soft labels tell that they are."""
    if learner.unclear_fraction != "auto":
        return learner.unclear_fraction
    pays = protocol == "scratch" and not learner.soft_labels
    is_large = len(problem.x) >= SMALLEST_CLEARED
    return UNCLEAR_FRACTION if pays and is_large else 0.0


def _best_candidate(judged):
    """Return the place of the winner: the first that no later one clearly beats."""
    scores = [r["natural_accuracy"] + r["robust_accuracy"] for r in judged]
    best = 0
    for place, score in enumerate(scores):
        if score > scores[best] + WINNING_MARGIN:
            best = place
    return best


def apply_disturbance(problem, disturbance, x, generator):
    """Disturb ``x`` (of the shape of X) as images."""
    images = disturbance.apply(problem.as_images(x), problem.value_range, generator)
    return problem.threat_model.clip(images.reshape(x.shape))


def judge_disturbance(problem, disturbance, protocol, batch_size, generator):
    """Train a net on a disturbed part of the set, attack it on another part."""
    device = problem.x.device
    order = torch.randperm(len(problem.X_all), generator=generator, device=device)
    order = to_array(order)
    X_held_out, y_held_out, n_validation = problem.X_held_out, problem.y_held_out, 0
    if X_held_out is None:
        n_validation = min(VALIDATION_ROWS, len(order) // 4)
        held_out = order[:n_validation]
        X_held_out, y_held_out = problem.X_all[held_out], problem.y_all[held_out]
    rows = order[n_validation : n_validation + SEARCH_ROWS]
    x = torch.tensor(problem.X_all[rows], device=device)
    x_disturbed = apply_disturbance(problem, disturbance, x, generator)
    if protocol == "fine-tune":
        y = to_tensor(problem.y_all[rows], device, torch.int64)
        net = fine_tune(problem.theta_0, x_disturbed, y, batch_size, generator)
    else:
        with seeded_torch(generator.initial_seed()):
            net = problem.new_net().fit(to_array(x_disturbed), problem.y_all[rows])
    return measure_robustness(net, X_held_out, y_held_out, problem.threat_model)


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
            playing = playing_rows(problem.x, state.history)
            state.x_robust, state.player, measured = game.play_round(
                state.x_robust,
                state.player,
                n_round,
                generator,
                playing=playing,
                x_shown=state.natural_images(problem),
                radius_factor=_radius_factor(problem, learner, playing),
            )
            return {"round": n_round, "n_playing": len(playing), **measured}

        return Step("fictitious-play", run)

    return [play(n_round) for n_round in range(learner.n_rounds)]


def _radius_factor(problem, learner, playing):
    if learner.radius_factor != "auto":
        return learner.radius_factor
    given = problem.threat_model
    budget = budget_per_value(given, problem.image_shape, problem.value_range)
    is_small = given.norm == "linf" and budget < SMALL_BUDGET
    is_wide = is_small and len(playing) < len(problem.x)
    return WIDE_RADIUS_FACTOR if is_wide else RADIUS_FACTOR


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
