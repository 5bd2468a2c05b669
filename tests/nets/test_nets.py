import pytest
import torch

from robustfit.nets import (
    MLP,
    LeNet5,
    PhotoCNN,
    ResNet18,
    SmallCNN,
    WideResNet,
    default,
    default_classifier,
)
from robustfit.nets.photo_cnn import RandomFlip


def n_parameters(net):
    return sum(p.numel() for p in net.parameters())


def test_small_cnn_is_the_mnist_net_by_default():
    net = SmallCNN()
    # 16(1*16)+16, 32(16*16)+32, 1568*100+100, 100*10+10
    assert n_parameters(net) == 272 + 8224 + 156900 + 1010
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


# Channels and units of appendix B.1 of Ding et al. (2019) times the widen factor.
@pytest.mark.parametrize("widen_factor", [0.125, 0.25, 0.5, 1, 2, 4])
def test_lenet5_has_the_widths_of_the_paper(widen_factor):
    net = LeNet5(widen_factor=widen_factor)
    c1, c2, h = (int(n * widen_factor) for n in (32, 64, 1024))
    expected = 25 * c1 + c1 + 25 * c1 * c2 + c2 + 49 * c2 * h + h + 10 * h + 10
    assert n_parameters(net) == expected
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_lenet5_of_factor_one_by_hand():
    # 32(1*25)+32, 64(32*25)+64, 3136*1024+1024, 1024*10+10
    assert n_parameters(LeNet5()) == 832 + 51264 + 3212288 + 10250


# Published: WRN-28-10 has 36.5 million parameters, WRN-16-4 2.7 million (Zagoruyko &
# Komodakis, 2016, table 4 and figure 2).
@pytest.mark.parametrize(
    ("depth", "widen_factor", "millions"), [(28, 10, 36.5), (28, 4, 5.8), (16, 4, 2.7)]
)
def test_wide_resnet_has_the_published_size(depth, widen_factor, millions):
    with torch.device("meta"):
        net = WideResNet(depth=depth, widen_factor=widen_factor)
    assert n_parameters(net) / 1e6 == pytest.approx(millions, abs=0.06)


def test_wide_resnet_28_has_28_layers_and_the_narrow_one_of_table_5():
    net = WideResNet(widen_factor=0.25)
    longest = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    n_shortcuts = sum(m.kernel_size == (1, 1) for m in longest)
    assert len(longest) - n_shortcuts + 3 == 28  # counts the shortcuts' group starts
    assert net.head.in_features == 16


def test_wide_resnet_standardizes_each_image():
    x = torch.rand(2, 3, 8, 8)
    net = WideResNet((3, 8, 8), depth=10, widen_factor=0.25).eval()
    torch.testing.assert_close(net(x), net(0.5 * x + 0.3), atol=1e-4, rtol=1e-4)
    flat = torch.full((1, 3, 8, 8), 0.5, requires_grad=True)
    (gradient,) = torch.autograd.grad(net(flat).sum(), flat)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LeNet5((1, 3, 8)), "Use MLP"),
        (lambda: LeNet5(widen_factor=0.01), "widen_factor is 0.01"),
        (lambda: WideResNet((3, 2, 8)), "image_shape"),
        (lambda: WideResNet(depth=20), "depth is 20"),
        (lambda: WideResNet(widen_factor=0.01), "widen_factor is 0.01"),
    ],
)
def test_impossible_sizes_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 4, 4), (2, 5, 9)])
def test_takes_images_and_flat_rows_alike(shape):
    x = torch.rand(3, *shape)
    for net in (
        SmallCNN(shape, 4),
        MLP(shape, 4),
        LeNet5(shape, 4, widen_factor=0.25),
        WideResNet(shape, 4, depth=10, widen_factor=0.25).eval(),
    ):
        torch.testing.assert_close(net(x), net(x.flatten(1)))
        assert net(x).shape == (3, 4)
        assert net(x[:1]).shape == (1, 4)


def test_too_small_for_convolutions():
    with pytest.raises(ValueError, match="Use MLP"):
        SmallCNN((1, 3, 8))


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((1, 8, 8), SmallCNN),
        ((1, 3, 8), MLP),
        ((12,), MLP),
        ((3, 32, 32), PhotoCNN),
        ((4, 20, 9), PhotoCNN),
        ((3, 96, 64), PhotoCNN),
        ((3, 7, 32), SmallCNN),
    ],
)
def test_default_classifier_suits_the_shape(shape, kind):
    net = default_classifier(shape, 3).initialize()
    assert isinstance(net.module_, kind)
    assert net.module_.eval()(torch.zeros(2, *shape)).shape == (2, 3)


def test_a_gpu_gets_a_resnet():
    assert default_classifier((3, 32, 32), 3, device="cuda").module is ResNet18
    assert default_classifier((1, 28, 28), 3, device="cuda").module is SmallCNN


@pytest.mark.parametrize(
    ("n_samples", "n_epochs"), [(128, 600), (1397, 55), (20_000, 10), (None, 10)]
)
def test_small_sets_are_trained_for_as_many_steps(n_samples, n_epochs, monkeypatch):
    monkeypatch.setattr(default, "FEWEST_STEPS", 600)
    net = default_classifier((12,), 3, max_epochs=None, n_samples=n_samples)
    assert net.max_epochs == n_epochs


def test_images_are_mirrored_in_training_only():
    x = torch.arange(2.0 * 3 * 2 * 4).reshape(2, 3, 2, 4).repeat(200, 1, 1, 1)
    flip = RandomFlip()
    mirrored = flip(x)
    is_mirrored = (mirrored == x.flip(3)).all((1, 2, 3))
    assert ((mirrored == x).all((1, 2, 3)) ^ is_mirrored).all()
    assert 150 < is_mirrored.sum() < 250
    assert torch.equal(flip.eval()(x), x)
    net, twin = PhotoCNN((3, 8, 8)), PhotoCNN((3, 8, 8), flip=False)
    twin.load_state_dict(net.state_dict())
    images = torch.rand(20, 3, 8, 8)
    assert torch.equal(twin(images), twin.eval()(images))
    torch.testing.assert_close(net.eval()(images), twin(images))
    assert not torch.allclose(net.train()(images), twin(images))


@pytest.mark.parametrize("shape", [(3, 8, 8), (4, 20, 9), (3, 33, 47), (3, 96, 96)])
def test_photo_cnn_takes_images_of_any_size(shape):
    net = PhotoCNN(shape, 5).eval()
    x = torch.rand(2, *shape)
    assert net(x).shape == (2, 5)
    torch.testing.assert_close(net(x.flatten(1)), net(x))
    with pytest.raises(ValueError, match="at least 8"):
        PhotoCNN((3, 7, 8))
