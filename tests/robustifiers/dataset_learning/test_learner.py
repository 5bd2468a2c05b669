import numpy as np
import pytest
import skorch
import torch
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import nn

from robustfit import (
    RobustDatasetLearner,
    RobustifiedClassifier,
    attack_estimator,
)
from robustfit.exceptions import ImageShapeError, PixelRangeError, RewrittenRowsError
from robustfit.nets import MLP, LeNet5, SmallCNN, default_classifier
from robustfit.robustifiers.dataset_learning import learner as learner_module
from robustfit.robustifiers.dataset_learning import recipe
from robustfit.robustifiers.dataset_learning.candidate import Candidate, choose
from robustfit.robustifiers.dataset_learning.disturbance import Disturbance

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


@pytest.mark.parametrize("protocol", ["scratch", "fine-tune"])
def test_the_search_uses_what_it_chose(digits, protocol):
    X, y, _, _ = digits
    learner = quick(n_candidates=3, method="disturbance", protocol=protocol).fit(X, y)
    judged = [r for r in learner.history_ if "robust_accuracy" in r]
    assert [r["step"] for r in judged][:5] == ["candidate"] * 4 + ["variant"]
    judged = judged[4:]
    candidates = [
        Candidate.from_dict({name: record[name] for name in learner.chosen_})
        for record in judged
    ]
    accuracies = [(r["natural_accuracy"], r["robust_accuracy"]) for r in judged]
    chosen = choose(candidates, accuracies, 200, 0.1)
    assert learner.chosen_ == chosen.as_dict()
    assert learner.history_[-1] == {
        "step": "make-set", "seconds": learner.history_[-1]["seconds"],
        **learner.chosen_,
    }  # fmt: skip
    assert np.isfinite(learner.X_robust_).all()


def test_no_epochs_of_the_papers_algorithm_leave_the_set_as_it_is(digits):
    X, y, _, _ = digits
    learner = quick(method="paper", n_meta_epochs=0)
    np.testing.assert_array_equal(learner.fit_transform(X[:50], y[:50]), X[:50])
    assert learner.history_ == []


@pytest.mark.parametrize("patterned", [True, False])
def test_every_second_row_plays_and_all_where_noise_is_best(
    digits, patterned, monkeypatch
):
    X, y, _, _ = digits
    if patterned:  # as the first that is taken without looking
        pattern = Candidate(Disturbance(0.4, 0.65))
        monkeypatch.setattr(recipe, "ladder", lambda shape: (pattern,))
    learner = quick(protocol="fine-tune", n_rounds=2).fit(X, y)
    steps = [r["step"] for r in learner.history_]
    assert steps == ["make-set", "fictitious-play", "fictitious-play"]
    scratch = quick().fit(X, y)
    assert [r["step"] for r in scratch.history_] == ["make-set"]
    stays = (learner.X_robust_ == scratch.X_robust_).reshape(len(X), -1).all(1)
    assert stays[1::2].all() == patterned
    assert not stays[::2].any()
    assert learner.history_[1]["n_rows"] == len(X) // (2 if patterned else 1)


def test_the_radius_of_play_is_the_users(digits):
    X, y, _, _ = digits
    X, y = X[:100], y[:100]
    for factor in (0.5, 2.0):
        fitted = quick(**PLAY, radius_factor=factor).fit(X, y)
        moved = np.abs(fitted.X_robust_ - X).max()
        assert moved == pytest.approx(0.1 * factor, rel=1e-3)
    with pytest.raises(ValueError, match="radius_factor"):
        quick(radius_factor=0.0).fit(X, y)


def test_what_auto_chose_is_what_is_learned(digits):
    X, y, _, _ = digits
    X, y = X[:100], y[:100]
    parameters = {"eps": 0.15, "protocol": "fine-tune", "n_rounds": 2}
    auto = quick(**parameters).fit(X, y)
    factor = auto.recipe_["play"]["alone"]["radius_factor"]
    assert factor == auto.history_[-1]["radius_factor"] == 1.5
    same = quick(**parameters, radius_factor=factor).fit(X, y).X_robust_
    other = quick(**parameters, radius_factor=factor + 0.25).fit(X, y).X_robust_
    assert auto.X_robust_.tobytes() == same.tobytes() != other.tobytes()


def test_candidates_are_judged_by_the_training_they_are_for(digits):
    X, y, _, _ = digits
    net = default_classifier((1, 8, 8), 10, max_epochs=10)
    scratch, tuned = (
        quick(
            method="disturbance",
            protocol=p,
            n_candidates=2,
            unclear_fraction=0,
            estimator=net,
        ).fit(X, y)
        for p in ("scratch", "fine-tune")
    )
    judged = [learner.history_[0]["natural_accuracy"] for learner in (scratch, tuned)]
    assert judged[0] < judged[1]  # theta_0 knows natural images
    assert {r["step"] for r in tuned.history_} == {"candidate", "make-set"}


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
        {"soft_labels": True},
        {"judge": "adversarial", "unclear_fraction": 0.2},
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


def test_progress_bar_and_verbose(digits, capsys):
    X, y, _, _ = digits
    learner = quick(verbose=1).set_callbacks(ProgressBar())
    learner.fit(X[:60], y[:60])
    assert "[RobustDatasetLearner] 1/1 make-set:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"eps": -1}, ValueError, "eps is -1"),
        ({"eps": [0.1, 0.2]}, ValueError, "takes one eps"),
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
    for change in (PLAY, {"soft_labels": True}, {"judge": "adversarial"}):
        with pytest.raises(TypeError, match="no trainable parameters"):
            quick(estimator=LogisticRegression(), **change).fit(X[:20], y[:20])
    learner = quick().fit(X[:50], y[:50])
    with pytest.raises(ImageShapeError, match="was fitted on"):
        learner.transform(X[:, :, :4])
    with pytest.raises(ImageShapeError, match="was fitted on"):
        learner.transform(X.reshape(len(X), 1, 4, 16))


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


# --- what it is for -------------------------------------------------------------------


def robust_accuracy(model, X, y):
    return attack_estimator(
        model, X, y, attack="autoattack", version=["apgd-ce"], eps=0.1
    ).robust_accuracy


@pytest.fixture(scope="module")
def nine_hundred():
    """900 training and 300 test images, and what a net trained on them withstands."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    X, X_test, y, y_test = X[:900], X[1000:1300], y[:900], y[1000:1300]
    net = default_classifier((1, 8, 8), 10, max_epochs=40)
    torch.manual_seed(0)
    natural = robust_accuracy(clone(net).fit(X, y), X_test, y_test)
    return X, y, X_test, y_test, net, natural


@pytest.mark.parametrize(
    ("protocol", "parameters", "gain"),
    [
        ("scratch", {}, 0.05),
        ("fine-tune", {}, 0.05),
        ("fine-tune", {"method": "fictitious-play"}, 0.02),
        ("scratch", {"soft_labels": True}, 0.05),
    ],
)
def test_natural_training_on_the_set_is_more_robust(
    nine_hundred, protocol, parameters, gain
):
    X, y, X_test, y_test, net, natural = nine_hundred
    model = RobustifiedClassifier(
        RobustDatasetLearner(eps=0.1, estimator=net, random_state=0, **parameters),
        net,
        fine_tune=protocol == "fine-tune",
        random_state=3,
    ).fit(X, y)
    assert robust_accuracy(model, X_test, y_test) > natural + gain
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
