"""Label-free disturbances of the images of a set.

A net trained from scratch picks up whatever predicts the label, however faint. So the
set is disturbed in the way an adversary would disturb it, with patterns that say
nothing about the label: faint parts of *other* images and faint blocks brighten the
background and dim the object. Then the contrast is lowered, so that clean images, which
the net sees later, stand out more than anything it was trained on: only a threshold
between background and object separates the classes, and a threshold is robust.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F

__all__ = ["Disturbance", "budget_per_value"]

# Sizes of the MNIST recipe as shares of an image of 28x28 pixels.
BLOCK_SHARE = 3 / 28
SHIFT_SHARE = 2 / 28


@dataclass(frozen=True)
class Disturbance:
    """How far the images of a set are disturbed, as shares of the range of values.

    ``Disturbance(0, 1)`` changes nothing.

    Parameters
    ----------
    amplitude : float, default=0.4
        Share by which a pattern moves a value towards the other end of the range, in
        [0, 0.5).
    contrast : float, default=0.65
        Factor on the distance of the disturbed image from the set's median value (the
        background of most images), in (0, 1].
    noise : float, default=0.0
        Standard deviation of white Gaussian noise.
    mixed : bool, default=False
        Give each row either the pattern or the noise, by the toss of a coin, instead
        of both.
    """

    amplitude: float = 0.4
    contrast: float = 0.65
    noise: float = 0.0
    mixed: bool = False

    def apply(self, x, value_range, generator, *, others=None, background=None):
        """Return a disturbed copy of ``x``.

        Parameters
        ----------
        x : torch.Tensor of shape (n_samples, ...)
            Patterns are drawn for images (n, C, H, W) only.
        value_range : tuple of (float, float)
            Values that count as 0 and 1.
        generator : torch.Generator
        others : torch.Tensor of shape (n_others, ...) or None, default=None
            Images that patterns are cut from, of values in [0, 1]; None is ``x``.
        background : float or None, default=None
            The set's median value, in ``value_range``; None is that of ``x``.

        Returns
        -------
        torch.Tensor of the shape of ``x``
            Noise may carry it out of ``value_range``; the caller clips.
        """
        low, high = value_range
        scaled = (x - low) / (high - low)
        others = scaled if others is None else others
        if background is None:
            middle = scaled.median()
        else:
            middle = (background - low) / (high - low)
        amplitude: float | torch.Tensor = self.amplitude
        noise: float | torch.Tensor = self.noise
        if self.mixed:
            shape = (len(x), *[1] * (x.ndim - 1))
            coin = torch.rand(shape, generator=generator, device=x.device) < 0.5
            amplitude, noise = amplitude * coin, noise * ~coin
        if self.amplitude > 0:
            dimming = amplitude * draw_patterns(scaled, generator, others)
            brightening = amplitude * draw_patterns(scaled, generator, others)
            scaled = scaled * (1 - dimming) + (1 - scaled) * brightening
        scaled = middle + (scaled - middle) * self.contrast
        if self.noise > 0:
            scaled = scaled + noise * torch.randn(
                x.shape, generator=generator, device=x.device, dtype=x.dtype
            )
        return low + (high - low) * scaled

    def as_dict(self):
        """Return the parameters as a dict of numbers."""
        return asdict(self)


def draw_patterns(x, generator, others=None):
    """Return a pattern in [0, 1] for each image: two random kinds overlaid."""
    others = x if others is None else others
    return torch.maximum(*(_draw_kind(x, others, generator) for _ in range(2)))


def _draw_kind(x, others, generator):
    """Parts of two other images, or blocks: each with probability one half."""
    parts = [_shifted_rows(len(x), others, generator) for _ in range(2)]
    coin = torch.rand(len(x), generator=generator, device=x.device) < 0.5
    cut = torch.maximum(*parts)
    return torch.where(coin[:, None, None, None], cut, _blocks(x, generator))


def _shifted_rows(count, others, generator):
    """Return ``count`` random rows of ``others``, shifted by up to SHIFT_SHARE."""
    device = others.device
    rows = torch.randint(len(others), (count,), generator=generator, device=device)
    reach = [round(size * SHIFT_SHARE) for size in others.shape[2:]]
    padded = F.pad(others[rows], (reach[1], reach[1], reach[0], reach[0]))
    return _random_crops(padded, others.shape[2:], generator)


def _blocks(x, generator):
    """Return blocks of 0 or 1, the same in every channel, on a random grid."""
    n, _, *size = x.shape
    side = [max(1, round(length * BLOCK_SHARE)) for length in size]
    count = [math.ceil(a / b) + 1 for a, b in zip(size, side, strict=True)]
    bits = torch.rand(n, 1, *count, generator=generator, device=x.device) < 0.5
    grid = bits.to(x.dtype).repeat_interleave(side[0], 2).repeat_interleave(side[1], 3)
    grid = grid[:, :, : size[0] + side[0] - 1, : size[1] + side[1] - 1]
    return _random_crops(grid, size, generator).expand_as(x)


def _random_crops(x, size, generator):
    """Cut a window of ``size`` from a random place of each image of ``x``."""
    for axis, length in zip((2, 3), size, strict=True):
        room = x.shape[axis] - length + 1
        start = torch.randint(room, (len(x), 1), generator=generator, device=x.device)
        index = (start + torch.arange(length, device=x.device)).unsqueeze(1)
        index = index.unsqueeze(3 if axis == 2 else 2)
        shape = [*x.shape[:axis], length, *x.shape[axis + 1 :]]
        x = x.gather(axis, index.expand(shape))
    return x


def budget_per_value(threat_model, image_shape, value_range):
    """Return eps as a share of the value range, for l2 spread over an eighth of it."""
    low, high = value_range
    spread = 1.0
    if threat_model.norm == "l2":
        spread = math.sqrt(math.prod(image_shape) / 8)
    return threat_model.eps / spread / (high - low)
