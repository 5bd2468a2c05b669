"""Fully connected kernels against the recursion, wide nets and finite differences."""

import math

import numpy as np
import pytest
import torch
from numpy.polynomial import Polynomial
from torch import nn

from robustfit.kernels import EmpiricalNTK, FullyConnectedNNGP, FullyConnectedNTK
from robustfit.kernels._polynomials import CENTRE, fit_polynomials, is_exact

KINDS = {"ntk": FullyConnectedNTK, "nngp": FullyConnectedNNGP}


def textbook(X, Y, depth, w_std, b_std, kind):
    """The recursion of Jacot et al. with arccos, in float64, on numpy arrays."""
    X, Y = np.asarray(X, dtype=float), np.asarray(Y, dtype=float)
    w, b, d = w_std**2, b_std**2, X.shape[1]
    covariance = w * X @ Y.T / d + b
    q_x, q_y = (w * (Z**2).sum(1) / d + b for Z in (X, Y))
    tangent = covariance.copy()
    for _ in range(depth):
        scale = np.sqrt(np.outer(q_x, q_y))
        t = np.minimum(1, np.maximum(-1, covariance / scale))
        theta = np.arccos(t)
        covariance = b + w * scale * (np.sin(theta) + (np.pi - theta) * t) / (2 * np.pi)
        tangent = covariance + w * tangent * (np.pi - theta) / (2 * np.pi)
        q_x, q_y = w * q_x / 2 + b, w * q_y / 2 + b
    return tangent if kind == "ntk" else covariance


def pixels(n, seed=0, d=30):
    return np.random.default_rng(seed).random((n, d))


def centred(n, seed=0, d=30):
    return np.random.default_rng(seed).normal(size=(n, d))


def nearly_parallel(n, seed=0, d=30):
    """Rows of a few directions: near-duplicates, and near-opposites among them."""
    signs = np.where(np.arange(n) % 2, 1.0, -1.0)[:, None]
    rows = np.resize(centred(5, d=d), (n, d)) * signs
    return rows + 1e-4 * centred(n, seed=seed + 1, d=d)


def rounding_bound(X, Y, depth, b_std, kind, dtype):
    """What rounding may change, entry by entry: that of the cosine t, and the fit's.

    An error of eps in t changes the angle by ``eps / sin(theta)``, no more than
    ``sqrt(eps)``; the polynomials are fitted to 1e-14 (45 eps) of the kernel of a row
    with itself, in float32 to less than eps.
    """
    eps = np.finfo(dtype).eps
    q_x, q_y = (2 * (Z**2).sum(1) / Z.shape[1] + b_std**2 for Z in (X, Y))
    t = (2 * X @ Y.T / X.shape[1] + b_std**2) / np.sqrt(np.outer(q_x, q_y))
    sine = np.sqrt(np.maximum(1 - t * t, eps))
    own = (np.diag(textbook(Z, Z, depth, 2**0.5, b_std, kind)) for Z in (X, Y))
    factor = 64 if dtype == "float64" else 8
    return factor * eps * np.sqrt(np.outer(*own)) * (1 + 1 / sine)


