"""AdversarialNet, its training attacks, and the plan of budgets."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split
from torch import nn

from robustfit import AdversarialNet, ThreatModel
from robustfit.attacks.losses import input_gradient
from robustfit.classifiers.adversarial_training import module_training
from robustfit.classifiers.adversarial_training.eps_schedule import plan_stages
from robustfit.classifiers.adversarial_training.skorch_net import steps_of
from robustfit.classifiers.adversarial_training.training_attacks import (
    divergence,
    fast_gradient_images,
    pgd_images,
    trades_images,
)
from robustfit.exceptions import PixelRangeError
from robustfit.nets import MLP, CosineSchedule

EPOCHS = {"n_epochs": 6, "n_stage_epochs": 2}


def small_net(**parameters):
    defaults = {
        "module__n_features": 64, "module__hidden": (16,), "eps": 0.1, "n_steps": 2,
        "max_epochs": 2, "train_split": None, "verbose": 0, "lr": 0.1,
    }  # fmt: skip
    return AdversarialNet(MLP, **defaults | parameters)


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(32, 64, generator=generator)
    return x, torch.arange(32) % 10


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return MLP(64, hidden=(16,))


# --- the plan of budgets


def test_constant_plan_warms_up_new_weights_only():
    (stage,) = plan_stages(0.3, **EPOCHS)
    assert stage.budgets == pytest.approx([0.1, 0.2, 0.3, 0.3, 0.3, 0.3])
    (stage,) = plan_stages(0.3, trained_eps=0.1, **EPOCHS)
    assert stage.budgets == (0.3,) * 6
    (stage,) = plan_stages(0.3, n_warmup_epochs=0, **EPOCHS)
    assert stage.budgets == (0.3,) * 6
    (stage,) = plan_stages(0.3, n_epochs=1, n_stage_epochs=1)
    assert stage.budgets == (0.3,)


def test_plan_of_stages():
    first, second, third = plan_stages(
        0.1, eps_stages=(0.3, 0.4, 0.5), n_warmup_epochs=1, **EPOCHS
    )
    assert first.budgets == pytest.approx([0.15] + [0.3] * 5)
    assert (second.eps, second.budgets) == (0.4, (0.4, 0.4))
    assert third.budgets == (0.5, 0.5)
    assert not any(s.stops_at_jump for s in (first, second, third))


def test_plan_of_iterative_training():
    plan = {"eps_schedule": "iterative", "eps_increment": 0.1}
    (stage,) = plan_stages(0.3, **plan, **EPOCHS)
    assert stage.budgets == pytest.approx([0.1, 0.2, 0.3, 0.3, 0.3, 0.3])
    assert stage.stops_at_jump
    (stage,) = plan_stages(0.85, **plan, **EPOCHS)
    assert stage.budgets == pytest.approx([0.1 * n for n in range(1, 9)] + [0.85])
    (stage,) = plan_stages(0.4, trained_eps=0.2, **plan, **EPOCHS)
    assert stage.budgets == pytest.approx([0.3, 0.4, 0.4, 0.4, 0.4, 0.4])
    (stage,) = plan_stages(0.4, trained_eps=0.4, **plan, **EPOCHS)
    assert stage.budgets == (0.4,) * 6
    (paper,) = plan_stages(0.4, eps_schedule="iterative", n_epochs=1, n_stage_epochs=1)
    assert len(paper.budgets) == 40  # 0.01 an epoch


def test_steps_of_the_paper():
    # steps = 2.5 eps / 0.05 (section 3.1.1)
    assert steps_of(0.3, None, 0.05) == (15, 0.05)
    assert steps_of(0.4, None, 0.05) == (20, 0.05)
    assert steps_of(0.01, None, 0.05) == (1, 0.05)
    assert steps_of(0.2, 10, None) == (10, pytest.approx(0.05))
    assert steps_of(0.2, 7, 0.1) == (7, 0.1)


# --- the training attacks


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("method", ["pgd", "fgsm", "trades"])
def test_attacks_keep_the_budget_and_raise_the_loss(batch, module, norm, method):
    x, y = batch
    threat_model = ThreatModel(norm, {"linf": 0.1, "l2": 0.8, "l1": 5.0}[norm])
    net = small_net(method=method, norm=norm, eps=threat_model.eps, n_steps=5)
    net.initialize().module_.load_state_dict(module.state_dict())
    torch.manual_seed(0)
    x_adv = net.perturb(x, y)
    threat_model.check_perturbation(x_adv, x)
    with torch.no_grad():
        loss = [nn.functional.cross_entropy(module(z), y) for z in (x, x_adv)]
        gap = divergence(module(x_adv), module(x).log_softmax(1)).mean()
        noise = threat_model.random_start(x, torch.Generator().manual_seed(1))
        noise_gap = divergence(module(noise), module(x).log_softmax(1)).mean()
    assert loss[1] > loss[0] or method == "trades"
    assert gap > noise_gap


def test_attacks_leave_the_net_as_it_was(batch, module):
    x, y = batch
    module = nn.Sequential(nn.BatchNorm1d(64), nn.Dropout(0.5), module).train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    threat_model = ThreatModel("linf", 0.1)
    generator = torch.Generator().manual_seed(0)
    steps = {"n_steps": 2, "step_size": 0.05}
    pgd_images(module, x, y, threat_model, generator, **steps)
    trades_images(module, x, threat_model, generator, **steps)
    fast_gradient_images(module, x, y, threat_model, generator)
    assert module.training
    assert module[1].training
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])
    assert all(p.grad is None and p.requires_grad for p in module.parameters())


def test_fast_gradient_is_one_long_step_from_a_random_start(batch, module):
    x, y = batch
    threat_model = ThreatModel("linf", 0.1, clip_range=None)
    found = fast_gradient_images(
        module, x, y, threat_model, torch.Generator().manual_seed(3)
    )
    start = threat_model.random_start(x, torch.Generator().manual_seed(3))
    loss = nn.CrossEntropyLoss(reduction="none")
    gradient = input_gradient(module, start, y, loss)
    delta = (start + 0.125 * gradient.sign() - x).numpy()
    np.testing.assert_allclose(
        (found - x).numpy(), np.minimum(np.maximum(delta, -0.1), 0.1), atol=1e-6
    )


def test_divergence_by_hand():
    log_p = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log()
    logits = torch.tensor([[0.25, 0.75], [0.9, 0.1]]).log() + 3
    expected = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    found = divergence(logits, log_p)
    assert found[0] == pytest.approx(expected, rel=1e-5)
    assert found[1] == pytest.approx(0, abs=1e-6)


def test_trades_gradient_is_zero_at_the_image_itself(batch, module):
    # why the attack starts beside it
    x, _ = batch
    log_p = module(x).log_softmax(1).detach()
    gradient = input_gradient(module, x, log_p, divergence)
    assert gradient.abs().max() < 1e-6


def test_robust_teacher_uses_the_same_attack(batch, module):
    x, y = batch
    threat_model = ThreatModel("linf", 0.1)
    found = module_training.training_attack(
        module, x, y, threat_model, torch.Generator().manual_seed(0)
    )
    expected = pgd_images(
        module, x, y, threat_model, torch.Generator().manual_seed(0), n_steps=6,
        step_size=2.5 * 0.1 / 6,
    )  # fmt: skip
    assert torch.equal(found, expected)


# --- the skorch net


def one_step(net, x, y):
    net.initialize()
    net.notify("on_train_begin", X=None, y=None)
    net.notify("on_epoch_begin", dataset_train=None, dataset_valid=None)
    net.history.new_batch()
    return net.train_step((x, y))


def test_trades_loss(batch, module):
    x, y = batch
    net = small_net(method="trades", trades_beta=3.0, lr=0.0)
    net.initialize().module_.load_state_dict(module.state_dict())
    net.history.new_epoch()
    net.history.new_batch()
    torch.manual_seed(0)
    loss = net.train_step((x, y))["loss"]
    torch.manual_seed(0)
    x_adv = net.perturb(x, y)
    natural = nn.functional.cross_entropy(module(x), y)
    gap = divergence(module(x_adv), module(x).log_softmax(1)).mean()
    assert float(loss) == pytest.approx(float(natural + 3 * gap), rel=1e-5)


def test_zero_beta_and_zero_eps_are_natural_training(batch):
    x, y = batch
    parameters = {"trades_beta": 0.0, "method": "trades"}, {"eps": 0.0}
    nets = []
    for given in (*parameters, {"eps": 0.0, "method": "free", "n_replays": 1}):
        torch.manual_seed(0)
        nets.append(small_net(**given))
        one_step(nets[-1], x, y)
    for other in nets[1:]:
        for a, b in zip(nets[0].module_.parameters(), other.module_.parameters(),
                        strict=True):  # fmt: skip
            torch.testing.assert_close(a, b)


def test_free_updates_often_and_stays_in_the_budget(batch):
    x, y = batch
    seen = []

    class Watching(AdversarialNet):
        def train_step_single(self, batch, **fit_params):
            seen.append(batch[0].detach().clone())
            return super().train_step_single(batch, **fit_params)

    net = Watching(
        MLP, module__n_features=64, eps=0.1, method="free", n_replays=5, lr=0.1,
        train_split=None, verbose=0, batch_size=16, max_epochs=1,
    )  # fmt: skip
    net.fit(x.numpy(), y.numpy())
    assert len(seen) == 2 * 5
    threat_model = ThreatModel("linf", 0.1)
    for n, x_adv in enumerate(seen):
        threat_model.check_perturbation(x_adv, x[:16] if n < 5 else x[16:])
    assert torch.equal(seen[0], x[:16])
    assert not torch.equal(seen[5], x[16:])  # carried over
    last = threat_model.ascent_step(seen[4], torch.ones(16, 64), 0)
    assert (last - x[:16]).abs().amax() == pytest.approx(0.1, abs=1e-5)


def test_validation_is_under_attack(batch):
    x, y = (part.numpy() for part in batch)
    net = small_net(train_split=predefined_split(Dataset(x, y)), max_epochs=1, lr=0.0)
    torch.manual_seed(0)
    net.fit(x, y)
    natural = clone(net).set_params(eps=0.0)
    torch.manual_seed(0)
    natural.fit(x, y)
    assert net.history[-1, "valid_loss"] > natural.history[-1, "valid_loss"] + 0.1
    assert not net.module_.training


def test_ends_in_eval_mode_without_validation(batch):
    # skorch leaves the module in train mode when nothing is validated
    x, y = (part.numpy() for part in batch)
    assert not small_net().fit(x, y).module_.training
    small_net(train_split=ValidSplit(4)).fit(x, y)


def test_pixels_are_checked(batch):
    x, y = (part.numpy() for part in batch)
    with pytest.raises(PixelRangeError):
        small_net().fit(x * 255, y)
    with pytest.raises(ValueError, match="method is 'madry'"):
        small_net(method="madry").fit(x, y)


def test_parameters_clone_and_survive_skorch(batch):
    net = small_net(method="fgsm", eps=0.07)
    copied = clone(net)
    assert copied.get_params()["method"] == "fgsm"
    copied.initialize().set_params(eps=0.2)
    assert copied.eps == 0.2
    assert net.eps == 0.07


def test_cosine_counts_from_where_training_begins(batch):
    x, y = (part.numpy() for part in batch)
    rates = []

    class Watching(AdversarialNet):
        def on_batch_begin(self, net, **kwargs):
            super().on_batch_begin(net, **kwargs)
            rates.append(self.optimizer_.param_groups[0]["lr"])

    net = Watching(
        MLP, module__n_features=64, eps=0.0, lr=0.1, max_epochs=2, train_split=None,
        verbose=0, callbacks=[("cosine", CosineSchedule())],
    )  # fmt: skip
    net.fit(x, y).partial_fit(x, y)
    assert rates == pytest.approx([0.1, 0.05, 0.1, 0.05])
