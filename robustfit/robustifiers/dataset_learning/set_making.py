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

__all__ = ["draw_sources", "make_images", "move_images", "reach_of"]

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
        clip_range = problem.threat_model.clip_range
        reach = reach_of(candidate, problem.value_range, clip_range)
        images = move_images(
            problem.theta_0, images, reach, problem.n_classes, generator,
            batch_size=problem.batch_size,
        )  # fmt: skip
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


def move_images(theta_0, images, reach, n_classes, generator, *, batch_size):
    """Return images moved on theta_0 towards random classes, as far as ``reach``.

    Parameters
    ----------
    theta_0 : torch.nn.Module
    images : torch.Tensor of shape (n_samples, ...)
    reach : ThreatModel
    n_classes : int
    generator : torch.Generator
    batch_size : int
    """
    target = torch.randint(
        n_classes, (len(images),), generator=generator, device=images.device
    )
    moved = torch.empty_like(images)
    with eval_mode(theta_0):
        for rows in batch_slices(len(images), batch_size):
            moved[rows] = perturb_towards(
                theta_0, images[rows], target[rows], reach, n_steps=N_STEPS
            )
    return moved


def reach_of(candidate, value_range, clip_range):
    """Return the threat model of a candidate's moves: a linf ball."""
    low, high = value_range
    return ThreatModel("linf", candidate.radius * (high - low), clip_range)
