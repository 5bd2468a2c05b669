"""Traps of skorch that users fall into, and what robustfit does about each."""

import numpy as np
import pytest
from sklearn.pipeline import Pipeline
from skorch import NeuralNetClassifier
from skorch.callbacks import EpochScoring
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from torch import nn

from robustfit import (
    AdversarialClassifier,
    AdversarialNet,
    RobustAccuracyScorer,
    RobustDatasetLearner,
    RobustifiedClassifier,
    attack_estimator,
)
from robustfit.nets import MLP, default_classifier


def test_float64_pixels_reach_the_net_as_float32(digits):
    X, y, _, _ = digits
    pipe = Pipeline([
        ("robustify", RobustDatasetLearner(n_candidates=1, random_state=0)),
        ("clf", default_classifier((1, 8, 8), 10, max_epochs=1)),
    ])  # fmt: skip
    X = X.astype(np.float64)
    assert pipe.fit(X, y).predict(X).shape == (len(X),)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.float64, str])
def test_labels_of_any_type(digits, dtype):
    X, y, _, _ = digits
    net = default_classifier((1, 8, 8), 10, max_epochs=1)
    learner = RobustDatasetLearner(n_candidates=1, random_state=0)
    model = RobustifiedClassifier(learner, net).fit(X, y.astype(dtype))
    assert set(model.predict(X)) <= set(y.astype(dtype))


def test_classes_that_do_not_start_at_zero(digits):
    # skorch predicts the column, not classes_[column].
    X, y, _, _ = digits
    keep = np.isin(y, (3, 7))
    learner = RobustDatasetLearner(n_candidates=1, random_state=0)
    net = default_classifier((1, 8, 8), 2, max_epochs=20)
    model = RobustifiedClassifier(learner, net, random_state=0).fit(X[keep], y[keep])
    assert model.score(X[keep], y[keep]) > 0.9
    result = attack_estimator(model, X[keep], y[keep], eps=0.01)
    assert result.natural_accuracy == model.score(X[keep], y[keep])


def test_a_net_left_in_train_mode_is_attacked_in_eval_mode(digits):
    class Dropout(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.9),
                nn.Linear(64, 10),
            )  # fmt: skip

        def forward(self, x):
            return self.layers(x)

    X, y, _, _ = digits
    net = NeuralNetClassifier(
        Dropout, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0,
        max_epochs=30, lr=0.1,
    ).fit(X, y)  # fmt: skip
    net.module_.train()
    result = attack_estimator(net, X, y, eps=0.01, n_steps=2)
    assert result.natural_accuracy == net.score(X, y)
    net.module_.train()
    attack_estimator(net, X, y, eps=0.01, n_steps=2)
    assert net.module_.training


def test_scorer_inside_epoch_scoring(digits):
    X, y, _, _ = digits
    scorer = RobustAccuracyScorer(eps=0.05, n_steps=3)
    net = default_classifier((1, 8, 8), 10, max_epochs=3)
    net.set_params(
        train_split=predefined_split(Dataset(X[300:], y[300:])),
        callbacks=[
            # use_caching=False: cached predictions are those of clean images
            EpochScoring(
                lambda net, ds, y: scorer(net, X[300:], digits[1][300:]),
                name="robust_acc", use_caching=False, lower_is_better=False,
            )
        ],
    )  # fmt: skip
    net.fit(X[:300], y[:300])
    last = net.history[-1, "robust_acc"]
    assert last == scorer(net, X[300:], y[300:])


def test_adversarial_classifier_casts_shuffles_and_names_its_labels(digits):
    # nothing is cast, nothing is shuffled and the index is predicted in skorch alone
    X, y, _, _ = digits
    order = np.argsort(y, kind="stable")  # one class after another
    labels = np.array([f"digit {label}" for label in y[order]])
    model = AdversarialClassifier(
        eps=0.02, n_steps=1, n_epochs=30, image_shape=(1, 8, 8), random_state=0
    ).fit(X[order].reshape(-1, 64).astype(np.float64), labels)
    flat = X[order].reshape(-1, 64)
    assert set(model.predict(flat)) <= set(labels)
    assert model.score(flat, labels) > 0.8


@pytest.mark.parametrize("method", ["pgd", "trades", "free"])
def test_a_compiled_adversarial_net_learns(digits, method):
    # with NLLLoss, compile=True hides the criterion's type; cross-entropy needs none
    X, y, _, _ = digits
    net = AdversarialNet(
        MLP, module__n_features=64, method=method, n_steps=1, eps=0.02, lr=0.3,
        max_epochs=8, train_split=None, verbose=0, compile=True,
        compile__backend="eager", iterator_train__shuffle=True,
    ).fit(X, y)  # fmt: skip
    assert net.history[-1, "train_loss"] < net.history[0, "train_loss"]
    assert not net.module_.training


def test_cached_validation_accuracy_is_that_under_attack(digits):
    X, y, X_test, y_test = digits
    net = AdversarialNet(
        MLP, module__n_features=64, n_steps=10, eps=0.1, lr=0.3, max_epochs=8,
        train_split=predefined_split(Dataset(X_test, y_test)), verbose=0,
        iterator_train__shuffle=True,
    )  # fmt: skip
    net.fit(X, y)
    attacked = attack_estimator(net, X_test, y_test, eps=0.1, n_steps=10)
    measured = net.history[-1, "valid_acc"]
    assert measured < attacked.natural_accuracy - 0.1
    # training's attack may pass over a success that an evaluation keeps
    assert measured == pytest.approx(attacked.robust_accuracy, abs=0.06)


def test_the_graph_that_trades_needs(digits):
    # infer keeps the graph, forward does not: the update must have a gradient
    X, y, _, _ = digits
    model = AdversarialClassifier(
        eps=0.05, method="trades", n_steps=1, n_epochs=1, n_warmup_epochs=0,
        random_state=0,
    )  # fmt: skip
    start = AdversarialClassifier(
        eps=0.05, method="trades", n_steps=1, n_epochs=1, n_warmup_epochs=0,
        random_state=0, estimator=default_classifier((1, 8, 8), 10).set_params(lr=0.0),
    ).fit(X, y)  # fmt: skip
    moved = [
        float((a - b).abs().max())
        for a, b in zip(
            model.fit(X, y).net_.module_.parameters(),
            start.net_.module_.parameters(),
            strict=True,
        )
    ]
    assert min(moved) > 0
