"""What a reasonable user does and what no library expects: it works, or says why."""

import numpy as np
import pytest
import sklearn
import skorch
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from skorch.callbacks import EarlyStopping
from torch import nn
from torch.utils.data import TensorDataset

from robustfit import (
    AdversarialClassifier,
    AdversarialNet,
    AdversarialRelabeler,
    GammaCorrect,
    NoisyDataset,
    RobustAccuracyScorer,
    RobustDatasetLearner,
    RobustifiedClassifier,
    attack_estimator,
)
from robustfit._utils.training_batches import LoaderWithoutLoneRow, split_rows
from robustfit.attacks import PGD, Attack, AutoAttack, Square
from robustfit.nets import MLP, default_classifier


class BatchNormed(nn.Module):
    def __init__(self, n_features=64, n_classes=10):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, 16), nn.BatchNorm1d(16), nn.ReLU(),
            nn.Linear(16, n_classes),
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x)


class OneOutput(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 1)

    def forward(self, x):
        return self.layer(x).squeeze(-1)


@pytest.fixture(scope="module")
def flat(digits):
    X, y, _, _ = digits
    return X.reshape(len(X), -1), y


def quick_net(module=MLP, **parameters):
    return default_classifier((64,), 10, max_epochs=2).set_params(
        module=module, **parameters
    )


# One row more than two batches of 128.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fit", [
    lambda X, y: AdversarialClassifier(estimator=BatchNormed, n_epochs=2, n_steps=1),
    lambda X, y: AdversarialClassifier(
        estimator=quick_net(BatchNormed), method="free", n_epochs=2),
    lambda X, y: AdversarialNet(
        BatchNormed, verbose=0, max_epochs=2, train_split=None, n_steps=1),
    lambda X, y: RobustDatasetLearner(estimator=quick_net(BatchNormed)),
    lambda X, y: RobustDatasetLearner(
        estimator=quick_net(BatchNormed), protocol="fine-tune", n_rounds=2,
        soft_labels=True),
    lambda X, y: RobustifiedClassifier(NoisyDataset(), quick_net(BatchNormed)),
    lambda X, y: AdversarialRelabeler(estimator=quick_net(BatchNormed)),
])  # fmt: skip
def test_batch_norm_where_one_row_is_left_over(flat, fit):
    X, y = flat[0][:257], flat[1][:257]
    fit(X, y).fit(X, y)


@pytest.mark.parametrize(("n", "expected"), [
    (9, [4, 5]), (8, [4, 4]), (10, [4, 4, 2]), (1, [1]), (5, [5]),
])  # fmt: skip
def test_a_row_left_over_joins_the_batch_before(n, expected):
    x = torch.arange(n)
    batches = list(LoaderWithoutLoneRow(TensorDataset(x, -x), batch_size=4))
    assert [len(part) for part, _ in batches] == expected
    assert torch.cat([part for part, _ in batches]).tolist() == x.tolist()
    assert torch.cat([part for _, part in batches]).tolist() == (-x).tolist()
    parts = split_rows(x, 4)
    assert [len(part) for part in parts] == expected
    assert torch.cat(parts).tolist() == x.tolist()


def test_other_loaders_are_left_alone():
    x = TensorDataset(torch.arange(9))
    ones = list(LoaderWithoutLoneRow(x, batch_size=1))
    assert [len(part) for (part,) in ones] == [1] * 9
    assert len(list(LoaderWithoutLoneRow(x, batch_size=4, drop_last=True))) == 2
    named = LoaderWithoutLoneRow({i: {"x": i} for i in range(5)}, batch_size=4)
    assert [batch["x"].tolist() for batch in named] == [[0, 1, 2, 3, 4]]


def test_a_net_for_two_classes_in_a_robustified_classifier(flat):
    X, y = flat
    words = np.where(y > 4, "high", "low")
    net = skorch.NeuralNetBinaryClassifier(
        OneOutput, train_split=None, verbose=0, max_epochs=20, lr=0.1
    )
    model = RobustifiedClassifier(NoisyDataset(random_state=0), net, random_state=0)
    model.fit(X, words)
    assert model.score(X, words) > 0.75
    result = attack_estimator(model, X[:50], words[:50], eps=0.02)
    assert result.natural_accuracy == model.score(X[:50], words[:50])
    assert result.robust_accuracy < result.natural_accuracy
    with pytest.raises(ValueError, match="two classes apart; y has 10"):
        model.fit(X, y)
    soft = RobustDatasetLearner(
        eps=0.02, soft_labels=True, n_candidates=1, random_state=0,
        estimator=quick_net(module__n_classes=2),
    )  # fmt: skip
    fitted = RobustifiedClassifier(soft, net, random_state=0).fit(X, words)
    assert fitted.score(X, words) > 0.7


