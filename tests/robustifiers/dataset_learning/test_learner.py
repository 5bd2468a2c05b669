import numpy as np
import pytest
import skorch
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.callback import ProgressBar
from sklearn.datasets import load_digits
from torch import nn

from robustfit import (
    RobustDatasetLearner,
    RobustifiedClassifier,
    TorchClassifier,
    as_torch,
    attack_estimator,
)
from robustfit.exceptions import ImageShapeError, PixelRangeError, RewrittenRowsError
from robustfit.nets import MLP, LeNet5, SmallCNN, default_classifier
from robustfit.robustifiers.dataset_learning import (
    disturbance,
    disturbance_steps,
    validation,
)
from robustfit.robustifiers.dataset_learning import learner as learner_module
from robustfit.robustifiers.dataset_learning.disturbance import (
    Disturbance,
    default_disturbances,
)
from robustfit.robustifiers.dataset_learning.fictitious_play import perturb_towards
from robustfit.robustifiers.dataset_learning.meta_gradient import META_GRADIENTS
from robustfit.robustifiers.dataset_learning.row_selection import select_rows
from robustfit.threat_model import ThreatModel

PLAY = {"protocol": "fine-tune", "method": "fictitious-play"}


def quick(**parameters):
    defaults = {"eps": 0.1, "n_candidates": 1, "n_rounds": 3, "random_state": 0}
    return RobustDatasetLearner(**defaults | parameters)


@pytest.mark.parametrize(
    "parameters",
    [{}, PLAY, {"protocol": "fine-tune"}, {"method": "paper", "n_meta_epochs": 1}, {"norm": "l2", "eps": 0.5}],  # noqa: E501
)  # fmt: skip
@pytest.mark.parametrize("as_rows", [False, True])
def test_rewrites_rows_in_place(digits, parameters, as_rows):
    X, y, _, _ = digits
    X, y = X[:150], y[:150]
    if as_rows:
        X = X.reshape(len(X), -1)
        parameters = parameters | {"image_shape": (1, 8, 8)}
    learner = quick(**parameters)
    X_robust = learner.fit_transform(X, y)
    assert X_robust.shape == X.shape
    assert X_robust.dtype == np.float32
    assert X_robust.min() >= 0
    assert X_robust.max() <= 1
    assert (X_robust != X).any()
    np.testing.assert_array_equal(learner.y_robust_, y)
    np.testing.assert_array_equal(learner.sample_indices_, np.arange(150))
    np.testing.assert_array_equal(learner.transform(X), X)
    assert isinstance(learner.estimator_.module_, SmallCNN)
    assert [r["seconds"] > 0 for r in learner.history_]


@pytest.mark.parametrize(
    "shape", [(3, 32, 32), (1, 8, 8), (5,)], ids=["colour", "digits", "vector"]
)
def test_any_shape_two_classes_string_labels(shape):
    rng = np.random.default_rng(0)
    X = rng.random((24, *shape))
    y = np.where(rng.random(24) > 0.5, "yes", "no")
    learner = quick(n_rounds=1)
    assert learner.fit_transform(X, y).shape == X.shape
    assert set(learner.y_robust_) == {"yes", "no"}


@pytest.mark.parametrize("protocol", ["scratch", "fine-tune"])
def test_same_seed_same_bytes_and_no_global_state(digits, protocol):
    X, y, _, _ = digits
    X, y = X[:120], y[:120]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = quick(protocol=protocol).fit(X, y).X_robust_
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(6)
    assert first.tobytes() == quick(protocol=protocol).fit(X, y).X_robust_.tobytes()
    other = quick(protocol=protocol, random_state=1).fit(X, y).X_robust_
    assert (first != other).any()


def test_scratch_search_uses_what_it_chose(digits):
    X, y, _, _ = digits
    learner = quick(n_candidates=3).fit(X, y)
    judged = [r for r in learner.history_ if r["step"] == "disturbance-search"]
    assert len(judged) == 3
    winner, chosen = (
        judged[disturbance_steps._best_candidate(judged)],
        learner.history_[-1],
    )
    assert chosen["step"] == "disturb"
    assert all(chosen[k] == winner[k] for k in ("amplitude", "contrast", "noise"))


