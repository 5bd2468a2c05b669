import numpy as np
import pytest
import torch

from robustfit import ThreatModel
from robustfit.attacks import FGSM, PGD
from robustfit.attacks.gradient import EveryStepPGD
from robustfit.attacks.losses import LOSSES


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Linear:
    """Two logits +-(w x + b): the optimal attack is known in closed form."""

    def __init__(self, n_features, seed=0):
        self.weight = torch.randn(n_features, generator=generator(seed))
        self.bias = 0.0

    def value(self, x):
        return x.reshape(len(x), -1) @ self.weight + self.bias

    def __call__(self, x):
        value = self.value(x)
        return torch.stack([-value, value], dim=1)

    def worst_value(self, x, y, threat_model):
        """Smallest signed value in the ball, without a box."""
        dual = {"linf": self.weight.abs().sum(), "l2": self.weight.norm()}
        return (2 * y - 1) * self.value(x) - threat_model.eps * dual[threat_model.norm]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("attack", [FGSM(), PGD(10), PGD(10, n_restarts=3)])
def test_equals_the_optimum_on_a_linear_model(norm, attack):
    model = Linear(30)
    x = torch.randn(50, 30, generator=generator(1))
    y = (model.value(x) > 0).long()
    # A budget that fools none, so that the attack runs to its end on every sample.
    threat_model = ThreatModel(norm, 1e-4, clip_range=None)
    x_adv = attack(model, x, y, threat_model, generator())
    reached = (2 * y - 1) * model.value(x_adv)
    expected = model.worst_value(x, y, threat_model)
    kept = expected > 0
    np.testing.assert_allclose(reached[kept], expected[kept], rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_verdict_is_exact_on_a_linear_model(norm):
    model = Linear(30)
    x = torch.randn(200, 30, generator=generator(1))
    y = (model.value(x) > 0).long()
    threat_model = ThreatModel(norm, 0.05 if norm == "linf" else 0.3, clip_range=None)
    x_adv = PGD(20)(model, x, y, threat_model, generator())
    worst = model.worst_value(x, y, threat_model)
    decided = worst.abs() > 1e-3
    robust = model(x_adv).argmax(1) == y
    assert (robust[decided] == (worst[decided] > 0)).all()
    assert 0.1 < robust.float().mean() < 0.9


@pytest.mark.parametrize("loss", ["cross-entropy", "margin", "dlr"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (12,)])
def test_budget_is_kept_for_every_shape_and_loss(loss, shape):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(5))
    x = torch.rand(7, *shape)
    y = net(x).argmax(1)
    for norm in ("linf", "l2"):
        threat_model = ThreatModel(norm, 0.3)
        x_adv = PGD(5, loss=loss)(net, x, y, threat_model, generator())
        threat_model.check_perturbation(x_adv, x)
        assert x_adv.shape == x.shape


def robust_share(net, x, y, eps, attack):
    x_adv = attack(net, x, y, ThreatModel("linf", eps), generator())
    return float((net(x_adv).argmax(1) == y).float().mean())


def test_accuracy_falls_with_eps_steps_and_restarts(digits, fitted_net):
    _, _, X, y = digits
    net, x, y = fitted_net.module_.eval(), torch.tensor(X), torch.tensor(y)
    by_eps = [robust_share(net, x, y, eps, PGD(20)) for eps in (0, 0.05, 0.1, 0.3, 1)]
    assert by_eps == sorted(by_eps, reverse=True)
    assert by_eps[-1] == 0
    assert robust_share(net, x, y, 0.1, PGD(20)) <= robust_share(net, x, y, 0.1, FGSM())
    once, thrice = PGD(5), PGD(5, n_restarts=3)
    assert robust_share(net, x, y, 0.1, thrice) <= robust_share(net, x, y, 0.1, once)


def test_same_seed_same_bytes(digits, fitted_net):
    _, _, X, y = digits
    net, x, y = fitted_net.module_.eval(), torch.tensor(X), torch.tensor(y)
    runs = [PGD(5)(net, x, y, ThreatModel(eps=0.1), generator(3)) for _ in range(2)]
    assert torch.equal(*runs)
    other = PGD(5)(net, x, y, ThreatModel(eps=0.1), generator(4))
    assert not torch.equal(runs[0], other)


def test_targeted_attack_reaches_its_target():
    torch.manual_seed(0)
    net = torch.nn.Linear(20, 4)
    x = torch.rand(30, 20)
    target = (net(x).argmax(1) + 1) % 4
    x_adv = PGD(20, targeted=True)(net, x, target, ThreatModel(eps=1.0), generator())
    assert (net(x_adv).argmax(1) == target).float().mean() > 0.9


