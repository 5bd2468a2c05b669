"""The threat model: what an adversary may do to an input.

The only file of the package that knows norms, the perturbation budget and the pixel
range. Attacks, robustifiers and scorers ask a :class:`ThreatModel`; none of them clips
or projects by itself.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from robustfit._utils.budget_reading import read_budget, read_clip_range
from robustfit._utils.directions import l2_direction, l2_length, sparse_sign
from robustfit._utils.feature_values import (
    check_feature_count,
    feature_array,
    integer_columns,
    on_features,
)
from robustfit._utils.projections import onto_hyperplane_in_box, onto_l1_ball_in_box
from robustfit._utils.range_messages import describe_excess, describe_integers
from robustfit._utils.sample_random import normal_like, uniform_like
from robustfit._utils.single_moves import reachable_box, shares_of_budget
from robustfit._utils.torch_bridge import per_sample
from robustfit.exceptions import (
    AttackBudgetError,
    BudgetUnitWarning,
    IntegerFeatureWarning,
    PixelRangeError,
)

__all__ = ["ThreatModel"]

NORMS = ("linf", "l2", "l1")

# Ranges wider than this are those of unscaled pixels, not of standardised ones.
_WIDE = 10

# Share of the features that one l1 ascent step moves (Tramèr & Boneh, 2019).
_L1_STEP_SHARE = 0.05

# Float32 rounding of x + delta: relative to the largest magnitude in play.
_ROUNDING = 1e-5
# Float32 rounding of data that were scaled as their range was, likewise.
_SCALING = 8 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class ThreatModel:
    """A norm ball of radius ``eps`` around the input, cut by the valid pixel range.

    Parameters
    ----------
    norm : {"linf", "l2", "l1"}, default="linf"
        Norm of the perturbation, taken over all features of a sample.
    eps : float or array-like, default=8/255
        Radius of the ball, in the units of the input (with pixels in [0, 1],
        ``8/255`` is the field's usual linf budget for CIFAR-10). ``eps >= 0``. One for
        each feature, of shape (n_features,) or of a sample, is kept as ``scale`` times
        the largest of them; 0 is for features that the adversary cannot touch.
    clip_range : tuple of (low, high) or None, default=(0.0, 1.0)
        Smallest and largest valid value of an input: two numbers, or arrays of one for
        each feature, which may be infinite. ``None`` means unbounded inputs. Lists and
        arrays become tuples.
    scale : array-like or None, default=None
        Unit of the budget, one for each feature, >= 0: with ``eps=0.5`` and the
        standard deviations of the columns as ``scale``, each may move by half of its
        own. None is one for all.

    Raises
    ------
    ValueError
        For an unknown norm, an ``eps`` that is no finite number >= 0, or a
        ``clip_range`` that is not ``(low, high)`` with ``low < high``.

    Notes
    -----
    All methods take and return tensors of shape (n_samples, ...) and treat samples
    independently. The l2 projection scales the perturbation onto the ball and then
    clips to the range; as the centre lies in the range, clipping only shortens it. The
    l1 projection is the exact one onto ball and range together (Croce & Hein, 2021).

    With a ``scale`` the ball is that of ``norm`` after each perturbation was divided by
    the scale of its feature: a box, an ellipsoid, or a cross-polytope with unequal
    axes. Lengths, distances and step sizes are measured there, in units of the scale.

    Examples
    --------
    >>> import torch
    >>> from robustfit import ThreatModel
    >>> threat_model = ThreatModel("linf", eps=0.1)
    >>> x = torch.tensor([[0.0, 0.5]])
    >>> threat_model.project(x + torch.tensor([[-0.3, 0.3]]), x)
    tensor([[0.0000, 0.6000]])

    The second feature may move by 0.2, the third not at all:

    >>> ThreatModel(eps=[0.1, 0.2, 0.0], clip_range=None).corners(torch.zeros(1, 3))[1]
    tensor([[0.1000, 0.2000, 0.0000]])
    """

    norm: str = "linf"
    eps: Any = 8 / 255
    clip_range: tuple[Any, Any] | None = (0.0, 1.0)
    scale: Any = None

    def __post_init__(self):
        if self.norm not in NORMS:
            raise ValueError(f"norm is {self.norm!r}; expected one of {NORMS}.")
        eps, scale = read_budget(self.eps, self.scale)
        clip_range = read_clip_range(self.clip_range)
        for name, value in (("eps", eps), ("scale", scale), ("clip_range", clip_range)):
            object.__setattr__(self, name, value)

    def __repr__(self):
        shown = (f.name for f in fields(self) if f.name != "scale" or self.scale)
        return f"ThreatModel({', '.join(f'{n}={getattr(self, n)!r}' for n in shown)})"

    @property
    def budget(self) -> Any:
        """``eps`` of all features as one float, or of each as an array."""
        return self.eps if self.scale is None else self.eps * feature_array(self.scale)

    @property
    def is_per_feature(self) -> bool:
        """Whether features have budgets or ranges of their own."""
        bounds = self.clip_range or ()
        return self.scale is not None or any(isinstance(b, tuple) for b in bounds)

    def refuse_per_feature(self, who: str, advice: str) -> None:
        """Raise where ``who`` (a name) takes one budget and one range for all only.

        Raises
        ------
        ValueError
            Ending in ``advice``, what to do instead.
        """
        if self.is_per_feature:
            raise ValueError(
                f"eps or clip_range is given per feature; {who} takes one eps and one "
                f"(low, high) for all features. {advice}"
            )

    def project(self, x_adv, x):
        """Return the point of the ball around ``x``, in the range, next to ``x_adv``.

        Parameters
        ----------
        x_adv, x : torch.Tensor of shape (n_samples, ...)

        Returns
        -------
        torch.Tensor of shape (n_samples, ...)
        """
        if self.norm == "linf":
            radius = self._radius(x)
            x_adv = torch.minimum(torch.maximum(x_adv, x - radius), x + radius)
        elif self.norm == "l1":
            delta = self.to_units(x_adv - x).flatten(1)
            center, bounds = self.to_units(x).flatten(1), self._box(x)
            delta = onto_l1_ball_in_box(delta, center, self.eps, bounds)
            x_adv = x + self.from_units(delta.reshape(x.shape))
        else:
            delta = self.to_units(x_adv - x)
            length = l2_length(delta)
            delta = delta * (self.eps / length.clamp_min(max(self.eps, 1e-12)))
            x_adv = x + self.from_units(delta)
        return self.clip(x_adv)

    def to_units(self, moves):
        """Return moves (n_samples, ...) in units of the scale; 0 of what cannot move.

        Themselves without a scale.
        """
        if self.scale is None:
            return moves
        scale = on_features(self.scale, moves)
        return torch.where(scale > 0, moves / torch.where(scale > 0, scale, 1.0), 0.0)

    def from_units(self, moves):
        """Return moves (n_samples, ...) that are in units of the scale in those of X.

        It turns gradients with respect to X into those with respect to such units, too.
        """
        if self.scale is None:
            return moves
        scale = on_features(self.scale, moves)
        return torch.where(scale > 0, moves * scale, 0.0)

    def _radius(self, x):
        """Return what each feature may move by: a number, or a tensor."""
        if self.scale is None:
            return self.eps
        return on_features(self.scale, x) * self.eps

    def _box(self, x):
        """Return the bounds of flat samples like ``x``, in units of the scale."""
        bounds = [on_features(bound, x) for bound in self.bounds]
        if self.scale is not None:
            bounds = [self.to_units(torch.zeros_like(x[:1]) + b)[0] for b in bounds]
        return [b.flatten() if isinstance(b, torch.Tensor) else b for b in bounds]

    def corners(self, x):
        """Return the lowest and the highest point around ``x`` that linf can reach.

        In any norm: each feature moved by all of its budget, as far as the range goes.
        """
        radius = self._radius(x)
        return self.clip(x - radius), self.clip(x + radius)

    def clip(self, x):
        """Clip ``x`` to ``clip_range`` (a copy; ``x`` itself when unbounded)."""
        if self.clip_range is None:
            return x
        low, high = (on_features(bound, x) for bound in self.clip_range)
        if isinstance(low, torch.Tensor) or isinstance(high, torch.Tensor):
            low, high = (torch.as_tensor(bound).to(x) for bound in (low, high))
        return x.clamp(low, high)

    def random_start(self, x, generator=None):
        """Return a uniform random point of the ball around ``x``, in the range.

        Parameters
        ----------
        x : torch.Tensor of shape (n_samples, ...)
        generator : torch.Generator or None
            On the device of ``x``. With a ``SampleGenerator`` the point of a sample
            does not depend on the other samples of the batch.
        """
        if self.norm == "linf":
            noise = 2 * uniform_like(x, generator) - 1
            return self.clip(x + noise * self._radius(x))
        n_features = max(1, self.n_touchable(x))
        direction = normal_like(x, generator)
        radius = uniform_like(x, generator, (len(x), 1))[:, 0] ** (1 / n_features)
        radius = per_sample(radius, x) * self.eps
        if self.norm == "l1":  # a Laplace vector has a uniform direction in l1
            direction = direction.sign() * -(
                1 - uniform_like(x, generator)
            ).log()  # fmt: skip
        move = radius * direction / self._length(direction)
        return self.clip(x + self.from_units(move))

    def n_touchable(self, x):
        """Return how many features of a sample the adversary can move."""
        if self.scale is not None:
            return int((feature_array(self.scale) > 0).sum())
        return math.prod(x.shape[1:])

    def move_to_sphere(self, x, direction):
        """Return ``x`` moved by ``eps`` along ``direction``, in the range.

        Parameters
        ----------
        x, direction : torch.Tensor of shape (n_samples, ...)
            ``direction`` of any length, in units of the scale: ones move each feature
            by the same share of its budget.
        """
        move = self.from_units(self.eps * direction / self._length(direction))
        return self.project(x + move, x)

    def move_along(self, x, direction, length):
        """Return ``x`` moved by ``length`` along ``direction``, in the range.

        Parameters
        ----------
        x, direction : torch.Tensor of shape (n_samples, ...)
            As for :meth:`move_to_sphere`.
        length : torch.Tensor of shape (n_samples,)
            Not bounded by ``eps``.
        """
        unit = direction / per_sample(self.unit_length(direction), x)
        return self.clip(x + self.from_units(per_sample(length, x) * unit))

    def unit_length(self, direction):
        """Return the norm (n_samples,) of moves in units of the scale.

        What moves features that the adversary cannot touch does not count.
        """
        if self.scale is not None:
            can_move = on_features(self.scale, direction) > 0
            direction = torch.where(can_move, direction, 0.0)
        return self._norm(direction)

    def move_to_hyperplane(self, x, normal, offset):
        """Return the shortest move from ``x`` to ``normal @ z = offset`` in the range.

        Parameters
        ----------
        x, normal : torch.Tensor of shape (n_samples, ...)
            Points in ``clip_range`` and normal vectors.
        offset : torch.Tensor of shape (n_samples,)

        Returns
        -------
        torch.Tensor of shape (n_samples, ...)
            The move, not the point. Its length is not bounded by ``eps``.
        """
        if self.scale is not None:
            # What cannot move is part of the offset, not of the plane in units.
            still = on_features(self.scale, x) == 0
            offset = offset - torch.where(still, normal * x, 0.0).flatten(1).sum(1)
        move = onto_hyperplane_in_box(
            self.to_units(x).flatten(1), self.from_units(normal).flatten(1), offset,
            self._box(x), self.norm,
        )  # fmt: skip
        return self.from_units(move.reshape(x.shape))

    @property
    def bounds(self):
        """``clip_range`` as (low, high); infinite when inputs are unbounded."""
        return (-math.inf, math.inf) if self.clip_range is None else self.clip_range

    @property
    def value_range(self):
        """The two numbers that all features lie between, or None if there are none."""
        low, high = (feature_array(bound) for bound in self.bounds)
        ends = float(low.min()), float(high.max())
        if not np.isfinite(ends).all():
            return None
        return ends if self.is_per_feature else self.clip_range

    def diameter(self, x):
        """Return how far apart two inputs like ``x`` (n_samples, ...) can be.

        A tensor of one number, in units of the scale, over what the adversary can
        touch; infinite where that has no range.
        """
        low, high = (on_features(bound, x) for bound in self.bounds)
        span = torch.zeros_like(x[:1]) + (high - low)
        return self.unit_length(self.to_units(span))

    def box(self, X, *, rounding=False):
        """Return the smallest and the largest value that each feature can take alone.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Points in ``clip_range``.
        rounding : bool, default=False
            Whether to allow for the float32 rounding of attacks that add ``eps`` to a
            number: what bounds have to reckon with.

        Returns
        -------
        low, high : ndarray of the shape of X, float64
        """
        return reachable_box(X, self.budget, self.bounds, rounding)

    def budget_share(self, distance, features):
        """Return the share of the budget that moving one feature this far takes.

        Shares of several features add up, and within the :meth:`box` a move is allowed
        if their sum is at most one. In linf they are zero: the box says it all.

        Parameters
        ----------
        distance : ndarray
            How far a feature moves, not negative.
        features : ndarray of int, of the same shape
            Which.

        Returns
        -------
        ndarray of the same shape
        """
        if self.norm == "linf" or self.eps == 0:
            return np.zeros_like(distance)
        power = 2 if self.norm == "l2" else 1
        return shares_of_budget(distance, features, self.budget, power)

    def dual_length(self, gradient):
        """Return the dual norm of each gradient: the loss a unit step gains."""
        order = {"linf": 1, "l2": 2, "l1": math.inf}[self.norm]
        gradient = self.from_units(gradient)
        return torch.linalg.vector_norm(gradient.flatten(1), order, dim=1)

    def _length(self, direction):
        return per_sample(self.unit_length(direction).clamp_min(1e-12), direction)

    def steepest_direction(self, gradient):
        """Return the unit-norm direction along which ``gradient`` ascends fastest."""
        gradient = self.from_units(gradient)
        if self.norm == "linf":
            direction = gradient.sign()
        elif self.norm == "l1":
            direction = sparse_sign(gradient, _L1_STEP_SHARE)
        else:
            direction = l2_direction(gradient)
        return self.from_units(direction)

    def ascent_step(self, x_adv, gradient, step_size):
        """Take one step of length ``step_size`` in the steepest direction.

        The result is not projected: call :meth:`project` with the natural input.
        """
        return x_adv + step_size * self.steepest_direction(gradient)

    def default_step(self, n_steps: int) -> float:
        """Return the length of ``n_steps`` steps that cross the ball and come back."""
        return 2.5 * self.eps / n_steps

    def climb(
        self,
        gradient_fn: Callable[[torch.Tensor], torch.Tensor],
        x_start: torch.Tensor,
        x: torch.Tensor,
        *,
        n_steps: int,
        step_size: float | None = None,
    ) -> torch.Tensor:
        """Take all of ``n_steps`` along a gradient, each projected to the ball.

        Parameters
        ----------
        gradient_fn : callable
            Maps points (n_samples, ...) to gradients of what shall grow.
        x_start, x : torch.Tensor of shape (n_samples, ...)
            Where the steps begin, and the centre of the ball they stay in.
        n_steps : int
        step_size : float or None, default=None
            None is :meth:`default_step`.

        Returns
        -------
        torch.Tensor of shape (n_samples, ...)
        """
        if step_size is None:
            step_size = self.default_step(n_steps)
        for _ in range(n_steps):
            x_start = self.ascent_step(x_start, gradient_fn(x_start), step_size)
            x_start = self.project(x_start, x)
        return x_start

    def l2_descent_step(self, x, gradient, step_size):
        """Step down by the l2 length ``step_size``, within the range, not the ball.

        What moves images that no budget holds, whatever ``norm`` is.
        """
        return self.clip(x - step_size * l2_direction(gradient))

    def distance(self, x_adv, x):
        """Return the norm of ``x_adv - x``, one number a sample, shape (n_samples,).

        In units of the scale; infinite where a feature moved that cannot.
        """
        delta = x_adv - x
        if self.scale is not None:
            scale = on_features(self.scale, delta)
            delta = torch.where(delta == 0, delta, delta / scale)
        return self._norm(delta)

    def _norm(self, delta):
        delta = delta.reshape(len(delta), -1)
        if self.norm == "linf":
            return delta.abs().amax(1) if delta.shape[1] else delta.sum(1)
        if self.norm == "l1":
            return delta.abs().sum(1)
        return torch.linalg.vector_norm(delta, dim=1)

    def check_perturbation(self, x_adv, x):
        """Raise unless every ``x_adv`` lies in the ball around ``x`` and in the range.

        Raises
        ------
        AttackBudgetError
            With the largest distance found. Rounding of float32 is allowed for.
        """
        if len(x) == 0:
            return
        if not torch.isfinite(x_adv).all():
            raise AttackBudgetError("The attack returned NaN or infinite inputs.")
        distance, slack = self.distance(x_adv, x), self._slack(x)
        limit = self.eps * (1 + _ROUNDING)
        if isinstance(slack, torch.Tensor):
            slack_of_move = torch.where(self._radius_of_each(x) > 0, slack, 0.0)
            move = _shorten(x_adv - x, slack_of_move)
            distance = self.distance(move, torch.zeros_like(x))
        else:
            limit = self.eps + slack
        distance = float(distance.max())
        if distance > limit:
            raise AttackBudgetError(
                f"The attack returned a perturbation of {self.norm} norm "
                f"{distance:.6g}; the budget is eps={self.eps:.6g}"
                f"{'' if self.scale is None else ', in units of scale'}."
            )
        outside = (self.clip(x_adv) - x_adv).abs() > slack
        if outside.any():
            raise AttackBudgetError(
                f"The attack returned inputs in [{float(x_adv.min()):.6g}, "
                f"{float(x_adv.max()):.6g}], outside clip_range={self.clip_range}."
            )

    def _slack(self, x):
        """Return what rounding may add: a number, or one for each feature."""
        if not self.is_per_feature:
            return _ROUNDING * max(1.0, float(x.abs().max()), self.eps)
        return _ROUNDING * torch.maximum(x.abs().amax(0), self._radius_of_each(x))

    def _radius_of_each(self, x):
        return torch.zeros_like(x[0]) + self._radius(x)

    def check_features(self, X):
        """Raise a ValueError unless what is given per feature fits those of X."""
        check_feature_count("eps (or scale)", self.scale, X)
        for bound in self.bounds:
            check_feature_count("clip_range", bound, X)

    def check_range(self, X):
        """Return the array or tensor X, which has to lie in ``clip_range``.

        What leaves it by no more than float32 rounding is clipped: data and range that
        were scaled by the same numbers end there.

        Raises
        ------
        PixelRangeError
            If X leaves the range further.
        ValueError
            If what is given per feature is for other features.
        """
        self.check_features(X)
        if self.clip_range is None or math.prod(X.shape) == 0:
            return X
        shape = tuple(X.shape[1:])
        low, high = (feature_array(bound, shape) for bound in self.clip_range)
        smallest, largest = _ends(X)
        if (smallest >= low).all() and (largest <= high).all():
            return X
        ends = np.maximum(*(np.where(np.isfinite(b), abs(b), 0) for b in (low, high)))
        excess = np.maximum(low - smallest, largest - high) - _SCALING * ends
        if (excess <= 0).all():
            if isinstance(X, torch.Tensor):
                return self.clip(X)
            return np.clip(X, low, high).astype(X.dtype, copy=False)
        raise PixelRangeError(describe_excess(X, self.clip_range, excess))

    def warn_of_unit(self, X):
        """Warn where budget and range of the array X look as if of different units.

        A budget beyond the whole range, or below a level of pixels that have 256.
        """
        if self.clip_range is None or self.eps == 0 or len(X) == 0:
            return
        low, high = self.value_range or (-math.inf, math.inf)
        width = high - low
        has_levels = _WIDE < width < math.inf and not self.is_per_feature
        if self.eps > float(self.diameter(torch.zeros(1, *X.shape[1:]))):
            advice = "can turn any X into any other; for pixels 0..1 divide it by 255"
        elif has_levels and self.eps < 0.99 * width / 255:
            advice = (
                f"is less than one level of 255; you may mean {self.eps * width:.4g}"
            )
        else:
            return
        warnings.warn(
            f"The unit of eps looks wrong: eps={self.eps:.4g} in {self.norm} for X in "
            f"[{low:g}, {high:g}] {advice}. eps has the unit of X.",
            BudgetUnitWarning,
            stacklevel=3,
        )

    def warn_of_integers(self, X):
        """Warn where a budget per feature moves columns of integers to fractions.

        In flat rows X, where ``eps`` or ``scale`` was given per feature.
        """
        if self.scale is None or self.eps == 0 or X.ndim != 2 or len(X) == 0:
            return
        moved = integer_columns(X) & (feature_array(self.scale, X.shape[1:]) > 0)
        if moved.any():
            columns = np.flatnonzero(moved).tolist()
            warnings.warn(
                describe_integers(columns), IntegerFeatureWarning, stacklevel=3
            )


def _ends(X):
    """Return the smallest and the largest value of each feature, as arrays."""
    if isinstance(X, torch.Tensor):
        return (end.double().cpu().numpy() for end in X.detach().aminmax(dim=0))
    return X.min(axis=0), X.max(axis=0)


def _shorten(delta, slack):
    """Return moves shorter by ``slack`` in each feature, as far as 0."""
    return delta.sign() * (delta.abs() - slack).clamp_min(0)
