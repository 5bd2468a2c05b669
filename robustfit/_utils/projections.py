"""Projections in closed or finite form, for whole batches at once.

Only :class:`robustfit.ThreatModel` calls these. All take flattened samples
(n_samples, n_features) and bounds that broadcast against them.
"""

import math

import torch

__all__ = ["onto_hyperplane_in_box", "onto_l1_ball_in_box"]

_MAX_NEWTON_STEPS = 60
_BISECTIONS = 40


def onto_hyperplane_in_box(x, normal, offset, bounds, norm):
    """Return the shortest move from ``x`` to the plane ``normal @ z = offset``.

    Parameters
    ----------
    x, normal : torch.Tensor of shape (n_samples, n_features)
        Points inside the box, and a normal vector for each.
    offset : torch.Tensor of shape (n_samples,)
    bounds : tuple of (float, float)
        The box; infinite where there is none.
    norm : {"linf", "l2", "l1"}
        What is short.

    Returns
    -------
    torch.Tensor of shape (n_samples, n_features)
        Where the box does not reach the plane, the move to its nearest corner.

    Notes
    -----
    The move towards the plane is, for a multiplier s, ``min(s, room)`` (linf) or
    ``min(s * abs(normal), room)`` (l2) in every coordinate. What it gains is concave
    and piecewise linear in s, so Newton's method from zero climbs to the solution in
    few steps; the usual way sorts all coordinates. The l1 move fills the coordinates
    with the largest normals first.
    """
    gap = offset - (normal * x).sum(1)
    toward = torch.where(gap >= 0, 1.0, -1.0)[:, None] * normal
    low, high = bounds
    room = torch.where(toward > 0, high - x, x - low).clamp_min_(0)
    weight = toward.abs()
    if norm == "l1":
        return toward.sign() * _fill_largest_first(gap.abs(), weight, room)
    speed = weight if norm == "l2" else None
    scale = _newton_multiplier(gap.abs(), weight, room, speed)
    return toward.sign() * _cut_at_room(scale, room, speed)


def _newton_multiplier(gap, weight, room, speed):
    """Solve ``sum(weight * min(s * speed, room)) = gap`` for s >= 0, row by row."""
    rate = weight if speed is None else weight * speed
    scale, gained = torch.zeros_like(gap), torch.zeros_like(gap)
    cut = torch.zeros_like(room)
    for _ in range(_MAX_NEWTON_STEPS):
        # Arithmetic, as comparisons and conversions take several times as long.
        grows = torch.sub(room, cut, out=cut).sign_()
        slope = torch.linalg.vecdot(rate, grows)
        step = torch.where(slope > 0, (gap - gained) / slope, 0.0).clamp_min(0)
        scale = scale + step
        if not (step > 1e-6 * scale).any():
            break
        cut = _cut_at_room(scale, room, speed)
        gained = torch.linalg.vecdot(weight, cut)
    return scale


def _cut_at_room(scale, room, speed):
    reached = scale[:, None] if speed is None else scale[:, None] * speed
    return torch.minimum(reached, room)


def _fill_largest_first(gap, weight, room):
    weight, order = weight.sort(1, descending=True)
    room = room.gather(1, order)
    before = (weight * room).nan_to_num(nan=0.0).cumsum(1)
    before = torch.nn.functional.pad(before[:, :-1], (1, 0))
    missing = (gap[:, None] - before).clamp_min(0)
    move = torch.where(weight > 0, torch.minimum(room, missing / weight), 0.0)
    return torch.zeros_like(move).scatter(1, order, move)


def onto_l1_ball_in_box(delta, x, eps, bounds):
    """Return the point of the l1 ball, with ``x`` + it in the box, next to ``delta``.

    Parameters
    ----------
    delta, x : torch.Tensor of shape (n_samples, n_features)
        Perturbations and the natural inputs, which lie in the box.
    eps : float
        Radius of the ball.
    bounds : tuple of (float, float)

    Notes
    -----
    The exact projection of "Mind the box" (Croce & Hein, 2021, Prop. 2.1): every
    coordinate shrinks by one threshold and is cut at its room in the box. The threshold
    is bisected, and solved on the linear piece that is left.
    """
    low, high = bounds
    room = torch.where(delta > 0, high - x, x - low).clamp_min(0)
    size = delta.abs()
    too_long = torch.minimum(size, room).sum(1) > eps
    if not too_long.any():
        return delta.sign() * torch.minimum(size, room)
    lower, upper = torch.zeros_like(size[:, 0]), size.amax(1)
    for _ in range(_BISECTIONS):
        middle = (lower + upper) / 2
        long = _shrunk(size, room, middle).sum(1) > eps
        lower = torch.where(long, middle, lower)
        upper = torch.where(long, upper, middle)
    threshold = torch.where(too_long, upper, 0.0)
    shrunk = _shrunk(size, room, threshold)
    # Upper bounds the threshold; what rounding leaves above eps is scaled away.
    excess = (shrunk.sum(1, keepdim=True) / max(eps, math.ulp(0))).clamp_min(1)
    return delta.sign() * shrunk / excess


def _shrunk(size, room, threshold):
    return torch.minimum((size - threshold[:, None]).clamp_min(0), room)
