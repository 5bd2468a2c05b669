"""Blocks of fully connected kernels: one polynomial, or layer by layer."""

import torch

from robustfit._utils.torch_bridge import batch_slices
from robustfit.kernels._blocks import Rows
from robustfit.kernels._polynomials import CENTRE, fit_polynomials
from robustfit.kernels._relu_layer import ReluLayer, snap_below

__all__ = ["AutogradPlan", "LayerPlan", "PolynomialPlan"]


class AutogradPlan:
    """Blocks differentiated by autograd; a subclass gives ``plain`` and ``diagonal``.

    ``plain`` must be made of operations whose gradients are finite at parallel rows.
    """

    def plain(self, x, y):
        """Return the kernel by torch operations."""
        raise NotImplementedError

    def prepare(self, x):
        """Return the rows; no number is kept for each."""
        return Rows(x)

    def fill(self, rows_x, rows_y, out):
        """Write the kernel of two sets of rows into ``out``."""
        out.copy_(self.plain(rows_x.x, rows_y.x))

    def add_vjp(self, rows_x, rows_y, K, G, to_x, to_y):
        """Add the gradients for the upstream gradient G of the block."""
        x = rows_x.x.detach().requires_grad_(to_x is not None)
        y = rows_y.x.detach().requires_grad_(to_y is not None)
        targets = [(t, to) for t, to in ((x, to_x), (y, to_y)) if to is not None]
        with torch.enable_grad():
            block = self.plain(x, y)
        found = torch.autograd.grad(block, [tensor for tensor, _ in targets], G)
        for (_, to), gradient in zip(targets, found, strict=True):
            to.total += gradient

    def finish(self, rows, gradient):
        """Return the gradient, which is the sum over blocks."""
        return gradient.total


class LayerPlan(AutogradPlan):
    """Fully connected nets, the closed form of each layer one after the other."""

    def __init__(self, depth, kind, w_std, b_std, block_size):
        self.depth, self.kind = depth, kind
        self.w_var, self.b_var = w_std**2, b_std**2
        self.block_size = block_size

    def scratch_entries(self, n_rows, n_columns, n_features):
        """Return how many numbers a block holds at once."""
        kernels = (10 + 6 * self.depth) * n_rows * n_columns
        return kernels + 2 * (n_rows + n_columns) * n_features

    def diagonal(self, x):
        """Return the kernel of each row with itself."""
        q = tangent = self._dense((x * x).mean(1))
        for _ in range(self.depth):
            q = self._dense(q / 2)
            tangent = q + self.w_var * tangent / 2
        return tangent if self.kind == "ntk" else q

    def plain(self, x, y):
        """Return the kernel by torch operations."""
        q_x = self._dense((x * x).mean(1)[:, None])
        q_y = self._dense((y * y).mean(1))
        covariance = tangent = self._dense(x @ y.T / x.shape[1])
        for _ in range(self.depth):
            moment, dot = ReluLayer.apply(covariance, q_x, q_y)
            covariance = self._dense(moment)
            if self.kind == "ntk":
                tangent = covariance + self.w_var * dot * tangent
            q_x, q_y = self._dense(q_x / 2), self._dense(q_y / 2)
        return tangent if self.kind == "ntk" else covariance

    def _dense(self, covariance):
        return self.w_var * covariance + self.b_var


