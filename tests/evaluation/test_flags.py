"""Models that feign robustness: every entry point warns, or sees through them."""

import warnings

import numpy as np
import pytest
import torch
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from robustfit import (
    AdversarialRelabeler,
    RobustAccuracyScorer,
    ThreatModel,
    as_torch,
    attack_estimator,
    minimal_distances,
    security_curve,
)
from robustfit.attacks import AutoAttack, Square
from robustfit.exceptions import (
    BatchDependenceWarning,
    NotDifferentiableError,
    ProbabilityOutputWarning,
    RandomizedDefenseWarning,
    RobustnessWarning,
    SquareAttackWarning,
    UndefinedGradientWarning,
    UndefinedOutputWarning,
    ZeroGradientWarning,
)

QUICK = AutoAttack(["apgd-ce", "fab-t"], n_steps=5)
GRADIENT_ATTACKS = ["fgsm", "pgd", "apgd", "fab", QUICK]


class Net(nn.Module):
    """A net and what is made of its input and its logits."""

    def __init__(self, net, out=lambda o: o, into=lambda x: x):
        super().__init__()
        self.net, self.out, self.into = net, out, into

    def forward(self, x):
        return self.out(self.net(self.into(x)))


def subtract_in_place(x):
    x -= 0.3
    return x


def normalize_batch(x):
    return x - x.mean(0)


@pytest.fixture
def model(digits, fitted_net):
    module = fitted_net.module_.eval()
    _, _, X, y = digits

    def build(out=lambda o: o, into=lambda x: x):
        return Net(module, out, into).eval(), X[:60], y[:60]

    return build


@pytest.mark.parametrize("attack", GRADIENT_ATTACKS)
def test_honest_nets_raise_no_flag(model, attack):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RobustnessWarning)
        attack_estimator(*model(), attack=attack, eps=0.05, n_steps=5)


FEIGNED = [
    (ZeroGradientWarning, lambda o: o, lambda x: (15 * x).round() / 15),
    (RandomizedDefenseWarning, lambda o: o + torch.randn_like(o), lambda x: x),
    (BatchDependenceWarning, lambda o: o, normalize_batch),
    (ProbabilityOutputWarning, lambda o: (50 * o).softmax(1), lambda x: x),
]


@pytest.mark.parametrize("attack", GRADIENT_ATTACKS)
@pytest.mark.parametrize(("flag", "out", "into"), FEIGNED)
def test_every_gradient_attack_raises_the_flags(model, attack, flag, out, into):
    with pytest.warns(flag):
        attack_estimator(*model(out, into), attack=attack, eps=0.05, n_steps=2)


@pytest.mark.parametrize(("flag", "out", "into"), FEIGNED)
def test_so_do_curves_distances_and_scorers(model, flag, out, into):
    net, X, y = model(out, into)
    with pytest.warns(flag):
        security_curve(net, X, y, n_steps=2, n_targets=1)
    with pytest.warns(flag):
        minimal_distances(net, X, y, n_steps=2, n_targets=1)
    with pytest.warns(flag):
        RobustAccuracyScorer(n_steps=2)(net, X, y)


def test_batch_norm_without_running_statistics_depends_on_the_batch(digits):
    _, _, X, y = digits
    norm = nn.BatchNorm2d(1, track_running_stats=False)
    torch.manual_seed(0)
    net = nn.Sequential(norm, nn.Flatten(), nn.Linear(64, 10))
    with pytest.warns(BatchDependenceWarning):
        attack_estimator(net, X, y, n_steps=1)


@pytest.mark.parametrize("scale", [10, 30, 300])
@pytest.mark.parametrize("attack", ["fgsm", "pgd", "apgd"])
def test_no_scale_of_the_logits_stops_the_cross_entropy(model, scale, attack):
    def accuracy(loss):
        scaled = model(lambda o: scale * o)
        result = attack_estimator(*scaled, attack=attack, loss=loss, eps=0.1)
        return result.robust_accuracy

    assert accuracy("cross-entropy") == pytest.approx(accuracy("margin"), abs=0.04)


def test_saturated_logits_are_told_all_the_same(model):
    with pytest.warns(ZeroGradientWarning, match="saturated"):
        attack_estimator(*model(lambda o: 300 * o), eps=0.05, n_steps=2)


def test_a_dead_sample_among_many_is_no_alarm(model):
    net, X, y = model()

    def dead_for_the_first(o):
        alive = torch.arange(len(o)) > 0
        return torch.where(alive[:, None], o, o.detach())

    net.out = dead_for_the_first
    with warnings.catch_warnings():
        warnings.simplefilter("error", RobustnessWarning)
        attack_estimator(net, X, y, eps=0.05, n_steps=1)


def test_the_curve_of_probabilities_is_that_of_the_logits(model):
    settings = {"eps": [0, 0.05, 0.15], "n_steps": 10, "n_targets": 3}
    net, X, y = model(lambda o: (50 * o).softmax(1))
    with pytest.warns(ProbabilityOutputWarning):
        found = security_curve(net, X, y, **settings)
    expected = security_curve(*model(lambda o: 50 * o), **settings)
    np.testing.assert_array_equal(found.accuracy, expected.accuracy)
    assert found.accuracy[-1] < 0.5


