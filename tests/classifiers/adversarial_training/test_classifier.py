import json
import pickle
import re

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from skorch import NeuralNetClassifier
from torch import nn

from robustfit import (
    AdversarialClassifier,
    AdversarialNet,
    NoisyDataset,
    as_torch,
    attack_estimator,
    robust_accuracy_score,
)
from robustfit.classifiers.adversarial_training.training_loop import TrainingLoop
from robustfit.exceptions import (
    CollapsedTrainingWarning,
    ImageShapeError,
    PixelRangeError,
)
from robustfit.nets import PhotoCNN, SmallCNN

FAST = {"n_steps": 2, "n_epochs": 2, "n_warmup_epochs": 0, "random_state": 0}


class Linear(nn.Module):
    def __init__(self, n_features=64, n_classes=10):
        super().__init__()
        self.flat = nn.Flatten()
        self.linear = nn.Linear(n_features, n_classes)

    def forward(self, x):
        return self.linear(self.flat(x))


def linear_net(lr=0.5, **parameters):
    return NeuralNetClassifier(
        Linear, criterion=nn.CrossEntropyLoss, lr=lr, batch_size=64, train_split=None,
        iterator_train__shuffle=True, verbose=0, **parameters,
    )  # fmt: skip


def weights(model):
    return [p.detach().numpy() for p in model.net_.module_.parameters()]


def assert_same_weights(a, b):
    for left, right in zip(weights(a), weights(b), strict=True):
        np.testing.assert_array_equal(left, right)


def n_weights_changed(a, b):
    pairs = zip(weights(a), weights(b), strict=True)
    return sum(int((left != right).sum()) for left, right in pairs)


@pytest.fixture(scope="module")
def data(digits):
    X, y, X_test, y_test = digits
    return X, y, X_test, y_test


@pytest.fixture(scope="module")
def natural(data):
    X, y, _, _ = data
    return AdversarialClassifier(eps=0, n_epochs=40, random_state=0).fit(X, y)


METHODS = {
    "pgd": {"n_steps": 3},
    "trades": {"n_steps": 3},
    "fgsm": {},
    "free": {"n_epochs": 12, "n_replays": 4},
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_makes_nets_robust(data, natural, method):
    X, y, X_test, y_test = data
    parameters = {"n_epochs": 40} | METHODS[method]
    model = AdversarialClassifier(
        eps=0.1, method=method, random_state=0, batch_size=64, **parameters
    ).fit(X, y)
    attack = {"eps": 0.1, "n_steps": 20, "loss": "margin"}
    before = robust_accuracy_score(natural, X_test, y_test, **attack)
    after = robust_accuracy_score(model, X_test, y_test, **attack)
    assert model.score(X_test, y_test) > 0.8
    assert after > before + 0.1


def test_l2_adversary(data, natural):
    X, y, X_test, y_test = data
    model = AdversarialClassifier(
        eps=0.6, norm="l2", n_steps=4, n_epochs=40, batch_size=64, random_state=0
    ).fit(X, y)
    attack = {"eps": 0.6, "norm": "l2", "n_steps": 20, "loss": "margin"}
    before = robust_accuracy_score(natural, X_test, y_test, **attack)
    assert robust_accuracy_score(model, X_test, y_test, **attack) > before + 0.1


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_training_loss_of_a_linear_net_is_its_closed_form(norm):
    # With two classes and rate zero: softplus(eps * dual norm of w - margin).
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(96, 5)).astype(np.float32)
    y = rng.integers(2, size=96)
    net = linear_net(lr=0.0, module__n_features=5, module__n_classes=2)
    model = AdversarialClassifier(
        eps=0.3, norm=norm, clip_range=None, estimator=net, random_state=0, n_epochs=1,
        n_warmup_epochs=0, n_steps=80, step_size=0.03,
    ).fit(X, y)  # fmt: skip
    linear = model.net_.module_.linear
    w = (linear.weight[1] - linear.weight[0]).detach().numpy()
    bias = float(linear.bias[1] - linear.bias[0])
    dual = {"linf": 1, "l2": 2, "l1": np.inf}[norm]
    worst = 0.3 * np.linalg.norm(w, dual) - (2 * y - 1) * (X @ w + bias)
    expected = np.mean(np.log1p(np.exp(worst)))
    # an l1 step moves the largest entry alone, so it ends on that vertex too
    assert model.history_[0]["train_loss"] == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(
    "labels",
    [
        lambda y: y.astype(str),
        lambda y: y.astype(np.float64),
        lambda y: 3 * y.astype(np.int32) - 7,
        lambda y: y > 4,
    ],
)
def test_labels_of_any_type_and_float64_pixels(data, labels):
    X, y, X_test, y_test = data
    y, y_test = labels(y), labels(y_test)
    model = AdversarialClassifier(eps=0.02, **FAST | {"n_epochs": 20})
    model.fit(X.astype(np.float64), y)
    assert model.predict(X_test).dtype == y.dtype
    assert model.score(X_test, y_test) > 0.6
    # the logits' columns are in the order of classes_
    result = attack_estimator(model, X_test, y_test, eps=0.0)
    assert result.natural_accuracy == model.score(X_test, y_test)
    np.testing.assert_allclose(
        as_torch(model)(torch.tensor(X_test)).softmax(1).detach().numpy(),
        model.predict_proba(X_test),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("reshape", "image_shape"),
    [
        (lambda X: X, None),
        (lambda X: X.reshape(len(X), 64), None),
        (lambda X: X.reshape(len(X), 64), (1, 8, 8)),
        (lambda X: np.repeat(np.kron(X, np.ones((1, 1, 4, 4))), 3, axis=1), None),
    ],
)
def test_images_of_any_shape(data, reshape, image_shape):
    X, y, _, _ = data
    X, y = reshape(X[:60]), y[:60]
    X.flags.writeable = False
    model = AdversarialClassifier(eps=0.1, image_shape=image_shape, **FAST).fit(X, y)
    result = attack_estimator(model, X, y, eps=0.1, n_steps=2)
    assert result.natural_accuracy == model.score(X, y)
    is_image = X.ndim == 4 or image_shape is not None
    assert isinstance(model.net_.module_, SmallCNN | PhotoCNN) == is_image


