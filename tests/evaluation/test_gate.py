"""What every tool refuses, and what every tool takes."""

import copy
import warnings

import numpy as np
import pytest
import skorch
import torch
from sklearn.decomposition import PCA
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from torch import nn

from robustfit import (
    LossLandscapeDisplay,
    RobustAccuracyScorer,
    RobustnessReport,
    SaliencyDisplay,
    TorchClassifier,
    as_torch,
    attack_estimator,
    check_gradient_masking,
    minimal_distances,
    security_curve,
    transferability_matrix,
)
from robustfit.attacks import AutoAttack
from robustfit.exceptions import NotDifferentiableError, RobustnessWarning

EPS = 0.05


@pytest.fixture(scope="module")
def flat(digits):
    X, y, X_test, y_test = digits
    return X.reshape(len(X), -1), y, X_test.reshape(len(X_test), -1)[:40], y_test[:40]


@pytest.fixture(scope="module")
def logistic(flat):
    return LogisticRegression(max_iter=200).fit(flat[0], flat[1])


class Net(nn.Module):
    """A net of one layer, whose output ``out`` changes."""

    def __init__(self, weights, out=lambda logits: logits):
        super().__init__()
        self.linear = nn.Linear(*weights.shape[::-1])
        self.linear.weight.data = weights.clone()
        nn.init.zeros_(self.linear.bias)
        self.out = out

    def forward(self, x):
        return self.out(self.linear(x.flatten(1)))


@pytest.fixture
def weights(logistic):
    return torch.tensor(logistic.coef_, dtype=torch.float32)


TOOLS = {
    "attack": lambda m, X, y: attack_estimator(m, X, y, eps=EPS),
    "square": lambda m, X, y: attack_estimator(m, X, y, eps=EPS, attack="square"),
    "predicted": lambda m, X, y: attack_estimator(m, X, y, labels="predicted"),
    "scorer": lambda m, X, y: RobustAccuracyScorer(eps=EPS)(m, X, y),
    "distances": lambda m, X, y: minimal_distances(m, X, y, n_steps=3),
    "curve": lambda m, X, y: security_curve(m, X, y, n_steps=3),
    "masking": lambda m, X, y: check_gradient_masking(
        m, X, y, eps=EPS, n_steps=2, n_queries=3
    ),
    "transfer": lambda m, X, y: transferability_matrix([m], X, y, eps=EPS),
    "saliency": lambda m, X, y: SaliencyDisplay.from_estimators(
        m, X[:2], y[:2], image_shape=(1, 8, 8)
    ),
    "landscape": lambda m, X, y: LossLandscapeDisplay.from_input(
        m, X[0], y[0], eps=EPS, n_points=3
    ),
    "line": lambda m, X, y: LossLandscapeDisplay.from_estimators(
        m, m, X, y, eps=[EPS], n_points=2, n_steps=2
    ),
}
tools = pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)


@tools
@pytest.mark.parametrize("change", [str, lambda y: y + 0.5, lambda y: y * np.nan])
def test_labels_of_another_type_are_refused_by_all(logistic, flat, tool, change):
    _, _, X, y = flat
    y = y.astype(str) if change is str else change(y)
    with pytest.raises(ValueError, match=r"y holds the label .* the model's classes"):
        tool(logistic, X, y)


@tools
@pytest.mark.parametrize("classes", ["0123456789", "abcdefghij"])
def test_numbers_for_words_are_refused_by_all(flat, tool, classes):
    X, y, X_test, y_test = flat
    model = LogisticRegression(max_iter=20).fit(X, np.array(list(classes))[y])
    with pytest.raises(ValueError, match=r"y holds the label \d of type int64"):
        tool(model, X_test, y_test)


@tools
@pytest.mark.parametrize("shift", [10, -10])
def test_labels_beyond_the_outputs_are_refused_by_all(weights, flat, tool, shift):
    _, _, X, y = flat
    with pytest.raises(ValueError, match="and the model has 10 outputs"):
        tool(Net(weights), X, y + shift)


def test_words_for_the_columns_of_a_net_are_refused(weights, flat):
    _, _, X, y = flat
    words = np.array(["zero", "one", "two", "three", "four"])[y % 5]
    with pytest.raises(ValueError, match="expected whole numbers 0, 1, 2"):
        attack_estimator(Net(weights), X, words)
    with pytest.raises(ValueError, match="label -1, and the model has 2 outputs"):
        attack_estimator(Net(weights[:2]), X, np.where(y % 2, 1, -1))


