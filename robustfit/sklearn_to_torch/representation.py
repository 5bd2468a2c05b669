"""The representation layer of a fitted classifier, as a function of the input."""

import torch
from torch import nn

from robustfit._utils.watched_layers import watched_layers
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
        self.classifier = as_torch(classifier)
        self._reads_input = layer is None
        self._layer = None
        if layer is not None:
            self._layer = _find_layer(self.classifier.module, layer)

    def __call__(self, x):
        """Return the representation (n_samples, n_features) of the tensor ``x``."""
        if self._layer is None:
            self._layer = _find_logits_layer(self.classifier, x[:1])
        seen = []

        def keep(_, given, returned):
            seen.append(given if self._reads_input else returned)

        with watched_layers([self._layer], keep):
            self.classifier(x)
        if not seen:
            raise ValueError(
                f"layer names a {type(self._layer).__name__} that a forward pass of "
                "the net does not run. Name one that it runs."
            )
        return seen[-1].flatten(1)


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


def _find_logits_layer(classifier, x):
    """Return the last linear layer run, which has to return the logits."""
    seen = []
    layers = [p for p in classifier.module.modules() if isinstance(p, nn.Linear)]
    keep = watched_layers(layers, lambda part, _, out: seen.append((part, out)))
    with keep, torch.no_grad():
        logits = classifier(x)
    if not seen or seen[-1][1].shape[1:] not in (logits.shape[1:], (1,)):
        raise TypeError(
            "The net's logits do not come from a torch.nn.Linear layer, so its "
            "representation layer was not found. Name the layer whose output is the "
            "representation with layer=..."
        )
    return seen[-1][0]
