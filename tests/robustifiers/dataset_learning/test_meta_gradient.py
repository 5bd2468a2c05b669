import pytest
import torch
from torch import nn

from robustfit.robustifiers.dataset_learning.meta_gradient import META_GRADIENTS


@pytest.mark.parametrize("n_unrolled", [1, 2])
def test_meta_gradients_agree_with_each_other_and_with_brute_force(n_unrolled):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    x, y = torch.rand(5, 6).double(), torch.randint(3, (5,))
    x_adv = (x + 0.1 * torch.randn(5, 6)).double()
    theta = {k: v.detach() for k, v in net.named_parameters()}
    gradients = {
        name: function(
            net, theta, x, y, lambda trained: x_adv, t=0.1, n_unrolled=n_unrolled
        )
        for name, function in META_GRADIENTS.items()
    }
    exact, loss = gradients["exact"]
    approximate, same_loss = gradients["finite-difference"]
    assert loss == pytest.approx(same_loss)
    torch.testing.assert_close(exact, approximate, rtol=1e-2, atol=1e-6)

    def outer_loss(x_rob):
        _, value = META_GRADIENTS["exact"](
            net, theta, x_rob, y, lambda trained: x_adv, t=0.1, n_unrolled=n_unrolled
        )
        return value

    step = torch.zeros_like(x)
    step[2, 3] = 1e-5
    brute = (outer_loss(x + step) - outer_loss(x - step)) / 2e-5
    assert float(exact[2, 3]) == pytest.approx(brute, rel=1e-3)