def test_same_seed_same_bytes_and_no_global_state(data):
    X, y, _, _ = data
    models = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)  # noqa: NPY002
        before = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
        models.append(AdversarialClassifier(eps=0.1, **FAST).fit(X[:150], y[:150]))
        assert torch.equal(before[0], torch.get_rng_state())
        np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
    assert_same_weights(*models)
    other = AdversarialClassifier(eps=0.1, **FAST | {"random_state": 1})
    assert n_weights_changed(models[0], other.fit(X[:150], y[:150]))


def test_stages_are_warm_starts(data):
    X, y = data[0][:150], data[1][:150]
    staged = AdversarialClassifier(eps_stages=(0.1, 0.2), n_stage_epochs=3, **FAST).fit(
        X, y
    )
    model = AdversarialClassifier(eps=0.1, warm_start=True, **FAST).fit(X, y)
    assert model.eps_ == 0.1
    model.set_params(eps=0.2, n_epochs=3).fit(X, y)
    assert_same_weights(staged, model)
    assert [r["eps"] for r in staged.history_] == [0.1] * 2 + [0.2] * 3
    assert [r["stage"] for r in staged.history_] == [0, 0, 1, 1, 1]
    assert [r["epoch"] for r in model.history_] == list(range(5))
    assert staged.eps_ == 0.2


@pytest.mark.parametrize("change", [list.clear, lambda history: history.append({})])
def test_a_warm_start_does_not_read_the_history(data, change):
    X, y = data[0][:100], data[1][:100]
    model = AdversarialClassifier(eps=0.1, warm_start=True, **FAST)
    expected = clone(model).fit(X, y).fit(X, y).partial_fit(X, y)
    change(model.fit(X, y).history_)
    change(model.fit(X, y).history_)
    model.partial_fit(X, y)
    assert_same_weights(model, expected)
    assert model.history_[-1]["epoch"] == 4


def test_a_cold_fit_forgets(data):
    X, y = data[0][:100], data[1][:100]
    model = AdversarialClassifier(eps=0.1, **FAST)
    first = pickle.loads(pickle.dumps(model.fit(X, y)))
    assert_same_weights(first, model.fit(X, y))
    assert len(model.history_) == 2
    model.fit(X[y[:100] < 5], y[y < 5])
    assert len(model.classes_) == 5


