import numpy as np
import pytest
import torch

from robustfit.evaluation.judge import judge
from robustfit.threat_model import ThreatModel

UNBOUNDED = ThreatModel("linf", 0.2, None)


@pytest.fixture(scope="module")
def linear():
    """Logits (w.x, 0) in three dimensions, rows, their classes."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 3, generator=generator)
    w = torch.tensor([1.0, -2.0, 0.5])
    y = (x @ w + 0.3 * torch.randn(200, generator=generator) < 0).long()
    return lambda x: torch.stack([x @ w, 0 * x[:, 0]], dim=1), x, y, w


def judged(logits_fn, x, y, threat_model=UNBOUNDED, **parameters):
    defaults = {"losses": ["margin"], "n_steps": 5, "batch_size": 64, "generator": 0}
    return judge(logits_fn, x, y, threat_model, **defaults | parameters)


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_a_linear_net_is_judged_as_the_closed_form_says(linear, norm, dual):
    logits_fn, x, y, w = linear
    signed = (1 - 2 * y) * (x @ w)
    threat_model = ThreatModel(norm, 0.2, None)
    measured, x_adv = judged(logits_fn, x, y, threat_model)
    reach = 0.2 * float(torch.linalg.vector_norm(w, ord=dual))
    assert measured == {
        "natural_accuracy": float((signed > 0).double().mean()),
        "robust_accuracy": float((signed > reach).double().mean()),
    }
    assert 0.1 < measured["robust_accuracy"] < measured["natural_accuracy"] < 1
    threat_model.check_perturbation(x_adv, x)
    right = signed > 0
    assert torch.equal(x_adv[~right], x[~right])
    assert ((x_adv != x).any(1) == right).all()
    still = (1 - 2 * y) * (x_adv @ w) > 0
    assert float(still.double().mean()) == measured["robust_accuracy"]


def test_a_row_has_to_stand_every_loss(linear):
    logits_fn, x, y, _ = linear
    attacked = []

    def watch(x):
        attacked.append(len(x))
        return logits_fn(x)

    one, first = judged(logits_fn, x, y, batch_size=200)
    both, found = judged(
        logits_fn, x, y, losses=["margin", "cross-entropy"], batch_size=200,
        search_fn=watch,
    )  # fmt: skip
    assert both["robust_accuracy"] <= one["robust_accuracy"]
    assert torch.equal(found, first)  # of the first loss
    n_natural = round(200 * both["natural_accuracy"])
    n_standing = round(200 * one["robust_accuracy"])
    assert attacked[0] == n_natural
    assert n_standing in attacked  # the second loss, on those that the first left


def test_an_integer_gives_the_same_start_in_every_batch_and_call(linear):
    logits_fn, x, y, _ = linear
    found = [judged(logits_fn, x, y, n_steps=1, batch_size=b)[1] for b in (7, 64, 200)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    generator = torch.Generator().manual_seed(0)
    one, two = (
        judged(logits_fn, x, y, n_steps=1, generator=generator)[1] for _ in "ab"
    )
    assert not torch.equal(one, two)  # a generator goes on


def test_verdicts_are_those_of_the_net_not_of_the_copy_that_was_searched(linear):
    logits_fn, x, y, _ = linear
    blind = judged(logits_fn, x, y, search_fn=lambda x: 0 * logits_fn(x))[0]
    assert blind["natural_accuracy"] == judged(logits_fn, x, y)[0]["natural_accuracy"]
    assert blind["robust_accuracy"] > judged(logits_fn, x, y)[0]["robust_accuracy"]


def test_no_answer_and_no_column_are_wrong(linear):
    logits_fn, x, y, _ = linear
    nowhere = {"natural_accuracy": 0.0, "robust_accuracy": 0.0}
    assert judged(lambda x: logits_fn(x) * np.nan, x, y)[0] == nowhere
    assert judged(logits_fn, x, torch.full_like(y, -1))[0] == nowhere
