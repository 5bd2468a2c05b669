import torch
from torch import nn

from robustfit import as_torch
from robustfit._fast_model import fast_copy
from robustfit._torch_bridge import eval_mode


class Residual(nn.Module):
    """A net whose batch norms can be folded, but one: its convolution is used twice."""

    def __init__(self):
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second, self.norm2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.norm1(self.first(x)).relu()
        x = (x + self.norm2(self.second(x))).relu()
        return self.head(x.mean((2, 3)))


def trained_norms(net, x):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(3):
            net.train()(x + torch.randn_like(x))
    return net


def test_same_logits_and_the_model_itself_untouched():
    x = torch.rand(5, 1, 8, 8)
    net = trained_norms(Residual(), x)
    classifier = as_torch(net)
    with eval_mode(net):
        fast = fast_copy(classifier, x)
        torch.testing.assert_close(fast(x), net(x), atol=1e-5, rtol=1e-5)
    assert isinstance(fast.module.norm1, nn.Identity)
    assert isinstance(net.norm1, nn.BatchNorm2d)
    assert net.training


def test_a_convolution_used_elsewhere_is_noticed():
    class Twice(Residual):
        def forward(self, x):
            raw = self.first(x)
            return self.head((raw + self.norm1(raw)).mean((2, 3)))

    x = torch.rand(5, 1, 8, 8)
    net = trained_norms(Twice(), x)
    classifier = as_torch(net)
    with eval_mode(net):
        assert fast_copy(classifier, x) is classifier


def test_nothing_to_gain():
    classifier = as_torch(nn.Linear(3, 2))
    assert fast_copy(classifier, torch.rand(2, 3)) is classifier