class PolynomialPlan(LayerPlan):
    """Nets without bias: ``K = gain |x| |y| kappa(t)``, depth costs nothing.

    kappa and its derivative are polynomials (see ``_polynomials``). The gradient is

        dK/dx = gain kappa'(t) (y - |y| t x / |x|) + K x / |x|^2

    where kappa'(t) counts as zero for parallel rows: the NTK has a cusp there, and zero
    is the mean over all directions. The middle term takes from ``sum_j w_j y_j`` its
    part along x, which is done once a row, after the sum over blocks.
    """

    def __init__(self, depth, kind, w_std, n_features, dtype, block_size):
        super().__init__(depth, kind, w_std, 0.0, block_size)
        self.gain = w_std**2 * (w_std**2 / 2) ** depth / n_features
        self.fit = fit_polynomials(depth, kind, dtype)
        self.peak = self.gain * self.fit.peak

    def scratch_entries(self, n_rows, n_columns, n_features):
        """Return how many numbers a block holds at once."""
        return 4 * n_rows * n_columns

    def prepare(self, x):
        """Return the rows with their lengths, exact to the last digit."""
        length = x.new_empty(len(x), dtype=torch.float64)
        for rows in batch_slices(len(x), self.block_size):  # the sum copies its rows
            torch.linalg.vector_norm(
                x[rows], dim=1, dtype=torch.float64, out=length[rows]
            )
        inverse = torch.where(length > 0, 1 / length, 0.0)
        return Rows(x, length.to(x.dtype), inverse.to(x.dtype))

    def diagonal(self, x):
        """Return the kernel of each row with itself."""
        return self.peak * (x * x).sum(1)

    def fill(self, rows_x, rows_y, out):
        """Write the kernel of two sets of rows into ``out``."""
        half, is_far = _half_versine(rows_x, rows_y)
        u = half.sqrt_().sub_(CENTRE)
        kappa = _horner(self.fit.near, u)
        if is_far is not None:
            kappa = torch.where(is_far, _horner(self.fit.far, u), kappa)
        kappa *= self.gain * rows_x.length[:, None]
        torch.mul(kappa, rows_y.length, out=out)

    def add_vjp(self, rows_x, rows_y, K, G, to_x, to_y):
        """Add the gradients for the upstream gradient G of the block K."""
        weights = self._slope_from_value(rows_x, rows_y, K)
        if weights is None:
            weights = self._slope(rows_x, rows_y)
        weights *= G
        radial = G * K
        if to_x is not None:
            to_x.total.addmm_(weights, rows_y.x)
            to_x.radial += radial.sum(1)
        if to_y is not None:
            to_y.total.addmm_(weights.T, rows_x.x)
            to_y.radial += radial.sum(0)

    def finish(self, rows, gradient):
        """Return the gradient: the sum less its part along x, and the radial part."""
        for some in batch_slices(len(rows), self.block_size):
            x, inverse = rows.x[some], rows.inverse[some, None]
            total = gradient.total[some].mul_(self.gain)
            along = (x * total).sum(1, keepdim=True) * inverse
            radial = gradient.radial[some, None] * inverse - along
            total.addcmul_(x, radial * inverse)
        return gradient.total

    def _slope_from_value(self, rows_x, rows_y, K):
        """Return kappa'(t) from K alone, which saves a product; None if some t < 0."""
        fit = self.fit.from_value
        if fit is None:
            return None
        s = K * (rows_x.inverse[:, None] / self.peak)
        s *= rows_y.inverse
        s = s.rsqrt_().sub_(1.0) if fit.is_root else s.neg_().add_(1.0)
        if s.amax() > fit.end:
            return None
        slope = _horner(fit.coefficients, s - fit.centre)
        snap = fit.scale * (snap_below(s.dtype) / 2) ** 0.5
        s = torch.threshold_(s, snap, 0.0).reciprocal_().nan_to_num_(posinf=0.0)
        return slope.mul_(s)

    def _slope(self, rows_x, rows_y):
        """Return kappa'(t), which is ``-kappa'(u) / (4 u)``."""
        half, is_far = _half_versine(rows_x, rows_y)
        inverse = half.rsqrt().nan_to_num_(posinf=0.0)
        u = half.mul_(inverse).sub_(CENTRE)
        slope = _horner(self.fit.near_slope, u).neg_()
        if is_far is not None:
            slope = torch.where(is_far, _horner(self.fit.far_slope, u), slope)
        return slope.mul_(inverse).mul_(0.25)


def _half_versine(rows_x, rows_y):
    """Return ``(1 - |t|) / 2`` and where t < 0 (None: nowhere)."""
    half = rows_x.x @ rows_y.x.T
    half *= rows_x.inverse[:, None] * -0.5
    half = torch.addcmul(_scalar(0.5, half), half, rows_y.inverse, out=half)
    is_far = None
    if half.amax() > 0.5:
        is_far = half > 0.5
        half = torch.where(is_far, 1 - half, half)
    return torch.threshold_(half, snap_below(half.dtype) / 2, 0.0), is_far


def _horner(coefficients, u):
    value = torch.full_like(u, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        torch.addcmul(_scalar(coefficient, u), value, u, out=value)
    return value


def _scalar(number, like):
    return torch.tensor(number, dtype=like.dtype, device=like.device)
