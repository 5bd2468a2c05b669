import pytest
import torch

from robustfit.nets import (
    MLP,
    VGG11,
    AlexNet,
    LeNet5,
    ResNet,
    ResNet18,
    ResNet34,
    ResNet50,
    SmallCNN,
    WideResNet,
)


def n_parameters(build, *args, **kwargs):
    with torch.device("meta"):
        return sum(p.numel() for p in build(*args, **kwargs).parameters())


# Parameter counts of the field's CIFAR-10 implementations of these nets.
@pytest.mark.parametrize(
    ("net", "count"),
    [
        (ResNet18, 11_173_962),
        (ResNet34, 21_282_122),
        (ResNet50, 23_520_842),
        (AlexNet, 2_472_266),
        (VGG11, 9_231_114),
    ],
)
def test_published_parameter_counts(net, count):
    assert n_parameters(net) == count


def basic_block(n_in, width, projects):
    count = 9 * n_in * width + 9 * width * width + 4 * width
    return count + (n_in * width + 2 * width if projects else 0)


@pytest.mark.parametrize(("depth", "blocks"), [(18, (2, 2, 2, 2)), (34, (3, 4, 6, 3))])
@pytest.mark.parametrize(("channels", "width", "n_classes"), [(3, 64, 10), (1, 4, 7)])
def test_resnet_closed_form(depth, blocks, channels, width, n_classes):
    expected = 9 * channels * width + 2 * width
    n_in = width
    for stage, n_blocks in enumerate(blocks):
        n_out = width * 2**stage
        expected += basic_block(n_in, n_out, n_in != n_out)
        expected += (n_blocks - 1) * basic_block(n_out, n_out, False)
        n_in = n_out
    expected += n_in * n_classes + n_classes
    found = n_parameters(
        ResNet, (channels, 32, 32), n_classes, depth=depth, width=width
    )
    assert found == expected


def test_alexnet_closed_form_by_hand():
    convolutions = (
        (3, 11, 64),
        (64, 5, 192),
        (192, 3, 384),
        (384, 3, 256),
        (256, 3, 256),
    )
    expected = sum(a * k * k * b + b for a, k, b in convolutions) + 256 * 10 + 10
    assert n_parameters(AlexNet) == expected


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_resnet_counts_its_layers(depth):
    net = ResNet(depth=depth, width=2)
    convolutions = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    shortcuts = [n for n, _ in net.named_modules() if n.endswith("shortcut.0")]
    assert len(convolutions) - len(shortcuts) + 1 == depth


def test_stem_keeps_32_pixels_and_halves_64():
    sides = {}
    for side in (32, 64):
        net = ResNet((3, side, side), width=2).eval()
        net.features[0].register_forward_hook(
            lambda m, i, o, side=side: sides.update({side: o.shape[-1]})
        )
        assert net(torch.rand(2, 3, side, side)).shape == (2, 10)
    assert sides == {32: 32, 64: 32}
    assert n_parameters(ResNet18, (3, 64, 64), 200) == 11_173_962 + 190 * 513


SMALL = [
    (ResNet18, (1, 8, 8), {"width": 2}),
    (ResNet34, (3, 5, 9), {"width": 2}),
    (ResNet50, (3, 64, 64), {"width": 2}),
    (AlexNet, (1, 32, 32), {}),
    (AlexNet, (3, 64, 64), {}),
    (VGG11, (3, 32, 32), {}),
    (VGG11, (2, 64, 48), {}),
]


@pytest.mark.parametrize(("net", "shape", "size"), SMALL)
def test_takes_images_and_flat_rows_alike(net, shape, size):
    net = net(shape, 4, **size).eval()
    x = torch.rand(3, *shape)
    torch.testing.assert_close(net(x), net(x.flatten(1)))
    assert net(x).shape == (3, 4)
    assert net(x[:1]).shape == (1, 4)


@pytest.mark.parametrize(
    "net",
    [
        lambda: ResNet18(width=2),
        lambda: ResNet50(width=2),
        lambda: AlexNet(),
        lambda: VGG11(),
        lambda: SmallCNN((3, 32, 32)),
        lambda: MLP((3, 32, 32)),
        lambda: LeNet5((3, 32, 32), widen_factor=0.25),
        lambda: WideResNet(depth=10, widen_factor=0.25),
    ],
    ids=["resnet18", "resnet50", "alexnet", "vgg11", "small", "mlp", "lenet", "wide"],
)
def test_compiles_without_a_graph_break(net):
    net = net().eval()
    x = torch.rand(2, 3, 32, 32)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), net(x))


@pytest.mark.parametrize("kind", [ResNet18, AlexNet, VGG11])
def test_gradient_reaches_every_pixel_and_parameter(kind):
    torch.manual_seed(0)
    net = kind(width=4) if kind is ResNet18 else kind()
    x = torch.rand(4, 3, 32, 32, requires_grad=True)
    net(x).square().sum().backward()
    assert (x.grad != 0).float().mean() > 0.9
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ResNet((1, 3, 8)), "Use MLP"),
        (lambda: ResNet(depth=20), "depth is 20"),
        (lambda: ResNet18(width=0), "width is 0"),
        (lambda: ResNet18(stem_stride=0), "stem_stride is 0"),
        (lambda: AlexNet((1, 28, 28)), "least 29"),
        (lambda: VGG11((1, 28, 28)), "least 32"),
    ],
)
def test_impossible_sizes_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