def test_no_gradient_is_left_in_parameters():
    net = torch.nn.Linear(4, 3)
    x = torch.rand(5, 4)
    PGD(3)(net, x, net(x).argmax(1), ThreatModel(eps=0.5), generator())
    assert all(p.grad is None for p in net.parameters())
    assert not x.requires_grad


def test_only_survivors_are_attacked():
    rows_seen = []

    def logits_fn(x):
        rows_seen.append(len(x))
        return torch.stack([x[:, 0], -x[:, 0]], dim=1)

    x = torch.tensor([[0.01], [5.0]])  # the first is fooled by any step
    y = torch.zeros(2, dtype=torch.long)
    threat_model = ThreatModel(eps=0.5, clip_range=None)
    PGD(10, random_start=False)(logits_fn, x, y, threat_model)
    assert rows_seen[0] == 2
    assert rows_seen[-1] == 1


def test_not_a_number_counts_as_fooled():
    def logits_fn(x):
        logits = torch.stack([x[:, 0], -x[:, 0]], dim=1)
        return torch.where(x[:, :1] < 0.9, torch.nan, logits)

    x, y = torch.ones(1, 1), torch.zeros(1, dtype=torch.long)
    x_adv = PGD(5)(logits_fn, x, y, ThreatModel(eps=0.5), generator())
    assert x_adv[0, 0] < 0.9


def test_empty_input_and_constant_images():
    net = torch.nn.Linear(4, 3)
    empty = torch.empty(0, 4)
    no_labels = torch.empty(0, dtype=torch.long)
    assert PGD(2)(net, empty, no_labels, ThreatModel(), generator()).shape == (0, 4)
    black, y = torch.zeros(3, 4), torch.zeros(3, dtype=torch.long)
    x_adv = PGD(2)(net, black, y, ThreatModel("l2", 0.1), generator())
    assert torch.isfinite(x_adv).all()


def test_losses_against_their_formulas():
    logits = torch.tensor([[3.0, 1.0, 2.0, -1.0]])
    y = torch.tensor([0])
    values = {name: loss(logits, y, value_only=True) for name, loss in LOSSES.items()}
    assert values["margin"] == pytest.approx(-1.0)
    # (2 - 3) / (3 - 1): the gap to the runner-up over the gap to the third.
    assert values["dlr"] == pytest.approx(-0.5)
    expected = float(torch.logsumexp(logits, 1) - 3)
    assert values["cross-entropy"] == pytest.approx(expected)


def test_dlr_of_two_classes_is_the_margin():
    model, threat_model = Linear(30), ThreatModel("linf", 0.05, clip_range=None)
    x = torch.randn(50, 30, generator=generator(1))
    y = (model.value(x) > 0).long()
    by_dlr, by_margin = (
        PGD(5, loss=loss)(model, x, y, threat_model, generator())
        for loss in ("dlr", "margin")
    )
    assert torch.equal(by_dlr, by_margin)
    assert 0.1 < (model(by_dlr).argmax(1) == y).float().mean() < 0.9


def test_every_step_goes_on_where_pgd_stops_at_the_border():
    model = Linear(30)
    x = torch.randn(50, 30, generator=generator(1))
    y = (model.value(x) > 0).long()
    threat_model = ThreatModel("linf", 0.3, clip_range=None)
    deep = EveryStepPGD(10)(model, x, y, threat_model)
    # On a linear model the steps lead to the far corner of the ball.
    reached = (2 * y - 1) * model.value(deep)
    expected = model.worst_value(x, y, threat_model)
    np.testing.assert_allclose(reached, expected, rtol=1e-4, atol=1e-4)
    back = EveryStepPGD(10, towards=True)(model, x, y, threat_model)
    assert ((2 * y - 1) * model.value(back) > (2 * y - 1) * model.value(x)).all()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"n_steps": 0}, "n_steps is 0"),
        ({"n_restarts": 1.5}, "n_restarts is 1.5"),
        ({"step_size": -1}, "step_size is -1"),
        ({"loss": "hinge"}, "loss is 'hinge'; expected one of"),
        ({"loss": ["dlr"]}, "loss is \\['dlr'\\]; expected one of"),
    ],
)
def test_bad_parameters_are_named(bad, message):
    with pytest.raises(ValueError, match=message):
        PGD(**bad)