@pytest.mark.parametrize(
    ("scores", "place"), [([1.0, 1.04, 1.03], 0), ([1.0, 1.2, 1.22], 1), ([0.5], 0)]
)
def test_a_later_candidate_has_to_win_clearly(scores, place):
    judged = [{"natural_accuracy": 0.5, "robust_accuracy": s - 0.5} for s in scores]
    assert disturbance_steps._best_candidate(judged) == place


@pytest.mark.parametrize(("n_large", "amplitude"), [(201, 0.2), (200, 0.4)])
def test_in_large_sets_the_strong_pattern_has_to_be_beaten(
    digits, monkeypatch, n_large, amplitude
):
    X, y, _, _ = digits
    monkeypatch.setattr(disturbance_steps, "LARGE_SET", n_large)
    monkeypatch.setattr(disturbance_steps, "WINNING_MARGIN", 2)  # none is beaten
    learner = quick(n_candidates=4, unclear_fraction=0).fit(X[:200], y[:200])
    chosen = learner.history_[-1]
    assert (chosen["amplitude"], chosen["noise"]) == (amplitude, 0)


def test_large_sets_of_vectors_start_from_the_first_noise():
    candidates = default_disturbances(ThreatModel(eps=0.1), (64,), (0, 1))
    assert disturbance_steps._candidate_to_beat(candidates, 10**6) == 0


def test_no_epochs_of_the_papers_algorithm_leave_the_set_as_it_is(digits):
    X, y, _, _ = digits
    learner = quick(method="paper", n_meta_epochs=0)
    np.testing.assert_array_equal(learner.fit_transform(X[:50], y[:50]), X[:50])
    assert learner.history_ == []


@pytest.mark.parametrize("amplitude", [0.2, 0.0])
def test_every_second_row_plays_and_all_where_noise_is_best(
    digits, monkeypatch, amplitude
):
    X, y, _, _ = digits
    candidates = [Disturbance(amplitude, 1.0, 0.1)]
    monkeypatch.setattr(
        disturbance_steps, "default_disturbances", lambda *args: candidates
    )
    learner = quick(protocol="fine-tune", n_rounds=2, n_candidates=1).fit(X, y)
    steps = [r["step"] for r in learner.history_]
    assert steps == ["disturb", "fictitious-play", "fictitious-play"]
    scratch = quick(n_candidates=1).fit(X, y)
    assert [r["step"] for r in scratch.history_] == ["disturb"]
    stays = (learner.X_robust_ == scratch.X_robust_).all((1, 2, 3))
    assert stays[1::2].all() == (amplitude > 0)
    assert not stays[::2].any()
    assert learner.history_[1]["n_playing"] == len(X) // (2 if amplitude else 1)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_rows_that_play_carry_the_noise_of_the_others(digits, monkeypatch, noise):
    X, y, _, _ = digits
    candidates = [Disturbance(0.2, 1.0, noise, mixed=True)]
    monkeypatch.setattr(
        disturbance_steps, "default_disturbances", lambda *args: candidates
    )
    parameters = {"eps": 0.05, "norm": "linf", "radius_factor": 1.0, "n_rounds": 2}
    learner = quick(**parameters, protocol="fine-tune").fit(X, y)
    moved = (learner.X_robust_ - X)[::2]
    assert (np.abs(moved).max() > 0.05 + 1e-6) == (noise > 0)
    inside = (X[::2] > 0.3) & (X[::2] < 0.7)  # hardly ever clipped
    assert noise <= moved[inside].std() < np.hypot(noise, 0.05)


def test_the_radius_of_play_is_the_users(digits):
    X, y, _, _ = digits
    X, y = X[:100], y[:100]
    for factor in (0.5, 2.0):
        fitted = quick(**PLAY, radius_factor=factor).fit(X, y)
        moved = np.abs(fitted.X_robust_ - X).max()
        assert moved == pytest.approx(0.1 * factor, rel=1e-3)
    with pytest.raises(ValueError, match="radius_factor"):
        quick(radius_factor=0.0).fit(X, y)


