"""What every long fit shares: checkpoint, seed, callbacks, seconds, verbose lines."""

import time
from contextlib import contextmanager

from robustfit._utils.checkpoint import Checkpoint
from robustfit._utils.content_identity import identify
from robustfit._utils.sklearn_private import callback_context
from robustfit._utils.torch_bridge import draw_seed

__all__ = ["NOT_IN_RESULT", "FitProgress", "open_fit", "print_line"]

# Parameters that say where and how a fit is run, not what comes out of it.
NOT_IN_RESULT = ("checkpoint", "device", "memory", "n_jobs", "verbose")
# What a line has at its head and at its end.
_AT_THE_ENDS = ("step", "seconds")


def open_fit(estimator, X, y, *, not_in_key=(), start=None, seed=None):
    """Find what an interrupted fit with the same parameters and data has saved.

    Parameters
    ----------
    estimator : estimator
        Has the parameters ``checkpoint`` (a folder or None) and ``random_state``.
    X, y : ndarray
    not_in_key : sequence of str, default=()
        Parameters, beside ``NOT_IN_RESULT``, in which the two fits may differ.
    start : object, default=None
        What else makes two fits the same: weights that one starts from.
    seed : int or None, default=None
        Of the fit that this one goes on from; None draws one from ``random_state``.
        A saved seed comes first, so that fits without a fixed one can be resumed.

    Returns
    -------
    checkpoint : Checkpoint
    saved : tuple of (dict of arrays, dict) or None
        What was saved last. The dict has the ``seed``: put it there.
    seed : int
    """
    parameters = estimator.get_params(deep=False)
    for name in (*NOT_IN_RESULT, *not_in_key):
        parameters.pop(name, None)
    if estimator.checkpoint is not None:  # an edited function has the name it had
        for name, value in parameters.items():
            parameters[name] = identify(value) if callable(value) else value
    checkpoint = Checkpoint(
        estimator.checkpoint, type(estimator).__name__, parameters, X, y, start
    )
    saved = checkpoint.load()
    if saved is not None:
        seed = saved[1].get("seed")
        if not isinstance(seed, int):
            raise checkpoint.refusal(f"its seed is {seed!r}")
    elif seed is None:
        seed = draw_seed(estimator.random_state)
    return checkpoint, saved, seed


def print_line(estimator, text):
    """Print a line in the name of a verbose estimator."""
    if estimator.verbose:
        print(f"[{type(estimator).__name__}] {text}", flush=True)  # noqa: T201


class FitProgress:
    """The steps of one fit as scikit-learn's callbacks and as printed lines.

    Used around all steps as a context, with :meth:`step` around each; ``fit`` itself
    is decorated with ``sklearn.callback.with_callbacks``, which frees the callbacks
    whatever happens.

    Parameters
    ----------
    estimator : estimator
        Has ``CallbackSupportMixin`` and the parameter ``verbose``.
    n_steps : int
        Most steps there will be, those that a checkpoint has done among them.

    Attributes
    ----------
    number : int
        Of the step that runs or has run last, from 1.
    """

    def __init__(self, estimator, n_steps):
        self.estimator, self.n_steps = estimator, n_steps
        self.number = 0
        self._start: float | None = None

    def __enter__(self):
        """Begin the fit."""
        context = callback_context(self.estimator, self.n_steps)
        self._context = context.call_on_fit_task_begin(estimator=self.estimator)
        self._start = time.perf_counter()
        return self

    def __exit__(self, error, *details):
        """End the fit, unless it was cut off: a bar at its end would be a lie."""
        if error is None:
            self._context.call_on_fit_task_end(estimator=self.estimator)

    @contextmanager
    def step(self, name):
        """Run the block as the next step, which ends even where it raises."""
        self.number += 1
        task = self._context.subcontext(task_name=name)
        task.call_on_fit_task_begin(estimator=self.estimator)
        if self._start is None:
            self._start = time.perf_counter()
        try:
            yield
        finally:
            task.call_on_fit_task_end(estimator=self.estimator)

    def skip(self, name):
        """Pass over a step that need not run, done before or left out."""
        with self.step(name):
            self._start = None

    @property
    def seconds(self):
        """Seconds since the first step after the last report began."""
        return 0.0 if self._start is None else time.perf_counter() - self._start

    def report(self, name, measured=()):
        """Print, if verbose, what was measured (a dict), and start the clock anew."""
        numbers = ", ".join(
            f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in dict(measured).items()
            if key not in _AT_THE_ENDS
        )
        text = f"{name}: {numbers}" if numbers else name
        count = f"{self.number}/{self.n_steps}"
        print_line(self.estimator, f"{count} {text} ({self.seconds:.1f} s)")
        self._start = None
