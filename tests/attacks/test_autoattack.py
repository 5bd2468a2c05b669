import math
import warnings

import numpy as np
import pyautoattack
import pytest
import torch
from torch import nn

from robustfit import ThreatModel, attack_estimator
from robustfit.attacks import APGD, FAB, AutoAttack, Square
from robustfit.attacks import square as square_module
from robustfit.attacks.losses import LOSSES, margin
from robustfit.exceptions import (
    DynamicDefenseWarning,
    ProbabilityOutputWarning,
    RandomizedDefenseWarning,
    SquareAttackWarning,
    ZeroGradientWarning,
)

NORMS = {"linf": ("Linf", 0.1), "l2": ("L2", 0.6), "l1": ("L1", 1.5)}
SHORT = {"n_steps": 15, "n_queries": 60}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def reference_verdicts(module, x, y, norm, eps):
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        engine = pyautoattack.AutoAttack(module, eps=eps, norm=norm, seed=0)
        engine.verbose, engine.square.n_queries = False, 300
        x_adv, _ = engine.run_standard_evaluation(x, y, batch_size=64)
    return module(x_adv).argmax(1) == y


@pytest.mark.parametrize("norm", NORMS)
def test_same_verdicts_as_the_reference(digits, fitted_net, norm):
    _, _, X, y = digits
    module = fitted_net.module_.eval()
    name, eps = NORMS[norm]
    x, y_tensor = torch.tensor(X[:20]), torch.tensor(y[:20])
    expected = reference_verdicts(module, x, y_tensor, name, eps)
    result = attack_estimator(
        fitted_net, X[:20], y[:20], attack=AutoAttack(n_queries=300), eps=eps, norm=norm
    )
    assert result.robust.tolist() == expected.tolist()
    assert 0 < result.robust.mean() < 1


def linear(n_features=12, n_classes=3, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(n_features, n_classes)


def margins_of(net, x, y):
    """Distance to the nearest boundary of a linear model, in the dual of linf."""
    logits = net(x)
    rows = torch.arange(len(x))
    gaps = logits[rows, y][:, None] - logits
    slopes = (net.weight[y][:, None] - net.weight).abs().sum(2)
    distance = (gaps / slopes.clamp_min(1e-12)).scatter(1, y[:, None], math.inf)
    return distance.amin(1).detach()


@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("attack", [APGD(50, "margin", n_targets=9), FAB()])
def test_linear_model_is_attacked_optimally(n_classes, attack):
    net = linear(n_classes=n_classes)
    x = torch.rand(60, 12, generator=generator())
    y = net(x).argmax(1)
    distance = margins_of(net, x, y)
    eps = float(distance.median())
    x_adv = attack(net, x, y, ThreatModel("linf", eps, None), generator())
    fooled = net(x_adv).argmax(1) != y
    clear = (distance - eps).abs() > 0.02 * eps
    assert torch.equal(fooled[clear], (distance < eps)[clear])


@pytest.mark.parametrize("norm", NORMS)
def test_fab_finds_the_closed_form_distance(norm):
    net = linear()
    x = torch.rand(30, 12, generator=generator())
    y = net(x).argmax(1)
    threat_model = ThreatModel(norm, 1.0, None)
    x_adv = FAB(minimal=True)(net, x, y, threat_model)
    logits, rows = net(x), torch.arange(30)
    gaps = (logits[rows, y][:, None] - logits).scatter(1, y[:, None], math.inf)
    slopes = torch.stack(
        [threat_model.dual_length(net.weight[y] - net.weight[c]) for c in range(3)], 1
    )
    expected = (gaps / slopes.clamp_min(1e-12)).amin(1).detach()
    found = threat_model.distance(x_adv, x).detach()
    torch.testing.assert_close(found, expected, rtol=0.06, atol=1e-4)
    assert (net(x_adv).argmax(1) != y).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(7,), (1, 6, 6), (2, 5, 9), (3, 1, 4)])
@pytest.mark.parametrize("clip_range", [(0.0, 1.0), (-2.0, 3.0), None])
def test_any_shape_and_range_within_budget(norm, shape, clip_range):
    n_features = math.prod(shape)
    net = nn.Sequential(nn.Flatten(), linear(n_features, 3))
    x = torch.rand(6, *shape, generator=generator())
    threat_model = ThreatModel(norm, 0.2 * NORMS[norm][1] * 5, clip_range)
    attack = AutoAttack(**SHORT)
    x_adv = attack(net, x, net(x).argmax(1), threat_model, generator())
    assert x_adv.shape == x.shape
    threat_model.check_perturbation(x_adv, x)
    assert list(attack.robust_after_) == ["apgd-ce", "apgd-t", "fab-t", "square"]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["apgd-ce", "apgd-t", "fab-t", "square"])
