import warnings

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    StandardScaler,
)
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from robustfit import RobustDatasetLearner, TorchClassifier, as_torch
from robustfit.exceptions import NotDifferentiableError


@pytest.fixture(scope="module")
def flat(digits):
    X, y, _, _ = digits
    return X.reshape(len(X), -1), y


def probabilities(estimator, X):
    with torch.no_grad():
        return as_torch(estimator)(torch.tensor(X)).softmax(1).numpy()


@pytest.mark.parametrize("n_classes", [2, 10])
@pytest.mark.parametrize("scaler", [StandardScaler(), MinMaxScaler(), MaxAbsScaler(), StandardScaler(with_mean=False), StandardScaler(with_std=False), "passthrough"])  # fmt: skip  # noqa: E501
@pytest.mark.parametrize("activation", [None, "relu", "tanh", "logistic", "identity"])
def test_agrees_with_predict_proba(flat, n_classes, scaler, activation):
    X, y = flat
    X, y = X[y < n_classes], y[y < n_classes]
    if activation is None:
        final = LogisticRegression(max_iter=50)
    else:
        final = MLPClassifier((8,), activation=activation, max_iter=3, random_state=0)
    model = _quiet_fit(make_pipeline(scaler, final), X, y)
    expected = model.predict_proba(X)
    np.testing.assert_allclose(probabilities(model, X), expected, atol=1e-5)


def _quiet_fit(model, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y)


def test_labels_become_columns(flat):
    X, y = flat
    names = np.array(list("jihgfedcba"))[y]
    classifier = as_torch(LogisticRegression(max_iter=20).fit(X, names))
    columns = classifier.encode(["a", "j", "zz"])
    assert columns.tolist() == [0, 9, -1]


class Probabilities(nn.Module):
    def __init__(self, functional):
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.softmax = nn.Softmax(dim=1)
        self.functional = functional

    def forward(self, x):
        logits = self.linear(x)
        return logits.softmax(1) if self.functional else self.softmax(logits)


@pytest.mark.parametrize("functional", [False, True])
def test_skorch_logits_behind_nll_loss(flat, functional):
    X, y = flat
    net = NeuralNetClassifier(
        Probabilities, module__functional=functional, max_epochs=2, verbose=0, lr=0.1
    ).fit(X, y)
    np.testing.assert_allclose(probabilities(net, X), net.predict_proba(X), atol=1e-5)
    if not functional:  # recovered from before the softmax, not its rounded log
        logits = as_torch(net)(torch.tensor(X))
        torch.testing.assert_close(logits, net.module_.linear(torch.tensor(X)))


def test_saturated_probabilities_keep_their_gradient(flat):
    X, _ = flat
    net = NeuralNetClassifier(Probabilities, module__functional=False, verbose=0)
    net.initialize()
    with torch.no_grad():
        net.module_.linear.weight.mul_(1e4)
    x = torch.tensor(X[:20]).requires_grad_(True)
    logits = as_torch(net)(x)
    nn.functional.cross_entropy(logits, 1 - logits.argmax(1).clamp(0, 1)).backward()
    assert (x.grad.abs().sum(1) > 0).any()


def test_skorch_binary_net(flat):
    X, y = flat
    X, y = X[y < 2], y[y < 2].astype(np.float32)
    net = NeuralNetBinaryClassifier(
        nn.Linear, module__in_features=64, module__out_features=1, verbose=0, lr=0.1
    ).fit(X, y)
    np.testing.assert_allclose(probabilities(net, X), net.predict_proba(X), atol=1e-5)


def test_skorch_net_with_cross_entropy(digits, fitted_net):
    _, _, X, _ = digits
    expected = fitted_net.predict_proba(X)
    fitted_net.module_.eval()
    np.testing.assert_allclose(probabilities(fitted_net, X), expected, atol=1e-5)


def test_search_and_module_and_itself(flat):
    X, y = flat
    search = GridSearchCV(LogisticRegression(max_iter=20), {"C": [0.1, 1]}, cv=2)
    search = _quiet_fit(search, X, y)
    np.testing.assert_allclose(
        probabilities(search, X), search.predict_proba(X), atol=1e-5
    )
    module = nn.Linear(64, 10)
    wrapped = as_torch(module)
    assert as_torch(wrapped) is wrapped
    torch.testing.assert_close(wrapped(torch.tensor(X)), module(torch.tensor(X)))