@pytest.mark.parametrize(
    ("eps", "norm", "amplitude", "factor"),
    [
        (0.1, "linf", 0.2, 2.25),
        (0.1, "linf", 0.0, 1.5),
        (0.2, "linf", 0.2, 1.5),
        (0.2, "l2", 0.2, 2.25),
        (0.5, "l2", 0.2, 1.131),  # 0.2 of the range, times the root of 64 / 8 values
        (1.0, "l2", 0.2, 1.0),
        (0.4, "linf", 0.2, 1.0),
    ],
)
def test_rows_that_play_reach_as_far_as_their_budget_lets_them(
    digits, monkeypatch, eps, norm, amplitude, factor
):
    X, y, _, _ = digits
    X, y = X[:100], y[:100]
    candidates = [Disturbance(amplitude, 1.0, 0.1)]
    monkeypatch.setattr(
        disturbance_steps, "default_disturbances", lambda *args: candidates
    )
    parameters = {"eps": eps, "norm": norm, "protocol": "fine-tune", "n_rounds": 2}
    auto = quick(**parameters).fit(X, y)
    told = quick(**parameters, radius_factor=factor).fit(X, y).X_robust_
    other = quick(**parameters, radius_factor=factor + 0.25).fit(X, y).X_robust_
    assert auto.X_robust_.tobytes() == told.tobytes() != other.tobytes()
    assert auto.history_[-1]["radius_factor"] == factor


def test_candidates_are_judged_by_the_training_they_are_for(digits):
    X, y, _, _ = digits
    scratch, tuned = (
        quick(method="disturbance", protocol=p, n_candidates=2).fit(X, y)
        for p in ("scratch", "fine-tune")
    )
    judged = [learner.history_[0]["natural_accuracy"] for learner in (scratch, tuned)]
    assert judged[0] < judged[1]  # theta_0 knows natural images
    assert {r["step"] for r in tuned.history_} == {"disturbance-search", "disturb"}


def test_fraction_keeps_every_class(digits):
    X, y, _, _ = digits
    learner = quick(fraction=0.1).fit(X, y)
    assert len(learner.X_robust_) == pytest.approx(40, abs=5)
    assert set(learner.y_robust_) == set(y)
    np.testing.assert_array_equal(y[learner.sample_indices_], learner.y_robust_)
    with pytest.raises(RewrittenRowsError, match="RobustifiedClassifier"):
        clone(learner).fit_transform(X, y)


def test_users_net_of_any_kind(digits):
    X, y, _, _ = digits
    net = skorch.NeuralNetClassifier(
        BatchNormNet, criterion=nn.CrossEntropyLoss, max_epochs=2, train_split=None,
        verbose=0, iterator_train__shuffle=True,
    )  # fmt: skip
    for parameters in (PLAY, {"method": "paper", "n_meta_epochs": 1}, {}):  # fmt: skip
        learner = quick(estimator=net, **parameters).fit(X[:100], y[:100])
        assert isinstance(learner.estimator_.module_, BatchNormNet)
        assert not hasattr(net, "module_")
        assert np.isfinite(learner.X_robust_).all()


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (LeNet5, {"image_shape": (1, 8, 8), "widen_factor": 0.125}),
        (MLP, {"n_features": 64, "hidden": (16,)}),
        (SmallCNN, {"image_shape": (1, 8, 8), "channels": (4, 8), "n_hidden": 10}),
    ],
)
def test_the_nets_of_the_library_inside(digits, module, arguments):
    X, y, _, _ = digits
    net = skorch.NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, max_epochs=1, train_split=None,
        verbose=0, **{f"module__{k}": v for k, v in arguments.items()},
    )  # fmt: skip
    for parameters in (
        {**PLAY, "n_rounds": 1, "n_meta_epochs": 1},
        {"soft_labels": True, "n_candidates": 2},
    ):
        learner = quick(estimator=net, **parameters).fit(X[:100], y[:100])
        assert isinstance(learner.estimator_.module_, module)
        assert (learner.X_robust_ != X[:100]).any()


