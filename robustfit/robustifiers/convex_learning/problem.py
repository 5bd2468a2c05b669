"""The convex problem of one fit: data, form and threat model, and its gradient."""

from dataclasses import dataclass

import torch

from robustfit.robustifiers.convex_learning.affine_scalers import fit_scalers
from robustfit.robustifiers.convex_learning.convex_form import ConvexForm

__all__ = ["ConvexProblem", "LinearFunction"]


@dataclass(frozen=True)
class LinearFunction:
    """``x @ coefficients.T + offsets`` of unscaled inputs.

    Parameters
    ----------
    coefficients : torch.Tensor of shape (n_outputs, n_features), float64
    offsets : torch.Tensor of shape (n_outputs,), float64
    """

    coefficients: torch.Tensor
    offsets: torch.Tensor

    def __call__(self, x):
        """Return the outputs (n_samples, n_outputs)."""
        return x @ self.coefficients.T + self.offsets

    def seen_by_model(self, offset, scale):
        """Return the weights and intercepts of a model behind a scaler."""
        weights = self.coefficients * scale
        return weights, self.offsets + self.coefficients @ offset


@dataclass(frozen=True)
class ConvexProblem:
    """Natural training of a linear model, maybe behind scalers, on labels y.

    Parameters
    ----------
    form : ConvexForm
    scalers : list of estimators
    y : torch.Tensor of shape (n_samples,), int64
    """

    form: ConvexForm
    scalers: list
    y: torch.Tensor

    @property
    def n_outputs(self):
        """Number of linear functions that are learned."""
        return self.form.loss.n_outputs(int(self.y.max()) + 1)

    @property
    def row_weights(self):
        """The losses' weights, a column or one for each output, float64."""
        weights = torch.as_tensor(self.form.weights, dtype=torch.float64)
        return weights.reshape(len(weights), -1)

    def total(self, losses, weights, intercepts):
        """Return the weighted losses' sum plus the penalty of the parameters."""
        penalty = self.form.penalty * weights.square().sum()
        penalty = penalty + self.form.intercept_penalty * intercepts.square().sum()
        return (self.row_weights * losses).sum() + penalty / 2

    def relative_gradient(self, function, x):
        """Return the natural objective's gradient at ``function``, as a vector.

        Divided by the penalty and the length of the weights: its length bounds how
        far, relative to them, natural training on ``x`` ends from them (Theorem 4).

        Parameters
        ----------
        function : LinearFunction
            Any other than zero.
        x : torch.Tensor of shape (n_samples, n_features), float64
        """
        offset, scale = fit_scalers(self.scalers, x)
        z = (x - offset) / scale
        weights, intercepts = function.seen_by_model(offset, scale)
        if not self.form.has_intercept:
            intercepts = torch.zeros_like(intercepts)
        outputs = (z @ weights.T + intercepts).requires_grad_()
        loss = (self.row_weights * self.form.loss.natural(outputs, self.y)).sum()
        (residuals,) = torch.autograd.grad(loss, outputs, create_graph=True)
        parts = [residuals.T @ z + self.form.penalty * weights]
        if self.form.has_intercept:
            own = self.form.intercept_penalty * intercepts
            parts.append((residuals.sum(0) + own)[:, None])
        return torch.cat(parts, 1).flatten() / (self._modulus * weights.norm())

    @property
    def _modulus(self):
        """The objective's modulus of strong convexity in what is penalised."""
        if self.form.has_intercept and self.form.intercept_penalty > 0:
            return min(self.form.penalty, self.form.intercept_penalty)
        return self.form.penalty
