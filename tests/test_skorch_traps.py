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
    RobustAccuracyScorer,
    RobustDatasetLearner,
    RobustifiedClassifier,
    attack_estimator,
)
from robustfit.nets import default_classifier


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
