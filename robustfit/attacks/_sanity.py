"""AutoAttack's sanity flags as named warnings, and nothing printed."""

import logging
import sys
import warnings
from contextlib import contextmanager

import torch

from robustfit.attacks.model_checks import ADVICE
from robustfit.exceptions import (
    DynamicDefenseWarning,
    ProbabilityOutputWarning,
    RandomizedDefenseWarning,
    RobustnessWarning,
    SquareAttackWarning,
    ZeroGradientWarning,
)

__all__ = ["SQUARE_ADVICE", "flags_as_warnings", "warn_if_square_helped"]

SQUARE_ADVICE = (
    "The black-box Square attack fooled the model on {found} of {n} samples that the "
    "gradient attacks had left standing: the gradients may be masked. Do not trust "
    "gradient attacks on this model."
)
# Of the samples attacked; honest nets leave one in a hundred or two.
_LEFT_TO_SQUARE = 0.01

# A phrase of the reference's message, and the warning it becomes.
_FLAGS = (
    ("randomized defense", RandomizedDefenseWarning),
    ("probability distribution", ProbabilityOutputWarning),
    ("zero gradient", ZeroGradientWarning),
    ("dynamic defense", DynamicDefenseWarning),
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
    for phrase, category in _FLAGS:
        if phrase in message:
            return category, ADVICE[category]
    return RobustnessWarning, message


class _Collector(logging.Handler):
    def __init__(self, messages):
        super().__init__(logging.WARNING)
        self._messages = messages

    def emit(self, record):
        self._messages.append(record.getMessage())


def warn_if_square_helped(robust_after):
    """Warn where Square removed more than one in a hundred of the samples.

    The paper's flag is 0.2 %, which a single sample exceeds in any small set.

    Parameters
    ----------
    robust_after : dict of str to array or tensor of shape (n_samples,), bool
        Survivors after each attack, in the order they ran.
    """
    survivors = {n: torch.as_tensor(alive) for n, alive in robust_after.items()}
    white_box = [alive for name, alive in survivors.items() if name != "square"]
    if "square" not in survivors or len(white_box) < 2:
        return
    before = torch.stack(white_box).all(0)
    found, n = int((before & ~survivors["square"]).sum()), len(before)
    if found > _LEFT_TO_SQUARE * n:
        advice = SQUARE_ADVICE.format(found=found, n=n)
        warnings.warn(advice, SquareAttackWarning, stacklevel=4)
