"""What a learner's parameters mean for one problem: the one place that knows "auto".

A :class:`Recipe` holds numbers and choices only. Steps read it, users read it as
``recipe_``; nothing after :meth:`Recipe.resolve` looks at the parameters again.
"""

import json
import math
from dataclasses import asdict, dataclass
from numbers import Integral

from robustfit.robustifiers.convex_learning import is_convex
from robustfit.robustifiers.dataset_learning.candidate import (
    NATURAL,
    Candidate,
    ladder,
)
from robustfit.robustifiers.dataset_learning.row_selection import VALIDATION_SHARE
from robustfit.robustifiers.dataset_learning.stage_settings import (
    MetaEpochs,
    Play,
    PlayedRows,
)

__all__ = ["Recipe", "count_nets"]

# Fewer rows than this say nothing about robustness: the first candidate is taken.
SMALLEST_SEARCH = 100
# Share of the rows that each disturbance is tried on, and each of the shares of rows
# left out, which take more rows to tell apart; fewest and most rows of each. Seven
# disturbances, two nets that judge the rows and five variants cost three trainings of
# the inner net on all rows.
CANDIDATE_SHARE, CANDIDATE_ROWS = 0.1, (1000, 8000)
VARIANT_SHARE, VARIANT_ROWS = 0.3, (1000, 20_000)
# Small sets are tried several times, until so many rows were trained on; at most.
REPEATED_ROWS, MOST_REPEATS = 3000, 2
# Variants of the best disturbance: shares of the rows, least clear to the judges, that
# are left out, and how far images are moved on theta_0 for fine-tuning, as shares of
# the range. None is the natural set.
VARIANTS = {
    "scratch": ((None, 0.0), (0.0, 0.0), (0.05, 0.0), (0.25, 0.0), (0.5, 0.0)),
    "fine-tune": (
        (None, 0.0), (0.0, 0.0), (0.5, 0.0), (0.0, 16 / 255), (0.5, 16 / 255),
        (0.5, 24 / 255),
    ),
}  # fmt: skip
# Epochs of fine-tuning, round after round: a set that answers to short training only
# loses its robustness when it is trained on for longer. (1, 6, 2, 3) held for 5 epochs
# on 60,000 rows, not for 20.
EPOCHS_CYCLE = (1, 12, 2, 4)
# Perturbations of the set are larger than the budget it has to withstand.
RADIUS_FACTOR = 1.5
# "auto", where the disturbed rows keep the set like natural images: the rows of
# fictitious play move as far as WIDEST_RADIUS_FACTOR budgets, but not beyond
# LARGEST_REACH where images of other classes begin (a share of the range; l2: spread
# over an eighth of the values).
WIDEST_RADIUS_FACTOR = 2.25
LARGEST_REACH = {"linf": 0.3, "l2": 0.2}
# Epochs of Algorithm 1 that method="paper" runs.
PAPER_META_EPOCHS = 4
# Adversarial training of the teacher that gives soft labels: fewest and most epochs,
# and the batches that a small set makes up for with more epochs.
TEACHER_EPOCHS = (4, 60)
TEACHER_BATCHES = 1000


@dataclass(frozen=True)
class Recipe:
    """Numbers and choices of one fit, resolved from parameters and problem.

    Attributes
    ----------
    protocol : {"scratch", "fine-tune"}
    batch_size : int
    soft_labels : bool
    candidates : tuple of Candidate
        They are compared where there are several, the natural set among them; empty
        where the set answers to nets only.
    variants : tuple of (float or None, float)
        Shares of rows replaced and radii of moves, as shares of the range, that are
        then tried with the best disturbance; None is the natural set.
    tries_convex : bool
        Whether the set of :class:`robustfit.ConvexDatasetLearner` is compared, too.
    n_candidate_rows, n_variant_rows : int
        Rows that each candidate, and each variant, is trained on, at most.
    n_repeats : int
        Trainings of each.
    max_natural_loss : float
    unclear_fraction : float or None
        Share of the rows that show another image of their class; None is the share of
        the best candidate.
    judge : {"cross-fitted", "adversarial"} or None
        Of rows; None where nobody asks.
    play : Play or None
    meta : MetaEpochs or None
        Algorithm 1.
    n_teacher_epochs : int
        Of the adversarial judge; 0 without.
    """

    protocol: str
    batch_size: int
    soft_labels: bool = False
    candidates: tuple[Candidate, ...] = ()
    variants: tuple[tuple[float | None, float], ...] = ()
    tries_convex: bool = False
    n_candidate_rows: int = CANDIDATE_ROWS[0]
    n_variant_rows: int = VARIANT_ROWS[0]
    n_repeats: int = 1
    max_natural_loss: float = 0.1
    unclear_fraction: float | None = 0.0
    judge: str | None = None
    play: Play | None = None
    meta: MetaEpochs | None = None
    n_teacher_epochs: int = 0

    @classmethod
    def resolve(cls, learner, problem):
        """Return what a learner's parameters, "auto" among them, mean for a problem.

        Parameters
        ----------
        learner : RobustDatasetLearner
        problem : LearningProblem

        Returns
        -------
        Recipe
        """
        candidates = _candidates(learner, problem)
        is_compared = len(candidates) > 1
        variants = _variants(learner, candidates) if is_compared else ()
        share = 0.0
        if candidates:
            share = _fixed_share(learner, is_compared)
        judge = _judge(learner, variants, share)
        return cls(
            protocol=_protocol(learner),
            batch_size=learner.batch_size,
            soft_labels=learner.soft_labels,
            candidates=candidates,
            variants=variants,
            tries_convex=bool(variants) and _is_convex(learner),
            n_candidate_rows=_share(problem, CANDIDATE_SHARE, CANDIDATE_ROWS),
            n_variant_rows=_share(problem, VARIANT_SHARE, VARIANT_ROWS),
            n_repeats=_repeats(problem),
            max_natural_loss=learner.max_natural_loss,
            unclear_fraction=share,
            judge=judge,
            play=_play(learner, problem, candidates) if _plays(learner) else None,
            meta=_meta_epochs(learner, problem),
            n_teacher_epochs=_teacher_epochs(learner, problem, judge),
        )

    def as_dict(self):
        """Return the recipe as dicts, lists and numbers that JSON can hold."""
        return json.loads(json.dumps(asdict(self), default=_plain_number))