class UsersNet(skorch.NeuralNetClassifier):
    """A net class of the user's own, with a criterion that takes probabilities."""

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        return super().get_loss(y_pred, y_true, *args, **kwargs) + 0.0


class ProbabilityNet(nn.Module):
    def __init__(self, n_hidden=20):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, n_hidden), nn.ReLU(), nn.Dropout(0.1),
            nn.Linear(n_hidden, 10), nn.Softmax(1),
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x)


def test_a_users_net_class_with_probabilities_and_dropout(digits):
    X, y, _, _ = digits
    net = UsersNet(ProbabilityNet, max_epochs=2, train_split=None, verbose=0)
    for parameters in (PLAY, {"method": "paper", "n_meta_epochs": 1}):  # fmt: skip
        learner = quick(estimator=net, **parameters).fit(X[:100], y[:100])
        assert isinstance(learner.estimator_, UsersNet)
        assert (learner.X_robust_ != X[:100]).any()


class BatchNormNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
            nn.Linear(144, 10),
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x)


# --- held-out rows, several nets ------------------------------------------------------


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

    monkeypatch.setattr(validation.Validation, "_train_and_attack", scripted)
    learner = quick(method="paper", n_meta_epochs=5, validation_fraction=0.2,
                    n_iter_no_change=n_iter_no_change)  # fmt: skip
    learner.fit(X[:50], y[:50])
    assert len(sets) == (5 if n_iter_no_change is None else 2 + n_iter_no_change)
    np.testing.assert_array_equal(learner.X_robust_, sets[1])


def test_a_stopped_fit_resumes_as_stopped(digits, tmp_path, monkeypatch, fail_at):
    X, y, _, _ = digits
    scores = iter([0.3, 0.2, 0.1])
    monkeypatch.setattr(
        validation.Validation,
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


def test_scratch_judges_on_the_held_out_rows(digits, monkeypatch):
    X, y, _, _ = digits
    seen = []
    original = disturbance_steps.measure_robustness

    def watch(classifier, X, y, threat_model):
        seen.append(X)
        return original(classifier, X, y, threat_model)

    monkeypatch.setattr(disturbance_steps, "measure_robustness", watch)
    learner = quick(n_candidates=2, validation_fraction=0.2).fit(X, y)
    held_out = np.setdiff1d(np.arange(len(X)), learner.sample_indices_)
    assert len(seen) == 2
    np.testing.assert_array_equal(seen[0], X[held_out])


def test_several_initialisations_take_turns(digits, tmp_path):
    X, y, _, _ = digits
    X, y = X[:120], y[:120]
    parameters = {**PLAY, "n_rounds": 6, "n_meta_epochs": 1}
    one = quick(**parameters).fit(X, y)
    two = quick(**parameters, n_initializations=2, checkpoint=tmp_path).fit(X, y)
    assert [r.get("n_epochs") for r in one.history_] == [1, 12, 2, 4, 1, 12, None]
    assert [r.get("n_epochs") for r in two.history_] == [1, 1, 12, 12, 2, 2, None]
    assert (one.X_robust_ != two.X_robust_).any()
    weights = [
        [p.detach().numpy() for p in learner.estimator_.module_.parameters()]
        for learner in (one, two)
    ]
    assert all((a == b).all() for a, b in zip(*weights, strict=True))  # theta_0
    resumed = clone(two).fit(X, y)  # nothing is left to do
    assert resumed.X_robust_.tobytes() == two.X_robust_.tobytes()


class Interrupt(Exception):
    pass


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


def test_progress_bar_and_verbose(digits, capsys):
    X, y, _, _ = digits
    learner = quick(verbose=1).set_callbacks(ProgressBar())
    learner.fit(X[:60], y[:60])
    assert "[RobustDatasetLearner] 1/1 disturb:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"eps": -1}, ValueError, "eps is -1"),
        ({"eps": [0.1, 0.2]}, ValueError, "expected one number"),
        ({"norm": "l1"}, ValueError, "norm is 'l1'"),
        ({"norm": "l3"}, ValueError, "norm is 'l3'"),
        ({"fraction": 0}, ValueError, "fraction"),
        ({"fraction": 1.5}, ValueError, "fraction"),
        ({"protocol": "both"}, ValueError, "protocol"),
        ({"device": "cuda:99"}, ValueError, "device is 'cuda:99'"),
        ({"device": "warp"}, ValueError, "device is 'warp'"),
        ({"image_shape": (1, 8, 8), "flat": 63}, ImageShapeError, "holds 64 numbers"),
        ({"image_shape": 64, "flat": 64}, ImageShapeError, "channels, height, width"),
    ],
)
def test_bad_parameters_fail_before_any_work(
    digits, monkeypatch, change, error, message
):
    X, y, _, _ = digits
    change = dict(change)
    if "flat" in change:
        X = X.reshape(len(X), -1)[:, : change.pop("flat")]
    monkeypatch.setattr(
        learner_module, "_train_theta_0", lambda *a: pytest.fail("work began")
    )
    with pytest.raises(error, match=message):
        quick(**change).fit(X, y)


