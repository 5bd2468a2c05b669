import matplotlib
import matplotlib.pyplot
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from robustfit import (
    TransferabilityDisplay,
    attack_estimator,
    transferability_matrix,
)
from robustfit.exceptions import NotDifferentiableError, PixelRangeError

matplotlib.use("agg")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    matplotlib.pyplot.close("all")


def line(weight, bias=0.0):
    """A linear model of two classes; class 1 where weight @ x + bias > 0."""
    module = nn.Linear(2, 2)
    weight = torch.tensor(weight)
    module.weight.data = torch.stack([-weight, weight]) / 2
    module.bias.data = torch.tensor([-bias, bias]) / 2
    return module


X = np.array([[0.2, 0.5], [0.6, 0.5], [0.9, 0.5], [0.5, 0.9]], dtype=np.float32)
y = np.array([0, 1, 1, 1])
FIRST = line([1.0, 0.0], -0.5)  # looks at the first feature only
SECOND = line([0.0, 1.0], -0.45)  # at the second only; gets the first sample wrong


def test_rates_by_hand():
    # FIRST moves the first feature by 0.3: samples 0, 1 and 3 cross its border at 0.5
    # (3 is on it, so wrong from the start). SECOND does not look at that feature.
    transfer = transferability_matrix({"a": FIRST, "b": SECOND}, X, y, eps=0.31)
    assert transfer.source_correct.tolist() == [
        [True, True, True, False],
        [False, True, True, True],
    ]
    assert np.allclose(transfer.rates, [[2 / 3, 0.0], [0.0, 2 / 3]])
    assert np.allclose(transfer.rates_of_successes, [[1.0, 0.0], [0.0, 1.0]])
    assert np.allclose(transfer.target_accuracy, [0.75, 0.75])
    assert transfer.both_correct.sum(-1).tolist() == [[3, 2], [2, 3]]


def test_rates_are_nan_where_no_sample_is_right_for_both():
    opposite = line([-1.0, 0.0], 0.5)
    transfer = transferability_matrix([FIRST, opposite], X[:3], y[:3], eps=0.1)
    assert np.isnan(transfer.rates[0, 1])
    assert np.isnan(transfer.rates[1, 0])


def test_the_diagonal_is_the_attack_and_more_budget_transfers_more(digits, fitted_net):
    X, y, X_test, y_test = digits
    flat = X.reshape(len(X), -1)
    other = LogisticRegression().fit(flat, y)
    rates = [
        transferability_matrix(
            {"linear": other}, X_test.reshape(len(X_test), -1), y_test, eps=eps,
            targets={"itself": other, "knn": KNeighborsClassifier(1).fit(flat, y)},
        ).rates[0]
        for eps in (0.0, 0.1, 0.3)
    ]  # fmt: skip
    assert rates[0].tolist() == [0.0, 0.0]
    assert (np.diff(rates, axis=0) >= 0).all()
    assert rates[2][0] > rates[2][1] > rates[0][1]
    own = attack_estimator(fitted_net, X_test, y_test, eps=0.1)
    matrix = transferability_matrix(fitted_net, X_test, y_test, attack="pgd", eps=0.1)
    assert matrix.rates[0, 0] == pytest.approx(own.attack_success_rate, abs=0.05)


def test_every_step_transfers_more_than_stopping_at_the_border(digits, fitted_net):
    X, y, X_test, y_test = digits
    torch.manual_seed(1)
    other = fitted_net.__class__(
        fitted_net.module, module__image_shape=(1, 8, 8), lr=0.05, max_epochs=40,
        criterion=nn.CrossEntropyLoss, optimizer__momentum=0.9, train_split=None,
        optimizer=torch.optim.SGD, verbose=0, iterator_train__shuffle=True,
    ).fit(X, y)  # fmt: skip
    from robustfit.attacks import PGD

    deep, shallow = (
        transferability_matrix(
            {"a": fitted_net}, X_test, y_test, targets={"b": other}, attack=attack,
            eps=0.2,
        ).rates[0, 0]
        for attack in ("pgd", PGD(40, random_start=False))
    )  # fmt: skip
    assert deep > shallow + 0.1


def test_string_labels_and_same_seed(digits):
    X, y, X_test, y_test = (part.reshape(len(part), -1) for part in digits)
    y, y_test = (np.char.add("d", part.ravel().astype(str)) for part in (y, y_test))
    model = LogisticRegression().fit(X, y)
    runs = [transferability_matrix([model], X_test, y_test, eps=0.1) for _ in range(2)]
    assert runs[0].source_names == ["1 LogisticRegression"]
    assert np.array_equal(runs[0].target_fooled, runs[1].target_fooled)
    assert runs[0].rates[0, 0] > 0.2


def test_bad_input_is_refused(digits):
    X, y, X_test, y_test = (part.reshape(len(part), -1) for part in digits)
    model = LogisticRegression().fit(X, y.ravel())
    neighbours = KNeighborsClassifier().fit(X, y.ravel())
    with pytest.raises(NotDifferentiableError):
        transferability_matrix([model, neighbours], X_test, y_test.ravel())
    with pytest.raises(ValueError, match="estimators is empty"):
        transferability_matrix([], X_test, y_test.ravel())
    with pytest.raises(PixelRangeError):
        transferability_matrix([model], 16 * X_test, y_test.ravel())


def test_display_shows_the_rates():
    display = TransferabilityDisplay.from_estimators(
        {"a": FIRST, "b": SECOND}, X, y, eps=0.31
    )
    assert display.text_[0, 0].get_text() == "67"
    assert display.text_[0, 1].get_text() == "0"
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == ["a", "b"]
    assert (
        display.image_.get_array().tolist()
        == (100 * display.transferability.rates).tolist()
    )
    other = display.figure_.add_subplot()
    assert display.plot(ax=other).ax_ is other
