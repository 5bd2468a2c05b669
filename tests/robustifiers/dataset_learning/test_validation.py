from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from robustfit import RobustDatasetLearner
from robustfit.exceptions import RewrittenRowsError
from robustfit.robustifiers.dataset_learning import search_steps, validation
from robustfit.robustifiers.dataset_learning.row_selection import (
    select_rows,
    split_for_search,
)
from robustfit.threat_model import ThreatModel

PLAY = {"protocol": "fine-tune", "method": "fictitious-play"}


def quick(**parameters):
    defaults = {"eps": 0.1, "n_candidates": 1, "n_rounds": 3, "random_state": 0}
    return RobustDatasetLearner(**defaults | parameters)


def test_history_tells_losses_accuracies_and_seconds(digits):
    X, y, _, _ = digits
    learner = quick(**PLAY, n_rounds=5, n_meta_epochs=1,
                    validation_fraction=0.2).fit(X, y)  # fmt: skip
    steps = [r["step"] for r in learner.history_]
    assert steps == [
        *["fictitious-play"] * 4, "validate", "fictitious-play",
        "meta-gradient", "validate", "keep-best",
    ]  # fmt: skip
    for record in learner.history_:
        assert record["seconds"] >= record.get("seconds_train", 0) >= 0
        if record["step"] == "fictitious-play":
            parts = record["seconds_perturb"] + record["seconds_train"]
            assert parts == pytest.approx(record["seconds"], rel=0.2, abs=0.05)
        if record["step"] in ("validate", "meta-gradient"):
            assert record["outer_loss"] > 0
        if record["step"] == "validate":
            assert 0 <= record["robust_accuracy"] <= record["natural_accuracy"] <= 1
    scores = [r["robust_accuracy"] for r in learner.history_ if r["step"] == "validate"]
    assert learner.history_[-1]["robust_accuracy"] == max(scores)


def test_held_out_rows_are_not_in_the_set(digits):
    X, y, _, _ = digits
    learner = quick(**PLAY, n_rounds=1, validation_fraction=0.25)
    learner.fit(X, y)
    assert len(learner.X_robust_) == pytest.approx(300, abs=10)
    np.testing.assert_array_equal(y[learner.sample_indices_], learner.y_robust_)
    assert len(set(learner.sample_indices_)) == len(learner.X_robust_)
    with pytest.raises(RewrittenRowsError, match="RobustifiedClassifier"):
        clone(learner).fit_transform(X, y)
    rows = select_rows(y, 0, 0.5, 0.25)
    assert not set(rows.held_out) & set(rows.kept)
    assert set(rows.learned) < set(rows.kept)
    np.testing.assert_array_equal(select_rows(np.arange(5), 0, 1, 0.9).kept, range(5))


def test_measured_robustness_by_hand():
    # Logits (4x, 0): class 0 for x > 0. A budget of 0.2 fools the row at 0.1 only.
    net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Dropout(0.5))
    net[0].weight.data = torch.tensor([[4.0], [0.0]])
    X, y = np.float32([[0.1], [0.5], [-0.5], [0.9]]), np.array([0, 0, 1, 1])
    threat_model = ThreatModel("linf", 0.2, None)
    measured = validation.measure_robustness(net.train(), X, y, threat_model)
    assert net.training
    assert measured["natural_accuracy"] == 0.75
    assert measured["robust_accuracy"] == 0.5
    x_adv = np.array([-0.1, 0.3, -0.3, 0.9])  # the last one is wrong already
    logit = np.array([4.0, 4.0, -4.0, -4.0]) * x_adv
    expected = np.log1p(np.exp(-logit)).mean()
    assert measured["outer_loss"] == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("n_iter_no_change", [None, 1, 2])
def test_stops_and_keeps_the_best_set(digits, monkeypatch, n_iter_no_change):
    X, y, _, _ = digits
    sets = []

    def scripted(self, theta_0, x_robust, generator):
        sets.append(x_robust.numpy().copy())
        score = [0.1, 0.5, 0.4, 0.2, 0.3][len(sets) - 1]
        return {"robust_accuracy": score, "seconds_train": 0.0}

    monkeypatch.setattr(validation.Validate, "_train_and_attack", scripted)
    learner = quick(method="paper", n_meta_epochs=5, validation_fraction=0.2,
                    n_iter_no_change=n_iter_no_change)  # fmt: skip
    learner.fit(X[:50], y[:50])
    assert len(sets) == (5 if n_iter_no_change is None else 2 + n_iter_no_change)
    np.testing.assert_array_equal(learner.X_robust_, sets[1])


def test_scratch_judges_on_the_held_out_rows(digits, monkeypatch):
    X, y, _, _ = digits
    seen = []
    original = search_steps.measure_robustness

    def watch(classifier, X, y, threat_model):
        seen.append(X)
        return original(classifier, X, y, threat_model)

    monkeypatch.setattr(search_steps, "measure_robustness", watch)
    learner = quick(n_candidates=2, validation_fraction=0.2, unclear_fraction=0)
    learner.fit(X, y)
    held_out = np.setdiff1d(np.arange(len(X)), learner.sample_indices_)
    assert len(seen) == 6  # the natural set beside them, two trainings each
    for images in seen:
        np.testing.assert_array_equal(images, X[held_out])


def test_candidates_are_judged_on_rows_they_are_not_trained_on(make_problem):
    problem = make_problem(400)
    rows, X, y = split_for_search(problem, 50)
    assert (len(rows), len(X), len(y)) == (50, 100, 100)
    whole, *_ = split_for_search(problem, 1000)
    assert len(whole) == 300
    trained = {row.tobytes() for row in problem.x[whole].numpy()}
    assert not trained & {row.tobytes() for row in X}
    again = split_for_search(problem, 50)
    assert torch.equal(again[0], rows)
    assert not torch.equal(split_for_search(problem, 50, 1)[0], rows)
    other, *_ = split_for_search(replace(problem, seed=1), 50)
    assert not torch.equal(other, rows)


def test_estimators_without_gradients_are_asked_for_scores():
    X = np.random.default_rng(0).random((200, 4)).astype("float32")
    y = (X[:, 0] > 0.5).astype(int)
    tree = DecisionTreeClassifier(max_depth=1).fit(X, y)
    measured = validation.measure_robustness(tree, X, y, ThreatModel("linf", 0.1))
    beyond = np.abs(X[:, 0] - 0.5) > 0.12
    assert set(measured) == {"natural_accuracy", "robust_accuracy"}
    assert measured["natural_accuracy"] > 0.95
    assert measured["robust_accuracy"] == pytest.approx(beyond.mean(), abs=0.07)
