from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from robustfit import TorchClassifier, as_torch, attack_estimator
from robustfit.attacks.losses import LOSSES
from robustfit.sklearn_to_torch.fast_copy import fast_copy
from robustfit.sklearn_to_torch.logits import to_logits

X = torch.rand(4, 6)
LOGITS = torch.randn(4, 3)
WithLoss = namedtuple("WithLoss", ["loss", "logits"])


def test_logits_are_left_alone():
    assert to_logits(LOGITS, X) is LOGITS


@pytest.mark.parametrize(
    "output",
    [
        (LOGITS, X), [LOGITS, None], (LOGITS,), ((LOGITS,),),
        {"logits": LOGITS, "loss": X}, {"logits": (LOGITS, X)},
        SimpleNamespace(logits=LOGITS), WithLoss(torch.zeros(()), LOGITS),
    ],
)  # fmt: skip
def test_containers_are_unpacked(output):
    assert to_logits(output, X) is LOGITS


@pytest.mark.parametrize("shape", [(4, 3, 1, 1), (4, 3, 1), (4, 3, 1, 1, 1)])
def test_images_of_one_pixel_are_flattened(shape):
    assert torch.equal(to_logits(LOGITS.reshape(shape), X), LOGITS)


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 1, 1, 1)])
def test_one_column_becomes_two(shape):
    logits = to_logits(LOGITS[:, 0].reshape(shape), X)
    torch.testing.assert_close(logits.softmax(1)[:, 1], LOGITS[:, 0].sigmoid())
    assert torch.equal(logits[:, 1] - logits[:, 0], LOGITS[:, 0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_logits_have_the_float_type_of_the_inputs(dtype):
    logits = to_logits(LOGITS.to(dtype), X)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, LOGITS.to(dtype).float())
    assert to_logits(LOGITS, X.double()).dtype == torch.float64
    assert to_logits(LOGITS, X.int()).dtype == torch.float32
    assert to_logits(LOGITS.argmax(1, keepdim=True), X).dtype == torch.float32


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (LOGITS[:, :, None].expand(4, 3, 2), r"shape \(4, 3, 2\)"),
        (LOGITS.sum(), r"shape \(\) "),
        (LOGITS.T, r"shape \(3, 4\) and type torch.float32 for 4 inputs"),
        (LOGITS[:1], r"shape \(1, 3\)"),
        (LOGITS[:, :0], r"shape \(4, 0\)"),
        (LOGITS + 0j, "complex64"),
        (LOGITS[:, None, None, :], r"shape \(4, 1, 1, 3\)"),
        (None, "returned a NoneType; expected a tensor of logits"),
        (LOGITS.numpy(), "returned a ndarray"),
        ((), "returned a tuple"),
        ({"scores": LOGITS}, r"a dict with the keys \['scores'\]"),
    ],
)
def test_other_outputs_are_refused(output, message):
    with pytest.raises(ValueError, match=message):
        to_logits(output, X)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6, 1e30, 3e38])
def test_minus_infinity_becomes_the_lowest(scale):
    logits = (scale * LOGITS.sigmoid()).clone()
    logits[:, 1] = -torch.inf
    logits.requires_grad_(True)
    replaced = to_logits(logits, X)
    assert torch.isfinite(replaced).all()
    assert torch.equal(replaced[:, ::2], logits[:, ::2])
    assert (replaced[:, 1] < replaced[:, ::2].amin(1)).all()
    assert torch.equal(replaced.softmax(1), logits.softmax(1))
    y = torch.tensor([0, 2, 0, 2])
    F.cross_entropy(replaced, y).backward()
    assert torch.isfinite(logits.grad).all()
    for name in LOSSES:
        values, gradients = LOSSES[name](replaced.detach(), y)
        if scale < 1e30:  # where logits overflow, so do their differences
            assert torch.isfinite(values).all()
            assert torch.isfinite(gradients).all()


