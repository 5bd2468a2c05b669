"""Training input of a wrong range, unit or axis order: noticed, or put right."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.utils.data import TensorDataset

from robustfit import (
    AdversarialClassifier,
    AdversarialNet,
    NoisyDataset,
    RobustAccuracyScorer,
    RobustDatasetLearner,
    RobustFeatureExtractor,
    ThreatModel,
    attack_estimator,
    check_gradient_masking,
)
from robustfit.exceptions import (
    BudgetUnitWarning,
    ChannelsLastWarning,
    CollapsedTrainingWarning,
    PixelRangeError,
)
from robustfit.nets import MLP, SmallCNN, default_classifier


@pytest.fixture(scope="module")
def flat(digits):
    X, y, _, _ = digits
    return X.reshape(len(X), -1), y


def small_net(**parameters):
    return AdversarialNet(
        MLP, module__n_features=64, module__hidden=(16,), verbose=0, max_epochs=1,
        n_steps=1, **parameters,
    )  # fmt: skip


class PairsOf255(torch.utils.data.Dataset):
    """Unscaled images that come one by one."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, row):
        return self.X[row] * 255, self.y[row]


@pytest.mark.parametrize("method", ["pgd", "trades", "fgsm", "free"])
def test_a_net_does_not_train_on_clipped_images(flat, method):
    X, y = flat
    net = small_net(method=method, train_split=None)
    wide = torch.tensor(255 * X)
    for given in (wide, 255 * X, TensorDataset(wide, torch.tensor(y)),
                  PairsOf255(X, y)):  # fmt: skip
        with pytest.raises(PixelRangeError, match=r"\[0, 255\].*X / 255"):
            net.fit(given, None if hasattr(given, "__getitem__") and not
                    hasattr(given, "shape") else y)  # fmt: skip
    net.fit(torch.tensor(X), y)
    assert net.set_params(clip_range=(0, 255), eps=8).fit(wide, y).initialized_


def test_a_net_does_not_validate_on_clipped_images(flat):
    from skorch.helper import predefined_split

    X, y = flat
    wide = TensorDataset(torch.tensor(255 * X), torch.tensor(y))
    net = small_net(train_split=predefined_split(wide))
    with pytest.raises(PixelRangeError, match=r"\[0, 255\]"):
        net.fit(X, y)


@pytest.mark.filterwarnings("ignore::robustfit.exceptions.CollapsedTrainingWarning")
@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (24, 16, 4)])
def test_channels_last_are_noticed(shape):
    X = np.random.default_rng(0).random((12, *shape), dtype=np.float32)
    y = np.arange(12) % 2
    model = AdversarialClassifier(estimator=MLP, n_epochs=1, n_steps=1)
    for estimator in (model, NoisyDataset()):
        with pytest.warns(ChannelsLastWarning, match=r"np.moveaxis\(X, -1, 1\)"):
            estimator.fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ChannelsLastWarning)
        model.fit(np.moveaxis(X, -1, 1), y)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 1), (3, 3, 3), (64, 8, 8)])
def test_channels_first_are_not(shape):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ChannelsLastWarning)
        NoisyDataset().fit(np.zeros((4, *shape)), [0, 1, 0, 1])


def test_unscaled_pixels_train_as_scaled_ones_do(digits):
    X, y, X_test, y_test = digits
    parameters = {"n_steps": 2, "n_epochs": 25, "random_state": 0}
    scaled = AdversarialClassifier(0.05, **parameters).fit(X, y)
    wide = AdversarialClassifier(0.05 * 255, clip_range=(0, 255), **parameters)
    wide.fit(255 * X, y)
    accuracy = scaled.score(X_test, y_test)
    assert accuracy > 0.7
    assert abs(wide.score(255 * X_test, y_test) - accuracy) < 0.05
    result = attack_estimator(
        wide, 255 * X_test, y_test, eps=0.05 * 255, clip_range=(0, 255)
    )
    expected = attack_estimator(scaled, X_test, y_test, eps=0.05)
    assert abs(result.robust_accuracy - expected.robust_accuracy) < 0.08


def test_a_learner_of_unscaled_pixels_chooses_as_one_of_scaled_ones(digits):
    X, y, _, _ = digits
    options = {"n_candidates": 2, "random_state": 0}
    scaled = RobustDatasetLearner(0.1, **options).fit(X, y)
    wide = RobustDatasetLearner(25.5, clip_range=(0, 255), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CollapsedTrainingWarning)
        wide.fit(255 * X, y)
    for record, expected in zip(wide.history_, scaled.history_, strict=True):
        accuracy = expected.get("natural_accuracy", 0)
        assert record.get("natural_accuracy", 0) == pytest.approx(accuracy, abs=0.1)
    np.testing.assert_allclose(wide.X_robust_ / 255, scaled.X_robust_, atol=1e-5)


