"""The representation layer of a fitted classifier, as a function of the input."""

import threading

import torch
from torch import nn

from robustfit.sklearn_to_torch.torch_classifier import as_torch

__all__ = ["Representation"]


class Representation:
    """What a classifier's last linear layer reads, or what a named layer returns.

    Parameters
    ----------
    classifier : TorchClassifier or fitted classifier
        Anything :func:`robustfit.as_torch` takes.
    layer : str or None, default=None
        Name of a submodule of the net, as in ``named_modules()``, whose output is the
        representation. None is the input of the linear layer that returns the logits.

    Raises
    ------
    ValueError
        If ``layer`` names no submodule, or one that a forward pass does not run.
    TypeError
        If ``layer`` is None and no linear layer returns the logits.
    """

    def __init__(self, classifier, layer=None):
        classifier = as_torch(classifier)
        self.module, self.device = classifier.module, classifier.device
        self._layer = None if layer is None else _find_layer(self.module, layer)

    def __call__(self, x):
        """Return the representation (n_samples, n_features) of the tensor ``x``."""
        if self._layer is None:
            self._layer = _find_logits_layer(self.module, x[:1])
        seen, caller = [], threading.get_ident()

        def keep(tensor):
            if threading.get_ident() == caller:  # joblib's threads share the net
                seen.append(tensor)

        if isinstance(self._layer, _InputOf):
            handle = self._layer.module.register_forward_pre_hook(
                lambda _, inputs: keep(inputs[0])
            )
        else:
            handle = self._layer.register_forward_hook(
                lambda _, inputs, output: keep(output)
            )
        try:
            self.module(x)
        finally:
            handle.remove()
        if not seen:
            raise ValueError(
                f"layer names a {type(self._layer).__name__} that a forward pass of "
                "the net does not run. Name one that it runs."
            )
        return seen[-1].flatten(1)


class _InputOf:
    """Marks that a layer's input, not its output, is the representation."""

    def __init__(self, module):
        self.module = module


def _find_layer(module, name):
    """Return the submodule that ``name`` ends the path of."""
    named = dict(module.named_modules())
    found = [path for path in named if path == name or path.endswith(f".{name}")]
    if not found:
        raise ValueError(
            f"layer is {name!r}, which is no submodule of the net; its submodules are "
            f"{[path for path in named if path]}."
        )
    return named[min(found, key=len)]


def _find_logits_layer(module, x):
    """Return a marker of the last linear layer run, which has to return the logits."""
    seen = []
    layers = [part for part in module.modules() if isinstance(part, nn.Linear)]
    handles = [
        layer.register_forward_hook(lambda part, _, out: seen.append((part, out)))
        for layer in layers
    ]
    try:
        with torch.no_grad():
            logits = module(x)
    finally:
        for handle in handles:
            handle.remove()
    if not seen or seen[-1][1].shape[1:] not in (logits.shape[1:], (1,)):
        raise TypeError(
            "The net's logits do not come from a torch.nn.Linear layer, so its "
            "representation layer was not found. Name the layer whose output is the "
            "representation with layer=..."
        )
    return _InputOf(seen[-1][0])