def test_a_plain_skorch_net_in_a_robustified_classifier(flat):
    X, y = flat
    net = skorch.NeuralNet(
        MLP, module__n_features=64, module__n_classes=10, train_split=None, lr=0.1,
        criterion=nn.CrossEntropyLoss, verbose=0, max_epochs=30, batch_size=32,
    )  # fmt: skip
    model = RobustifiedClassifier(NoisyDataset(eps=0.01, random_state=0), net)
    assert model.fit(X, y).score(X, y) > 0.8


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [
    {}, {"train_split": None}, {"protocol": "fine-tune"},
])  # fmt: skip
def test_a_plain_skorch_net_in_a_learner(flat, options):
    X, y = flat
    protocol = options.pop("protocol", "scratch")
    net = skorch.NeuralNet(
        MLP, module__n_features=64, module__n_classes=10, verbose=0, max_epochs=2,
        criterion=nn.CrossEntropyLoss, **options,
    )  # fmt: skip
    learner = RobustDatasetLearner(
        eps=0.1, estimator=net, n_rounds=1, protocol=protocol, random_state=0
    )
    assert learner.fit(X, y).X_robust_.shape == X.shape


@pytest.mark.parametrize("callback", [
    EarlyStopping(), EarlyStopping, ("stop", EarlyStopping(monitor="train_loss")),
])  # fmt: skip
def test_skorchs_early_stopping_is_named(flat, callback):
    net = quick_net(callbacks=[callback])
    with pytest.raises(ValueError, match="early_stopping=True"):
        AdversarialClassifier(estimator=net, n_epochs=1).fit(*flat)


@pytest.mark.parametrize("attack", [PGD, AutoAttack, Attack])
def test_the_class_of_an_attack_is_no_attack(flat, attack):
    X, y = flat
    model = LogisticRegression(max_iter=500).fit(X, y)
    message = rf"the class {attack.__name__}; expected an attack, say {attack.__name__}"
    for run in (
        lambda: attack_estimator(model, X, y, attack=attack),
        lambda: RobustAccuracyScorer(attack)(model, X, y),
    ):
        with pytest.raises(TypeError, match=message):
            run()


@pytest.mark.parametrize("attack", ["pgd", "autoattack", "square", Square(), "fab"])
def test_without_a_budget_nothing_is_searched(flat, attack, monkeypatch):
    X, y = flat
    model = LogisticRegression(max_iter=20).fit(X, y)

    def fail(*args, **kwargs):
        raise AssertionError("it searched")

    monkeypatch.setattr("robustfit.evaluation.attacking.attack_in_chunks", fail)
    result = attack_estimator(model, X, y, attack=attack, eps=0)
    np.testing.assert_array_equal(result.X_adv, X)
    np.testing.assert_array_equal(result.robust, result.natural_correct)
    for alive in result.robust_after.values():
        np.testing.assert_array_equal(alive, result.natural_correct)
    assert bool(result.robust_after) == (attack == "autoattack")


@pytest.mark.filterwarnings("ignore")
def test_data_frames_as_the_output_of_transformers(digits, flat):
    pytest.importorskip("pandas")
    images, (X, y) = digits[0], flat
    with sklearn.config_context(transform_output="pandas"):
        for classifier in (LogisticRegression(max_iter=300), quick_net()):
            model = RobustifiedClassifier(NoisyDataset(random_state=0), classifier)
            assert model.fit(X, y).predict(X).shape == y.shape
            assert attack_estimator(model, X[:9], y[:9], eps=0.1).n_samples == 9
        net = default_classifier((1, 8, 8), 10, max_epochs=1)
        model = RobustifiedClassifier(NoisyDataset(random_state=0), net)
        assert model.fit(images, y).predict(images).shape == y.shape
        for transformer in (NoisyDataset(random_state=0), GammaCorrect(2.0)):
            assert type(transformer.fit_transform(images, y)) is np.ndarray
            assert type(transformer.transform(images)) is np.ndarray
            assert list(transformer.fit_transform(X, y).columns[:2]) == ["x0", "x1"]
        chain = make_pipeline(NoisyDataset(), LogisticRegression(max_iter=300))
        assert chain.fit(X, y).predict(X).shape == y.shape


def test_images_have_no_names_of_columns(digits, flat):
    fitted = NoisyDataset().fit(digits[0], digits[1])
    assert not hasattr(fitted, "get_feature_names_out")
    assert len(fitted.fit(*flat).get_feature_names_out()) == 64
    shaped = NoisyDataset(image_shape=(1, 8, 8)).fit(*flat)
    assert len(shaped.get_feature_names_out()) == 64


@pytest.mark.parametrize("image_shape", [None, (1, 8, 8)])
@pytest.mark.parametrize("kind", [GammaCorrect, NoisyDataset])
def test_images_are_no_data_frames(digits, kind, image_shape):
    images, y, _, _ = digits
    settings = {"gamma": 2.0} if kind is GammaCorrect else {"random_state": 0}
    transformer = kind(**settings, image_shape=image_shape)
    expected = kind(**settings, image_shape=image_shape).fit_transform(images, y)
    # Without pandas installed scikit-learn raises where it would make a frame.
    with sklearn.config_context(transform_output="pandas"):
        if kind is GammaCorrect:  # works without fit
            np.testing.assert_array_equal(transformer.transform(images), expected)
        np.testing.assert_array_equal(transformer.fit_transform(images, y), expected)
        assert type(transformer.transform(images)) is np.ndarray
        flat_first = kind(**settings, image_shape=(1, 8, 8))
        flat_first.fit(images.reshape(len(images), -1), y)
        assert type(flat_first.transform(images)) is np.ndarray
