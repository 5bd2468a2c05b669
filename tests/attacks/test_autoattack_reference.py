import sys
import warnings
from copy import deepcopy

import pyautoattack
import pytest
import torch

from robustfit import ThreatModel, attack_estimator
from robustfit.attacks import AutoAttackReference
from robustfit.exceptions import (
    FewClassesWarning,
    ProbabilityOutputWarning,
    RandomizedDefenseWarning,
    RobustnessWarning,
    SquareAttackWarning,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def direct_verdicts(net, x, y, eps, norm, seed, batch_size, attacks):
    """What a plain call of the package says, sample by sample."""
    module = net.module_.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    version = "standard" if attacks is None else "custom"
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        engine = pyautoattack.AutoAttack(
            module, attacks=attacks, eps=eps, norm=norm, seed=seed, version=version
        )
        x_adv, _ = engine.run_standard_evaluation(x, y, batch_size=batch_size)
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    return module(x_adv).argmax(1) == y


@pytest.mark.parametrize(
    ("norm", "name", "eps", "attacks"),
    [("linf", "Linf", 0.1, None), ("l2", "L2", 0.6, ["apgd-ce", "apgd-t", "fab-t"])],
)
def test_same_verdicts_as_a_direct_call(digits, fitted_net, norm, name, eps, attacks):
    _, _, X, y = digits
    X, y = X[:6], y[:6]
    expected = direct_verdicts(
        fitted_net, torch.tensor(X), torch.tensor(y), eps, name, 7, 3, attacks
    )
    result = attack_estimator(
        fitted_net, X, y, attack="autoattack-reference", eps=eps, norm=norm,
        version=attacks or "standard", random_state=7, batch_size=3,
    )  # fmt: skip
    assert result.robust.tolist() == expected.tolist()
    assert 0 < result.robust.mean() < 1
    attacks = attacks or ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert list(result.robust_after) == attacks
    counts = [after.sum() for after in result.robust_after.values()]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == result.robust.sum()
    assert "\n" not in repr(result)
    assert f"fab-t={counts[2] / 6:.3f}" in repr(result)


def test_leaves_no_trace(digits, fitted_net, capsys):
    _, _, X, y = digits
    net = deepcopy(fitted_net)  # which other tests share
    net.module_.train()
    for parameter in net.module_.parameters():
        parameter.grad = None
    torch.manual_seed(123)
    state, trace = torch.get_rng_state(), sys.gettrace()
    attack_estimator(net, X[:5], y[:5], attack="autoattack-reference", eps=0.2)
    assert torch.equal(state, torch.get_rng_state())
    assert sys.gettrace() is trace
    assert net.module_.training
    parameters = list(net.module_.parameters())
    assert all(p.requires_grad and p.grad is None for p in parameters)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("n_classes", "norm"), [(2, "l2"), (3, "linf")])
def test_few_classes_run_and_say_what_was_left_out(n_classes, norm):
    torch.manual_seed(0)
    net = torch.nn.Linear(6, n_classes)
    x = torch.rand(3, 6)
    attack = AutoAttackReference()
    threat_model = ThreatModel(norm, 0.3)
    with pytest.warns(FewClassesWarning, match="apgd-t"):
        x_adv = attack(net, x, net(x).argmax(1), threat_model, generator())
    threat_model.check_perturbation(x_adv, x)
    assert list(attack.robust_after_) == ["apgd-ce", "fab-t", "square"]


def test_probabilities_are_flagged():
    net = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Softmax(1))
    x = torch.rand(4, 6)
    with pytest.warns(ProbabilityOutputWarning, match="Attack the logits"):
        AutoAttackReference(["apgd-ce"])(
            net, x, net(x).argmax(1), ThreatModel(eps=0.1), generator()
        )


def test_randomized_model_is_flagged():
    linear = torch.nn.Linear(6, 4)

    def net(x):
        return linear(x) + 0.5 * torch.randn(len(x), 4)

    x = torch.rand(8, 6)
    with pytest.warns(RandomizedDefenseWarning, match="rand"):
        AutoAttackReference(["apgd-ce"])(
            net, x, linear(x).argmax(1), ThreatModel(eps=0.1), generator()
        )


def test_masked_gradients_are_flagged_by_square():
    torch.manual_seed(0)
    linear = torch.nn.Linear(64, 4)

    def staircase(x):  # gradients vanish everywhere, the decision is the linear one
        return linear(x).mul(20).round()

    x = torch.rand(20, 1, 8, 8)
    x, y = x.flatten(1), linear(x.flatten(1)).argmax(1)
    with pytest.warns(RobustnessWarning) as caught:
        AutoAttackReference(["apgd-ce", "apgd-t", "square"])(
            staircase, x, y, ThreatModel(eps=0.3), generator()
        )
    assert SquareAttackWarning in {warning.category for warning in caught}


def test_custom_versions():
    assert AutoAttackReference("plus").attacks[-1] == "fab-t"
    assert AutoAttackReference(["square"]).attacks == ("square",)
    with pytest.raises(ValueError, match="version is 'fast'"):
        AutoAttackReference("fast")
    with pytest.raises(ValueError, match="non-empty list"):
        AutoAttackReference(["pgd"])
    with pytest.raises(ValueError, match="batch_size is 0"):
        AutoAttackReference(batch_size=0)


def test_rand_version_runs():
    net = torch.nn.Linear(6, 4)
    x = torch.rand(3, 6)
    attack = AutoAttackReference("rand")
    attack(net, x, net(x).argmax(1), ThreatModel(eps=0.1), generator())
    assert list(attack.robust_after_) == ["apgd-ce", "apgd-dlr"]


def test_no_rows():
    net = torch.nn.Linear(6, 4)
    x, y = torch.empty(0, 6), torch.empty(0, dtype=torch.long)
    assert AutoAttackReference()(net, x, y, ThreatModel(), generator()).shape == (0, 6)


def test_without_the_package_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    net = torch.nn.Linear(6, 4)
    x = torch.rand(3, 6)
    with pytest.raises(ImportError, match="attack='autoattack', robustfit's own"):
        AutoAttackReference()(net, x, net(x).argmax(1), ThreatModel(), generator())
