"""Rows for outputs that no row speaks against: what a hinge needs to have a slope."""

import torch

__all__ = ["wake_silent_outputs"]

# Of the rows on a side of an output: fewer that have a loss leave it silent; what is
# woken; and the margin that they are moved to.
_FEWEST, _WOKEN, _MARGIN = 0.05, 0.1, 0.5
_SIDES = torch.tensor([-1, 1])


def wake_silent_outputs(problem, function, x, threat_model):
    """Return ``x`` with rows moved inside the margin where an output has too few.

    Beyond the margin 1 a squared hinge is flat: an output whose rows are all there has
    no loss, hence weights of zero after natural training, and no gradient that leads
    away from it.

    Parameters
    ----------
    problem : ConvexProblem
        Whose loss ``is_flat_beyond_one``.
    function : LinearFunction
    x : torch.Tensor of shape (n_samples, n_features), float64
    threat_model : ThreatModel

    Returns
    -------
    torch.Tensor of the shape of x
    """
    outputs, woken = function(x), x.clone()
    signs = problem.form.loss.signs(outputs, problem.y)
    margins = signs * outputs
    for output, sign in torch.cartesian_prod(torch.arange(outputs.shape[1]), _SIDES):
        rows = torch.nonzero(signs[:, output] == sign)[:, 0]
        own, slope = margins[rows, output], function.coefficients[output]
        if (own < 1).double().mean() >= _FEWEST or not slope.any():
            continue
        nearest = own.argsort(stable=True)[: max(1, round(_WOKEN * len(rows)))]
        steps = (own[nearest] - _MARGIN) * sign / (slope @ slope)
        moved = woken[rows[nearest]] - steps[:, None] * slope
        woken[rows[nearest]] = threat_model.clip(moved)
    return woken