def test_a_sample_does_not_notice_its_batch(norm, name):
    """Alone, in small or large batches: the same numbers are drawn for a sample."""
    net = nn.Sequential(nn.Flatten(), linear(64, 10)).double()
    x = torch.rand(20, 1, 8, 8, generator=generator()).double()
    y = net(x).argmax(1)
    threat_model = ThreatModel(norm, 0.3 * NORMS[norm][1])
    whole, small = (
        AutoAttack([name], batch_size=size, **SHORT)
        .run(net, x, y, threat_model, generator(3))
        .x_adv
        for size in (128, 3)
    )
    alone = AutoAttack([name], **SHORT).run(
        net, x[7:8], y[7:8], threat_model, generator(3)
    )
    alone = alone.x_adv
    if name == "apgd-t":  # which of several targets falls first may differ
        whole, small, alone = (net(t).argmax(1) for t in (whole, small, alone))
        whole, small = (whole == y).double(), (small == y).double()
        alone = (alone == y[7]).double()
    torch.testing.assert_close(whole, small, atol=1e-6, rtol=0)
    torch.testing.assert_close(whole[7:8], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("version", ["plus", "rand", ["fab"], ["apgd-dlr", "square"]])
def test_versions(version):
    net = linear(8, 5)
    x = torch.rand(5, 8, generator=generator())
    attack = AutoAttack(version, **SHORT)
    attack(net, x, net(x).argmax(1), ThreatModel(eps=0.1), generator())
    assert tuple(attack.robust_after_) == attack.attacks


def test_leaves_no_trace(digits, fitted_net, capsys):
    _, _, X, y = digits
    module = fitted_net.module_.train()
    for parameter in module.parameters():
        parameter.grad = None
    torch.manual_seed(5)
    state = torch.get_rng_state()
    attack_estimator(fitted_net, X[:4], y[:4], attack=AutoAttack(**SHORT), eps=0.1)
    assert torch.equal(state, torch.get_rng_state())
    assert module.training
    assert all(p.requires_grad and p.grad is None for p in module.parameters())
    assert capsys.readouterr() == ("", "")
    module.eval()


@pytest.mark.parametrize("layer", [True, False])
def test_saturated_softmax_is_seen_through(layer):
    class Saturated(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.softmax = linear(16, 4), nn.Softmax(1)

        def forward(self, x):
            logits = 1e4 * self.linear(x)
            return self.softmax(logits) if layer else logits.softmax(1)

    net = Saturated()
    x = torch.rand(20, 16, generator=generator())
    y = net(x).argmax(1)
    attack = AutoAttack(["apgd-t"], n_steps=30)
    with pytest.warns(ProbabilityOutputWarning, match="recovered"):
        x_adv = attack(net, x, y, ThreatModel(eps=0.9), generator())
    assert (net(x_adv).argmax(1) != y).float().mean() > 0.9
    with pytest.warns(ProbabilityOutputWarning):
        result = attack_estimator(net, x.numpy(), y.numpy(), loss="margin", eps=0.9)
    assert result.robust_accuracy < 0.1


def test_flags():
    base = linear(16, 4)
    x = torch.rand(20, 16, generator=generator())
    y, threat_model = base(x).argmax(1), ThreatModel(eps=0.3)

    def noisy(x):
        return base(x) + torch.randn(len(x), 4)

    def staircase(x):
        return base(x).mul(20).round()

    def dynamic(x):
        point = x.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            base(point).sum().backward()
        return base(x)

    attack = AutoAttack(["apgd-ce", "apgd-t", "square"], **SHORT)
    with pytest.warns(RandomizedDefenseWarning, match="rand"):
        attack(noisy, x, y, threat_model, generator())
    with pytest.warns(DynamicDefenseWarning):
        attack(dynamic, x, y, threat_model, generator())
    with pytest.warns() as caught:
        attack(staircase, x, staircase(x).argmax(1), threat_model, generator())
    assert {SquareAttackWarning, ZeroGradientWarning} <= {w.category for w in caught}


def test_bfloat16_search_calls_no_sample_robust_that_float32_fools(digits, fitted_net):
    _, _, X, y = digits
    full, reduced = (
        attack_estimator(
            fitted_net,
            X[:12],
            y[:12],
            attack=AutoAttack(precision=precision, **SHORT),
            eps=0.1,
        )
        for precision in ("float32", "bfloat16")
    )
    assert not (reduced.robust & ~full.robust).any()
    module = fitted_net.module_.eval()
    own = module(torch.tensor(reduced.X_adv)).argmax(1).numpy() == y[:12]
    np.testing.assert_array_equal(own, reduced.robust)


def sum_or_not(x):
    """Margins of 0.5 and 0.015 when the sums of 4 pixels 0.65 and 0.54 may fall 0.1."""
    total = x.flatten(1).mean(1)
    return torch.stack([total - 0.25, 0.25 - total], 1)


def test_bfloat16_attacks_again_in_full_only_near_the_boundary(monkeypatch):
    attacked = []
    run = AutoAttack._run_ensemble

    def watch(self, state, search_fn, candidates):
        attacked.append(candidates.tolist())
        run(self, state, search_fn, candidates)

    monkeypatch.setattr(AutoAttack, "_run_ensemble", watch)
    x = torch.full((3, 1, 2, 2), 0.9)
    x[1], x[2] = 0.3505, 0.3  # robust by far, barely, and not at all
    attack = AutoAttack(precision="bfloat16", **SHORT)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[0.25] * 4, [-0.25] * 4]))
        net[1].bias.copy_(torch.tensor([-0.25, 0.25]))
    y = torch.zeros(3, dtype=torch.long)
    attack(net, x, y, ThreatModel("linf", 0.1), generator())
    assert attacked == [[True, True, True], [False, True, False]]
    assert attack.robust_after_["square"].tolist() == [True, True, False]
    assert not attack.robust_after_["apgd-ce"][2]


