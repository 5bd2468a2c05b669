"""What a step of a fit is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from robustfit.robustifiers.dataset_learning.learning_problem import LearningProblem
from robustfit.robustifiers.dataset_learning.recipe import Recipe

__all__ = ["Step"]


@dataclass(frozen=True)
class Step(ABC):
    """One unit of progress on a set.

    Attributes
    ----------
    name : str
        Of the class; what the step is called in ``history_``.
    problem : LearningProblem
    recipe : Recipe
    optional : bool, default=False
        Left out once validation has stopped the learning.
    """

    name: ClassVar[str]
    problem: LearningProblem = field(repr=False)
    recipe: Recipe = field(repr=False)
    optional: bool = field(default=False, kw_only=True)

    def is_needed(self, state):
        """Tell whether what was found so far leaves anything to do."""
        return True

    @abstractmethod
    def run(self, state, generator):
        """Change ``state``, drawing from ``generator`` alone; return a record.

        Parameters
        ----------
        state : LearningState
        generator : torch.Generator
            On the device of the problem.

        Returns
        -------
        dict
            What was measured, for the user: no step reads it.
        """
