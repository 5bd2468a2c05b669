"""Attacks called on modules and functions pass the gate that estimators pass."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from robustfit import ThreatModel, attack_estimator
from robustfit.attacks import (
    APGD,
    FGSM,
    PGD,
    AutoAttackReference,
    SignAttack,
    Square,
    TransferAttack,
)
from robustfit.exceptions import (
    BatchDependenceWarning,
    BudgetUnitWarning,
    PixelRangeError,
    ProbabilityOutputWarning,
    RandomizedDefenseWarning,
)

ATTACKS = [FGSM(), PGD(4), APGD(4), SignAttack(20), Square(20),
           TransferAttack([nn.Linear(6, 4)])]  # fmt: skip
attacks = pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: type(a).__name__)


@pytest.fixture
def case():
    torch.manual_seed(0)
    net, x = nn.Linear(6, 4).requires_grad_(False), torch.rand(12, 6)
    return net, x, net(x).argmax(1)


def run(attack, model, x, y, eps=0.1):
    return attack(model, x, y, ThreatModel(eps=eps), torch.Generator().manual_seed(0))


@attacks
@pytest.mark.parametrize("change", [lambda y: y + 4, lambda y: y - 4])
def test_labels_without_a_column_are_refused(case, attack, change):
    net, x, y = case
    for model in (net, lambda x: net(x)):
        with pytest.raises(ValueError, match="and the model has 4 outputs"):
            run(attack, model, x, change(y))


@pytest.mark.parametrize("change", [lambda y: y + 0.5, lambda y: y * torch.nan])
def test_labels_that_are_no_whole_numbers_are_refused(case, change):
    net, x, y = case
    with pytest.raises(ValueError, match=r"expected whole numbers 0, 1, 2"):
        run(PGD(2), net, x, change(y))
    with pytest.raises(ValueError, match=r"y has shape \(11,\) and x \(12, 6\)"):
        run(PGD(2), net, x, y[:-1])
    assert torch.equal(run(PGD(2), net, x, y.double()), run(PGD(2), net, x, y))


OUTPUTS = {
    "tuple": lambda o: (o, o),
    "dict": lambda o: {"logits": o},
    "one pixel": lambda o: o[:, :, None, None],
}


@attacks
@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)
def test_outputs_are_made_logits(case, attack, output):
    net, x, y = case
    expected = run(attack, net, x, y)
    assert torch.equal(run(attack, lambda x: output(net(x)), x, y), expected)


def test_one_column_is_two_classes(case):
    _, x, _ = case
    net = nn.Linear(6, 1, bias=False).requires_grad_(False)
    nn.init.ones_(net.weight)
    y = torch.zeros(len(x), dtype=torch.long)
    x_adv = run(PGD(5), lambda x: net(x) - 3, x, y, eps=1.0)
    assert (net(x_adv) > 3).all()  # class 0 was left wherever it was predicted
    with pytest.raises(ValueError, match="the output of a sigmoid"):
        run(PGD(2), nn.Sequential(net, nn.Sigmoid()), x, y)


def test_modules_of_another_float_type(case):
    net, x, y = case
    x_adv = run(PGD(4), net.double(), x, y)
    assert x_adv.dtype == torch.float32
    assert (x_adv != x).any()


def test_what_belongs_elsewhere_is_named(case):
    net, x, y = case
    model = LogisticRegression().fit(x.numpy(), y.numpy())
    with pytest.raises(TypeError, match=r"LogisticRegression.*attack_estimator"):
        run(PGD(2), model, x, y)
    with pytest.raises(TypeError, match=r"x is a ndarray.*attack_estimator"):
        run(PGD(2), net, x.numpy(), y)
    with pytest.raises(PixelRangeError, match="Divide"):
        run(PGD(2), net, 255 * x, y)
    with pytest.warns(BudgetUnitWarning, match="eps=8 in linf"):
        run(PGD(2), net, x, y, eps=8.0)


@pytest.mark.parametrize("attack", [PGD(2), Square(9)])
def test_outputs_are_flagged_without_gradients_too(case, attack):
    net, x, y = case
    with pytest.warns(BatchDependenceWarning):
        run(attack, lambda x: net(x - x.mean(0)), x, y)
    with pytest.warns(RandomizedDefenseWarning):
        run(attack, lambda x: net(x) + torch.randn(len(x), 4), x, y)


@pytest.mark.parametrize("call", ["direct", "estimator"])
def test_the_reference_attacks_logits_not_probabilities(call, case):
    net, x, y = case
    saturated = nn.Sequential(net, Scale(300), nn.Softmax(1))
    logits = nn.Sequential(net, Scale(300))
    attack = AutoAttackReference(["apgd-ce", "fab-t"])

    def found(model):
        if call == "direct":
            return run(attack, model, x, y, eps=0.3)
        result = attack_estimator(model, x.numpy(), y.numpy(), attack=attack, eps=0.3)
        return torch.tensor(result.X_adv)

    with pytest.warns(ProbabilityOutputWarning):
        x_adv = found(saturated)
    assert torch.equal(x_adv, found(logits))
    assert (net(x_adv).argmax(1) != y).any()


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def test_surrogates_with_other_classes_are_refused(case):
    net, x, y = case
    attack = TransferAttack([net, nn.Linear(6, 5)], PGD(2))
    with pytest.raises(ValueError, match=r"surrogates\[1\] tells 5 classes apart, and"):
        run(attack, net, x, y)
    X, labels = x.numpy(), np.arange(12) % 3
    model = LogisticRegression().fit(X, labels)
    for other in (labels + 1, labels.astype(str), labels % 2):
        attack = TransferAttack([LogisticRegression().fit(X, other)])
        with pytest.raises(ValueError, match=r"the model the classes \[0, 1, 2\]"):
            attack_estimator(model, X, labels, attack=attack)
    same = TransferAttack([LogisticRegression(C=9).fit(X, labels)])
    assert attack_estimator(model, X, labels, attack=same).n_samples == 12
