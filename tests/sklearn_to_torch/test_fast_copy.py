import pytest
import torch
from torch import nn

from robustfit import as_torch
from robustfit._utils.torch_bridge import eval_mode
from robustfit.sklearn_to_torch.fast_copy import bfloat16_copy, fast_copy
from robustfit.sklearn_to_torch.thin_convolution import ThinConvolution, is_thin


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


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 4, "stride": 2, "padding": 1},
        {"kernel_size": 3},
        {"kernel_size": (3, 2), "stride": (2, 3), "dilation": (2, 1), "bias": False},
    ],
)
def test_thin_convolutions_have_the_same_gradient(settings):
    convolution = nn.Conv2d(1, 5, **settings).double().requires_grad_(False)
    x = torch.rand(3, 1, 9, 11, dtype=torch.float64, requires_grad=True)
    thin = ThinConvolution(convolution)
    torch.testing.assert_close(thin(x), convolution(x))
    upstream = torch.rand_like(convolution(x))
    found, expected = (
        torch.autograd.grad((part(x) * upstream).sum(), x)[0]
        for part in (thin, convolution)
    )
    torch.testing.assert_close(found, expected)
    with torch.autocast("cpu", torch.bfloat16):
        x = x.detach().float().requires_grad_(True)
        output = ThinConvolution(convolution.float())(x)
    (reduced,) = torch.autograd.grad((output * upstream).sum(), x)
    torch.testing.assert_close(reduced.double(), expected, atol=0.05, rtol=0.05)


def test_what_is_thin():
    assert is_thin(nn.Conv2d(1, 2, 3))
    assert not is_thin(nn.Conv2d(3, 2, 3))
    assert not is_thin(nn.Conv2d(1, 2, 3, padding="same"))
    assert not is_thin(nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"))


def test_the_copy_of_a_net_for_grey_images_gets_them():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 3)).eval()
    fast = fast_copy(as_torch(net), torch.rand(2, 1, 8, 8))
    assert isinstance(fast.module[0], ThinConvolution)
    assert isinstance(net[0], nn.Conv2d)


def test_a_copy_with_converted_weights_answers_as_autocast_does():
    x = torch.rand(4, 1, 8, 8)
    net = trained_norms(Residual(), x).eval()
    classifier = as_torch(net)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(bfloat16_copy(classifier)(x), classifier(x))
        torch.testing.assert_close(bfloat16_copy(net)(x), net(x))
    assert net.first.weight.dtype == torch.float32
    assert bfloat16_copy(abs) is abs


class ByName(nn.Module):
    """Hands its batch norm the input by name."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.norm(input=self.first(x)).mean((2, 3)))


class RefusesCopies(ByName):
    def __deepcopy__(self, memo):
        raise KeyError("no copies")


class NotANumber(ByName):
    def forward(self, x):
        return super().forward(x) * torch.nan


def stack(convolution, norm):
    return nn.Sequential(convolution, norm, nn.Flatten(), nn.Linear(4 * 36, 3))


UNUSUAL = {
    "spectral": lambda: stack(
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(1, 4, 3)), nn.BatchNorm2d(4)
    ),
    "weight": lambda: stack(
        nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 4, 3)), nn.BatchNorm2d(4)
    ),
    "no statistics": lambda: stack(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)
    ),
    "no weights": lambda: stack(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, affine=False)),
    "by name": ByName,
    "no copies": RefusesCopies,
    "not a number": NotANumber,
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_the_copy_is_never_what_fails(name):
    x = torch.rand(5, 1, 8, 8)
    net = trained_norms(UNUSUAL[name](), x)
    with eval_mode(net):
        classifier = as_torch(net)
        fast = fast_copy(classifier, x)
        expected = net(x)
        torch.testing.assert_close(
            fast(x), expected, atol=1e-4, rtol=1e-4, equal_nan=True
        )


def test_a_norm_that_reads_by_name_is_folded_as_well():
    x = torch.rand(5, 1, 8, 8)
    net = trained_norms(ByName(), x)
    with eval_mode(net):
        assert isinstance(fast_copy(as_torch(net), x).module.norm, nn.Identity)


def test_a_net_that_writes_into_its_input_is_copied():
    class Writes(ByName):
        def forward(self, x):
            x -= 0.5
            return super().forward(x)

    x = torch.rand(5, 1, 8, 8)
    given, net = x.clone(), trained_norms(Writes(), x.clone())
    with eval_mode(net):
        fast = fast_copy(as_torch(net), x)
    assert isinstance(fast.module.norm, nn.Identity)
    assert torch.equal(x, given)