def test_rows_without_an_answer_have_none():
    rows = torch.tensor(
        [
            [-torch.inf, -torch.inf, -torch.inf],
            [torch.inf, 0.0, -torch.inf],
            [torch.nan, 0.0, -torch.inf],
            [1.0, 2.0, -torch.inf],
        ]
    )
    assert as_torch(nn.Identity()).columns(rows).tolist() == [-2, -2, -2, 1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_inputs_are_cast_to_the_modules_type(dtype):
    net = nn.Linear(6, 3)
    expected = net(X).detach()
    logits = as_torch(net.to(dtype)).logits(X)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, atol=0.05, rtol=0.05)


def test_one_column_may_have_two_classes():
    classifier = TorchClassifier(nn.Linear(6, 1), classes=["no", "yes"])
    predicted = classifier.columns(X)
    assert predicted.tolist() == (classifier.module(X)[:, 0] > 0).int().tolist()
    assert classifier.encode(["yes", "no"], 2).tolist() == [1, 0]


class Small(nn.Module):
    """A convolution and its norm, which a fast copy folds, with an output of a kind."""

    def __init__(self, out=lambda logits: logits):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, 3, 1)
        self.out = out

    def forward(self, x):
        x = self.norm(self.convolution(x)).relu().mean((2, 3), keepdim=True)
        return self.out(self.head(x))


OUTPUTS = {
    "image": lambda o: o,
    "tuple": lambda o: (o.flatten(1), o),
    "dict": lambda o: {"logits": o.flatten(1)},
    "one column": lambda o: o[:, 0, 0],
    "minus infinity": lambda o: torch.cat([o, torch.full_like(o, -torch.inf)], 1),
}


@pytest.mark.parametrize("out", OUTPUTS.values(), ids=OUTPUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_fast_copy_has_the_same_logits(out, dtype):
    x = torch.rand(5, 3, 8, 8)
    net = Small(out).to(dtype).eval()
    net.norm.running_var.fill_(2.0)
    classifier = as_torch(net)
    with classifier.frozen():
        fast = fast_copy(classifier, x)
    assert isinstance(fast.module.norm, nn.Identity)
    torch.testing.assert_close(fast(x), classifier(x), atol=1e-5, rtol=1e-5)


class Head(nn.Module):
    """A layer whose output is of some kind."""

    def __init__(self, out, n_outputs=10):
        super().__init__()
        self.linear, self.out = nn.Linear(64, n_outputs), out

    def forward(self, x):
        return self.out(self.linear(x))


@pytest.mark.parametrize(
    "out",
    [lambda o: (o, o), lambda o: torch.cat([o, o[:, :1] - torch.inf], 1)],
)
def test_skorch_nets_pass_the_same_place(digits, out):
    X, y, X_test, y_test = digits
    X, X_test = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
    net = NeuralNetClassifier(
        Head, module__out=lambda o: o, criterion=nn.CrossEntropyLoss, lr=0.5,
        verbose=0, max_epochs=20, train_split=None,
    ).fit(X, y)  # fmt: skip
    net.module_.out = out
    result = attack_estimator(net, X_test, y_test, eps=0.05)
    assert result.natural_accuracy == np.mean(net.predict(X_test) == y_test) > 0.5
    assert result.robust_accuracy < result.natural_accuracy


def test_binary_skorch_nets_are_as_before(digits):
    X, y, X_test, y_test = digits
    X, X_test = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
    net = NeuralNetBinaryClassifier(
        Head, module__out=lambda o: o, module__n_outputs=1, lr=0.5, verbose=0,
        max_epochs=20, train_split=None,
    ).fit(X, (y % 2).astype(np.float32))  # fmt: skip
    result = attack_estimator(net, X_test, y_test % 2, eps=0.01)
    expected = np.mean(net.predict(X_test).ravel() == y_test % 2)
    assert result.natural_accuracy == expected > 0.7
    with pytest.raises(ValueError, match="label 2, and the model has 2 outputs"):
        attack_estimator(net, X_test, y_test % 3)
