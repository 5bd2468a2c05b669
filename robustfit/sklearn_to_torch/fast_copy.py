"""A copy of a convolutional net that computes the same logits in less time.

Batch norms are folded into the convolutions before them, weights lie in memory as
the convolutions of CPUs read them best (channels last), and convolutions of one channel
get a quicker input gradient. An attack calls a model many thousand times, so a copy
pays at once.
"""

from copy import deepcopy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrize import is_parametrized

from robustfit._utils.watched_layers import watched_layers
from robustfit.sklearn_to_torch.thin_convolution import ThinConvolution, is_thin

__all__ = ["bfloat16_copy", "fast_copy"]

_TOLERANCE = 1e-4  # of logits, relative to the largest


def fast_copy(classifier, x):
    """Return a :class:`TorchClassifier` with the same logits, faster where it can be.

    Parameters
    ----------
    classifier : TorchClassifier
        In eval mode, with frozen parameters.
    x : torch.Tensor of shape (n_samples, ...)
        A few inputs, to see that the logits are the same; where they are not, or where
        nothing can be gained, the classifier itself is returned.
    """
    if not any(isinstance(part, nn.Conv2d) for part in classifier.module.modules()):
        return classifier
    try:
        fast = _convert(classifier, x)
        is_same = _agree(fast, classifier, x)
    except Exception:  # of any kind: nets are free, and the classifier itself is there
        return classifier
    return fast if is_same else classifier


def _convert(classifier, x):
    """Return a copy with everything folded and quickened that can be."""
    module = deepcopy(classifier.module)
    with torch.no_grad():
        _fold_batch_norms(module, classifier.cast(x))
    if _reads_colours(module):
        module = module.to(memory_format=torch.channels_last)
    elif x.device.type == "cpu":
        _quicken_thin_convolutions(module)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return classifier.with_module(module)


def _agree(fast, classifier, x):
    """Return whether two classifiers have the same logits, up to rounding."""
    with torch.no_grad():
        found, expected = fast(x), classifier(x)
    if found.shape != expected.shape:
        return False
    gap = (found - expected).abs().max()
    return bool(gap <= _TOLERANCE * expected.abs().max())


def bfloat16_copy(logits_fn):
    """Return a copy with the weights that autocast would convert at every call.

    Parameters
    ----------
    logits_fn : TorchClassifier, torch.nn.Module or callable
        Itself is returned where it cannot be copied, or is no module.
    """
    module = getattr(logits_fn, "module", logits_fn)
    if not isinstance(module, nn.Module):
        return logits_fn
    try:
        copied = deepcopy(logits_fn)
    except Exception:  # whatever a net's own __deepcopy__ raises
        return logits_fn
    for part in getattr(copied, "module", copied).modules():
        is_converted = isinstance(part, nn.Conv2d | nn.Linear)
        if is_converted and part.weight.dtype != torch.float64:  # nor does autocast
            part.to(torch.bfloat16)
    return copied


def _reads_colours(module):
    """Return whether no convolution reads a single channel, which has no order."""
    parts = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
    return all(part.in_channels > 1 for part in parts)


def _quicken_thin_convolutions(module):
    thin = [name for name, part in module.named_modules() if name and is_thin(part)]
    for name in thin:
        module.set_submodule(name, ThinConvolution(module.get_submodule(name)))


def _fold_batch_norms(module, x):
    """Replace each batch norm that reads a convolution's output by that convolution."""
    names = {part: name for name, part in module.named_modules()}
    for convolution, norm in _adjacent_pairs(module, x):
        fused = fuse_conv_bn_eval(convolution, norm)
        module.set_submodule(names[convolution], fused)
        module.set_submodule(names[norm], nn.Identity())


def _adjacent_pairs(module, x):
    """Return the (convolution, batch norm) pairs met in a forward pass, once each."""
    outputs: dict[int, nn.Conv2d] = {}
    pairs, calls, kept = [], [], []

    def watch(part, given, returned):
        calls.append(part)
        kept.append(returned)  # so that no id is used twice
        if isinstance(part, nn.Conv2d):
            outputs[id(returned)] = part
        elif id(given) in outputs:
            pairs.append((outputs[id(given)], part))

    parts = [p for p in module.modules() if isinstance(p, nn.Conv2d | nn.BatchNorm2d)]
    with watched_layers(parts, watch):
        module(x.clone())
    return [
        (convolution, norm)
        for convolution, norm in pairs
        if calls.count(convolution) == 1
        and calls.count(norm) == 1
        and norm.running_mean is not None
        and not is_parametrized(convolution)
    ]
