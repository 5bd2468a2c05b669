"""What a set may be made of: the candidates that a search compares, and the choice.

The useful size of a disturbance goes by what the images bear, not by the budget: a
noise of 0.2 of the range serves photographs under 2/255 and under 8/255 alike, where
all that a multiple of 2/255 can do is lost in the image (see
``docs/reproducing/robust_dataset_learning.rst``). So the candidates are an absolute
ladder, the same for all images, and what decides among them is measured.
"""

import math
from dataclasses import dataclass, field

from robustfit.robustifiers.dataset_learning.disturbance import Disturbance

__all__ = ["NATURAL", "Candidate", "choose", "ladder", "mildest_of_the_best"]

# Robust accuracy by which moved images have to be better than what goes on to play.
MOVED_MARGIN = 0.05
# Noise as a share of the range. The first is taken where nothing is compared.
_NOISES = (0.2, 0.1, 0.35)
_OTHERS = (
    Disturbance(0.2, 0.825, 0.2),
    # Faint parts of other images: what suits strokes on a background.
    Disturbance(0.4, 0.65),
    # Half of the rows are better off with noise where the budget is in l2.
    Disturbance(0.4, 0.65, 0.35, mixed=True),
)


@dataclass(frozen=True)
class Candidate:
    """A way to make a set out of the natural one.

    Parameters
    ----------
    disturbance : Disturbance, default=none
        Of all images.
    unclear_fraction : float, default=0.0
        Share of the rows of each class, those that a judge sees least as their class,
        that show a clearer image of it instead, in [0, 1).
    radius : float, default=0.0
        Share of the range by which each value of an image may move towards a random
        class on theta_0, before the disturbance (a linf ball, whatever the budget's
        norm).
    convex : bool, default=False
        Instead of all this the set on which a learner's natural optimum is its robust
        one, see :class:`robustfit.ConvexDatasetLearner`.
    """

    disturbance: Disturbance = field(default_factory=lambda: Disturbance(0, 1))
    unclear_fraction: float = 0.0
    radius: float = 0.0
    convex: bool = False

    def as_dict(self):
        """Return the parameters, the disturbance's among them, as numbers."""
        return self.disturbance.as_dict() | {
            "unclear_fraction": self.unclear_fraction,
            "radius": self.radius,
            "convex": self.convex,
        }

    @classmethod
    def from_dict(cls, numbers):
        """Return the candidate that :meth:`as_dict` wrote."""
        rest = dict(numbers)
        own = {
            name: rest.pop(name) for name in ("unclear_fraction", "radius", "convex")
        }
        return cls(Disturbance(**rest), **own)


NATURAL = Candidate()


def ladder(image_shape):
    """Return the disturbances that are compared, as candidates.

    Parameters
    ----------
    image_shape : tuple of (C, H, W) or (n_features,)
        Vectors get noise only: parts of other rows mean nothing there.

    Returns
    -------
    tuple of Candidate
        The first is the one for sets that nobody measures.
    """
    noises = [Disturbance(0, 1, noise) for noise in _NOISES]
    if len(image_shape) == 3:
        return tuple(map(Candidate, (*noises, *_OTHERS)))
    return tuple(map(Candidate, (noises[1], Disturbance(0, 1, 0.05), noises[0])))


def mildest_of_the_best(candidates, measured, n_images, max_natural_loss):
    """Return the disturbance to go on with, of a comparison on few rows.

    Of those that are within one standard error of the most robust one, the one of the
    highest natural accuracy (the one-standard-error rule of Breiman et al., 1984). The
    natural set is not among them: it is compared again, on more rows.

    Parameters
    ----------
    candidates, measured, n_images, max_natural_loss
        As for :func:`choose`.

    Returns
    -------
    Disturbance
        That of the natural set where all others lose too much natural accuracy.
    """
    allowed = _allowed(candidates, measured, max_natural_loss)[1:]
    if not allowed:
        return candidates[0].disturbance
    best = max(robust for _, _, robust in allowed)
    least = best - _standard_error(best, n_images)
    close = [a for a in allowed if a[2] >= least]
    return max(close, key=lambda a: a[1])[0].disturbance


def choose(candidates, measured, n_images, max_natural_loss):
    """Return the candidate to take.

    The most robust of those that keep enough natural accuracy. The natural set gives
    way only to what is better by one standard error: what does not clearly help is not
    done. Images that stay in their place give way to moved ones only if those are
    better by MOVED_MARGIN, as they go on to be improved by fictitious play.

    Parameters
    ----------
    candidates : sequence of Candidate
        The first is the natural set.
    measured : sequence of (float, float)
        Natural and robust accuracy of each candidate, in [0, 1].
    n_images : int
        That they were measured on.
    max_natural_loss : float
        Natural accuracy that a candidate may lose to the first.

    Returns
    -------
    Candidate
        The first among equals.
    """
    allowed = _allowed(candidates, measured, max_natural_loss)
    best = allowed[0]
    for is_moved in (False, True):
        others = [a for a in allowed[1:] if (a[0].radius > 0) == is_moved]
        challenger = max(others, key=lambda a: a[2], default=best)
        margin = MOVED_MARGIN if is_moved else _standard_error(best[2], n_images)
        if challenger[2] > best[2] + margin:
            best = challenger
    return best[0]


def _allowed(candidates, measured, max_natural_loss):
    """Return (candidate, natural, robust) of those that lose little; the first is."""
    least = measured[0][0] - max_natural_loss - 1e-9
    return [
        (candidate, *accuracies)
        for candidate, accuracies in zip(candidates, measured, strict=True)
        if accuracies[0] >= least
    ]


def _standard_error(share, n_images):
    return math.sqrt(share * (1 - share) / n_images)