def test_partial_fit(data):
    X, y = data[0][:100], data[1][:100]
    model = AdversarialClassifier(eps=0.1, n_steps=2, random_state=0)
    model.partial_fit(X[:20], y[:20], classes=range(10))
    assert model.predict_proba(X).shape == (100, 10)
    model.partial_fit(X[20:], y[20:])
    assert [r["eps"] for r in model.history_] == [0.1, 0.1]
    two = clone(model).partial_fit(X[y < 2], y[y < 2])
    with pytest.raises(ValueError, match="label 5"):
        two.partial_fit(X[y == 5], y[y == 5])
    with pytest.raises(ValueError, match="1 class"):
        clone(model).partial_fit(X[:1], y[:1])


def test_iterative_training_grows_eps_and_stops_at_the_jump(data):
    X, y = data[0][:100], data[1][:100]
    iterative = {"eps_schedule": "iterative", "eps_increment": 0.02} | FAST
    model = AdversarialClassifier(eps=0.05, **iterative).fit(X, y)
    assert [r["eps"] for r in model.history_] == pytest.approx([0.02, 0.04, 0.05])
    # a rising loss: the rate is zero and the budget grows
    frozen = AdversarialClassifier(
        eps=0.3, estimator=linear_net(lr=0.0), loss_jump=0.02, **iterative
    ).fit(X, y)
    assert frozen.history_[-1]["stopped"] == "jump of the loss"
    assert frozen.eps_ == pytest.approx(frozen.history_[-2]["eps"])
    assert len(frozen.history_) < 15
    losses = [r["train_loss"] for r in frozen.history_]
    rises = [b - min(losses[max(0, n - 2) : n + 1]) for n, b in enumerate(losses[1:])]
    limit = 0.02 * np.log(10)
    assert [rise > limit for rise in rises] == [False] * (len(rises) - 1) + [True]


def test_the_weights_before_the_jump_are_kept(data):
    X, y = data[0][:100], data[1][:100]
    parameters = {"eps_schedule": "iterative", "estimator": linear_net()} | FAST
    grown = AdversarialClassifier(eps=0.03, **parameters).fit(X, y)
    stopped = AdversarialClassifier(eps=0.6, eps_increment=0.01, **parameters)
    jumps = {3: 100.0}

    class Jumping(TrainingLoop):
        def _losses(self):
            measured = super()._losses()
            measured["train_loss"] += jumps.get(len(self.history), 0.0)
            return measured

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "robustfit.classifiers.adversarial_training.classifier.TrainingLoop",
            Jumping,
        )
        stopped.fit(X, y)
    assert stopped.eps_ == pytest.approx(0.03)
    assert_same_weights(grown, stopped)


def test_early_stopping_keeps_the_best_weights(data):
    X, y, _, _ = data
    model = AdversarialClassifier(
        eps=0.1, n_steps=3, n_epochs=60, early_stopping=True, n_iter_no_change=2,
        validation_fraction=0.25, estimator=linear_net(lr=2.0), random_state=0,
    ).fit(X, y)  # fmt: skip
    accuracy = [r["robust_accuracy"] for r in model.history_]
    assert model.history_[-1]["stopped"] == "robust accuracy"
    best = int(np.argmax(accuracy))
    assert len(accuracy) == best + 3
    again = clone(model).set_params(early_stopping=False, n_epochs=best + 1)
    assert n_weights_changed(model, again.fit(X, y))  # trained on more images
    later = [r["natural_accuracy"] >= a for r, a in zip(model.history_, accuracy)]  # noqa: B905
    assert all(later)
    assert model.eps_ == model.history_[best]["eps"]


def interrupted(model, X, y, n_epochs):
    """Fit and press Ctrl-C in the middle of epoch ``n_epochs``."""
    step = AdversarialNet.train_step

    def press(net, batch, **kwargs):
        if len(net.history) > n_epochs and len(net.history[-1, "batches"]) == 2:
            raise KeyboardInterrupt
        return step(net, batch, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AdversarialNet, "train_step", press)
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, y)
    return model


