import pytest
import torch

from robustfit.nets import MLP, SmallCNN, default_classifier


def n_parameters(net):
    return sum(p.numel() for p in net.parameters())


def test_small_cnn_is_the_mnist_net_by_default():
    net = SmallCNN()
    # 16(1*16)+16, 32(16*16)+32, 1568*100+100, 100*10+10
    assert n_parameters(net) == 272 + 8224 + 156900 + 1010
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 4, 4), (2, 5, 9)])
def test_takes_images_and_flat_rows_alike(shape):
    x = torch.rand(3, *shape)
    for net in (SmallCNN(shape, 4), MLP(shape, 4)):
        torch.testing.assert_close(net(x), net(x.flatten(1)))
        assert net(x).shape == (3, 4)
        assert net(x[:1]).shape == (1, 4)


def test_too_small_for_convolutions():
    with pytest.raises(ValueError, match="Use MLP"):
        SmallCNN((1, 3, 8))


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((1, 8, 8), SmallCNN), ((1, 3, 8), MLP), ((12,), MLP), ((3, 32, 32), SmallCNN)],
)
def test_default_classifier_suits_the_shape(shape, kind):
    net = default_classifier(shape, 3).initialize()
    assert isinstance(net.module_, kind)
    assert net.module_.eval()(torch.zeros(2, *shape)).shape == (2, 3)
