import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier

import robustfit
from robustfit import ThreatModel, attack_estimator
from robustfit.attacks import (
    FGSM,
    PGD,
    Attack,
    AttackOutcome,
    AutoAttack,
    Square,
    TransferAttack,
)
from robustfit.attacks.by_name import ATTACKS, make_attack


class Recorder(Attack):
    """Moves nothing; notes what it is given."""

    def __init__(self):
        self.sizes, self.flagged, self.result = [], 0, None

    def check_model(self, logits_fn, x, y):
        self.flagged += 1
        return []

    def check_result(self, robust_after):
        self.result = robust_after

    def run(self, logits_fn, x, y, threat_model, generator=None):
        self.sizes.append(len(x))
        robust = logits_fn(x).argmax(1) == y
        return AttackOutcome(x, {"nothing": robust})


class Together(Recorder):
    batches_by_itself = True


class InChunks(Recorder):
    batches_by_itself = False


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(0)
    net = torch.nn.Linear(6, 3)
    x = torch.rand(9, 6)
    return net, x, net(x).argmax(1)


def test_a_call_checks_runs_and_keeps_the_survivors(case):
    net, x, y = case
    attack = Recorder()
    assert torch.equal(attack(net, x, y, ThreatModel()), x)
    assert attack.flagged == 1
    assert attack.result is attack.robust_after_
    assert attack.robust_after_["nothing"].all()


def test_no_rows_are_not_run(case):
    net, x, y = case
    attack = Recorder()
    assert attack(net, x[:0], y[:0], ThreatModel()).shape == (0, 6)
    assert (attack.sizes, attack.robust_after_) == ([], {})


def test_an_attack_that_overrides_the_call_is_refused():
    with pytest.raises(TypeError, match=r"Old overrides __call__.*write run"):

        class Old(PGD):
            def __call__(self, *args):
                return super().__call__(*args)


@pytest.mark.parametrize(
    ("kind", "sizes"), [(Together, [9]), (InChunks, [4, 4, 1]), (Recorder, [4, 4, 1])]
)
def test_batches_by_itself_is_read_by_its_value(case, kind, sizes):
    net, x, y = case
    attack = kind()
    attack_estimator(net, x.numpy(), y.numpy(), attack=attack, batch_size=4)
    assert attack.sizes == sizes


@pytest.mark.parametrize(
    "attack",
    [
        FGSM(),
        PGD(3),
        AutoAttack(n_steps=3, n_queries=5),
        AutoAttack(["apgd-ce"], n_steps=3, precision="bfloat16"),
        TransferAttack([torch.nn.Linear(6, 3)], AutoAttack(["apgd-ce"], n_steps=3)),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_an_evaluation_does_not_write_to_the_attack(case, attack, monkeypatch):
    net, x, y = case

    def refuse(self, name, value):
        raise AssertionError(f"{name} of {type(self).__name__} is set")

    for kind in (PGD, AutoAttack):
        monkeypatch.setattr(kind, "__setattr__", refuse)
    before = dict(vars(attack))
    result = attack_estimator(net, x.numpy(), y.numpy(), attack=attack, eps=0.3)
    assert vars(attack) == before
    assert list(result.robust_after) == list(getattr(attack, "attacks", ()))


def test_a_function_is_an_attack(case):
    net, x, y = case

    def brighten(logits_fn, x, y, threat_model, generator):
        return threat_model.move_to_sphere(x, torch.ones_like(x))

    result = attack_estimator(net, x.numpy(), y.numpy(), attack=brighten, eps=0.1)
    np.testing.assert_allclose(
        result.X_adv, np.minimum(x.numpy() + 0.1, 1), rtol=0, atol=1e-6
    )
    assert result.robust_after == {}


def test_a_callable_says_what_it_needs_as_attacks_do(case):
    _, x, y = case
    forest = RandomForestClassifier(3, random_state=0).fit(x.numpy(), y.numpy())
    sizes = []

    def stay(logits_fn, x, y, threat_model, generator):
        sizes.append(len(x))
        return x

    stay.needs_gradients, stay.batches_by_itself = False, True
    result = attack_estimator(forest, x.numpy(), y.numpy(), attack=stay, batch_size=2)
    assert sizes == [result.natural_correct.sum()]
    assert sizes[0] > 2


def test_names_stand_for_attacks_and_are_listed_in_errors_and_docs():
    for name in ATTACKS:
        assert isinstance(make_attack(name), Attack)
    with pytest.raises(ValueError, match="attack is 'cw'") as caught:
        make_attack("cw")
    listed = ", ".join(f'"{name}"' for name in ATTACKS)
    assert str(tuple(ATTACKS)) in str(caught.value)
    for documented in ("attack_estimator", "RobustAccuracyScorer"):
        assert f"attack : {{{listed}}} or" in getattr(robustfit, documented).__doc__


@pytest.mark.parametrize("attack", [3, ["pgd"], None])
def test_what_is_no_attack_is_named(attack):
    with pytest.raises(ValueError, match=r"expected one of .* or an attack object"):
        make_attack(attack)


def test_parameters_reach_the_attack_of_a_name():
    attack = make_attack("pgd", n_steps=7, step_size=0.1, n_restarts=2, loss="dlr")
    assert vars(attack) == vars(PGD(7, 0.1, n_restarts=2, loss="dlr"))
    attack = make_attack("square", batch_size=5)
    assert vars(attack) == vars(Square(batch_size=5))


def test_surrogates_are_frozen_and_then_put_back(case):
    net, x, y = case
    surrogate = torch.nn.Sequential(torch.nn.Dropout(0.9), torch.nn.Linear(6, 3))
    seen = []

    class Watch(Attack):
        def run(self, logits_fn, x, y, threat_model, generator=None):
            seen.append((surrogate.training, surrogate[1].weight.requires_grad))
            return AttackOutcome(x)

    attack = TransferAttack([surrogate], Watch())
    attack(net, x, y, ThreatModel())
    attack_estimator(net, x.numpy(), y.numpy(), attack=attack, n_jobs=1)
    assert seen == [(False, False)] * 2
    assert surrogate.training
    assert surrogate[1].weight.requires_grad
