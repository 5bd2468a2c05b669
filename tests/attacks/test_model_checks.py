import threading

import pytest
import torch
from torch import nn

from robustfit.attacks.model_checks import model_flags
from robustfit.exceptions import DynamicDefenseWarning


def with_grad(x):
    point = x.detach().clone().requires_grad_(True)
    torch.autograd.grad(point.square().sum(), point)


def with_backward(x):
    x.detach().clone().requires_grad_(True).square().sum().backward()


def with_autograd_backward(x):
    point = x.detach().clone().requires_grad_(True)
    torch.autograd.backward(point.square().sum())


def with_func(x):
    torch.func.grad(lambda point: point.square().sum())(x)


WAYS = (with_grad, with_backward, with_autograd_backward, with_func)


@pytest.mark.parametrize("take_gradient", WAYS)
def test_a_model_that_computes_gradients_is_dynamic(take_gradient):
    net, x = nn.Linear(5, 3), torch.rand(4, 5)

    def dynamic(x):
        with torch.enable_grad():
            take_gradient(x)
        return net(x)

    y = net(x).argmax(1)
    assert DynamicDefenseWarning in model_flags(dynamic, x, y)
    assert DynamicDefenseWarning not in model_flags(net, x, y)


@pytest.mark.parametrize("take_gradient", WAYS)
def test_gradients_of_another_thread_are_not_the_models(take_gradient):
    net, x = nn.Linear(5, 3), torch.rand(4, 5)

    def beside_another(x):
        thread = threading.Thread(target=take_gradient, args=(x,))
        thread.start()
        thread.join()
        return net(x)

    assert DynamicDefenseWarning not in model_flags(beside_another, x, net(x).argmax(1))
