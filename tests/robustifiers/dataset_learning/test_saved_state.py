import copy
import json
from dataclasses import fields

import numpy as np
import pytest
import torch
from sklearn.base import clone

from robustfit import RobustDatasetLearner
from robustfit._utils.checkpoint import Checkpoint
from robustfit.nets import default_classifier
from robustfit.robustifiers.dataset_learning import validation
from robustfit.robustifiers.dataset_learning.candidate import NATURAL, Candidate
from robustfit.robustifiers.dataset_learning.disturbance import Disturbance
from robustfit.robustifiers.dataset_learning.learning_state import LearningState
from robustfit.robustifiers.dataset_learning.saved_state import (
    pack_state,
    restore_state,
)

PLAY = {"protocol": "fine-tune", "method": "fictitious-play"}


class Interrupt(Exception):
    pass


def quick(**parameters):
    net = default_classifier((1, 8, 8), 10, max_epochs=2)
    defaults = {
        "eps": 0.1, "estimator": net, "n_candidates": 1, "n_rounds": 3,
        "random_state": 0,
    }  # fmt: skip
    return RobustDatasetLearner(**defaults | parameters)


def test_a_stopped_fit_resumes_as_stopped(digits, tmp_path, monkeypatch, fail_at):
    X, y, _, _ = digits
    scores = iter([0.3, 0.2, 0.1])
    monkeypatch.setattr(
        validation.Validate,
        "_train_and_attack",
        lambda *a: {"robust_accuracy": next(scores), "seconds_train": 0.0},
    )
    learner = quick(method="paper", n_meta_epochs=9, validation_fraction=0.2,
                    n_iter_no_change=1, checkpoint=tmp_path)  # fmt: skip
    # before the best set is put back
    with fail_at(4, Interrupt()), pytest.raises(Interrupt):
        learner.fit(X[:50], y[:50])
    resumed = clone(learner).fit(X[:50], y[:50])
    assert [r["step"] for r in resumed.history_][4:] == ["keep-best"]
    assert (resumed.X_robust_ != learner.X_robust_).any()


@pytest.mark.parametrize("parameters", [{}, {"protocol": "fine-tune"}, PLAY])
def test_resumes_where_it_stopped_with_the_same_bytes(
    digits, tmp_path, fail_at, parameters
):
    X, y, _, _ = digits
    X, y = X[:120], y[:120]
    expected = quick(**parameters, n_candidates=2).fit(X, y)
    learner = quick(**parameters, n_candidates=2, checkpoint=str(tmp_path))
    with fail_at(2, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        learner.fit(X, y)
    assert len(learner.history_) == 2
    assert learner.X_robust_.shape == X.shape  # the last good state is kept
    resumed = clone(learner).fit(X, y)
    assert resumed.X_robust_.tobytes() == expected.X_robust_.tobytes()
    assert resumed.history_[:2] == learner.history_  # not learned again
    with np.load(next(tmp_path.glob("*.npz"))) as saved:
        has_player = any(name.startswith("player/") for name in saved.files)
    assert has_player == ("protocol" in parameters)  # else it would be theta_0 again
    other_data = clone(learner).fit(X[::-1], y[::-1])
    assert other_data.history_[0] != learner.history_[0]
    assert not list(tmp_path.glob("*.tmp"))


def test_resumes_without_a_seed(digits, tmp_path, fail_at):
    X, y, _, _ = digits
    learner = quick(random_state=None, **PLAY, checkpoint=tmp_path)
    with fail_at(1, Interrupt()), pytest.raises(Interrupt):
        learner.fit(X[:100], y[:100])
    resumed = clone(learner).fit(X[:100], y[:100])
    assert resumed.history_[0] == learner.history_[0]


# --- the history is the user's --------------------------------------------------------

RICH = {"protocol": "fine-tune", "n_candidates": 3, "n_rounds": 8, "n_meta_epochs": 4,
        "validation_fraction": 0.2, "n_iter_no_change": 1}  # fmt: skip


class ChangesHistory:
    """A user's callback that renames or removes what the learner has logged."""

    def __init__(self, change):
        self.change = change

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context, **given):
        pass

    def on_fit_task_end(self, estimator, context, **given):
        self.change(estimator.history_)