@pytest.mark.parametrize("change", [float, object, list])
def test_labels_of_the_same_value_give_the_same(logistic, weights, flat, change):
    _, _, X, y = flat
    other = y.tolist() if change is list else y.astype(change)
    for model in (logistic, Net(weights)):
        expected = attack_estimator(model, X, y, eps=EPS)
        found = attack_estimator(model, X, other, eps=EPS)
        np.testing.assert_array_equal(found.X_adv, expected.X_adv)
        np.testing.assert_array_equal(found.robust, expected.robust)


def test_lists_of_words_and_bools(flat):
    X, y, X_test, y_test = flat
    names = np.array(["even", "odd"])
    words = LogisticRegression(max_iter=200).fit(X, names[y % 2].tolist())
    bools = LogisticRegression(max_iter=200).fit(X, y % 2 == 1)
    found = [
        attack_estimator(words, X_test, names[y_test % 2].tolist(), eps=EPS),
        attack_estimator(words, X_test, names[y_test % 2].astype(object), eps=EPS),
        attack_estimator(bools, X_test, y_test % 2 == 1, eps=EPS),
        attack_estimator(bools, X_test, y_test % 2, eps=EPS),
    ]
    for result in found:
        np.testing.assert_array_equal(result.robust, found[0].robust)
    assert 0 < found[0].robust_accuracy < 1


@pytest.fixture(scope="module")
def nine(flat):
    """A model that has not seen nines."""
    X, y, _, _ = flat
    return LogisticRegression(max_iter=200).fit(X[y < 9], y[y < 9])


def test_unseen_labels_are_wrong(nine, flat):
    _, _, X, y = flat
    unseen = y == 9
    assert unseen.any()
    result = attack_estimator(nine, X, y, eps=EPS)
    assert result.natural_accuracy == nine.score(X, y)
    distances = minimal_distances(nine, X, y, n_steps=5)
    assert (distances[unseen] == 0).all()
    rest = minimal_distances(nine, X[~unseen], y[~unseen], n_steps=5)
    np.testing.assert_allclose(distances[~unseen], rest, rtol=1e-4)
    curve = security_curve(nine, X, y, eps=[0, 0.1], n_steps=5)
    assert curve.accuracy[0] == nine.score(X, y)
    transfer = transferability_matrix([nine], X, y, eps=EPS)
    assert transfer.target_accuracy[0] == nine.score(X, y)
    np.testing.assert_array_equal(security_curve(nine, X[unseen], y[unseen]).distances,
                                  np.zeros(unseen.sum()))  # fmt: skip


def test_masking_leaves_unseen_labels_out(nine, flat):
    _, _, X, y = flat
    options = {"eps": EPS, "n_steps": 5, "n_queries": 10, "baseline": nine}
    report = check_gradient_masking(nine, X, y, **options)
    assert report["AutoAttack raises no flag"].passed
    assert report["gradients stay on right samples"].passed is not False
    none = check_gradient_masking(nine, X[y == 9], y[y == 9], **options)
    assert none["gradients stay on right samples"].passed is None


@pytest.mark.parametrize("tool", ["saliency", "landscape", "line"])
def test_unseen_labels_have_no_loss(nine, flat, tool):
    _, _, X, y = flat
    order = np.argsort(y != 9, kind="stable")
    with pytest.raises(ValueError, match="was not trained on"):
        TOOLS[tool](nine, X[order], y[order])


def test_a_fold_without_a_class_has_a_score(flat):
    X, y, _, _ = flat
    X, y = X[:60], y[:60]
    folds = [(np.flatnonzero(y != 3), np.arange(60))]
    scores = cross_validate(
        LogisticRegression(max_iter=200), X, y, cv=folds, error_score="raise",
        scoring=RobustnessReport(eps=EPS, version=["apgd-ce"]),
    )  # fmt: skip
    assert 0 < scores["test_pgd_accuracy"][0] < 1 - np.mean(y == 3) + 1e-9


@pytest.mark.parametrize(
    "out",
    [
        lambda o: (o, o),
        lambda o: {"logits": o},
        lambda o: o[:, :, None, None],
        lambda o: torch.cat([o, o.new_full((len(o), 1), -torch.inf)], 1),
    ],
)
@pytest.mark.parametrize("attack", ["pgd", "autoattack", "curve"])
def test_a_net_by_its_output_is_the_same_net(weights, flat, out, attack):
    _, _, X, y = flat

    def measure(net):
        if attack == "curve":
            return security_curve(net, X, y, eps=[0, EPS], n_steps=10).accuracy
        options = {"attack": attack, "version": ["apgd-ce", "fab-t"], "eps": EPS}
        return attack_estimator(net, X, y, **options).robust

    np.testing.assert_array_equal(measure(Net(weights, out)), measure(Net(weights)))


