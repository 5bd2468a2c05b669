"""Blocks of fully connected kernels: one polynomial, or layer by layer."""

import torch

from robustfit.kernels._arc_cosine import ReluLayer, fit_polynomials, snap_below

__all__ = ["LayerPlan", "PolynomialPlan"]


class PolynomialPlan:
    """Nets without bias: ``K = gain |x| |y| kappa(t)`` with kappa a polynomial.

    ``kappa`` is a polynomial in ``u = sqrt((1 - t) / 2)`` for t >= 0 and another in
    ``sqrt((1 + t) / 2)`` for t < 0: depth costs nothing. The gradient is

        dK/dx = gain (kappa'(t) |y| (y/|y| - t x/|x|) + |y| kappa(t) x/|x|)

    where ``kappa'(t) = -kappa'(u) / (4 u)`` counts as zero for parallel rows (the
    cusp of the NTK: no gradient there, and zero is the mean over all directions).
    """

    def __init__(self, depth, kind, gain, dtype, block_size):
        self.gain = gain
        self.block_size = block_size
        self.near, self.far = (
            [torch.tensor(c, dtype=dtype) for c in fitted]
            for fitted in fit_polynomials(depth, kind, dtype)
        )
        self.near_slope, self.far_slope = map(_derivative, (self.near, self.far))

    def scratch_entries(self, rows, columns, n_features):
        """Return how many numbers a block holds at once."""
        return 5 * rows * columns + 2 * (rows + columns) * n_features

    def diagonal(self, x):
        """Return the kernel of each row with itself."""
        return self.gain * float(self.near[0]) * (x * x).sum(1)

    def fill(self, x, y, out):
        """Write the kernel of the rows of x and y into ``out``."""
        length_x, length_y = _lengths(x), _lengths(y)
        half, is_far = self._half_versine(x, y, length_x, length_y)
        u = half.sqrt_()
        kappa = _horner(self.near, u)
        if is_far is not None:
            kappa = torch.where(is_far, _horner(self.far, u), kappa)
        kappa *= self.gain * length_y
        torch.mul(kappa, length_x[:, None], out=out)

    def vjp(self, x, y, K, G, need_x, need_y):
        """Return the gradients of x and y for the gradient G of the block K."""
        length_x, length_y = _lengths(x), _lengths(y)
        half, is_far = self._half_versine(x, y, length_x, length_y)
        inverse = half.rsqrt().nan_to_num_(posinf=0.0)
        u = half.mul_(inverse)
        slope = _horner(self.near_slope, u)
        if is_far is not None:
            slope = torch.where(is_far, -_horner(self.far_slope, u), slope)
        weights = slope.mul_(inverse).mul_(G).mul_(-self.gain / 4)
        radial = torch.mul(G, K, out=u)
        grad_x = grad_y = None
        if need_x:
            grad_x = _from_weights(weights @ y, x, length_x, radial.sum(1))
        if need_y:
            grad_y = _from_weights(weights.T @ x, y, length_y, radial.sum(0))
        return grad_x, grad_y

    def _half_versine(self, x, y, length_x, length_y):
        """Return ``(1 - |t|) / 2`` and where t < 0 (None: nowhere)."""
        scaled = (x * _inverse(length_x, x.dtype)[:, None]).mul_(-0.5)
        half = scaled @ y.T
        half *= _inverse(length_y, y.dtype)
        is_far = half > 0
        if is_far.any():
            half.abs_().neg_()
        else:
            is_far = None
        half += 0.5
        snap = snap_below(x.dtype) / 2
        return torch.nn.functional.threshold_(half, snap, 0.0), is_far


class LayerPlan:
    """Nets with bias: the closed form of each layer, one after the other."""

    def __init__(self, depth, kind, w_std, b_std, block_size):
        self.depth, self.kind = depth, kind
        self.w_var, self.b_var = w_std**2, b_std**2
        self.block_size = block_size

    def scratch_entries(self, rows, columns, n_features):
        """Return how many numbers a block holds at once."""
        return (8 + 6 * self.depth) * rows * columns + (rows + columns) * n_features

    def diagonal(self, x):
        """Return the kernel of each row with itself."""
        q = self.w_var * (x * x).mean(1) + self.b_var
        tangent = q
        for _ in range(self.depth):
            q = self.w_var * q / 2 + self.b_var
            tangent = q + self.w_var * tangent / 2
        return tangent if self.kind == "ntk" else q

    def fill(self, x, y, out):
        """Write the kernel of the rows of x and y into ``out``."""
        out.copy_(self._block(x, y))

    def vjp(self, x, y, K, G, need_x, need_y):
        """Return the gradients of x and y for the gradient G of the block."""
        x = x.detach().requires_grad_(need_x)
        y = y.detach().requires_grad_(need_y)
        wanted = [rows for rows in (x, y) if rows.requires_grad]
        with torch.enable_grad():
            block = self._block(x, y)
        found = iter(torch.autograd.grad(block, wanted, G))
        return (next(found) if need_x else None), (next(found) if need_y else None)

    def _block(self, x, y):
        q_x = self._dense((x * x).mean(1)[:, None])
        q_y = self._dense((y * y).mean(1))
        covariance = self._dense(x @ y.T / x.shape[1])
        tangent = covariance
        for _ in range(self.depth):
            moment, dot = ReluLayer.apply(covariance, q_x, q_y)
            covariance = self._dense(moment)
            tangent = covariance + self.w_var * dot * tangent
            q_x, q_y = self._dense(q_x / 2), self._dense(q_y / 2)
        return tangent if self.kind == "ntk" else covariance

    def _dense(self, covariance):
        return self.w_var * covariance + self.b_var


def _lengths(x):
    """Return the norms of rows, exact to the last digit of the dtype."""
    return torch.linalg.vector_norm(x, dim=1, dtype=torch.float64).to(x.dtype)


def _inverse(length, dtype):
    return torch.where(length > 0, 1 / length, 0.0).to(dtype)


def _from_weights(weighted, x, length, radial):
    """Turn ``sum_j w_j y_j`` into the gradient: tangential part and radial part."""
    inverse = _inverse(length, x.dtype)[:, None]
    unit = x * inverse
    weighted -= unit * (unit * weighted).sum(1, keepdim=True)
    return weighted.add_(unit.mul_(radial[:, None] * inverse))


def _horner(coefficients, u):
    value = torch.full_like(u, float(coefficients[-1]))
    for coefficient in coefficients[-2::-1]:
        torch.addcmul(coefficient, value, u, out=value)
    return value


def _derivative(coefficients):
    return [k * c for k, c in enumerate(coefficients)][1:]