def rename(history):
    history[:] = [{f"my {k}": v for k, v in record.items()} for record in history]


@pytest.fixture(scope="module")
def expected(digits):
    """A fit that was left in peace."""
    X, y, _, _ = digits
    learner = quick(**RICH).fit(X[:150], y[:150])
    assert learner.history_[-1]["step"] == "keep-best"
    return learner


@pytest.mark.parametrize("change", [rename, list.clear, list.reverse])
def test_what_is_done_to_the_history_changes_nothing(digits, expected, change):
    X, y, _, _ = digits
    learner = quick(**RICH).set_callbacks(ChangesHistory(change))
    learner.fit(X[:150], y[:150])
    assert learner.history_ != expected.history_
    assert learner.X_robust_.tobytes() == expected.X_robust_.tobytes()


@pytest.mark.parametrize("n_done", [2, 5, 10])
def test_a_resumed_fit_does_not_read_the_history(
    digits, expected, tmp_path, fail_at, n_done
):
    X, y, _, _ = digits
    learner = quick(**RICH, checkpoint=tmp_path)
    with fail_at(n_done, Interrupt()), pytest.raises(Interrupt):
        learner.fit(X[:150], y[:150])
    change_record(tmp_path, history=[])
    resumed = clone(learner).fit(X[:150], y[:150])
    assert len(resumed.history_) == len(expected.history_) - n_done
    assert resumed.X_robust_.tobytes() == expected.X_robust_.tobytes()


def change_record(folder, without=(), **changes):
    """Change and remove entries of the record of the only checkpoint."""
    path = next(folder.glob("*.npz"))
    with np.load(path) as saved:
        arrays = dict(saved)
    record = json.loads(str(arrays.pop("record"))) | changes
    record = {k: v for k, v in record.items() if k not in without}
    np.savez(path, record=np.array(json.dumps(record)), **arrays)


def test_a_checkpoint_without_the_state_is_refused(digits, tmp_path):
    X, y, _, _ = digits
    learner = quick(checkpoint=tmp_path).fit(X[:50], y[:50])
    change_record(tmp_path, without=["measured"])
    with pytest.raises(ValueError, match=r"lacks \['measured'\].*Delete it"):
        clone(learner).fit(X[:50], y[:50])


def test_the_state_comes_back_as_it_was(make_problem, tmp_path):
    problem = make_problem()
    state = LearningState(
        x_robust=problem.x + 1,
        player=copy.deepcopy(problem.theta_0),
        sources=torch.arange(40).flip(0),
        soft_labels=torch.rand(40, 2),
        row_probabilities=torch.rand(40, 2),
        disturbance=Disturbance(0, 0.9, 0.1),
        candidates=[NATURAL, Candidate(unclear_fraction=0.5)],
        measured=[[0.9, 0.25], [0.8, 0.5]],
        n_measured_on=100,
        chosen=Candidate(Disturbance(0.2, 0.9, 0.1, mixed=True), 0.25, 0.1),
        x_best=problem.x - 1,
        best_score=0.75,
        n_no_change=2,
        n_done=7,
        history=[{"step": "make-set"}],
    )
    state.player.layer.weight.data += 1
    checkpoint = Checkpoint(tmp_path, "fit")
    checkpoint.save(*pack_state(problem, state, 3))
    restored = restore_state(problem, checkpoint.load())
    for field in fields(LearningState):
        before, after = getattr(state, field.name), getattr(restored, field.name)
        if torch.is_tensor(before):
            assert torch.equal(before, after), field.name
        elif field.name == "judges":
            continue  # trained anew where they are asked for
        elif field.name == "player":
            assert torch.equal(before.layer.weight, after.layer.weight)
        else:
            assert before == after != field.default, field.name
