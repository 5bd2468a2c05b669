"""AutoAttack's sanity flags as named warnings, and nothing printed."""

import logging
import sys
import warnings
from contextlib import contextmanager

from robustfit.exceptions import (
    DynamicDefenseWarning,
    ProbabilityOutputWarning,
    RandomizedDefenseWarning,
    RobustnessWarning,
    ZeroGradientWarning,
)

__all__ = ["SQUARE_ADVICE", "flags_as_warnings"]

SQUARE_ADVICE = (
    "The black-box Square attack found adversarial examples that the gradient attacks "
    "missed: the gradients may be masked. Do not trust gradient attacks on this model."
)

# A phrase of the reference's message, the warning it becomes, and what to do about it.
_FLAGS = (
    (
        "randomized defense",
        RandomizedDefenseWarning,
        "The model's output differs from call to call. Evaluate it with "
        "version='rand', which averages gradients over 20 calls.",
    ),
    (
        "probability distribution",
        ProbabilityOutputWarning,
        "The model returns probabilities, not logits; gradients of saturated "
        "probabilities vanish and feign robustness. Attack the logits.",
    ),
    (
        "zero gradient",
        ZeroGradientWarning,
        "The loss has an exactly zero gradient at some inputs, so gradient attacks "
        "cannot move there: look for saturated outputs or rounding in the model.",
    ),
    (
        "dynamic defense",
        DynamicDefenseWarning,
        "The model computes gradients while it predicts; AutoAttack may not be "
        "enough and an adaptive attack is needed.",
    ),
)


@contextmanager
def flags_as_warnings():
    """Turn what the reference logs inside the block into named warnings at its end.

    Its check for dynamic defences replaces the interpreter's trace function; the one
    that was set (a debugger's, a coverage tool's) is restored.
    """
    logger = logging.getLogger("auto-attack")
    messages: list[str] = []
    handler = _Collector(messages)
    level, propagate, trace = logger.level, logger.propagate, sys.gettrace()
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        yield
    finally:
        sys.settrace(trace)
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
    for category, text in dict.fromkeys(map(_as_warning, messages)):
        warnings.warn(text, category, stacklevel=4)


def _as_warning(message):
    for phrase, category, advice in _FLAGS:
        if phrase in message:
            return category, advice
    return RobustnessWarning, message


class _Collector(logging.Handler):
    def __init__(self, messages):
        super().__init__(logging.WARNING)
        self._messages = messages

    def emit(self, record):
        self._messages.append(record.getMessage())