@pytest.mark.parametrize("draw", [pixels, centred, nearly_parallel])
@pytest.mark.parametrize("b_std", [0.0, 0.3])
@pytest.mark.parametrize("depth", [1, 3, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_textbook_recursion(kind, depth, b_std, draw):
    X, Y = draw(40), draw(70, seed=1)
    for dtype in ("float32", "float64"):
        kernel = KINDS[kind](depth, b_std=b_std, dtype=dtype, block_size=32)
        x, y = (Z.astype(dtype).astype(float) for Z in (X, Y))
        found = kernel(X, Y)
        assert found.dtype == dtype
        error = np.abs(found - textbook(x, y, depth, 2**0.5, b_std, kind))
        assert (error <= rounding_bound(x, y, depth, b_std, kind, dtype)).all()


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_fits_hold_up_to_opposite_rows(kind, depth):
    # kappa and its limit at t = -1, where arccos(t) has no digits left: with v the
    # half cosine, k0 = 2 arcsin(v) / pi. A fit to samples without digits is off by
    # 1e-12 and more, and by how much depends on the processor.
    fit = fit_polynomials(depth, kind, torch.float64)
    v = np.linspace(0, 0.7, 400)
    far = Polynomial(fit.far)(v - CENTRE)
    exact = [opposite_half(float(w), depth, kind) for w in v]
    assert np.abs(far - exact).max() < 2e-14 * fit.peak


def opposite_half(v, depth, kind):
    """The kernel of unit rows at t = 2 v^2 - 1, in plain Python."""
    k0 = 2 * math.asin(v) / math.pi
    u = math.sqrt(1 - v * v)
    t = total = 2 * v * v - 1
    for _ in range(depth):
        t = 2 * u * v / math.pi + k0 * t
        total = t + k0 * total if kind == "ntk" else t
        k0 = 1 - math.acos(t) / math.pi
        u, v = math.sqrt((1 - t) / 2), math.sqrt((1 + t) / 2)
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_any_size_scale_the_kernel(kind):
    X, Y = centred(5), centred(6, seed=1)
    for w_std in (0.7, 2.0):
        kernel = KINDS[kind](2, w_std=w_std, dtype="float64")
        exact = textbook(X, Y, 2, w_std, 0.0, kind)
        np.testing.assert_allclose(kernel(X, Y), exact, rtol=1e-9, atol=1e-12)


def test_orthogonal_rows_by_hand():
    # kappa(0) of one layer: t_1 + k0(0) t_0 = 1/pi, and twice that over d = 2.
    found = FullyConnectedNTK(1, dtype="float64")(np.eye(2))
    np.testing.assert_allclose(found, [[2, 1 / np.pi], [1 / np.pi, 2]], rtol=1e-12)


def test_wide_nets_converge_to_the_kernel():
    X = torch.tensor(pixels(4, d=10))
    exact = FullyConnectedNTK(2, dtype="float64")(X)
    errors = []
    for width in (8, 512):
        torch.manual_seed(0)
        found = [
            EmpiricalNTK(wide_net(10, width), dtype="float64")(X) for _ in range(4)
        ]
        errors.append(((sum(found) / 4 - exact).norm() / exact.norm()).item())
    assert errors[1] < 0.1
    assert errors[1] < errors[0] / 2


class NTKLinear(nn.Module):
    """A layer of standard normal weights, scaled in the forward pass."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in))

    def forward(self, x):
        return x @ self.weight.T * (2 / self.weight.shape[1]) ** 0.5


def wide_net(n_features, width):
    return nn.Sequential(
        NTKLinear(n_features, width),
        nn.ReLU(),
        NTKLinear(width, width),
        nn.ReLU(),
        NTKLinear(width, 1),
    )


@pytest.mark.parametrize("draw", [pixels, centred])
@pytest.mark.parametrize("b_std", [0.0, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_equal_finite_differences(kind, b_std, draw):
    kernel = KINDS[kind](3, b_std=b_std, dtype="float64", block_size=2)
    x = torch.tensor(draw(3, d=3)).requires_grad_()
    y = torch.tensor(draw(2, seed=1, d=3)).requires_grad_()
    weights = torch.tensor(centred(2, seed=2, d=1)).requires_grad_()
    assert torch.autograd.gradcheck(kernel, (x, y))
    assert torch.autograd.gradcheck(kernel, (x,))
    assert torch.autograd.gradcheck(kernel.diag, (x,))
    assert torch.autograd.gradcheck(kernel.product, (x, y, weights))
    assert torch.autograd.gradgradcheck(kernel, (x[:1], y))
    assert torch.autograd.gradgradcheck(kernel.product, (x[:1], y, weights))


@pytest.mark.parametrize("depth", [1, 3, 7, 15])
def test_float32_gradients(depth):
    """Also those read off the kernel's value instead of computed anew."""
    gradients = []
    for dtype in ("float32", "float64"):
        x = torch.tensor(pixels(40, d=100), dtype=torch.float32).requires_grad_()
        y = torch.tensor(pixels(60, 1, d=100), dtype=torch.float32).requires_grad_()
        K = FullyConnectedNTK(depth, dtype=dtype)(x, y)
        gradients.append(torch.autograd.grad(K, (x, y), torch.cos(K.detach() * 50)))
    # The upstream gradient is rounded too, so five digits are what can be asked.
    for found, exact in zip(*gradients, strict=True):
        assert (found - exact).norm() < 1e-4 * exact.norm()


@pytest.mark.parametrize("b_std", [0.0, 0.3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_duplicates_and_the_diagonal(dtype, kind, b_std):
    kernel = KINDS[kind](3, b_std=b_std, dtype=dtype, block_size=3)
    x = torch.tensor(pixels(5), dtype=torch.float64)
    x = torch.cat([x, x, 2 * x, torch.zeros(1, 30), -x]).requires_grad_()
    K = kernel(x)
    (gradient,) = torch.autograd.grad(K.sum(), x)
    assert torch.isfinite(K).all()
    assert torch.isfinite(gradient).all()
    assert torch.equal(K, K.T)
    assert torch.equal(K.diagonal(), kernel.diag(x))
    torch.testing.assert_close(K[:5, 5:10].diagonal(), K[:5, :5].diagonal())
    exact = textbook(x.detach(), x.detach(), 3, 2**0.5, b_std, kind) if b_std else None
    if exact is not None:
        np.testing.assert_allclose(K.diagonal().detach(), exact.diagonal(), rtol=1e-5)
    smallest = torch.linalg.eigvalsh(K.detach().double()).min()
    assert smallest > -1e-5 * K.diagonal().max()


def test_gradient_of_the_trace_is_that_of_the_diagonal():
    kernel = FullyConnectedNTK(3)
    x = torch.tensor(pixels(6), dtype=torch.float32).requires_grad_()
    (of_trace,) = torch.autograd.grad(kernel(x).trace(), x)
    (of_diag,) = torch.autograd.grad(kernel.diag(x).sum(), x)
    torch.testing.assert_close(of_trace, of_diag)


def test_blocks_do_not_show():
    X, Y = pixels(23), pixels(17, seed=1)
    whole = FullyConnectedNTK(3, block_size=100)
    for size in (1, 5, 16):
        parts = FullyConnectedNTK(3, block_size=size)
        np.testing.assert_allclose(parts(X, Y), whole(X, Y), rtol=1e-6)
        np.testing.assert_allclose(parts(X), whole(X), rtol=1e-6)


def test_product_never_needs_the_kernel():
    kernel = FullyConnectedNTK(3, block_size=8)
    x, y = torch.tensor(pixels(20)), torch.tensor(pixels(30, seed=1))
    weights = torch.tensor(centred(30, d=3))
    torch.testing.assert_close(
        kernel.product(x, y, weights), kernel(x, y) @ weights.float()
    )


def test_very_deep_nets_leave_the_polynomial():
    assert is_exact(3, "ntk", torch.float64)
    assert not is_exact(30, "ntk", torch.float64)
    X, Y = pixels(5), pixels(4, seed=1)
    found = FullyConnectedNTK(30, dtype="float64")(X, Y)
    exact = textbook(X, Y, 30, 2**0.5, 0.0, "ntk")
    np.testing.assert_allclose(found, exact, rtol=1e-10)


def test_images_and_shapes():
    X = pixels(6, d=12).reshape(6, 3, 2, 2)
    kernel = FullyConnectedNTK(2)
    np.testing.assert_array_equal(kernel(X), kernel(X.reshape(6, 12)))
    assert kernel(X[:1], X).shape == (1, 6)
    assert kernel(X[:0], X).shape == (0, 6)
    X.flags.writeable = False
    assert kernel(X).shape == (6, 6)
    with pytest.raises(ValueError, match="12 features a row and Y has 4"):
        kernel(X, X.reshape(18, 4))
    with pytest.raises(ValueError, match=r"x\[None\]"):
        kernel(torch.zeros(4))
    with pytest.raises(TypeError, match="two tensors"):
        kernel(torch.zeros(1, 12), X)
    with pytest.raises(ValueError, match="NaN"):
        kernel(np.full((1, 3), np.nan))


@pytest.mark.parametrize(
    "bad", [{"depth": 0}, {"w_std": 0}, {"b_std": -1}, {"dtype": "half"},
            {"block_size": 0}, {"depth": 1.5}]
)  # fmt: skip
def test_bad_parameters_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        FullyConnectedNTK(**bad)(np.eye(2))