def test_bad_data(digits):
    X, y, _, _ = digits
    with pytest.raises(PixelRangeError, match="X / 255"):
        quick().fit((X * 255).astype(np.uint8), y)
    with pytest.raises(ValueError, match="NaN"):
        quick().fit(X * np.nan, y)
    with pytest.raises(ValueError, match="at least two classes"):
        quick().fit(X, np.zeros(len(X)))
    with pytest.raises(ValueError, match="as many labels as rows"):
        quick().fit(X, y[:-1])
    with pytest.raises(ValueError, match="y to be passed"):
        quick().fit(X, None)
    with pytest.raises(ImageShapeError, match="channel axis"):
        quick().fit(X[:, 0], y)
    with pytest.raises(TypeError, match="no trainable parameters"):
        quick(estimator=NoParameters()).fit(X[:20], y[:20])
    learner = quick().fit(X[:50], y[:50])
    with pytest.raises(ImageShapeError, match="was fitted on"):
        learner.transform(X[:, :, :4])
    with pytest.raises(ImageShapeError, match="was fitted on"):
        learner.transform(X.reshape(len(X), 1, 4, 16))


class NoParameters(BaseEstimator):
    def fit(self, X, y):
        return self


@as_torch.register
def _(estimator: NoParameters):
    return TorchClassifier(nn.Flatten())


@pytest.mark.parametrize("eps", [0, 5.0])
@pytest.mark.parametrize("protocol", ["scratch", "fine-tune"])
def test_zero_and_huge_budgets(digits, eps, protocol):
    X, y, _, _ = digits
    X_robust = quick(eps=eps, protocol=protocol).fit_transform(X[:50], y[:50])
    assert np.isfinite(X_robust).all()
    if eps == 0:
        X_robust = quick(eps=0, **PLAY).fit_transform(X[:50], y[:50])
        np.testing.assert_allclose(X_robust, X[:50], atol=1e-6)


def test_constant_images_and_one_row_a_class():
    X = np.full((2, 1, 8, 8), 0.5, dtype=np.float32)
    for parameters in ({}, {"protocol": "fine-tune"}, PLAY):
        X_robust = quick(**parameters).fit_transform(X, [0, 1])
        assert np.isfinite(X_robust).all()


def test_read_only_input_is_left_alone(digits):
    X, y, _, _ = digits
    X = X[:50].copy()
    X.setflags(write=False)
    before = X.tobytes()
    quick(**PLAY).fit(X, y[:50])
    assert X.tobytes() == before


# --- the stages, each by itself -------------------------------------------------------