def _plain_number(value):
    return int(value) if isinstance(value, Integral) else float(value)


def count_nets(learner):
    """Return how many naturally trained nets a fit needs: disturbances use but one."""
    answers = _plays(learner) or learner.method == "paper"
    return learner.n_initializations if answers else 1


def _protocol(learner):
    return "scratch" if learner.protocol == "auto" else learner.protocol


def _plays(learner):
    if learner.method == "default":
        return _protocol(learner) == "fine-tune"
    return learner.method == "fictitious-play"


def _candidates(learner, problem):
    if learner.method not in ("default", "disturbance"):
        return ()
    if problem.threat_model.eps == 0:  # nothing to withstand
        return (NATURAL,)
    candidates = ladder(problem.image_shape)
    if learner.n_candidates is not None:
        candidates = candidates[: learner.n_candidates]
    if learner.n_candidates == 1 or len(problem.x) < SMALLEST_SEARCH:
        return candidates[:1]
    return (NATURAL, *candidates)


def _variants(learner, candidates):
    """Soft labels say what is unclear: rows need not be left out as well."""
    if learner.unclear_fraction != "auto" or learner.soft_labels:
        return ()
    return VARIANTS[_protocol(learner)]


def _is_convex(learner):
    return learner.estimator is not None and is_convex(learner.estimator)


def _fixed_share(learner, is_compared):
    """Return the share of rows to replace, None where the search finds it."""
    if learner.unclear_fraction != "auto":
        return learner.unclear_fraction
    return None if is_compared else 0.0


def _share(problem, share, bounds):
    fewest, most = bounds
    return int(min(max(share * len(problem.x), fewest), most))


def _repeats(problem):
    n_trained = (1 - VALIDATION_SHARE) * len(problem.x)
    return min(MOST_REPEATS, math.ceil(REPEATED_ROWS / max(n_trained, 1)))


def _judge(learner, variants, share):
    """Return who judges rows: nobody where nobody asks.

    "auto": a judge without attacks finds the rows to leave out almost as well as a
    robust one and costs one training; as soft labels its word is worth far less.
    """
    if not (learner.soft_labels or share or any(share for share, _ in variants)):
        return None
    if learner.judge == "auto":
        return "adversarial" if learner.soft_labels else "cross-fitted"
    return learner.judge


def _play(learner, problem, candidates):
    """All rows play where noise alone is best: fine-tuned nets gain little from it."""
    is_auto = learner.radius_factor == "auto"
    beside = _radius_beside_patterns(problem) if is_auto else learner.radius_factor
    alone = RADIUS_FACTOR if is_auto else learner.radius_factor
    are_patterned = [c.disturbance.amplitude > 0 for c in candidates]
    n_nets = len(problem.theta_0s)  # each in turn trains for as long as the others
    return Play(
        n_epochs=tuple(
            EPOCHS_CYCLE[(n_round // n_nets) % len(EPOCHS_CYCLE)]
            for n_round in range(learner.n_rounds)
        ),
        n_steps=learner.n_steps,
        alone=None if candidates and all(are_patterned) else PlayedRows(1, alone),
        beside_patterns=PlayedRows(2, beside) if any(are_patterned) else None,
    )


def _radius_beside_patterns(problem):
    reach = LARGEST_REACH[problem.threat_model.norm]
    factor = reach / max(problem.budget, 1e-12)
    return round(min(max(factor, 1.0), WIDEST_RADIUS_FACTOR), 3)


def _meta_epochs(learner, problem):
    """Return the paper's constants for method="paper", larger steps else."""
    is_papers, n_epochs = learner.method == "paper", learner.n_meta_epochs
    if n_epochs is None:
        n_epochs = PAPER_META_EPOCHS if is_papers else 0
    if n_epochs == 0 or not (is_papers or _plays(learner)):
        return None
    eps, (low, high) = problem.threat_model.eps, problem.value_range
    return MetaEpochs(
        n_epochs=n_epochs,
        n_unrolled=learner.n_unrolled,
        derivative=learner.meta_gradient,
        attack_steps=20 if is_papers else 4,
        attack_step_size=eps / (10 if is_papers else 3) or None,
        t=0.01 if is_papers else 0.1,
        beta=(0.5 if is_papers else 4.0) / 255 * (high - low),
        carry_lr=0.0 if is_papers else 0.01,
    )


def _teacher_epochs(learner, problem, judge):
    if judge != "adversarial":
        return 0
    fewest, most = TEACHER_EPOCHS
    n_batches = math.ceil(len(problem.X_all) / learner.batch_size)
    return min(most, max(fewest, math.ceil(TEACHER_BATCHES / n_batches)))
