"""Models that return probabilities, and the logits behind them.

Gradients of saturated probabilities vanish and feign robustness; those of the logits
before the softmax do not.
"""

from collections import deque

import torch
import torch.nn.functional as F
from torch import nn

from robustfit._utils.watched_calls import WatchedCalls
from robustfit._utils.watched_layers import watched_layers

__all__ = [
    "log_of",
    "looks_like_probabilities",
    "recover_logits",
    "see_through_softmax",
    "see_through_softmax_layer",
]

_SOFTMAX = (torch.softmax, F.softmax, torch.Tensor.softmax, torch.special.softmax)


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
        output, logits = see_through_softmax(self.probability_fn, x)
        return log_of(output) if logits is None else logits


def see_through_softmax(fn, x):
    """Return what ``fn`` returns for ``x``, and the logits that a softmax made it of.

    They are None where the output is not what the last softmax returned. Of a tuple
    the first is the output.
    """
    last: deque = deque(maxlen=1)

    def remember(args, kwargs, output):
        last.append((args[0] if args else kwargs["input"], output))

    return _run(fn, x, last, WatchedCalls(_SOFTMAX, remember))


def see_through_softmax_layer(module, x):
    """Do the same where the softmax is a ``torch.nn.Softmax``; others are not seen."""
    last: deque = deque(maxlen=1)

    def remember(_, given, returned):
        last.append((given, returned))

    layers = [part for part in module.modules() if isinstance(part, nn.Softmax)]
    return _run(module, x, last, watched_layers(layers, remember))


def _run(fn, x, last, watch):
    with watch:
        output = fn(x)
    if isinstance(output, tuple):
        output = output[0]
    return output, last[0][0] if last and last[0][1] is output else None


def log_of(probabilities):
    """Return logits whose softmax they are; the floor keeps those of zeros finite."""
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()