def test_nets_of_other_float_types(weights, flat):
    _, _, X, y = flat
    expected = attack_estimator(Net(weights), X, y, eps=EPS)
    found = attack_estimator(Net(weights).double(), X, y, eps=EPS)
    np.testing.assert_array_equal(found.robust, expected.robust)
    ensemble = AutoAttack(["apgd-ce"], precision="bfloat16", n_steps=10)
    single, double = (
        attack_estimator(net, X, y, attack=ensemble, eps=EPS)
        for net in (Net(weights), Net(weights).double())
    )
    np.testing.assert_array_equal(single.robust, double.robust)
    found = attack_estimator(Net(weights, lambda o: o.half()), X, y, eps=EPS)
    assert found.natural_accuracy == expected.natural_accuracy


def test_one_column_is_a_net_of_two_classes():
    net = nn.Linear(2, 1, bias=False)
    nn.init.ones_(net.weight)
    X, y = [[-1.0, -1.0], [1.0, 1.0]], [0, 1]
    for eps, expected in ((0.9, 1.0), (1.1, 0.0), (5.0, 0.0)):
        result = attack_estimator(net, X, y, eps=eps, clip_range=None)
        assert result.natural_accuracy == 1
        assert result.robust_accuracy == expected
    distances = minimal_distances(net, X, y, clip_range=None)
    np.testing.assert_allclose(distances, 1.0, rtol=0.01)
    with pytest.raises(ValueError, match="label 2, and the model has 2 outputs"):
        attack_estimator(net, X, [0, 2], clip_range=None)


@pytest.mark.parametrize("shape", [(-1, 1), (-1,)])
@pytest.mark.parametrize("sigmoid", [torch.sigmoid, nn.Sigmoid(), torch.Tensor.sigmoid])
def test_one_probability_is_refused(weights, flat, shape, sigmoid):
    _, _, X, y = flat
    net = Net(weights[:1], lambda o: sigmoid(o).reshape(shape))
    for tool in ("attack", "curve", "transfer"):
        with pytest.raises(ValueError, match="Leave the sigmoid out"):
            TOOLS[tool](net, X, y % 2)


def test_one_logit_in_the_unit_interval_is_a_logit(weights, flat):
    _, _, X, _ = flat
    net = Net(weights[:1], lambda o: 0.5 + 0.1 * torch.sigmoid(o))
    state = torch.get_rng_state()
    assert attack_estimator(net, X, np.ones(len(X))).natural_accuracy == 1
    assert torch.equal(torch.get_rng_state(), state)


def test_regression_on_one_hot_labels_is_compared(flat):
    X, y, X_test, y_test = flat
    model = KernelRidge(kernel="rbf").fit(X, np.eye(10)[y])
    expected = np.mean(model.predict(X_test).argmax(1) == y_test)
    result = attack_estimator(model, X_test, y_test, eps=0)
    assert result.natural_accuracy == expected
    model.predict = lambda X: np.roll(np.eye(10)[y_test], 5, axis=1)
    with pytest.raises(NotDifferentiableError, match="of KernelRidge disagrees"):
        attack_estimator(model, X_test, y_test, eps=0)


def test_outputs_without_logits_are_named(weights, flat):
    _, _, X, y = flat
    with pytest.raises(ValueError, match=r"shape \(40, 10, 2\)"):
        attack_estimator(Net(weights, lambda o: torch.stack([o, o], 2)), X, y)
    result = attack_estimator(Net(weights, lambda o: o * torch.nan), X, y)
    assert result.natural_accuracy == result.robust_accuracy == 0


class Shifted(LogisticRegression):
    """Predicts another class than its coefficients do, for a share of the rows."""

    def predict(self, X):
        predicted = super().predict(X)
        wrong = np.arange(len(X)) < self.share * len(X)
        return np.where(wrong, (predicted + 1) % 10, predicted)

    def decision_function(self, X):
        return np.eye(10)[super().decision_function(X).argmax(1)]


@pytest.fixture
def shifted(logistic):
    model = Shifted()
    model.__dict__.update(logistic.__dict__, share=1.0)
    return model


@pytest.mark.parametrize("tool", sorted(set(TOOLS) - {"square"}))
def test_the_form_of_another_model_is_refused_by_all(shifted, flat, tool):
    _, _, X, y = flat
    with pytest.raises(NotDifferentiableError, match=r"100.0% of .*attack='square'"):
        TOOLS[tool](shifted, X, y)


def test_a_search_for_scores_needs_no_form(shifted, logistic, flat):
    _, _, X, y = flat
    found = attack_estimator(shifted, X, y, attack="square", eps=0)
    assert found.natural_accuracy == logistic.score(X, y)


