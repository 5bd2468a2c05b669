"""Errors and warnings of robustfit: each names one thing that went wrong."""

__all__ = [
    "AttackBudgetError",
    "BatchDependenceWarning",
    "BudgetUnitWarning",
    "ChannelsLastWarning",
    "DatasetChecksumError",
    "DatasetFormatError",
    "CollapsedTrainingWarning",
    "DynamicDefenseWarning",
    "FewClassesWarning",
    "FlatImagesWarning",
    "GradientMaskingWarning",
    "ImageShapeError",
    "IntegerFeatureWarning",
    "JitterWarning",
    "MemoryBudgetError",
    "NoStructureError",
    "NotDifferentiableError",
    "PixelRangeError",
    "ProbabilityOutputWarning",
    "RandomizedDefenseWarning",
    "RewrittenRowsError",
    "RobustnessWarning",
    "SquareAttackWarning",
    "UndefinedGradientWarning",
    "UndefinedOutputWarning",
    "UnreachedOptimumWarning",
    "ZeroGradientWarning",
]


class PixelRangeError(ValueError):
    """Pixels lie outside the threat model's ``clip_range``."""


class ImageShapeError(ValueError):
    """Images have another height, width or number of channels than expected."""


class AttackBudgetError(RuntimeError):
    """An attack returned points outside the threat model: a bug, never a result."""


class NotDifferentiableError(TypeError):
    """An estimator, or a step of a pipeline, has no differentiable form in torch."""


class NoStructureError(TypeError):
    """A model is not one that trees, neighbours or linear scores can be read from."""


class RewrittenRowsError(TypeError):
    """A learned set has other rows or labels than ``y``; no transform can hold it."""


class DatasetFormatError(ValueError):
    """A file is no shared set: damaged, cut off, without card, of a later format."""


class DatasetChecksumError(DatasetFormatError):
    """A shared set is not the one that was saved: a checksum differs."""


class CollapsedTrainingWarning(UserWarning):
    """Training ended where it began: no net was better than guessing."""


class UnreachedOptimumWarning(UserWarning):
    """No set was found on which natural training ends at the robust weights."""


class MemoryBudgetError(MemoryError):
    """A computation needs more memory than there is; raised before it starts."""


class JitterWarning(UserWarning):
    """Cholesky needed a larger ridge than asked for: the kernel is indefinite."""


class ChannelsLastWarning(UserWarning):
    """Images look like (n_samples, height, width, channels); channels come first."""


class FlatImagesWarning(UserWarning):
    """Flat rows without ``image_shape`` where neighbouring pixels matter."""


class RobustnessWarning(UserWarning):
    """Base class of every warning about a robustness number that may mislead."""


class BudgetUnitWarning(RobustnessWarning):
    """The budget and the range of X look as if they had different units."""


class IntegerFeatureWarning(RobustnessWarning):
    """Budgets per feature move columns of integers to fractions."""


class GradientMaskingWarning(RobustnessWarning):
    """PGD and AutoAttack disagree: the gradients hide adversarial examples."""


class ZeroGradientWarning(RobustnessWarning):
    """The loss has an exactly zero gradient at some inputs."""


class ProbabilityOutputWarning(RobustnessWarning):
    """The model returns probabilities where logits are needed."""


class RandomizedDefenseWarning(RobustnessWarning):
    """The model's output changes from call to call; use ``version="rand"``."""


class BatchDependenceWarning(RobustnessWarning):
    """The model's output for a sample depends on the others of its batch."""


class DynamicDefenseWarning(RobustnessWarning):
    """The model optimises something while it predicts."""


class SquareAttackWarning(RobustnessWarning):
    """The black-box Square attack beat the white-box attacks."""


class UndefinedGradientWarning(RobustnessWarning):
    """The loss has a NaN or infinite gradient at some inputs."""


class UndefinedOutputWarning(RobustnessWarning):
    """Logits are NaN or infinite, which is no answer and counts as a wrong one."""


class FewClassesWarning(RobustnessWarning):
    """Too few classes for an attack of the ensemble, which was left out."""