def test_relabelled_sets_are_those_of_the_logits(model):
    def learn(out):
        net, X, y = model(out)
        settings = {"eps": 0.4, "n_steps": 5, "target": "next", "random_state": 0}
        return AdversarialRelabeler(estimator=net, **settings).fit(X, y).X_robust_

    found, expected = learn(lambda o: (50 * o).softmax(1)), learn(lambda o: 50 * o)
    np.testing.assert_array_equal(found, expected)


class ConfidentNet(nn.Module):
    def __init__(self, function=None, scale=1.0):
        super().__init__()
        self.linear, self.function = nn.Linear(64, 10), function
        self.scale = scale

    def forward(self, x):
        logits = self.scale * self.linear(x.flatten(1))
        return nn.functional.softmax(logits, 1)


def test_a_functional_softmax_hides_nothing_in_skorch(digits):
    X, y, X_test, y_test = digits
    torch.manual_seed(0)
    net = NeuralNetClassifier(ConfidentNet, lr=0.5, max_epochs=20, verbose=0,
                              train_split=None).fit(X, y)  # fmt: skip
    net.module_.scale = 50.0
    probabilities = attack_estimator(net, X_test, y_test, loss="margin", eps=0.1)
    linear = nn.Sequential(nn.Flatten(), net.module_.linear)
    logits = attack_estimator(linear, X_test, y_test, loss="margin", eps=0.1)
    assert probabilities.robust_accuracy == pytest.approx(logits.robust_accuracy)
    assert logits.natural_accuracy - logits.robust_accuracy > 0.2


class Sigmoid(nn.Module):
    def __init__(self, scale=1.0, *, hidden=False):
        super().__init__()
        self.linear, self.scale, self.hidden = nn.Linear(64, 1), scale, hidden

    def forward(self, x):
        p = torch.sigmoid(self.scale * self.linear(x.flatten(1))).squeeze(-1)
        return p + 0 if self.hidden else p


@pytest.mark.parametrize("hidden", [False, True])
def test_a_saturated_sigmoid_is_right_and_attacked(digits, hidden):
    X, y, X_test, y_test = digits
    torch.manual_seed(0)
    net = NeuralNetBinaryClassifier(
        Sigmoid, criterion=nn.BCELoss, lr=0.1, max_epochs=30, verbose=0,
        train_split=None, module__hidden=hidden,
    ).fit(X, (y > 4).astype(np.float32))  # fmt: skip
    expected = attack_estimator(net, X_test, y_test > 4, loss="margin", eps=0.1)
    net.module_.scale = 300.0
    found = attack_estimator(net, X_test, y_test > 4, loss="margin", eps=0.1)
    assert found.natural_accuracy == (net.predict(X_test) == (y_test > 4)).mean()
    assert found.natural_accuracy == expected.natural_accuracy
    if not hidden:
        assert found.robust_accuracy == pytest.approx(expected.robust_accuracy)


@pytest.mark.parametrize("attack", [*GRADIENT_ATTACKS, "square", "sign"])
def test_a_forward_may_write_into_its_input(model, attack):
    plain = model(into=lambda x: x - 0.3)
    writing = model(into=subtract_in_place)
    expected, found = (
        attack_estimator(*case, attack=attack, eps=0.05, n_steps=3)
        for case in (plain, writing)
    )
    np.testing.assert_array_equal(found.X_adv, expected.X_adv)


def test_a_first_layer_in_place_is_no_obstacle(digits):
    _, _, X, y = digits
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 10))
    result = attack_estimator(net, X, y, eps=0.1)
    assert np.abs(result.X_adv - X).max() <= 0.1 + 1e-6


def without_gradients(x):
    with torch.no_grad():
        return 2 * x


@pytest.mark.parametrize("out", [without_gradients, torch.detach])
@pytest.mark.parametrize("attack", ["pgd", "apgd", "fab"])
def test_a_forward_without_gradients_is_named(model, out, attack):
    with pytest.raises(NotDifferentiableError, match=r"Net .*attack='square'"):
        attack_estimator(*model(out), attack=attack)
    result = attack_estimator(*model(out), attack=AutoAttack(["square"], n_queries=20))
    assert 0 < result.natural_accuracy <= 1


def test_square_tells_how_many_and_forgives_one_in_two_hundred():
    stands = np.ones(200, dtype=bool)
    attack = AutoAttack()
    after = {"apgd-ce": stands, "fab-t": stands, "square": stands.copy()}
    after["square"][0] = False
    with warnings.catch_warnings():
        warnings.simplefilter("error", RobustnessWarning)
        attack.check_result(after)
    after["square"][:7] = False
    with pytest.warns(SquareAttackWarning, match="7 of 200 samples"):
        attack.check_result(after)


