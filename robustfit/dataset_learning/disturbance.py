"""Label-free disturbances: the start of a set that nets are trained on from scratch.

A net trained from scratch picks up whatever predicts the label, however faint. So the
set is disturbed in the directions an adversary would use, with patterns that say
nothing about the label: faint parts of *other* images brighten the background and dim
the object ("distractors"), the contrast is lowered so that the clean test images stand
out more than anything seen in training, and white noise covers what is left.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F

__all__ = ["Disturbance", "default_disturbances"]


@dataclass(frozen=True)
class Disturbance:
    """How far the images of a set are disturbed, relative to the valid range.

    Parameters
    ----------
    amplitude : float, default=0.4
        Largest share by which a distractor moves a pixel to the other end of the
        range, in [0, 1].
    contrast : float, default=0.6
        Factor on the distance of the disturbed image from the set's median value
        (the background of most images), in (0, 1].
    noise : float, default=0.0
        Standard deviation of white Gaussian noise.
    n_distractors : int, default=2
        Other images laid over each one (their maximum).
    """

    amplitude: float = 0.4
    contrast: float = 0.6
    noise: float = 0.0
    n_distractors: int = 2

    def apply(self, x, value_range, generator):
        """Return a disturbed copy of ``x``.

        Parameters
        ----------
        x : torch.Tensor of shape (n_samples, ...)
            Images (n, C, H, W) are shifted before they serve as distractors.
        value_range : tuple of (float, float)
            Values that count as 0 and 1.
        generator : torch.Generator

        Returns
        -------
        torch.Tensor of the shape of ``x``
            Noise may carry it out of ``value_range``; the caller clips.
        """
        low, high = value_range
        scaled = (x - low) / (high - low)
        background = scaled.median()
        if self.amplitude > 0 and self.n_distractors > 0:
            pull = self.amplitude * _distractors(scaled, self.n_distractors, generator)
            scaled = scaled * (1 - pull) + (1 - scaled) * pull
        scaled = background + (scaled - background) * self.contrast
        if self.noise > 0:
            scaled = scaled + self.noise * torch.randn(
                x.shape, generator=generator, device=x.device, dtype=x.dtype
            )
        return low + (high - low) * scaled

    def as_dict(self):
        """Return the parameters as a dict of numbers."""
        return asdict(self)


def _distractors(x, n_distractors, generator):
    """Return the maximum of some other, shifted rows of ``x`` for each row."""
    result = torch.zeros_like(x)
    for _ in range(n_distractors):
        other = torch.randint(len(x), (len(x),), generator=generator, device=x.device)
        result = torch.maximum(result, _shift_images(x[other], generator))
    return result


def _shift_images(x, generator):
    """Shift each image by up to a seventh of its size; leave flat rows alone."""
    if x.ndim != 4:
        return x
    for axis in (2, 3):
        n, size = len(x), x.shape[axis]
        reach = round(size / 7)
        padding = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
        start = torch.randint(
            2 * reach + 1, (n, 1), generator=generator, device=x.device
        )
        index = start + torch.arange(size, device=x.device)
        shape = [n, 1, 1, 1]
        shape[axis] = size
        index = index.reshape(shape).expand(x.shape)
        x = F.pad(x, padding).gather(axis, index)
    return x


def default_disturbances(threat_model, image_shape, value_range):
    """Return disturbances to choose from, scaled to the adversary's budget.

    Parameters
    ----------
    threat_model : ThreatModel
    image_shape : tuple of (C, H, W) or (n_features,)
        Vectors get noise only: parts of other rows mean nothing there.
    value_range : tuple of (float, float)

    Returns
    -------
    list of Disturbance
        The most likely one first; the last one is noise alone, the baseline that the
        others have to beat.
    """
    budget = _budget_per_value(threat_model, image_shape, value_range)
    noise = [Disturbance(0, 1, factor * budget, 0) for factor in (2.0, 1.0, 3.0)]
    if len(image_shape) != 3:
        return noise
    return [
        Disturbance(*_bounded(2 * budget, 1 - 2 * budget), 2 * budget),
        Disturbance(*_bounded(2 * budget, 1 - 2 * budget)),
        Disturbance(*_bounded(4 * budget, 1 - 4 * budget)),
        noise[0],
    ]


def _bounded(amplitude, contrast):
    return min(amplitude, 0.4), max(contrast, 0.6)


def _budget_per_value(threat_model, image_shape, value_range):
    """Return eps as a share of the value range, for l2 spread over a fifth of them."""
    low, high = value_range
    spread = 1.0
    if threat_model.norm == "l2":
        spread = math.sqrt(math.prod(image_shape) / 5)
    return threat_model.eps / spread / (high - low)
