"""How a candidate makes a set of the natural rows: replace, move, disturb."""

import torch

from robustfit._utils.torch_bridge import (
    batch_slices,
    draw_integer,
    eval_mode,
    to_array,
    to_tensor,
)
from robustfit.robustifiers.convex_learning import learn_convex_set
from robustfit.robustifiers.dataset_learning.fictitious_play import perturb_towards
from robustfit.robustifiers.dataset_learning.row_judges import (
    own_probability,
    replace_unclear,
    unclear_below,
)
from robustfit.threat_model import ThreatModel

__all__ = ["draw_sources", "make_images"]

# Steps that move an image towards another class.
N_STEPS = 8


def draw_sources(problem, row_probabilities, unclear_fraction, generator):
    """Return the row that each row of the set shows; None where each shows its own.

    Parameters
    ----------
    problem : LearningProblem
    row_probabilities : torch.Tensor of shape (n_samples, n_classes) or None
        What the judges say; None only where ``unclear_fraction`` is 0.
    unclear_fraction : float
    generator : torch.Generator
    """
    if unclear_fraction == 0:
        return None
    clarity = own_probability(row_probabilities, problem.y)
    bounds = unclear_below(clarity, problem.y, unclear_fraction, problem.n_classes)
    return replace_unclear(clarity, problem.y, bounds, generator)


def make_images(problem, candidate, images, y, generator):
    """Return natural ``images`` moved and disturbed as ``candidate`` says.

    Parameters
    ----------
    problem : LearningProblem
    candidate : Candidate
    images : torch.Tensor of shape (n_samples, ...)
        What the rows show.
    y : torch.Tensor of shape (n_samples,)
        Their classes.
    generator : torch.Generator

    Returns
    -------
    torch.Tensor of the shape of images
    """
    if candidate.convex:
        return _make_convex(problem, images, y, generator)
    if candidate.radius > 0:
        images = _move(problem, images, candidate.radius, generator)
    return problem.disturb(candidate.disturbance, images, generator)


def _make_convex(problem, images, y, generator):
    X_robust = learn_convex_set(
        problem.new_net(),
        to_array(images),
        to_array(y),
        problem.threat_model,
        seed=draw_integer(generator) % 2**31,
    )
    return to_tensor(X_robust, images.device)


def _move(problem, images, radius, generator):
    """Return images moved towards random classes on theta_0, by ``radius`` a value."""
    low, high = problem.value_range
    reach = ThreatModel("linf", radius * (high - low), problem.threat_model.clip_range)
    target = torch.randint(
        problem.n_classes, (len(images),), generator=generator, device=images.device
    )
    moved = torch.empty_like(images)
    with eval_mode(problem.theta_0):
        for rows in batch_slices(len(images), problem.batch_size):
            moved[rows] = perturb_towards(
                problem.theta_0, images[rows], target[rows], reach, n_steps=N_STEPS
            )
    return moved
