"""The threat model: what an adversary may do to an input.

The only file of the package that knows norms, the perturbation budget and the pixel
range. Attacks, robustifiers and scorers ask a :class:`ThreatModel`; none of them clips
or projects by itself.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch

from robustfit._utils.projections import onto_hyperplane_in_box, onto_l1_ball_in_box
from robustfit._utils.sample_random import (
    SampleGenerator,
    sample_normal,
    sample_uniform,
)
from robustfit._utils.torch_bridge import per_sample
from robustfit.exceptions import AttackBudgetError, BudgetUnitWarning, PixelRangeError

__all__ = ["ThreatModel"]

NORMS = ("linf", "l2", "l1")

# Ranges wider than this are those of unscaled pixels, not of standardised ones.
_WIDE = 10

# Share of the features that one l1 ascent step moves (Tramèr & Boneh, 2019).
_L1_STEP_SHARE = 0.05

# Float32 rounding of x + delta: relative to the largest magnitude in play.
_ROUNDING = 1e-5
# Float32 rounding of one sum, twice.
_ULPS = 2.0**-22
# Float32 rounding of data that were scaled as their range was, likewise.
_SCALING = 8 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class ThreatModel:
    """A norm ball of radius ``eps`` around the input, cut by the valid pixel range.

    Parameters
    ----------
    norm : {"linf", "l2", "l1"}, default="linf"
        Norm of the perturbation, taken over all features of a sample.
    eps : float, default=8/255
        Radius of the ball, in the units of the input (with pixels in [0, 1],
        ``8/255`` is the field's usual linf budget for CIFAR-10). ``eps >= 0``.
    clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
        Smallest and largest valid value of an input. ``None`` means unbounded inputs.
        A list or an array of two numbers becomes a tuple.

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

    Examples
    --------
    >>> import torch
    >>> from robustfit import ThreatModel
    >>> threat_model = ThreatModel("linf", eps=0.1)
    >>> x = torch.tensor([[0.0, 0.5]])
    >>> threat_model.project(x + torch.tensor([[-0.3, 0.3]]), x)
    tensor([[0.0000, 0.6000]])
    """

    norm: str = "linf"
    eps: float = 8 / 255
    clip_range: tuple[float, float] | None = (0.0, 1.0)

    def __post_init__(self):
        if self.norm not in NORMS:
            raise ValueError(f"norm is {self.norm!r}; expected one of {NORMS}.")
        if isinstance(self.eps, bool) or not isinstance(self.eps, Real):
            raise ValueError(
                f"eps is {self.eps!r}; expected one number >= 0 in the units of X "
                "(for pixels in [0, 1], for example 8/255)."
            )
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise ValueError(f"eps is {self.eps!r}; expected a finite number >= 0.")
        if isinstance(self.clip_range, list | np.ndarray):
            pair = tuple(np.asarray(self.clip_range).tolist())
            object.__setattr__(self, "clip_range", pair)
        if self.clip_range is not None:
            _check_clip_range(self.clip_range)

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
            x_adv = torch.minimum(torch.maximum(x_adv, x - self.eps), x + self.eps)
        elif self.norm == "l1":
            delta = onto_l1_ball_in_box(
                (x_adv - x).flatten(1), x.flatten(1), self.eps, self.bounds
            )
            x_adv = x + delta.reshape(x.shape)
        else:
            delta = x_adv - x
            length = _l2(delta)
            x_adv = x + delta * (self.eps / length.clamp_min(max(self.eps, 1e-12)))
        return self.clip(x_adv)

    def clip(self, x):
        """Clip ``x`` to ``clip_range`` (a copy; ``x`` itself when unbounded)."""
        if self.clip_range is None:
            return x
        return x.clamp(*self.clip_range)

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
            return self.clip(x + (2 * _uniform(x.shape, x, generator) - 1) * self.eps)
        n_features = max(1, x[0].numel() if len(x) else 1)
        direction = _normal(x.shape, x, generator)
        radius = _uniform((len(x), 1), x, generator)[:, 0] ** (1 / n_features)
        radius = per_sample(radius, x) * self.eps
        if self.norm == "l1":  # a Laplace vector has a uniform direction in l1
            direction = direction.sign() * -(
                1 - _uniform(x.shape, x, generator)
            ).log()  # fmt: skip
        return self.clip(x + radius * direction / self._length(direction))

    def move_to_sphere(self, x, direction):
        """Return ``x`` moved by ``eps`` along ``direction``, in the range.

        Parameters
        ----------
        x, direction : torch.Tensor of shape (n_samples, ...)
            ``direction`` of any length.
        """
        return self.project(x + self.eps * direction / self._length(direction), x)

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
        move = onto_hyperplane_in_box(
            x.flatten(1), normal.flatten(1), offset, self.bounds, self.norm
        )
        return move.reshape(x.shape)

    @property
    def bounds(self):
        """``clip_range`` as two numbers; infinite when inputs are unbounded."""
        return (-math.inf, math.inf) if self.clip_range is None else self.clip_range

    def box(self, X, *, rounding=False):
        """Return the smallest and the largest value that each feature can take alone.

        Parameters
        ----------
        X : ndarray of shape (n_samples, ...)
            Points in ``clip_range``.
        rounding : bool, default=False
            Whether to allow for the float32 rounding of attacks that add ``eps`` to a
            number: what bounds have to reckon with.

        Returns
        -------
        low, high : ndarray of the shape of X, float64
        """
        X = np.asarray(X, float)
        slack = _ULPS * (np.abs(X) + self.eps) if rounding else 0.0
        low, high = self.bounds
        return (
            np.maximum(X - self.eps, low) - slack,
            np.minimum(X + self.eps, high) + slack,
        )

    def budget_share(self, distance):
        """Return the share of the budget that moving one feature this far takes.

        Shares of several features add up, and within the :meth:`box` a move is allowed
        if their sum is at most one. In linf they are zero: the box says it all.

        Parameters
        ----------
        distance : ndarray
            How far a feature moves, not negative.

        Returns
        -------
        ndarray of the same shape
        """
        if self.norm == "linf" or self.eps == 0:
            return np.zeros_like(distance)
        return (distance / self.eps) ** (2 if self.norm == "l2" else 1)

    def dual_length(self, gradient):
        """Return the dual norm of each gradient: the loss a unit step gains."""
        order = {"linf": 1, "l2": 2, "l1": math.inf}[self.norm]
        return torch.linalg.vector_norm(gradient.flatten(1), order, dim=1)

    def _length(self, delta):
        length = self.distance(delta, torch.zeros_like(delta)).clamp_min(1e-12)
        return per_sample(length, delta)

    def steepest_direction(self, gradient):
        """Return the unit-norm direction along which ``gradient`` ascends fastest."""
        if self.norm == "linf":
            return gradient.sign()
        if self.norm == "l1":
            return _sparse_sign(gradient, _L1_STEP_SHARE)
        return _l2_direction(gradient)

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
        return self.clip(x - step_size * _l2_direction(gradient))

    def distance(self, x_adv, x):
        """Return the norm of ``x_adv - x``, one number a sample, shape (n_samples,)."""
        delta = (x_adv - x).reshape(len(x), -1)
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
        slack = _ROUNDING * max(1.0, float(x.abs().max()), self.eps)
        distance = float(self.distance(x_adv, x).max())
        if distance > self.eps + slack:
            raise AttackBudgetError(
                f"The attack returned a perturbation of {self.norm} norm "
                f"{distance:.6g}; the budget is eps={self.eps:.6g}."
            )
        if self.clip_range is None:
            return
        low, high = self.clip_range
        if float(x_adv.min()) < low - slack or float(x_adv.max()) > high + slack:
            raise AttackBudgetError(
                f"The attack returned inputs in [{float(x_adv.min()):.6g}, "
                f"{float(x_adv.max()):.6g}], outside clip_range={self.clip_range}."
            )

    def check_range(self, X):
        """Return the array or tensor X, which has to lie in ``clip_range``.

        What leaves it by no more than float32 rounding is clipped: data and range that
        were scaled by the same numbers end there.

        Raises
        ------
        PixelRangeError
            If X leaves the range further.
        """
        if self.clip_range is None or math.prod(X.shape) == 0:
            return X
        low, high = self.clip_range
        smallest, largest = float(X.min()), float(X.max())
        if smallest >= low and largest <= high:
            return X
        slack = _SCALING * max(abs(low), abs(high))
        if smallest >= low - slack and largest <= high + slack:
            if isinstance(X, torch.Tensor):
                return self.clip(X)
            return np.clip(X, low, high).astype(X.dtype, copy=False)
        raise PixelRangeError(
            f"X lies in [{smallest:g}, {largest:g}]; expected "
            f"clip_range=({low:g}, {high:g}). {_range_advice(smallest, largest, high)}"
        )

    def warn_of_unit(self, X):
        """Warn where budget and range of the array X look as if of different units.

        A budget beyond the whole range, or below a level of pixels that have 256.
        """
        if self.clip_range is None or self.eps == 0 or len(X) == 0:
            return
        low, high = self.clip_range
        width = high - low
        n_features = 1 if self.norm == "linf" else math.prod(X.shape[1:])
        root = 2 if self.norm == "l2" else 1
        widest = width * n_features ** (1 / root)
        if self.eps > widest:
            advice = "can turn any X into any other; for pixels 0..1 divide it by 255"
        elif width > _WIDE and self.eps < 0.99 * width / 255:
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


def _check_clip_range(clip_range):
    is_pair = isinstance(clip_range, tuple) and len(clip_range) == 2
    if not is_pair or not all(isinstance(bound, Real) for bound in clip_range):
        raise ValueError(f"clip_range is {clip_range!r}; expected (low, high) or None.")
    if not clip_range[0] < clip_range[1]:
        raise ValueError(f"clip_range is {clip_range!r}; expected low < high.")


def _range_advice(smallest, largest, high):
    if smallest >= 0 and 1 < largest <= 255 and high == 1:
        scale = 16 if largest <= 16 else 255
        return (
            f"Divide by the largest possible value first, for example X / {scale} "
            f"when pixels are 0..{scale}."
        )
    return "Rescale X, or pass the clip_range that holds (None for unbounded features)."


def _l2(delta):
    """L2 norm of each sample, shaped to broadcast against it."""
    norm = torch.linalg.vector_norm(delta.reshape(len(delta), -1), dim=1)
    return per_sample(norm, delta)


def _l2_direction(gradient):
    """Return each sample's gradient with l2 norm one, or zero where it vanishes."""
    # Scaled by the largest entry first: squares of tiny gradients underflow.
    axes = tuple(range(1, gradient.ndim))
    largest = gradient.abs().amax(axes, keepdim=True) if axes else gradient.abs()
    scaled = gradient / torch.where(largest > 0, largest, 1.0)
    return scaled / _l2(scaled).clamp_min(1e-12)


def _sparse_sign(gradient, share):
    """Signs of each sample's largest entries, scaled to l1 norm one."""
    flat = gradient.flatten(1)
    n_kept = max(1, round(share * flat.shape[1]))
    smallest = flat.abs().topk(n_kept, dim=1).values[:, -1:]
    signs = torch.where(flat.abs() >= smallest, flat.sign(), 0.0)
    signs = signs / signs.abs().sum(1, keepdim=True).clamp_min(1)
    return signs.reshape(gradient.shape)


def _uniform(shape, x, generator):
    if isinstance(generator, SampleGenerator):
        return sample_uniform(generator.keys(x), shape).to(x.dtype)
    return torch.rand(shape, generator=generator, device=x.device, dtype=x.dtype)


def _normal(shape, x, generator):
    if isinstance(generator, SampleGenerator):
        return sample_normal(generator.keys(x), shape).to(x.dtype)
    return torch.randn(shape, generator=generator, device=x.device, dtype=x.dtype)