def test_a_saturated_softmax_hides_nothing_from_scores(model):
    net, X, y = model(lambda o: (50 * o).softmax(1))
    with pytest.warns(ProbabilityOutputWarning):
        found = attack_estimator(net, X, y, attack=Square(300), eps=0.15)
    logits = model(lambda o: 50 * o)
    expected = attack_estimator(*logits, attack=Square(300), eps=0.15)
    np.testing.assert_array_equal(found.robust, expected.robust)


def over_its_spread(x):
    flat = x.flatten(1)
    return ((flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True)).view_as(x)


@pytest.mark.parametrize("attack", ["pgd", "fab", Square(20)])
def test_nan_on_natural_inputs_is_told_with_its_rows(model, attack):
    net, X, y = model(into=over_its_spread)
    X = X.copy()
    X[[3, 7]] = 0.5
    with pytest.warns(UndefinedOutputWarning, match=r"2 of 60 natural .*\(rows 3, 7\)"):
        result = attack_estimator(net, X, y, attack=attack, eps=0.05, n_steps=2)
    assert not result.natural_correct[[3, 7]].any()


def test_so_does_a_curve(model):
    net, X, y = model(into=over_its_spread)
    X = X.copy()
    X[5] = 0.5
    with pytest.warns(UndefinedOutputWarning, match="rows 5"):
        security_curve(net, X, y, n_steps=2, n_targets=1)


def over_the_spread_of_the_batch(x):
    return x / x.std(0)


@pytest.mark.parametrize("attack", ["pgd", QUICK, Square(20)])
def test_nan_in_the_batch_that_is_attacked_is_told(model, attack):
    net, X, y = model(into=over_the_spread_of_the_batch)
    X = X.copy()
    X[0] = 0.37  # so that no pixel is constant
    y = as_torch(net).columns(X)
    y[0] = (y[0] + 1) % 10  # wrong: it is not attacked, and the others are alone
    with pytest.warns(UndefinedOutputWarning, match="samples attacked"):
        attack_estimator(net, X, y, attack=attack, eps=0.05, n_steps=2)


def test_nan_that_an_attack_finds_is_told(digits):
    class Dead(nn.Module):
        def forward(self, x):
            x = x.flatten(1)[:, :2]
            return torch.where((x[:, :1] > 0.7), torch.nan, 1.0) * x.sub(0.5)

    X = np.array([[0.6, 0.4], [0.1, 0.4]], dtype=np.float32)
    with pytest.warns(UndefinedOutputWarning, match="1 of 2 adversarial inputs"):
        result = attack_estimator(Dead(), X, [0, 1], attack=up, eps=0.15)
    assert result.robust.tolist() == [False, True]


def up(logits_fn, x, y, threat_model, generator):
    return threat_model.move_to_sphere(x, torch.ones_like(x))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("attack", ["pgd", "apgd", "fab"])
def test_infinite_gradients_are_told_and_do_not_stop(model, attack, norm):
    eps = {"linf": 0.1, "l2": 0.8, "l1": 4.0}[norm]
    net, X, y = model(into=torch.sqrt)
    assert (X == 0).any()  # where a root has no slope
    with pytest.warns(UndefinedGradientWarning):
        result = attack_estimator(net, X, y, attack=attack, eps=eps, norm=norm)
    ThreatModel(norm, eps).check_perturbation(
        torch.tensor(result.X_adv), torch.tensor(X)
    )
    assert result.robust_accuracy < result.natural_accuracy - 0.2


def test_a_curve_sees_past_infinite_gradients(model):
    with pytest.warns(UndefinedGradientWarning):
        curve = security_curve(*model(into=torch.sqrt), eps=[0, 0.2], n_steps=20)
    assert curve.accuracy[0] > 0.8
    assert curve.accuracy[1] < 0.3


@pytest.mark.parametrize("attack", ["pgd", QUICK, Square(200), "curve"])
@pytest.mark.parametrize(("name", "out"), [
    ("log of a softmax", lambda o: (50 * o).softmax(1).log()),
    ("log of a softmax in a tuple", lambda o: (torch.log(torch.softmax(50 * o, 1)), 1)),
    ("sigmoid of each", lambda o: torch.sigmoid(o)),
])  # fmt: skip
def test_other_functions_of_logits_are_undone(model, attack, name, out):
    scale = 1 if name == "sigmoid of each" else 50

    def verdicts(out):
        net, X, y = model(out)
        if attack == "curve":
            return security_curve(net, X, y, eps=[0, 0.1], n_steps=5).accuracy
        return attack_estimator(net, X, y, attack=attack, eps=0.1).robust

    found, expected = verdicts(out), verdicts(lambda o: scale * o)
    gap = np.abs(found.astype(float) - expected.astype(float)).mean()
    assert gap <= 0.05
    assert expected.mean() < 0.8


def test_clipped_probabilities_are_told_where_scores_are_asked(model):
    net, X, y = model(lambda o: (50 * o).softmax(1).clamp(1e-12, 1))
    with pytest.warns(ProbabilityOutputWarning):
        attack_estimator(net, X, y, attack=Square(5), eps=0.15)


def test_a_softmax_over_samples_is_not_undone(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ProbabilityOutputWarning)
        attack_estimator(*model(lambda o: o.softmax(0)), eps=0.05, n_steps=2)