def test_search_without_refit_is_refused(flat):
    X, y = flat
    search = GridSearchCV(
        LogisticRegression(max_iter=20), {"C": [1]}, cv=2, refit=False
    )
    with pytest.raises((NotDifferentiableError, NotFittedError)):
        as_torch(_quiet_fit(search, X, y))


def test_robustifier_step_is_the_identity(flat):
    X, y = flat
    model = make_pipeline(
        RobustDatasetLearner(n_candidates=1, random_state=0),
        LogisticRegression(max_iter=20),
    )
    model = _quiet_fit(model, X, y)
    np.testing.assert_allclose(
        probabilities(model, X), model.predict_proba(X), atol=1e-5
    )


def test_errors_name_the_step_and_the_way_out(flat):
    X, y = flat
    forest = RandomForestClassifier(n_estimators=2).fit(X, y)
    with pytest.raises(NotDifferentiableError, match="RandomForestClassifier has no"):
        as_torch(forest)
    model = _quiet_fit(make_pipeline(KBinsDiscretizer(2), LogisticRegression()), X, y)
    with pytest.raises(NotDifferentiableError, match="Step 'kbinsdiscretizer' of"):
        as_torch(model)
    model = make_pipeline(StandardScaler(), RandomForestClassifier(2)).fit(X, y)
    with pytest.raises(NotDifferentiableError, match="Step 'randomforestclassifier'"):
        as_torch(model)
    clipping = _quiet_fit(
        make_pipeline(MinMaxScaler(clip=True), LogisticRegression()), X, y
    )
    with pytest.raises(NotDifferentiableError, match="clip=False"):
        as_torch(clipping)


@pytest.mark.parametrize(
    "estimator", [LogisticRegression(), MLPClassifier(), make_pipeline(StandardScaler(), LogisticRegression()), NeuralNetClassifier(nn.Linear)],  # noqa: E501
    ids=lambda e: type(e).__name__,
)  # fmt: skip
def test_unfitted_estimators_are_refused(estimator):
    with pytest.raises(NotFittedError):
        as_torch(estimator)


def test_frozen_and_back():
    net = nn.Sequential(nn.Linear(3, 2), nn.Dropout()).train()
    net[0].bias.requires_grad_(False)
    classifier = as_torch(net)
    with classifier.frozen() as frozen:
        assert frozen is classifier
        assert not net.training
        assert not any(p.requires_grad for p in net.parameters())
    assert net.training
    with pytest.raises(RuntimeError, match="shapes"), classifier.frozen():
        classifier(torch.rand(2, 5))
    assert net.training
    assert [p.requires_grad for p in net.parameters()] == [True, False]


def test_logits_of_arrays_and_tensors_in_batches():
    net = nn.Sequential(nn.Linear(3, 2), nn.Dropout()).train()
    classifier = as_torch(net)
    x = torch.rand(7, 3)
    expected = net[0](x)  # no dropout: prediction is in eval mode
    for X in (x, x.numpy(), x.double().numpy()):
        for batch_size in (1, 3, 100):
            logits = classifier.logits(X, batch_size)
            assert not logits.requires_grad
            torch.testing.assert_close(logits, expected.detach())
    assert net.training
    assert (
        classifier.with_module(nn.Identity()).logits(x.double()).dtype
        == x.double().dtype
    )


def test_columns_where_logits_are_finite():
    rows = [[0.0, 2.0, 1.0], [np.nan, 0.0, 0.0], [5.0, np.inf, 0.0], [3.0, 0.0, 0.0]]
    columns = as_torch(nn.Identity()).columns(np.array(rows), batch_size=3)
    assert columns.tolist() == [1, -2, -2, 0]
    assert columns.dtype == np.int64


def test_another_module_and_all_else_the_same():
    classifier = TorchClassifier(
        nn.Identity(), ["a", "b"], "meta", softmax_is_probability=True
    )
    other = classifier.with_module(nn.Flatten())
    assert isinstance(other.module, nn.Flatten)
    assert other.classes.tolist() == ["a", "b"]
    assert other.device.type == "meta"
    assert other.softmax_is_probability
    assert other.with_module(other.module, classes=None).classes is None
    renamed = other.with_module(other.module, classes=["c", "d"])
    assert renamed.classes.tolist() == ["c", "d"]
    assert renamed.softmax_is_probability
