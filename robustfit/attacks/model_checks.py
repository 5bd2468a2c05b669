"""What a model must be for gradients to tell: AutoAttack's flags, and one more.

They cost a handful of forward passes on one batch, so every gradient attack asks them.
"""

import warnings

import torch

from robustfit._utils.watched_calls import WatchedCalls
from robustfit.attacks.losses import LOSSES, exact_gradient
from robustfit.exceptions import (
    BatchDependenceWarning,
    DynamicDefenseWarning,
    NotDifferentiableError,
    ProbabilityOutputWarning,
    RandomizedDefenseWarning,
    UndefinedGradientWarning,
    UndefinedOutputWarning,
    ZeroGradientWarning,
)
from robustfit.sklearn_to_torch.probabilities import (
    looks_like_probabilities,
    recover_logits,
)

__all__ = ["ADVICE", "check_model", "model_flags"]

ADVICE = {
    RandomizedDefenseWarning: "The model's output differs from call to call. Evaluate "
    "it with attack='autoattack', version='rand', which averages gradients over 20 "
    "calls.",
    BatchDependenceWarning: "The model's output for a sample depends on the other "
    "samples of its batch, as with statistics of the batch (x.mean(0), BatchNorm "
    "without running statistics). Its accuracy is no property of the model alone, and "
    "an attack on one batch says little about another. Use fixed statistics.",
    ProbabilityOutputWarning: "The model returns probabilities, not logits; gradients "
    "of saturated probabilities vanish and feign robustness. The logits before the "
    "softmax were recovered where it could be seen, else the logarithm was taken. "
    "Attack the logits.",
    ZeroGradientWarning: "The loss has an exactly zero gradient at some inputs, where "
    "gradient attacks cannot move (on the cross-entropy they take the margin's "
    "gradient instead): look for saturated outputs or rounding in the model, and "
    "compare with loss='margin' and attack='square'.",
    UndefinedOutputWarning: "The model returns NaN or infinite logits for some of the "
    "samples attacked, which counts as a wrong answer: look for divisions by zero (a "
    "standard deviation of equal values), roots and logarithms of zero.",
    UndefinedGradientWarning: "The loss has a NaN or infinite gradient at some inputs, "
    "as a root has at zero. An attack takes NaN for zero there, and may be misled: add "
    "a small number inside the root, and compare with attack='square'.",
    DynamicDefenseWarning: "The model computes gradients while it predicts; AutoAttack "
    "may not be enough and an adaptive attack is needed.",
}
_N_REPEATS = 5
# Relative changes of the logits; rounding changes with the size of a batch.
_RANDOM_TOLERANCE = 1e-4
_BATCH_TOLERANCE = 1e-2
# Share of right samples without a gradient that honest nets have, of dead units.
_FEW = 0.02
# A torch that does not tell of autograd.backward tells of Tensor.backward.
_GRADIENTS = (torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward)


def check_model(logits_fn, x, y, *, loss="dlr", expects_noise=False):
    """Warn for each flag that :func:`model_flags` raises; return the warnings."""
    flags = model_flags(logits_fn, x, y, loss)
    if expects_noise:
        flags = [flag for flag in flags if flag is not RandomizedDefenseWarning]
    for category in flags:
        warnings.warn(ADVICE[category], category, stacklevel=4)
    return flags


def model_flags(logits_fn, x, y, loss="dlr"):
    """Return the warnings that a model deserves, as a list of their classes.

    Parameters
    ----------
    logits_fn : callable
    x : torch.Tensor of shape (n_samples, ...)
    y : torch.Tensor of shape (n_samples,)
    loss : {"cross-entropy", "margin", "dlr"} or None, default="dlr"
        What the attack maximises; None for an attack that asks for outputs only.
    """
    flags, output = _output_flags(logits_fn, x)
    if loss is None:
        return flags
    recovered = recover_logits(logits_fn, x[:2])
    if looks_like_probabilities(output) or recovered is not logits_fn:
        flags.append(ProbabilityOutputWarning)
    right = (output.argmax(1) == y) & torch.isfinite(output).all(1)
    if right.any():
        flags += _gradient_flags(recovered, x[right], y[right], loss)
    return flags


def _output_flags(logits_fn, x):
    """Return the flags that outputs raise, and the output for ``x``."""
    flags: list[type[Warning]] = []
    calls: list[bool] = []
    with torch.no_grad(), WatchedCalls(_GRADIENTS, lambda *_: calls.append(True)):
        outputs = [logits_fn(x) for _ in range(_N_REPEATS)]
    if calls:
        flags.append(DynamicDefenseWarning)
    if any(_differ(output, outputs[0], _RANDOM_TOLERANCE) for output in outputs[1:]):
        flags.append(RandomizedDefenseWarning)
    elif _depends_on_batch(logits_fn, x, outputs[0]):
        flags.append(BatchDependenceWarning)
    if not torch.isfinite(outputs[0]).all():
        flags.append(UndefinedOutputWarning)
    return flags, outputs[0]


def _differ(outputs, expected, tolerance):
    """Return whether an output of a sample is another, up to rounding."""
    scale = torch.linalg.vector_norm(expected, dim=1).clamp_min(1e-10)
    gap = torch.linalg.vector_norm(outputs - expected, dim=1) / scale
    return bool((gap > tolerance).any())


def _depends_on_batch(logits_fn, x, outputs):
    """Return whether two samples get another output without the rest of the batch."""
    if len(x) < 3:
        return False
    with torch.no_grad():
        alone = logits_fn(x[:2])
    was_finite = torch.isfinite(outputs[:2])
    if (was_finite & ~torch.isfinite(alone)).any():  # divided by their spread, say
        return True
    return _differ(alone, outputs[:2], _BATCH_TOLERANCE)


def _gradient_flags(logits_fn, x, y, loss):
    """Return the flags of the loss's gradients at samples that are right.

    Of right samples only: the ratio "dlr" is constant where the true class comes third.
    """
    x = x.detach().requires_grad_(True)
    try:
        with torch.enable_grad():
            total = LOSSES[loss](logits_fn(x), y, value_only=True).sum()
        gradient = exact_gradient(total, x, logits_fn).flatten(1)
    except (RuntimeError, NotDifferentiableError):  # there is none at all
        return [ZeroGradientWarning]
    undefined = ~torch.isfinite(gradient).all()
    lacking = float((gradient == 0).all(1).float().mean()) > _FEW
    return [UndefinedGradientWarning] * bool(undefined) + [
        ZeroGradientWarning
    ] * lacking
