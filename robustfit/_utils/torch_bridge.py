"""The crossing between numpy and torch: devices, seeds, tensors, batches."""

from contextlib import contextmanager

import numpy as np
import torch
from sklearn.utils import check_random_state

__all__ = [
    "batch_slices",
    "draw_integer",
    "draw_seed",
    "eval_mode",
    "make_generator",
    "per_sample",
    "resolve_device",
    "seeded_torch",
    "stage_generator",
    "to_array",
    "to_tensor",
]


def resolve_device(device="auto"):
    """Return the torch.device meant by ``device``; "auto" is a GPU when there is one.

    Raises
    ------
    ValueError
        If the device is unknown or not on this machine, before any work is done.
    """
    if isinstance(device, torch.device):
        device = str(device)
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(
            f"device is {device!r}, which this machine does not have "
            f"({str(error).splitlines()[0]}). Use 'auto' or 'cpu'."
        ) from error
    return resolved


def draw_seed(random_state):
    """Return an integer seed from anything scikit-learn takes as ``random_state``."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def make_generator(seed, device="cpu"):
    """Return a torch.Generator on ``device`` seeded with the integer ``seed``."""
    return torch.Generator(device=device).manual_seed(int(seed))


def draw_integer(generator):
    """Return an integer seed drawn from a torch.Generator."""
    device = generator.device
    return int(torch.randint(2**62, (), generator=generator, device=device))


def stage_generator(seed, *stage, device="cpu"):
    """Return the generator of one stage of a fit.

    It depends on ``seed`` and the integers ``stage`` alone, never on how many numbers
    were drawn before, so a resumed fit draws what the uninterrupted one would have.
    """
    words = np.random.SeedSequence([seed, *stage]).generate_state(2)
    return make_generator((int(words[0]) << 31) ^ int(words[1]), device)


@contextmanager
def seeded_torch(seed):
    """Seed torch's global generators inside the block and restore them after it.

    For code that knows no generator: module initialisation, skorch's shuffling.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(seed) % 2**63)
        yield


@contextmanager
def eval_mode(module):
    """Put ``module`` in eval mode with frozen parameters; restore both afterwards."""
    was_training = [(part, part.training) for part in module.modules()]
    required_grad = [(p, p.requires_grad) for p in module.parameters()]
    module.eval()
    for parameter, _ in required_grad:
        parameter.requires_grad_(False)
    try:
        yield module
    finally:
        for part, training in was_training:
            part.training = training
        for parameter, required in required_grad:
            parameter.requires_grad_(required)


def to_tensor(array, device="cpu", dtype=torch.float32):
    """Copy a numpy array (read-only ones too) into a tensor on ``device``."""
    return torch.tensor(np.asarray(array), dtype=dtype, device=device)


def to_array(tensor):
    """Return a tensor's values as a numpy array of its own memory."""
    return tensor.detach().cpu().numpy().copy()


def per_sample(values, x):
    """Return one value a sample, shaped so that it broadcasts against ``x``."""
    return values.reshape(-1, *[1] * (x.ndim - 1))


def batch_slices(n_samples, batch_size):
    """Yield slices that cover ``range(n_samples)`` in steps of ``batch_size``."""
    for start in range(0, n_samples, batch_size):
        yield slice(start, min(start + batch_size, n_samples))