def test_a_form_that_is_nearly_the_model_warns(shifted, flat):
    _, _, X, y = flat
    shifted.share = 0.25
    for tool in ("attack", "curve", "transfer"):
        with pytest.warns(RobustnessWarning, match=r"predict on 25.0% of the samples"):
            TOOLS[tool](shifted, X, y)
    shifted.share = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error", RobustnessWarning)
        for tool in ("attack", "curve", "transfer"):
            TOOLS[tool](shifted, X, y)


@pytest.mark.parametrize("tool", ["attack", "curve", "masking", "transfer", "saliency"])
def test_nets_are_left_in_train_mode(fitted_net, flat, tool):
    _, _, X, y = flat
    net = copy.deepcopy(fitted_net)
    net.module_.train()
    TOOLS[tool](net, X[:5].reshape(-1, 1, 8, 8), y[:5])
    assert net.module_.training
    assert all(parameter.requires_grad for parameter in net.module_.parameters())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whitening_of_columns_that_never_vary(flat, dtype):
    X, y, X_test, y_test = flat
    model = make_pipeline(PCA(whiten=True), LogisticRegression(max_iter=1000))
    model.fit(X.astype(dtype), y)
    assert (X.std(0) == 0).any()
    result = attack_estimator(model, X_test, y_test, eps=0)
    assert result.natural_accuracy == model.score(X_test, y_test)


class Frame:
    """A table with named columns, as far as an array conversion goes."""

    def __init__(self, values, columns):
        self.values, self.columns = values, columns
        self.shape = values.shape

    def __len__(self):
        return len(self.values)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype)


class Named(LogisticRegression):
    """Compares the names of columns in ``predict``, as scikit-learn does."""

    def predict(self, X):
        if (
            list(getattr(X, "columns", self.feature_names_in_))
            != self.feature_names_in_
        ):
            raise ValueError("The feature names should match those of fit.")
        return super().predict(np.asarray(X))


@pytest.mark.parametrize(
    "tool", ["attack", "square", "scorer", "curve", "masking", "transfer"]
)
def test_permuted_columns_are_refused_by_all(logistic, flat, tool):
    _, _, X, y = flat
    names = [f"pixel{i}" for i in range(64)]
    model = Named()
    model.__dict__.update(logistic.__dict__, feature_names_in_=names)
    TOOLS[tool](model, Frame(X, names), y)
    with pytest.raises(ValueError, match="feature names should match"):
        TOOLS[tool](model, Frame(X[:, ::-1].copy(), names[::-1]), y)


def test_permuted_columns_of_a_data_frame(flat):
    pandas = pytest.importorskip("pandas")
    X, y, X_test, y_test = flat
    names = [f"pixel{i}" for i in range(64)]
    model = LogisticRegression(max_iter=200).fit(pandas.DataFrame(X, columns=names), y)
    frame = pandas.DataFrame(X_test, columns=names)
    result = attack_estimator(model, frame, y_test, eps=0)
    assert result.natural_accuracy == model.score(frame, y_test)
    with pytest.raises(ValueError, match="feature names"):
        attack_estimator(model, frame[names[::-1]], y_test)


def test_fewer_outputs_than_classes_are_refused(weights, flat):
    _, _, X, y = flat
    model = TorchClassifier(Net(weights[:3]), classes=np.arange(10))
    with pytest.raises(ValueError, match="the model returns 3 logits"):
        attack_estimator(model, X, y)
    assert as_torch(model) is model


def test_a_plain_skorch_net_predicts_scores(flat):
    X, y, X_test, y_test = flat
    settings = {"module__in_features": 64, "max_epochs": 20, "lr": 0.5, "verbose": 0,
                "train_split": None}  # fmt: skip
    torch.manual_seed(0)
    net = skorch.NeuralNet(
        nn.Linear, nn.CrossEntropyLoss, module__out_features=10, **settings
    ).fit(X, y)
    result = attack_estimator(net, X_test, y_test, eps=EPS)
    assert result.natural_accuracy == (net.predict(X_test).argmax(1) == y_test).mean()
    assert result.robust_accuracy < result.natural_accuracy
    assert net.predict(X_test).shape == (len(X_test), 10)
    two = skorch.NeuralNet(
        nn.Linear, nn.BCEWithLogitsLoss, module__out_features=1, **settings
    ).fit(X, (y > 4)[:, None].astype(np.float32))
    result = attack_estimator(two, X_test, y_test > 4, eps=EPS)
    answers = (two.forward(X_test)[:, 0] > 0).numpy()
    assert result.natural_accuracy == (answers == (y_test > 4)).mean() > 0.7