@pytest.mark.parametrize("n_done", [0, 1, 2, 3])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_interrupted_and_resumed(data, tmp_path, n_done, early_stopping):
    X, y = data[0][:200], data[1][:200]
    parameters = FAST | {"eps_stages": (0.1, 0.2), "n_stage_epochs": 2}
    parameters |= {"early_stopping": early_stopping, "batch_size": 64}
    whole = AdversarialClassifier(**parameters).fit(X, y)
    model = AdversarialClassifier(checkpoint=str(tmp_path), **parameters)
    interrupted(model, X, y, n_done)
    assert model.predict(X).shape == y.shape
    assert len(model.history_) == n_done
    assert model.eps_ == [None, 0.1, 0.1, 0.2][n_done]
    assert not model.net_.module_.training
    resumed = clone(model).fit(X, y)
    assert_same_weights(whole, resumed)
    drop = ("seconds", "attack_seconds", "update_seconds", "validation_seconds")
    for a, b in zip(whole.history_, resumed.history_, strict=True):
        assert {k: v for k, v in a.items() if k not in drop} == {
            k: v for k, v in b.items() if k not in drop
        }
    # a finished fit is loaded, not run
    assert_same_weights(whole, clone(resumed).fit(X, y))


ITERATIVE = {
    "eps": 0.3, "eps_schedule": "iterative", "eps_increment": 0.02,
    "estimator": linear_net(lr=0.0), "loss_jump": 0.02,
}  # fmt: skip
JUDGED = {
    "eps": 0.1, "n_epochs": 8, "early_stopping": True, "n_iter_no_change": 2,
    "validation_fraction": 0.25, "estimator": linear_net(lr=2.0),
}  # fmt: skip


@pytest.mark.parametrize("parameters", [ITERATIVE, JUDGED], ids=["jump", "judge"])
def test_a_resumed_fit_stops_without_the_history(data, tmp_path, parameters):
    X, y = data[0][:200], data[1][:200]
    model = AdversarialClassifier(**FAST | parameters)
    whole = clone(model).fit(X, y)
    n_epochs = len(whole.history_)
    assert "stopped" in whole.history_[-1]
    model.set_params(checkpoint=str(tmp_path))

    class Forgetful(TrainingLoop):
        def _save(self):
            self.history.clear()
            super()._save()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "robustfit.classifiers.adversarial_training.classifier.TrainingLoop",
            Forgetful,
        )
        interrupted(model, X, y, n_epochs - 1)
    resumed = clone(model).fit(X, y)
    assert [r["epoch"] for r in resumed.history_] == [n_epochs - 1]
    assert resumed.history_[-1]["stopped"] == whole.history_[-1]["stopped"]
    assert resumed.eps_ == whole.eps_
    assert_same_weights(resumed, whole)


def test_a_checkpoint_without_the_state_is_refused(data, tmp_path):
    X, y = data[0][:100], data[1][:100]
    model = AdversarialClassifier(eps=0.1, checkpoint=str(tmp_path), **FAST).fit(X, y)
    path = next(tmp_path.glob("*.npz"))
    with np.load(path) as saved:
        arrays = dict(saved)
    record = json.loads(str(arrays.pop("record")))
    del record["losses"], record["n_done"]
    np.savez(path, record=np.array(json.dumps(record)), **arrays)
    with pytest.raises(ValueError, match=r"lacks \['losses', 'n_done'\].*Delete it"):
        clone(model).fit(X, y)


def test_an_interrupt_leaves_the_weights_of_the_last_epoch(data):
    X, y = data[0][:200], data[1][:200]
    parameters = FAST | {"estimator": linear_net()}
    model = AdversarialClassifier(eps=0.1, **parameters | {"n_epochs": 5})
    interrupted(model, X, y, 2)
    assert_same_weights(model, AdversarialClassifier(eps=0.1, **parameters).fit(X, y))


def test_a_net_that_is_not_finite_goes_back(data):
    X, y = data[0][:100], data[1][:100]
    model = AdversarialClassifier(eps=0.1, estimator=linear_net(lr=1e38), **FAST)
    with pytest.warns(CollapsedTrainingWarning, match=r"became (nan|inf) at eps=0.1"):
        model.fit(X, y)
    assert model.history_[-1]["stopped"] == "loss is not finite"
    assert np.isfinite(model.predict_proba(X)).all()


