"""What a learner's parameters mean for one problem: the one place that knows "auto".

A :class:`Recipe` holds numbers and choices only. Steps read it, users read it as
``recipe_``; nothing after :meth:`Recipe.resolve` looks at the parameters again.
"""

import json
import math
from dataclasses import asdict, dataclass
from numbers import Integral

from robustfit.robustifiers.dataset_learning.disturbance import (
    Disturbance,
    default_disturbances,
)
from robustfit.robustifiers.dataset_learning.stage_settings import (
    MetaEpochs,
    Play,
    PlayedRows,
)

__all__ = ["Recipe", "count_nets"]

# Fewer rows than this say nothing about robustness: the first candidate is taken.
SMALLEST_SEARCH = 100
# From so many rows on, strong patterns and clear rows pay: smaller sets are hard enough
# to learn without the former, and nets do not learn their unclear images anyway.
LARGE_SET = 20_000
# "auto": the share of the rows of large sets that are replaced by clearer ones, and the
# budget (a share of the range) below which that costs more than it brings.
UNCLEAR_FRACTION = 0.05
SMALLEST_CLEARED_BUDGET = 0.15
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
    candidates : tuple of Disturbance
        They are compared where there are several; empty where nothing is disturbed.
    to_beat : int
        Place of the candidate that the others have to beat clearly.
    unclear_fraction : float
        Share of the rows that show another image of their class.
    play : Play or None
    meta : MetaEpochs or None
        Algorithm 1.
    n_teacher_epochs : int
        Of the teacher that gives soft labels; 0 without.
    """

    protocol: str
    batch_size: int
    candidates: tuple[Disturbance, ...] = ()
    to_beat: int = 0
    unclear_fraction: float = 0.0
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
        return cls(
            protocol=_protocol(learner),
            batch_size=learner.batch_size,
            candidates=candidates,
            to_beat=_candidate_to_beat(candidates, len(problem.x)),
            unclear_fraction=_unclear_fraction(learner, problem) if candidates else 0.0,
            play=_play(learner, problem, candidates) if _plays(learner) else None,
            meta=_meta_epochs(learner, problem),
            n_teacher_epochs=_teacher_epochs(learner, problem),
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
    candidates = default_disturbances(
        problem.threat_model, problem.image_shape, problem.value_range
    )
    is_searchable = len(problem.X_all) >= SMALLEST_SEARCH
    return tuple(candidates[: learner.n_candidates if is_searchable else 1])


def _candidate_to_beat(candidates, n_rows):
    """Return its place: the mildest pattern's, in large sets the strongest one's.

    The search sees some of the rows, and more rows favour stronger patterns.
    """
    if n_rows < LARGE_SET or not candidates:
        return 0
    strength = [(c.amplitude, c.mixed) for c in candidates]
    return strength.index(max(strength))


def _unclear_fraction(learner, problem):
    """Fine-tuned nets know unclear images already; soft labels tell that they are."""
    if learner.unclear_fraction != "auto":
        return learner.unclear_fraction
    pays = _protocol(learner) == "scratch" and not learner.soft_labels
    pays &= len(problem.x) >= LARGE_SET
    pays &= problem.budget >= SMALLEST_CLEARED_BUDGET
    return UNCLEAR_FRACTION if pays else 0.0


def _play(learner, problem, candidates):
    """All rows play where noise alone is best: fine-tuned nets gain little from it."""
    is_auto = learner.radius_factor == "auto"
    beside = _radius_beside_patterns(problem) if is_auto else learner.radius_factor
    alone = RADIUS_FACTOR if is_auto else learner.radius_factor
    are_patterned = [c.amplitude > 0 for c in candidates]
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


def _teacher_epochs(learner, problem):
    if not learner.soft_labels:
        return 0
    fewest, most = TEACHER_EPOCHS
    n_batches = math.ceil(len(problem.X_all) / learner.batch_size)
    return min(most, max(fewest, math.ceil(TEACHER_BATCHES / n_batches)))