def test_rewriters_train_their_source_on_unscaled_pixels(flat):
    X, y = flat
    extractor = RobustFeatureExtractor(
        eps=8, clip_range=(0, 255), n_steps=2, random_state=0
    )
    extractor.fit(255 * X, y)
    assert extractor.source_estimator_.score(255 * X, y) > 0.7


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_choice_by_chance_is_told(flat):
    X, y = flat
    net = default_classifier((64,), 10, max_epochs=1).set_params(lr=0.0)
    learner = RobustDatasetLearner(0.1, estimator=net, n_candidates=2, random_state=0)
    with pytest.warns(CollapsedTrainingWarning, match="chosen by chance"):
        learner.fit(X, y)


def test_default_nets_scale_wide_ranges_only():
    for value_range in (None, (0, 1), (-1, 1), (-0.42, 2.82)):
        net = default_classifier((1, 8, 8), 10, value_range=value_range)
        assert net.module is SmallCNN
    net = default_classifier((1, 8, 8), 10, value_range=(0, 255)).initialize()
    x = torch.rand(3, 1, 8, 8)
    inner = net.module_.net
    torch.testing.assert_close(net.module_(255 * x), inner(x))
    assert isinstance(inner, nn.Module)


@pytest.mark.parametrize(("norm", "eps", "clip_range", "advice"), [
    ("linf", 8, (0, 1), "any X into any other"),
    ("linf", 1.01, (0, 1), "any X into any other"),
    ("l2", 128, (0, 1), "any X into any other"),
    ("l1", 2000, (0, 1), "any X into any other"),
    ("linf", 8 / 255, (0, 255), "you may mean 8"),
    ("l2", 0.5, (0, 255), "you may mean 127.5"),
    ("linf", 8 / 255, (0, 16), "you may mean 0.502"),
])  # fmt: skip
def test_a_wrong_unit_of_the_budget_is_told(flat, norm, eps, clip_range, advice):
    X, y = flat
    X = X * clip_range[1]
    model = LogisticRegression(max_iter=50).fit(X, y)
    budget = {"norm": norm, "eps": eps, "clip_range": clip_range}
    with pytest.warns(BudgetUnitWarning, match=advice):
        attack_estimator(model, X[:5], y[:5], n_steps=1, **budget)
    with pytest.warns(BudgetUnitWarning, match=advice):
        RobustAccuracyScorer(n_steps=1, **budget)(model, X[:5], y[:5])
    with pytest.warns(BudgetUnitWarning, match=advice):
        check_gradient_masking(model, X[:5], y[:5], n_steps=1, n_queries=1, **budget)
    if norm != "l1":
        with pytest.warns(BudgetUnitWarning, match=advice):
            NoisyDataset(**budget).fit(X[:20], y[:20])


@pytest.mark.filterwarnings("ignore::robustfit.exceptions.CollapsedTrainingWarning")
def test_a_wrong_unit_of_a_stage_is_told(flat):
    X, y = flat
    model = AdversarialClassifier(
        eps_stages=(0.1, 8), estimator=MLP, n_epochs=1, n_stage_epochs=1, n_steps=1
    )
    with pytest.warns(BudgetUnitWarning, match="eps=8 in linf"):
        model.fit(X, y)


@pytest.mark.parametrize(("norm", "eps", "clip_range"), [
    ("linf", 8 / 255, (0, 1)), ("linf", 1, (0, 1)), ("linf", 0, (0, 255)),
    ("linf", 1, (0, 255)), ("linf", 8, (0, 255)), ("linf", 0.001, (0, 1)),
    ("linf", 0.1, (-0.42, 2.82)), ("l2", 2, (0, 1)), ("l2", 128, (0, 255)),
    ("l1", 12, (0, 1)), ("linf", 100, None), ("linf", 1e-9, None),
])  # fmt: skip
def test_right_units_are_not(norm, eps, clip_range):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ThreatModel(norm, eps, clip_range).warn_of_unit(np.zeros((2, 1, 8, 8)))


@pytest.mark.parametrize("fit", ["fit", "partial_fit"])
def test_a_wrong_unit_is_told_by_the_net_itself(flat, fit):
    X, y = flat
    tensors = torch.tensor(X), torch.tensor(y)
    for data in ((X, y), tensors, (TensorDataset(*tensors), None)):
        with pytest.warns(BudgetUnitWarning, match="eps=8 in linf"):
            getattr(small_net(eps=8.0, train_split=None), fit)(*data)
    with warnings.catch_warnings():
        warnings.simplefilter("error", BudgetUnitWarning)
        getattr(small_net(eps=0.1, train_split=None), fit)(X, y)
