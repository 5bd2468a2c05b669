"""What a model must be for gradients to tell: AutoAttack's flags, softmax undone."""

import warnings
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from robustfit.attacks.losses import loss_and_input_gradient
from robustfit.exceptions import (
    DynamicDefenseWarning,
    ProbabilityOutputWarning,
    RandomizedDefenseWarning,
    ZeroGradientWarning,
)

__all__ = [
    "ADVICE",
    "check_model",
    "looks_like_probabilities",
    "model_flags",
    "recover_logits",
]

ADVICE = {
    RandomizedDefenseWarning: "The model's output differs from call to call. Evaluate "
    "it with version='rand', which averages gradients over 20 calls.",
    ProbabilityOutputWarning: "The model returns probabilities, not logits; gradients "
    "of saturated probabilities vanish and feign robustness. The logits before the "
    "softmax were recovered where it could be seen, else the logarithm was taken. "
    "Attack the logits.",
    ZeroGradientWarning: "The loss has an exactly zero gradient at some inputs, so "
    "gradient attacks cannot move there: look for saturated outputs or rounding in "
    "the model.",
    DynamicDefenseWarning: "The model computes gradients while it predicts; AutoAttack "
    "may not be enough and an adaptive attack is needed.",
}
_N_REPEATS = 5
_RANDOM_TOLERANCE = 1e-4
_SOFTMAX = (torch.softmax, F.softmax, torch.Tensor.softmax, torch.special.softmax)


def check_model(logits_fn, x, y, *, expects_noise=False):
    """Warn for each flag that :func:`model_flags` raises; return the warnings."""
    flags = model_flags(logits_fn, x, y)
    if expects_noise:
        flags = [flag for flag in flags if flag is not RandomizedDefenseWarning]
    for category in flags:
        warnings.warn(ADVICE[category], category, stacklevel=4)
    return flags


def model_flags(logits_fn, x, y):
    """Return the warnings that a model deserves, as a list of their classes.

    Parameters
    ----------
    logits_fn : callable
    x : torch.Tensor of shape (n_samples, ...)
    y : torch.Tensor of shape (n_samples,)
    """
    flags: list[type[Warning]] = []
    with torch.no_grad(), _count_gradients() as calls:
        outputs = [logits_fn(x) for _ in range(_N_REPEATS)]
    if calls:
        flags.append(DynamicDefenseWarning)
    if _differ(outputs):
        flags.append(RandomizedDefenseWarning)
    if looks_like_probabilities(outputs[0]):
        flags.append(ProbabilityOutputWarning)
    if _has_zero_gradient(recover_logits(logits_fn, x[:2]), x, y):
        flags.append(ZeroGradientWarning)
    return flags


def _differ(outputs):
    scale = torch.linalg.vector_norm(outputs[0], dim=1).clamp_min(1e-10)
    return any(
        bool(((torch.linalg.vector_norm(o - outputs[0], dim=1) / scale) >
              _RANDOM_TOLERANCE).any())
        for o in outputs[1:]
    )  # fmt: skip


def _has_zero_gradient(logits_fn, x, y):
    try:
        _, gradient, logits = loss_and_input_gradient(logits_fn, x, y, "dlr")
    except RuntimeError:  # the output does not depend on the input by any gradient
        return True
    # Of right samples only: the ratio is constant where the true class comes third.
    gradient = gradient[logits.argmax(1) == y]
    return bool((gradient.flatten(1).abs().sum(1) == 0).any())


@contextmanager
def _count_gradients():
    """Collect calls of autograd inside the block."""
    calls: list[str] = []
    original_grad, original_backward = torch.autograd.grad, torch.autograd.backward

    def grad(*args, **kwargs):
        calls.append("grad")
        return original_grad(*args, **kwargs)

    def backward(*args, **kwargs):
        calls.append("backward")
        return original_backward(*args, **kwargs)

    torch.autograd.grad, torch.autograd.backward = grad, backward
    try:
        yield calls
    finally:
        torch.autograd.grad = original_grad
        torch.autograd.backward = original_backward


def looks_like_probabilities(output):
    """Return whether every row is non-negative and sums to one."""
    if output.ndim != 2 or output.shape[1] < 2 or not torch.isfinite(output).all():
        return False
    sums = (output.sum(1) - 1).abs().max()
    return bool(output.min() > -1e-5 and output.max() < 1 + 1e-5 and sums < 1e-5)


def recover_logits(logits_fn, x):
    """Return a function of logits, whatever ``logits_fn`` returns for ``x``.

    A softmax that makes the output is seen through, so that saturated probabilities
    keep their gradients; probabilities made otherwise are replaced by their logarithm.
    """
    with torch.no_grad():
        output = logits_fn(x)
    if not looks_like_probabilities(output):
        return logits_fn
    return _RecoveredLogits(logits_fn)


class _RecoveredLogits(nn.Module):
    """Logits of a model that returns probabilities."""

    def __init__(self, probability_fn):
        super().__init__()
        self.probability_fn = probability_fn

    def forward(self, x):
        with _SoftmaxWatch() as watch:
            output = self.probability_fn(x)
        if watch.output is output:
            return watch.logits
        return output.clamp_min(torch.finfo(output.dtype).tiny).log()


class _SoftmaxWatch(TorchFunctionMode):
    """Remember the input and output of the last softmax."""

    output: torch.Tensor | None = None
    logits: torch.Tensor | None = None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        if func in _SOFTMAX:
            inputs = args[0] if args else (kwargs or {})["input"]
            self.logits, self.output = inputs, output
        return output
