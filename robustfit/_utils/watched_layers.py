"""What the layers of a net read and return, seen from outside."""

import threading
from contextlib import contextmanager

__all__ = ["watched_layers"]


@contextmanager
def watched_layers(layers, watch):
    """Call ``watch(layer, input, output)`` after each run of a layer in the block.

    Runs by other threads are left out: joblib's threads share one net.

    Parameters
    ----------
    layers : list of torch.nn.Module
    watch : callable
        Is given the layer, its first input (by position, else by name), and what it
        returned.
    """
    caller = threading.get_ident()

    def call_watch(layer, inputs, named, output):
        if threading.get_ident() == caller:
            given = inputs[0] if inputs else next(iter(named.values()), None)
            watch(layer, given, output)

    handles = [
        layer.register_forward_hook(call_watch, with_kwargs=True) for layer in layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
