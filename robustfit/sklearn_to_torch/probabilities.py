"""Models that return probabilities, and the logits behind them.

Gradients of saturated probabilities vanish and feign robustness; those of the logits
before the softmax do not.
"""

from collections import deque

import torch
import torch.nn.functional as F
from torch import nn

from robustfit._utils.torch_bridge import seeded_torch
from robustfit._utils.torch_private import viewed_tensor
from robustfit._utils.watched_calls import WatchedCalls
from robustfit._utils.watched_layers import watched_layers
from robustfit.sklearn_to_torch.logits import to_logits, unpack

__all__ = [
    "is_saturated",
    "log_of",
    "logit_of",
    "looks_like_probabilities",
    "recover_logits",
    "refuse_one_probability",
    "see_through_log_softmax",
    "see_through_sigmoid",
    "see_through_softmax",
    "see_through_softmax_layer",
    "with_logits",
]

_SOFTMAX = (torch.softmax, F.softmax, torch.Tensor.softmax, torch.special.softmax)
_SIGMOID = (
    torch.sigmoid,
    F.sigmoid,
    torch.Tensor.sigmoid,
    torch.special.expit,
)
_LOG = (torch.log, torch.Tensor.log)


def looks_like_probabilities(output):
    """Return whether every row is non-negative and sums to one."""
    if output.ndim != 2 or output.shape[1] < 2 or not torch.isfinite(output).all():
        return False
    sums = (output.sum(1) - 1).abs().max()
    return bool(output.min() > -1e-5 and output.max() < 1 + 1e-5 and sums < 1e-5)


def is_saturated(logits_fn, x):
    """Return whether the output are probabilities, some of them rounded to one."""
    with torch.no_grad():
        output = to_logits(logits_fn(x), x)
    return looks_like_probabilities(output) and bool((output == 1).any())


def recover_logits(logits_fn, x):
    """Return a function of logits, whatever ``logits_fn`` returns for ``x``.

    A softmax, its logarithm, or a sigmoid that makes the output is seen through, so
    that saturated probabilities keep their gradients; probabilities made otherwise are
    replaced by their logarithm. Itself is returned where there is nothing to recover.
    """
    see_through = _find_function(logits_fn, x)
    if see_through is None:
        return logits_fn
    return _RecoveredLogits(_bare(logits_fn), see_through)


def _bare(logits_fn):
    """Return the function without what :func:`to_logits` makes of its output."""
    return getattr(logits_fn, "module_output", logits_fn)


def with_logits(classifier, x):
    """Return a :class:`TorchClassifier` of logits, as :func:`recover_logits` does."""
    see_through = _find_function(classifier, x)
    if see_through is None:
        return classifier
    return classifier.with_module(_RecoveredLogits(classifier.module, see_through))


def _find_function(logits_fn, x):
    """Return what sees through the function that makes the output, or None."""
    with torch.no_grad():
        output = to_logits(logits_fn(x), x)
        if looks_like_probabilities(output):
            return see_through_softmax
        if looks_like_probabilities(output.exp()):
            candidate = see_through_log_softmax
        elif output.shape[1] > 1 and output.min() >= 0 and output.max() <= 1:
            candidate = see_through_sigmoid
        else:
            return None
        return None if candidate(_bare(logits_fn), x)[1] is None else candidate


def refuse_one_probability(logits_fn, x, logits):
    """Raise for a sigmoid's output: read as a logit it is always the second class.

    Parameters
    ----------
    logits_fn : callable
        Frozen, in eval mode.
    x : torch.Tensor of shape (n_few, ...)
        A few inputs, to see whether a sigmoid makes the output.
    logits : torch.Tensor of shape (n_samples, n_classes)
        Of these and more inputs.

    Raises
    ------
    ValueError
    """
    is_one_column = logits.shape[1] == 2 and torch.equal(logits[:, 0], -logits[:, 1])
    if not is_one_column or not ((logits[:, 1] >= 0) & (logits[:, 1] <= 0.5)).all():
        return
    sigmoids = []
    watch = WatchedCalls(_SIGMOID, lambda _, __, output: sigmoids.append(output))
    with torch.no_grad(), seeded_torch(0), watch:
        again = logits_fn(x)
    value = again[:, 1] - again[:, 0]
    if sigmoids and torch.allclose(sigmoids[-1].flatten().to(value), value):
        raise ValueError(
            "The model returns one column, the output of a sigmoid; expected the logit "
            "of the second class, as gradients of saturated probabilities vanish. "
            "Leave the sigmoid out."
        )


class _RecoveredLogits(nn.Module):
    """Logits of a model that returns probabilities."""

    def __init__(self, probability_fn, see_through):
        super().__init__()
        self.probability_fn = probability_fn
        self.see_through = see_through

    def forward(self, x):
        output, logits = self.see_through(self.probability_fn, x)
        return to_logits(log_of(output) if logits is None else logits, x)


def see_through_softmax(fn, x):
    """Return what ``fn`` returns for ``x``, and the logits that a softmax made it of.

    They are None where the output is not what the last softmax returned. Tuples and
    dicts are unpacked.
    """
    return _see_through(_SOFTMAX, fn, x)


def see_through_log_softmax(fn, x):
    """Do the same for the logarithm of a softmax, which is minus infinity of zeros."""
    return _see_through(_SOFTMAX, fn, x, then=_LOG)


def see_through_sigmoid(fn, x):
    """Do the same for a sigmoid, whose output may have been given another shape."""
    return _see_through(_SIGMOID, fn, x)


def _see_through(functions, fn, x, then=()):
    """Watch ``functions``, or those of ``then`` that are called on what they return."""
    last: deque = deque(maxlen=1)
    final: deque = deque(maxlen=1)

    def remember(args, kwargs, output):
        last.append((args[0] if args else kwargs["input"], output))

    def remember_next(args, kwargs, output):
        if last and (args[0] if args else kwargs["input"]) is last[0][1]:
            final.append((last[0][0], output))

    with WatchedCalls(then, remember_next):
        watch = WatchedCalls(functions, remember)
        return _run(fn, x, final if then else last, watch)


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
    output = unpack(output)
    if last and last[0][1] is output:
        return output, last[0][0]
    if last and _is_reshaped(output, last[0][1]):
        return output, last[0][0].reshape(output.shape)
    return output, None


def _is_reshaped(output, values):
    """Return whether a tensor is another in another shape, as after ``squeeze``."""
    return (
        viewed_tensor(output) is values
        and output.numel() == values.numel()
        and output.is_contiguous()
        and values.is_contiguous()
    )


def log_of(probabilities):
    """Return logits whose softmax they are; the floor keeps those of zeros finite."""
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


def logit_of(probabilities):
    """Return logits whose sigmoid they are, finite ones for probabilities 0 and 1."""
    numbers = torch.finfo(probabilities.dtype)
    inside = probabilities.clamp_min(numbers.tiny).clamp_max(1 - numbers.eps / 2)
    return torch.logit(inside)