def test_warm_up_grows_to_eps(data):
    X, y = data[0][:50], data[1][:50]
    model = AdversarialClassifier(eps=0.2, n_steps=1, n_epochs=9, random_state=0)
    model.fit(X, y)
    expected = [0.05, 0.1, 0.15] + [0.2] * 6
    assert [r["eps"] for r in model.history_] == pytest.approx(expected)


def test_collapse_is_told(data):
    X, y = data[0][:100], data[1][:100]
    with pytest.warns(CollapsedTrainingWarning, match="eps=0.9"):
        AdversarialClassifier(eps=0.9, **FAST).fit(X, y)


def test_augmentation_is_seeded_and_clipped(data):
    X, y = data[0][:100], data[1][:100]
    seen = []

    def shift(x):
        seen.append(x.shape)
        return torch.roll(x, int(torch.randint(-1, 2, ())), 3) + 0.3

    with pytest.MonkeyPatch.context() as patch:
        perturbed = []
        perturb = AdversarialNet.perturb

        def watch(net, x, y):
            perturbed.append((float(x.max()), net.eps))
            return perturb(net, x, y)

        patch.setattr(AdversarialNet, "perturb", watch)
        fits = [
            AdversarialClassifier(eps=0.1, augment=shift, **FAST).fit(X, y)
            for _ in range(2)
        ]
    assert seen == [(100, 1, 8, 8)] * 4
    assert perturbed == [(1.0, 0.1)] * 4  # once a batch
    assert_same_weights(*fits)


def test_module_class_and_skorch_net(data):
    X, y = data[0][:100], data[1][:100]

    class Deep(nn.Module):  # wants images, returns probabilities
        def __init__(self, n_classes):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5),
                nn.Flatten(), nn.Linear(144, n_classes), nn.Softmax(1),
            )  # fmt: skip

        def forward(self, x):
            return self.layers(x)

    flat = X.reshape(100, 64)
    nll = NeuralNetClassifier(Deep, module__n_classes=10, verbose=0, lr=0.1)
    for estimator in (Deep, nll):
        for method in METHODS:
            model = AdversarialClassifier(
                eps=0.05, estimator=estimator, image_shape=(1, 8, 8), method=method,
                **FAST,
            ).fit(flat, y)  # fmt: skip
            assert not model.net_.module_.training
            result = attack_estimator(model, flat, y, eps=0.05, n_steps=3)
            assert result.natural_accuracy == model.score(flat, y)


def test_what_cannot_be_trained_is_named(data):
    X, y = data[0][:50], data[1][:50]

    class Own(NeuralNetClassifier):
        pass

    for estimator in (Linear(), Own(Linear), "net"):
        with pytest.raises(TypeError, match="estimator is"):
            AdversarialClassifier(estimator=estimator).fit(X, y)

    class Mine(AdversarialNet):
        pass

    own = Mine(Linear, verbose=0, lr=0.1)
    model = AdversarialClassifier(estimator=own, eps=0.07, **FAST).fit(X, y)
    assert isinstance(model.net_, Mine)
    assert model.net_.eps == 0.07
    assert own.eps == 8 / 255
    assert not own.initialized_


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"eps": -1}, "eps"),
        ({"eps_stages": ()}, "eps_stages is empty"),
        ({"eps_stages": (0.1, -0.2)}, "eps is -0.2"),
        ({"eps_stages": (0.1,), "eps_schedule": "iterative"}, "choose one"),
        ({"n_warmup_epochs": 30}, "n_warmup_epochs is 30"),
        ({"n_steps": None}, "n_steps and step_size"),
        ({"method": "madry"}, "method"),
        ({"norm": "l3"}, "norm"),
        ({"early_stopping": True, "validation_fraction": 0.001}, "validation_fraction"),
    ],
)
def test_bad_parameters_are_named_before_training(data, parameters, message):
    X, y, _, _ = data
    with pytest.raises(ValueError, match=message):
        AdversarialClassifier(**parameters).fit(X, y)


