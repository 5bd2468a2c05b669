"""Random numbers that belong to a sample, not to its place in a batch.

Every number is a hash of a seed, the values of the sample, and a counter (Salmon et
al., "Parallel random numbers: as easy as 1, 2, 3", 2011), computed for a whole batch
at once. So an attack draws the same numbers for a sample whatever batch, chunk, process
or device it meets the sample in.
"""

import math

import torch

__all__ = [
    "SampleGenerator",
    "normal_like",
    "sample_keys",
    "sample_normal",
    "sample_uniform",
    "uniform_like",
    "with_stream",
]

# Constants of the 64-bit finaliser of Stafford's Mix13 (Steele et al., 2014), signed.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MIX = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))


class SampleGenerator(torch.Generator):
    """A torch generator that also deals out a key for each sample.

    Code that knows no keys uses it as a plain ``torch.Generator``. Each call of
    :meth:`keys` starts a new stream, in the order of the calls.
    """

    def __new__(cls, seed, device="cpu"):
        """Make the plain generator on ``device``."""
        # torch's own typing does not know that its generator is made here.
        return super().__new__(cls, device=device)  # type: ignore[call-arg]

    def __init__(self, seed, device="cpu"):
        self.manual_seed(int(seed) % 2**63)
        self._n_streams = 0

    def keys(self, x):
        """Return the next stream's keys (n_samples,) for the samples ``x``."""
        self._n_streams += 1
        return with_stream(sample_keys(x, self.initial_seed()), self._n_streams)


def sample_keys(x, seed):
    """Return an int64 key for each sample, from its values and the seed."""
    bits = (x.detach().flatten(1).float() + 0.0).view(torch.int32).long()
    place = torch.arange(bits.shape[1], device=x.device) * _GOLDEN
    keys = _mix(bits + place).sum(1)
    return with_stream(keys, int(seed))


def with_stream(keys, stream):
    """Return other keys: one for each number (or tensor of numbers) ``stream``."""
    step = (stream + 1) * _GOLDEN
    return _mix(keys + (_as_int64(step) if isinstance(step, int) else step))


def sample_uniform(keys, shape):
    """Return uniform numbers in [0, 1) of ``shape`` (n_samples, ...)."""
    count = math.prod(shape[1:])
    counter = torch.arange(1, count + 1, device=keys.device) * _GOLDEN
    bits = _mix(keys[:, None] + counter)
    return ((bits >> 40) & (2**24 - 1)).float().mul_(2.0**-24).reshape(shape)


def sample_normal(keys, shape):
    """Return standard normal numbers of ``shape`` (Box & Muller, 1958)."""
    radius = (-2 * (1 - sample_uniform(keys, shape)).log()).sqrt()
    angle = 2 * math.pi * sample_uniform(with_stream(keys, 0), shape)
    return radius * angle.cos()


def uniform_like(x, generator, shape=None):
    """Return uniform numbers in [0, 1), samples' own if the generator deals out keys.

    Of the shape of ``x`` (n_samples, ...), or of ``shape`` with as many samples.
    """
    shape = x.shape if shape is None else shape
    if isinstance(generator, SampleGenerator):
        return sample_uniform(generator.keys(x), shape).to(x.dtype)
    return torch.rand(shape, generator=generator, device=x.device, dtype=x.dtype)


def normal_like(x, generator):
    """Return standard normal numbers of the shape of ``x``, in the same way."""
    if isinstance(generator, SampleGenerator):
        return sample_normal(generator.keys(x), x.shape).to(x.dtype)
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def _mix(bits):
    for shift, factor in _MIX:
        bits = (bits ^ _logical_shift(bits, shift)) * factor
    return bits ^ _logical_shift(bits, 31)


def _logical_shift(bits, shift):
    return (bits >> shift) & (2 ** (64 - shift) - 1)


def _as_int64(number):
    """Wrap a Python integer as 64-bit arithmetic does."""
    number = number % 2**64
    return number - 2**64 if number >= 2**63 else number
