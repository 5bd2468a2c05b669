"""What a model must be for gradients to tell: AutoAttack's flags."""

import warnings

import torch

from robustfit._utils.watched_calls import WatchedCalls
from robustfit.attacks.losses import loss_and_input_gradient
from robustfit.exceptions import (
    DynamicDefenseWarning,
    ProbabilityOutputWarning,
    RandomizedDefenseWarning,
    ZeroGradientWarning,
)
from robustfit.sklearn_to_torch.probabilities import (
    looks_like_probabilities,
    recover_logits,
)

__all__ = ["ADVICE", "check_model", "model_flags"]

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
# A torch that does not tell of autograd.backward tells of Tensor.backward.
_GRADIENTS = (torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward)


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
    calls: list[bool] = []
    with torch.no_grad(), WatchedCalls(_GRADIENTS, lambda *_: calls.append(True)):
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