def test_disturbance_by_hand(monkeypatch):
    monkeypatch.setattr(disturbance, "draw_patterns", lambda x, g: torch.ones_like(x))
    x = torch.tensor([0.0, 0.0, 1.0]).reshape(1, 1, 1, 3)
    disturbed = Disturbance(0.4, 1.0).apply(x, (0, 1), None)
    expected = torch.tensor([0.4, 0.4, 0.6]).reshape(1, 1, 1, 3)
    torch.testing.assert_close(disturbed, expected)


def test_a_mixed_row_has_the_pattern_or_the_noise(monkeypatch):
    monkeypatch.setattr(disturbance, "draw_patterns", lambda x, g: torch.ones_like(x))
    x = torch.zeros(400, 1, 5, 5)
    generator = torch.Generator().manual_seed(0)
    mixed = Disturbance(0.4, 1.0, 0.1, mixed=True).apply(x, (0, 1), generator)
    patterned = (mixed == 0.4).all((1, 2, 3))
    assert 160 < patterned.sum() < 240
    assert abs(mixed[~patterned].mean()) < 0.01  # no pattern
    assert mixed[~patterned].std() == pytest.approx(0.1, rel=0.05)
    grey = Disturbance(0.4, 0.5, 0.1, mixed=True)
    vectors = grey.apply(torch.eye(2), (0, 1), generator)
    assert vectors.shape == (2, 2)


def test_contrast_shrinks_towards_the_background():
    x = torch.tensor([[2.0, 2.0, 2.0, 4.0]])
    half = Disturbance(0.0, 0.5).apply(x, (0, 4), None)
    torch.testing.assert_close(half, torch.tensor([[2.0, 2.0, 2.0, 3.0]]))


def test_background_and_object_stay_apart():
    # The recipe for linf 0.2: what was dark ends at most at 0.26, bright at least 0.39.
    x = (torch.rand(200, 1, 28, 28) > 0.8).float()
    recipe = default_disturbances(ThreatModel("linf", 0.2), (1, 28, 28), (0, 1))[0]
    generator = torch.Generator().manual_seed(0)
    disturbed = recipe.apply(x, (0, 1), generator)
    assert disturbed[x == 0].max() == pytest.approx(0.26)
    assert disturbed[x == 1].min() == pytest.approx(0.39)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 5, 9)])
def test_patterns_are_bounded_and_of_the_images_shape(shape):
    x = torch.rand(20, *shape)
    patterns = disturbance.draw_patterns(x, torch.Generator().manual_seed(0))
    assert patterns.shape == x.shape
    assert 0 <= patterns.min() < patterns.max() <= 1


def test_disturbance_says_nothing_about_the_label(digits):
    X, y, _, _ = digits
    x = torch.tensor(X)
    generator = torch.Generator().manual_seed(0)
    change = (
        (Disturbance(0.4, 1.0).apply(x, (0, 1), generator) - x).abs().sum((1, 2, 3))
    )
    by_class = torch.stack([change[torch.tensor(y == c)].mean() for c in range(10)])
    assert by_class.std() < 0.25 * by_class.mean()


def test_disturbances_grow_with_the_budget():
    for shape in ((1, 8, 8), (20,)):
        small, large = (
            default_disturbances(ThreatModel(eps=e), shape, (0, 1)) for e in (0.02, 0.1)
        )
        assert max(c.noise for c in small) < max(c.noise for c in large)
        assert any(c.amplitude == 0 and c.contrast == 1 for c in small[:3])


def test_l2_mixes_patterns_and_noise():
    given = ThreatModel("l2", 2.0), (1, 28, 28), (0, 1)
    candidates = default_disturbances(*given)
    mixed = [c for c in candidates if c.mixed]
    assert len(mixed) == 1
    assert not any(c.mixed for c in default_disturbances(ThreatModel(), *given[1:]))
    assert mixed[0].noise == pytest.approx(2 * 2.0 / np.sqrt(784 / 8))
    beaten = disturbance_steps._candidate_to_beat(candidates, 20_000)
    assert candidates[beaten] == mixed[0]  # as strong a pattern as the mildest has
    assert disturbance_steps._candidate_to_beat(candidates, 400) == 0


