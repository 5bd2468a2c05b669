"""Natural training that an interrupt leaves.

skorch's ``fit`` swallows a KeyboardInterrupt and returns a half-trained net as if it
were done. Inside a longer fit such a net would be taken, and saved, for a trained one.
"""

from typing import Any

import skorch
from sklearn.pipeline import Pipeline
from skorch.callbacks import Callback

__all__ = ["fit_uninterrupted"]


def fit_uninterrupted(
    estimator: Any, X: Any, y: Any, *, method: str = "fit", **fit_params: Any
) -> Any:
    """Fit an estimator, skorch nets too, so that a KeyboardInterrupt leaves the fit.

    Parameters
    ----------
    estimator : estimator
        A skorch net, a pipeline that ends in one, or any other.
    X, y : array-like
    method : {"fit", "partial_fit"}, default="fit"
    **fit_params : object
        What else the method is given.

    Returns
    -------
    estimator

    Raises
    ------
    KeyboardInterrupt
        If one cut the training short. A callback that raises it itself, as skorch's
        ``EarlyStopping``, ends the training and not the program.
    """
    net = estimator
    while isinstance(net, Pipeline):
        net = net.steps[-1][1]
    if not isinstance(net, skorch.NeuralNet):
        return getattr(estimator, method)(X, y, **fit_params)
    loop = _WatchedLoop(net)
    vars(net)["fit_loop"] = loop
    try:
        getattr(estimator, method)(X, y, **fit_params)
    finally:
        del vars(net)["fit_loop"]
    if loop.interrupt is not None:
        raise loop.interrupt
    return estimator


class _WatchedLoop:
    """The training loop of a net, which keeps the interrupt that ended it."""

    def __init__(self, net):
        self.net = net
        self.interrupt: KeyboardInterrupt | None = None

    def __call__(self, *args, **kwargs):
        try:
            return type(self.net).fit_loop(self.net, *args, **kwargs)
        except KeyboardInterrupt as interrupt:
            if not _is_of_callback(interrupt):
                self.interrupt = interrupt
            raise


def _is_of_callback(interrupt):
    """Return whether a callback raised it, which is how skorch ends a training."""
    trace = interrupt.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return isinstance(trace.tb_frame.f_locals.get("self"), Callback)
