"""Kernels inside scikit-learn's estimators."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.gaussian_process import (
    GaussianProcessClassifier,
    GaussianProcessRegressor,
)
from sklearn.gaussian_process.kernels import ConstantKernel, WhiteKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC
from torch import nn

import robustfit._utils.memory as memory
from robustfit import as_torch
from robustfit.kernels import (
    ConvolutionalNTK,
    EmpiricalNTK,
    FullyConnectedNNGP,
    FullyConnectedNTK,
)

KERNELS = [
    FullyConnectedNTK(2, b_std=0.1),
    FullyConnectedNNGP(dtype="float64"),
    ConvolutionalNTK(1, (1, 8, 8), block_size=7),
]


@pytest.fixture
def flat(digits):
    X, y, X_test, y_test = digits
    return X[:200].reshape(200, -1), y[:200], X_test.reshape(len(X_test), -1), y_test


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_it_is_a_kernel_of_scikit_learn(kernel):
    for copy in (clone(kernel), pickle.loads(pickle.dumps(kernel)),
                 kernel.clone_with_theta(kernel.theta)):  # fmt: skip
        assert copy == kernel
        assert repr(copy) == repr(kernel)
    assert not kernel.is_stationary()
    assert kernel.n_dims == 0
    X = np.random.default_rng(0).random((3, 64))
    K, gradient = kernel(X, eval_gradient=True)
    assert gradient.shape == (3, 3, 0)
    np.testing.assert_allclose(kernel.diag(X), np.diag(K), rtol=1e-6)
    with pytest.raises(ValueError, match="eval_gradient"):
        kernel(X, X.copy(), eval_gradient=True)


def test_repr_shows_what_differs_from_the_default():
    assert repr(FullyConnectedNTK(3)) == "FullyConnectedNTK()"
    assert repr(FullyConnectedNTK(5, b_std=0.1)) == (
        "FullyConnectedNTK(depth=5, b_std=0.1)"
    )


def test_kernel_ridge_is_kernel_regression(flat):
    X, y, X_test, y_test = flat
    kernel, targets = FullyConnectedNTK(dtype="float64"), np.eye(10)[y]
    ridge = KernelRidge(alpha=1e-3, kernel=kernel).fit(X, targets)
    by_hand = kernel(X_test, X) @ np.linalg.solve(
        kernel(X) + 1e-3 * np.eye(len(X)), targets
    )
    np.testing.assert_allclose(ridge.predict(X_test), by_hand, atol=1e-8)
    assert (by_hand.argmax(1) == y_test).mean() > 0.85


def test_kernel_ridge_and_svc_have_a_differentiable_form(flat):
    X, y, X_test, _ = flat
    x = torch.tensor(X_test, requires_grad=True)
    ridge = KernelRidge(alpha=1e-2, kernel=FullyConnectedNTK()).fit(X, np.eye(10)[y])
    logits = as_torch(ridge)(x)
    np.testing.assert_allclose(logits.detach(), ridge.predict(X_test), atol=1e-4)
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    assert gradient.abs().sum() > 0
    machine = SVC(kernel=FullyConnectedNTK(), C=10).fit(X, y)
    predicted = as_torch(machine)(torch.tensor(X_test)).argmax(1)
    assert (predicted.numpy() == machine.predict(X_test)).mean() > 0.98


def test_svc_and_gaussian_processes(flat):
    X, y, X_test, y_test = flat
    names = np.array([f"digit {label}" for label in range(10)])
    machine = SVC(kernel=FullyConnectedNTK(), C=10).fit(X, names[y])
    assert machine.score(X_test, names[y_test]) > 0.85
    kernel = FullyConnectedNTK(dtype="float64")
    process = GaussianProcessRegressor(kernel, alpha=1e-3).fit(X, np.eye(10)[y])
    mean, deviation = process.predict(X_test, return_std=True)
    assert (mean.argmax(1) == y_test).mean() > 0.85
    assert np.isfinite(deviation).all()
    tuned = GaussianProcessRegressor(
        ConstantKernel(1.0, (1e-2, 1e2)) * kernel + WhiteKernel(0.1, (1e-3, 1e1))
    ).fit(X[:60], y[:60])
    assert tuned.kernel_.n_dims == 2
    two = y < 2
    classifier = GaussianProcessClassifier(kernel).fit(X[two], y[two])
    assert classifier.score(X_test[y_test < 2], y_test[y_test < 2]) > 0.9


def test_parameters_can_be_searched(flat):
    X, y, _, _ = flat
    search = GridSearchCV(
        KernelRidge(alpha=1e-2, kernel=FullyConnectedNTK()),
        {"kernel__depth": [1, 3], "kernel__b_std": [0.0, 0.1]},
        cv=2,
    ).fit(X[:80], np.eye(10)[y[:80]])
    assert set(search.best_params_) == {"kernel__depth", "kernel__b_std"}


def test_free_memory_is_what_a_containers_limit_leaves(tmp_path, monkeypatch):
    assert memory._free_of_container(tmp_path) is None
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 200\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._free_of_container(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory._free_of_container(tmp_path) == 500  # cached files can go
    monkeypatch.setattr(memory, "_free_of_machine", lambda: 400)
    monkeypatch.setattr(memory, "_free_of_container", lambda: 500)
    assert memory.free_bytes("cpu") == 400
    monkeypatch.setattr(memory, "_free_of_machine", lambda: None)
    assert memory.free_bytes("cpu") == 500


def test_memory_is_stated_and_refused(monkeypatch):
    kernel = FullyConnectedNTK()
    output = 10_000 * 10_000 * 4
    needed = kernel.memory_needed(10_000)
    assert output < needed < 1.05 * output
    assert kernel.memory_needed(10_000, gradient=True) > 2 * output
    assert FullyConnectedNTK(dtype="float64").memory_needed(50, 70) == 2 * (
        kernel.memory_needed(50, 70)
    )
    images = ConvolutionalNTK(3, (1, 28, 28))
    assert 100 < images.memory_needed(5000) / 2**20 < 500
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    with pytest.raises(MemoryError, match=r"GiB .* kernel\.product"):
        kernel(np.zeros((50, 3)))


def test_empirical_kernel_of_a_linear_layer():
    X, Y = np.random.default_rng(0).random((2, 5, 3))
    module = nn.Linear(3, 2).train()
    kernel = EmpiricalNTK(module, dtype="float64", block_size=2)
    np.testing.assert_allclose(kernel(X, Y), X @ Y.T + 1)
    np.testing.assert_allclose(kernel.diag(X), (X**2).sum(1) + 1)
    assert module.training
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    with pytest.raises(TypeError, match="Module"):
        EmpiricalNTK("net")(X)


def test_empirical_kernel_is_differentiable(fitted_net, digits):
    module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    kernel = EmpiricalNTK(module, dtype="float64", block_size=1)
    x, y = (torch.rand(2, 4, dtype=torch.float64, requires_grad=True) for _ in "xy")
    assert torch.autograd.gradcheck(kernel, (x, y))
    assert torch.autograd.gradcheck(kernel, (x,))
    images = digits[0][:3]
    of_net = EmpiricalNTK(fitted_net.module_, image_shape=(1, 8, 8))(images)
    assert of_net.shape == (3, 3)
    assert np.linalg.eigvalsh(of_net).min() > 0