def test_perturbation_reaches_its_target_within_the_ball():
    torch.manual_seed(0)
    net = nn.Linear(20, 4)
    x, target = torch.rand(30, 20), torch.randint(4, (30,))
    threat_model = ThreatModel("linf", 0.5)
    x_new = perturb_towards(net, x, target, threat_model, n_steps=8)
    threat_model.check_perturbation(x_new, x)
    before = (net(x).argmax(1) == target).float().mean()
    assert (net(x_new).argmax(1) == target).float().mean() > before + 0.3


@pytest.mark.parametrize("n_unrolled", [1, 2])
def test_meta_gradients_agree_with_each_other_and_with_brute_force(n_unrolled):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    x, y = torch.rand(5, 6).double(), torch.randint(3, (5,))
    x_adv = (x + 0.1 * torch.randn(5, 6)).double()
    theta = {k: v.detach() for k, v in net.named_parameters()}
    gradients = {
        name: function(
            net, theta, x, y, lambda trained: x_adv, t=0.1, n_unrolled=n_unrolled
        )
        for name, function in META_GRADIENTS.items()
    }
    exact, loss = gradients["exact"]
    approximate, same_loss = gradients["finite-difference"]
    assert loss == pytest.approx(same_loss)
    torch.testing.assert_close(exact, approximate, rtol=1e-2, atol=1e-6)

    def outer_loss(x_rob):
        _, value = META_GRADIENTS["exact"](
            net, theta, x_rob, y, lambda trained: x_adv, t=0.1, n_unrolled=n_unrolled
        )
        return value

    step = torch.zeros_like(x)
    step[2, 3] = 1e-5
    brute = (outer_loss(x + step) - outer_loss(x - step)) / 2e-5
    assert float(exact[2, 3]) == pytest.approx(brute, rel=1e-3)


# --- what it is for -------------------------------------------------------------------


def robust_accuracy(model, X, y):
    return attack_estimator(
        model, X, y, attack="autoattack", version=["apgd-ce"], eps=0.1
    ).robust_accuracy


@pytest.fixture(scope="module")
def six_hundred():
    """600 training and 300 test images, and what a net trained on them withstands."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    X, X_test, y, y_test = X[:600], X[1000:1300], y[:600], y[1000:1300]
    net = default_classifier((1, 8, 8), 10, max_epochs=40)
    torch.manual_seed(0)
    natural = robust_accuracy(clone(net).fit(X, y), X_test, y_test)
    return X, y, X_test, y_test, net, natural


@pytest.mark.parametrize(
    ("protocol", "parameters"),
    [
        ("scratch", {}),
        ("fine-tune", {}),
        ("fine-tune", {"method": "fictitious-play"}),
        ("scratch", {"soft_labels": True}),
    ],
)
def test_natural_training_on_the_set_is_more_robust(six_hundred, protocol, parameters):
    X, y, X_test, y_test, net, natural = six_hundred
    model = RobustifiedClassifier(
        RobustDatasetLearner(eps=0.1, estimator=net, random_state=0, **parameters),
        net,
        fine_tune=protocol == "fine-tune",
        random_state=3,
    ).fit(X, y)
    assert robust_accuracy(model, X_test, y_test) > natural + 0.05
    assert model.score(X_test, y_test) > 0.85


def test_soft_labels_are_a_robust_teachers(digits):
    X, y, _, _ = digits
    learner = quick(soft_labels=True, fraction=0.5).fit(X, y)
    assert learner.y_robust_.shape == (len(learner.X_robust_), 10)
    np.testing.assert_allclose(learner.y_robust_.sum(1), 1, atol=1e-5)
    agreement = learner.y_robust_.argmax(1) == y[learner.sample_indices_]
    assert agreement.mean() > 0.7
    assert learner.history_[-1]["agreement"] == pytest.approx(agreement.mean())
    with pytest.raises(RewrittenRowsError, match="soft_labels=True"):
        clone(learner).fit_transform(X, y)