@pytest.mark.parametrize("version", ["rand", ["square"]])
def test_bfloat16_attacks_all_again_without_margins_to_go_by(version, monkeypatch):
    attacked = []
    monkeypatch.setattr(
        AutoAttack,
        "_run_ensemble",
        lambda self, state, search_fn, candidates: attacked.append(candidates.tolist()),
    )
    attack = AutoAttack(version, precision="bfloat16", **SHORT)
    x, y = torch.full((2, 1, 2, 2), 0.9), torch.zeros(2, dtype=torch.long)
    attack.run(sum_or_not, x, y, ThreatModel("linf", 0.1), generator())
    assert attacked == [[True, True]] * 2


def test_apgd_returns_the_largest_loss_when_asked():
    x, y = torch.full((2, 1, 2, 2), 0.9), torch.zeros(2, dtype=torch.long)
    x[1] = 0.3
    ball = ThreatModel("linf", 0.1)
    for norm in ("linf", "l2", "l1"):
        ball = ThreatModel(norm, 0.1)
        found = APGD(20, "margin", best_loss=True)(sum_or_not, x, y, ball, generator())
        kept = APGD(20, "margin")(sum_or_not, x, y, ball, generator())
        gap, before = (margin(sum_or_not(p), y, value_only=True) for p in (found, x))
        assert (gap > before).all()
        assert torch.equal(kept[0], x[0])
        ball.check_perturbation(found, x)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 5, 9), (12,)])
def test_square_looking_ahead_changes_nothing_but_the_calls(shape, monkeypatch):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 4)).double()
        x = torch.rand(6, *shape, dtype=torch.float64)
    n_calls = {}

    def attack(look):
        n_calls[look] = 0

        def logits_fn(points):
            n_calls[look] += 1
            assert len(points) <= 30
            return net(points)

        monkeypatch.setattr(square_module._LinfSearch, "longest_look", look)
        search = Square(300, batch_size=30)
        with torch.no_grad():
            y = net(x).argmax(1)
            return search(logits_fn, x, y, ThreatModel("linf", 0.05), generator())

    assert torch.equal(attack(1), attack(64))
    assert n_calls[64] < 0.7 * n_calls[1]


def test_square_does_not_ask_what_changes_nothing():
    n_points = 0

    def logits_fn(points):
        nonlocal n_points
        n_points += len(points)
        return sum_or_not(points)

    x, y = torch.full((2, 1, 2, 2), 0.9), torch.zeros(2, dtype=torch.long)
    Square(50).run(logits_fn, x, y, ThreatModel("linf", 0.0), generator())
    assert n_points == 4  # the samples, and where the search starts


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_written_down_gradients(loss, targeted, n_classes):
    logits = torch.randn(7, n_classes, generator=generator(), dtype=torch.float64)
    y = torch.arange(7) % n_classes
    targets = (y + 1) % n_classes if targeted else None
    values, gradient = LOSSES[loss](logits, y, targets)
    assert torch.equal(LOSSES[loss](logits, y, targets, value_only=True), values)
    step = 1e-6 * torch.eye(n_classes, dtype=torch.float64)
    for column in range(n_classes):
        up, _ = LOSSES[loss](logits + step[column], y, targets)
        down, _ = LOSSES[loss](logits - step[column], y, targets)
        torch.testing.assert_close(
            gradient[:, column], (up - down) / 2e-6, atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: AutoAttack("fast"), "version is 'fast'"),
        (lambda: AutoAttack([]), "non-empty list"),
        (lambda: AutoAttack(precision="float16"), "precision is 'float16'"),
        (lambda: AutoAttack(n_steps=0), "n_steps is 0"),
        (lambda: APGD(loss="hinge"), "loss is 'hinge'"),
        (lambda: APGD(n_targets=3), "no targeted form"),
        (lambda: FAB(n_targets=-1), "n_targets is -1"),
        (lambda: Square(0), "n_queries is 0"),
    ],
)
def test_bad_parameters(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_no_rows():
    x, y = torch.empty(0, 6), torch.empty(0, dtype=torch.long)
    for attack in (AutoAttack(), APGD(), FAB(), Square()):
        assert attack(linear(6), x, y, ThreatModel(), generator()).shape == (0, 6)