def test_bad_data_are_named(data):
    X, y = data[0][:50], data[1][:50]
    model = AdversarialClassifier(eps=0.1, **FAST)
    with pytest.raises(PixelRangeError, match="16"):
        model.fit(X * 16, y)
    with pytest.raises(ValueError, match="1 class"):
        model.fit(X[y == 3], y[y == 3])
    with pytest.raises(ValueError, match="NaN"):
        model.fit(np.where(X > 0.9, np.nan, X), y)
    with pytest.raises(ImageShapeError):
        model.fit(X[:, 0], y)
    with pytest.raises(ValueError, match="50 rows"):
        model.fit(X, y[:49])
    with pytest.raises(NotFittedError):
        model.predict(X)


def test_constant_images_and_two_rows():
    X = np.zeros((2, 1, 8, 8))
    model = AdversarialClassifier(eps=0.1, **FAST).fit(X, ["a", "b"])
    assert set(model.predict(X)) <= {"a", "b"}
    assert np.isfinite(model.predict_proba(X)).all()


def test_inside_scikit_learn(data, tmp_path):
    X, y = data[0][:120], data[1][:120]
    model = AdversarialClassifier(eps=0.1, **FAST)
    pipe = Pipeline([("noise", NoisyDataset(eps=0.1, random_state=0)), ("clf", model)])
    search = GridSearchCV(pipe, {"clf__eps": [0.05, 0.1]}, cv=2, error_score="raise")
    search.fit(X, y)
    copied = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(copied.predict(X), search.predict(X))
    assert attack_estimator(search, X, y, eps=0.1, n_steps=2).robust.shape == (120,)


def test_parts_of_the_time_add_up(data):
    X, y, _, _ = data
    model = AdversarialClassifier(eps=0.1, **FAST | {"n_steps": 10}).fit(X, y)
    for record in model.history_:
        parts = record["attack_seconds"] + record["update_seconds"]
        assert 0.5 * record["seconds"] < parts <= record["seconds"]
        assert record["attack_seconds"] > record["update_seconds"]


def test_verbose_prints_a_line_an_epoch(data, capsys):
    X, y, _, _ = data
    AdversarialClassifier(eps=0.1, verbose=1, **FAST).fit(X[:50], y[:50])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("[AdversarialClassifier] 2/2 epoch 1: stage 0, eps 0.1")
    assert re.search(
        r", train_loss \d.*, update_seconds [\d.e-]+ \(\d+\.\d s\)$", lines[1]
    )


def test_progress_bar(data):
    X, y = data[0][:50], data[1][:50]
    model = AdversarialClassifier(eps_stages=(0.1, 0.2), n_stage_epochs=1, **FAST)
    model.set_callbacks(ProgressBar())
    assert len(model.fit(X, y).history_) == 3


def test_random_state_none_resumes_with_the_seed_it_drew(data, tmp_path):
    X, y = data[0][:200], data[1][:200]
    parameters = FAST | {"random_state": None, "batch_size": 64}
    model = AdversarialClassifier(eps=0.1, checkpoint=str(tmp_path), **parameters)
    interrupted(model, X, y, 1)
    resumed = clone(model).fit(X, y)
    assert resumed.history_[0]["train_loss"] == model.history_[0]["train_loss"]
    whole = clone(resumed).set_params(checkpoint=None, random_state=0)
    assert n_weights_changed(whole.fit(X, y), resumed)


def test_checkpoints_of_other_fits_are_left_alone(data, tmp_path):
    X, y = data[0][:100], data[1][:100]
    model = AdversarialClassifier(
        eps=0.1, warm_start=True, checkpoint=str(tmp_path), **FAST
    )
    once = clone(model).fit(X, y)
    twice = clone(model).fit(X, y).fit(X, y)  # goes on, rather than load the first
    assert len(twice.history_) == 4
    assert n_weights_changed(once, twice)
    other = clone(model).set_params(eps=0.2).fit(X, y)
    assert n_weights_changed(once, other)


def test_adam_resumes_to_the_byte(data, tmp_path):
    X, y = data[0][:100], data[1][:100]
    net = linear_net(lr=0.01, optimizer=torch.optim.Adam)
    parameters = FAST | {"estimator": net, "eps": 0.1, "n_epochs": 3}
    model = AdversarialClassifier(checkpoint=str(tmp_path), **parameters)
    resumed = clone(interrupted(clone(model), X, y, 1)).fit(X, y)
    assert_same_weights(resumed, AdversarialClassifier(**parameters).fit(X, y))
