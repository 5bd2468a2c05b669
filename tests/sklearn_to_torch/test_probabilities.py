import pytest
import torch
from joblib import Parallel, delayed
from skorch import NeuralNetClassifier
from torch import nn

from robustfit import as_torch
from robustfit.sklearn_to_torch.probabilities import (
    looks_like_probabilities,
    recover_logits,
    see_through_softmax,
    see_through_softmax_layer,
)

WAYS = {
    "layer": nn.Softmax(1),
    "method": lambda z: z.softmax(1),
    "function": lambda z: torch.softmax(z, 1),
    "by name": lambda z: torch.softmax(dim=1, input=z),
    "special": lambda z: torch.special.softmax(z, 1),
    "functional": lambda z: nn.functional.softmax(z, 1),
    "tuple": lambda z: (z.softmax(1), z.sum()),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_last_softmax_is_seen_through(way):
    logits = 100 * torch.rand(4, 3)
    output, found = see_through_softmax(WAYS[way], logits)
    assert found is logits
    torch.testing.assert_close(output, logits.softmax(1))


def test_a_layer_is_seen_through_and_a_function_is_not():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = nn.Softmax(1)

        def forward(self, z):
            self.inside(z)
            return z.softmax(1)

    logits = 100 * torch.rand(4, 3)
    assert see_through_softmax_layer(nn.Softmax(1), logits)[1] is logits
    output, found = see_through_softmax_layer(Functional(), logits)
    assert found is None
    torch.testing.assert_close(output, logits.softmax(1))


def test_a_softmax_inside_is_not_the_output():
    logits = torch.rand(4, 3)
    output, found = see_through_softmax(lambda z: 2 * z.softmax(1), logits)
    assert found is None
    torch.testing.assert_close(output, 2 * logits.softmax(1))


def test_other_probabilities_become_logarithms():
    p = torch.tensor([[0.25, 0.75], [0.0, 1.0]])
    assert looks_like_probabilities(p)
    logits = recover_logits(lambda x: x + 0, p)(p)
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits.softmax(1), p)
    assert not looks_like_probabilities(p - 1)
    assert recover_logits(nn.Identity(), p - 1)(p - 1) is not None


def test_threads_that_share_a_net_do_not_take_each_others_logits():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.softmax = nn.Linear(5, 3), nn.Softmax(1)

        def forward(self, x):
            return self.softmax(self.linear(x))

    net = NeuralNetClassifier(Net, verbose=0).initialize()
    logits_fn, xs = as_torch(net), [torch.rand(50, 5) for _ in range(64)]
    found = Parallel(n_jobs=8, backend="threading")(delayed(logits_fn)(x) for x in xs)
    for x, logits in zip(xs, found, strict=True):
        assert torch.equal(logits, net.module_.linear(x))
