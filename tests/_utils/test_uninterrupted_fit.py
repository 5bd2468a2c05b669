"""An interrupt leaves every natural training; a callback that stops one does not."""

import pytest
import skorch
import torch
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback
from torch import nn

from robustfit import (
    AdversarialDataset,
    AdversarialRelabeler,
    NoisyDataset,
    RobustFeatureExtractor,
    RobustifiedClassifier,
)
from robustfit._utils.uninterrupted_fit import fit_uninterrupted


class Interrupted(nn.Module):
    """A net whose n-th forward pass meets Ctrl-C."""

    calls_left = 5

    def __init__(self, n_features=64):
        super().__init__()
        self.linear = nn.Linear(n_features, 10)

    def forward(self, x):
        Interrupted.calls_left -= 1
        if Interrupted.calls_left == 0:
            raise KeyboardInterrupt
        return self.linear(x.flatten(1))


class Stop(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise KeyboardInterrupt  # skorch's way to end a training


def net(**settings):
    return skorch.NeuralNetClassifier(
        Interrupted, criterion=nn.CrossEntropyLoss, max_epochs=4, train_split=None,
        verbose=0, batch_size=50, **settings,
    )  # fmt: skip


@pytest.fixture
def flat(digits):
    X, y, _, _ = digits
    return X.reshape(len(X), -1)[:100], y[:100]


@pytest.mark.parametrize("calls", [1, 3, 5])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_an_interrupt_leaves(flat, monkeypatch, calls, method):
    monkeypatch.setattr(Interrupted, "calls_left", calls)
    for estimator in (net(), make_pipeline(FunctionTransformer(), net())):
        if method == "partial_fit" and not isinstance(estimator, skorch.NeuralNet):
            continue
        Interrupted.calls_left = calls
        with pytest.raises(KeyboardInterrupt):
            fit_uninterrupted(estimator, *flat, method=method)
    assert not any("fit_loop" in vars(n) for n in (estimator,))


def test_a_callback_ends_the_training_only(flat, monkeypatch):
    monkeypatch.setattr(Interrupted, "calls_left", -1)
    fitted = fit_uninterrupted(net(callbacks=[("stop", Stop())]), *flat)
    assert len(fitted.history) == 2
    assert "fit_loop" not in vars(fitted)


def test_the_same_weights_as_fit(flat, monkeypatch):
    monkeypatch.setattr(Interrupted, "calls_left", -1)
    weights = []
    for fit in (fit_uninterrupted, lambda estimator, X, y: estimator.fit(X, y)):
        torch.manual_seed(0)
        weights.append(fit(net(), *flat).module_.linear.weight.detach())
    assert torch.equal(*weights)
    model = fit_uninterrupted(LogisticRegression(max_iter=20), *flat)
    assert model.predict(flat[0][:1]).shape == (1,)


@pytest.mark.parametrize("robustifier", [
    AdversarialDataset(estimator=net(), n_steps=1),
    AdversarialRelabeler(estimator=net(), n_steps=1),
    RobustFeatureExtractor(estimator=net(), n_steps=1),
], ids=lambda robustifier: type(robustifier).__name__)  # fmt: skip
def test_robustifiers_are_left_without_a_source(flat, monkeypatch, robustifier):
    monkeypatch.setattr(Interrupted, "calls_left", 5)
    with pytest.raises(KeyboardInterrupt):
        robustifier.fit(*flat)
    assert not hasattr(robustifier, "estimator_")
    assert not hasattr(robustifier, "source_estimator_")


@pytest.mark.parametrize("fine_tune", [False, True])
def test_a_robustified_classifier_is_not_fitted_then(flat, monkeypatch, fine_tune):
    model = RobustifiedClassifier(NoisyDataset(), net(), fine_tune=fine_tune)
    monkeypatch.setattr(Interrupted, "calls_left", -1)
    model.fit(*flat)
    Interrupted.calls_left = 5
    with pytest.raises(KeyboardInterrupt):
        model.fit(*flat)
    with pytest.raises(NotFittedError):
        model.predict(flat[0])


@pytest.mark.parametrize("robustifier", [LogisticRegression(), None, "noise"])
def test_what_is_no_robustifier_is_refused_before_its_fit(flat, robustifier):
    with pytest.raises(TypeError, match=r"expected a robustifier, whose fit learns"):
        RobustifiedClassifier(robustifier, LogisticRegression()).fit(*flat)
    with pytest.raises(TypeError, match="expected a robustifier"):
        RobustifiedClassifier(FunctionTransformer(), LogisticRegression()).fit(*flat)
