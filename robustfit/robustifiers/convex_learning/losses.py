"""Convex losses of linear classifiers: natural, and under the worst perturbation."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import softplus

__all__ = [
    "Multinomial",
    "OneAgainstRest",
    "logistic",
    "modified_huber",
    "squared",
    "squared_hinge",
]


def logistic(margin):
    """Return ``log(1 + exp(-margin))``."""
    return softplus(-margin)


def squared_hinge(margin):
    """Return ``max(0, 1 - margin)^2``."""
    return torch.relu(1 - margin) ** 2


def modified_huber(margin):
    """Return the squared hinge, continued by a line below -1."""
    return torch.where(margin >= -1, squared_hinge(margin), -4 * margin)


def squared(margin):
    """Return half the squared distance of an output to its target of -1 or 1."""
    return (1 - margin) ** 2 / 2


@dataclass(frozen=True)
class OneAgainstRest:
    """A convex function of the margin of each output; one output for two classes.

    Parameters
    ----------
    of_margin : callable
        Maps margins, target (-1 or 1) times output, to losses.
    """

    of_margin: Callable[[torch.Tensor], torch.Tensor]

    @property
    def is_flat_beyond_one(self):
        """Whether margins above 1 have no gradient."""
        return self.of_margin in (squared_hinge, modified_huber)

    def fixed_sum(self, n_outputs):
        """Return what the outputs of every natural fit add up to, or None.

        Least squares is linear in its targets, and 2 - n_classes is what those of
        several classes, -1 and 1, add up to.
        """
        return 2 - n_outputs if self.of_margin is squared and n_outputs > 1 else None

    def n_outputs(self, n_classes):
        """Return how many outputs tell ``n_classes`` apart."""
        return 1 if n_classes == 2 else n_classes

    def natural(self, outputs, y):
        """Return the loss of each output, shape (n_samples, n_outputs).

        Parameters
        ----------
        outputs : torch.Tensor of shape (n_samples, n_outputs)
        y : torch.Tensor of shape (n_samples,), int64
        """
        return self.of_margin(self.signs(outputs, y) * outputs)

    def worst(self, outputs, y, coefficients, reach):
        """Return the largest loss that an adversary of each output reaches.

        A convex function is largest at an end of the interval that the margin may be
        moved in: exact for one output, for several each has an adversary of its own.

        Parameters
        ----------
        outputs, y
            As for :meth:`natural`.
        coefficients : torch.Tensor of shape (n_outputs, n_features)
            The outputs' slopes in the input.
        reach : Reach
        """
        signs = self.signs(outputs, y)
        up, down = reach.gain(coefficients), reach.gain(-coefficients)
        margins = signs * outputs
        least = margins - torch.where(signs > 0, down, up)
        most = margins + torch.where(signs > 0, up, down)
        return torch.maximum(self.of_margin(least), self.of_margin(most))

    def signs(self, outputs, y):
        """Return the targets, -1.0 or 1.0, in the shape of the outputs."""
        if outputs.shape[1] == 1:
            return 2.0 * y[:, None] - 1
        columns = torch.arange(outputs.shape[1])
        return 2.0 * (y[:, None] == columns) - 1


@dataclass(frozen=True)
class Multinomial:
    """The cross-entropy of a softmax over several outputs."""

    is_flat_beyond_one = False

    def fixed_sum(self, n_outputs):
        """Return None: to add a constant to all outputs changes no loss."""

    def n_outputs(self, n_classes):
        """Return how many outputs tell ``n_classes`` apart."""
        return n_classes

    def natural(self, outputs, y):
        """Return the loss of each sample, shape (n_samples, 1)."""
        return outputs.logsumexp(1, keepdim=True) - outputs.gather(1, y[:, None])

    def worst(self, outputs, y, coefficients, reach):
        """Return the cross-entropy of the worst margins: a bound, convex as well.

        The margin against each other class is the exact worst case, the worst of all
        at once the bound: a sample's verdict under attack hangs on nothing else.
        """
        shifts = torch.zeros_like(outputs)
        for label in range(outputs.shape[1]):
            rows = torch.nonzero(y == label)[:, 0]
            differences = coefficients - coefficients[label]
            shifts = shifts.index_add(0, rows, reach.gain(differences, rows))
        return self.natural(outputs + shifts, y)
