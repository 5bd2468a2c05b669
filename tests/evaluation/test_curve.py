import matplotlib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from robustfit import (
    SecurityCurve,
    SecurityCurveDisplay,
    attack_estimator,
    minimal_distances,
    security_curve,
)

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def case(digits):
    X, y, X_test, y_test = digits
    X, X_test = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
    return LogisticRegression(max_iter=100).fit(X, y), X_test[:40], y_test[:40]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_curve_agrees_with_attacks_at_single_budgets(case, norm):
    eps = np.array([0, 0.03, 0.1]) * {"linf": 1, "l2": 6, "l1": 30}[norm]
    curve = security_curve(*case, eps=eps, norm=norm)
    for budget, accuracy in zip(curve.eps, curve.accuracy, strict=True):
        attacked = attack_estimator(
            *case, attack="apgd", loss="margin", eps=budget, norm=norm
        )
        assert accuracy == pytest.approx(attacked.robust_accuracy, abs=0.051)


def test_curve_falls_and_starts_at_the_natural_accuracy(case):
    model, X, y = case
    curve = security_curve(model, X, y)
    assert curve.accuracy[0] == model.score(X, y)
    assert curve.accuracy[-1] == 0
    assert (np.diff(curve.accuracy) <= 0).all()


def test_distances_are_perturbations_that_work(case):
    model, X, y = case
    distances = minimal_distances(model, X, y)
    assert (distances[model.predict(X) != y] == 0).all()
    # In linf a linear model's distance is known: gap over the l1 norm of the slopes.
    logits = model.decision_function(X)
    rows = np.arange(len(X))
    gaps = logits[rows, y][:, None] - logits
    slopes = np.abs(model.coef_[y][:, None] - model.coef_).sum(2)
    exact = np.where(slopes > 0, gaps / np.maximum(slopes, 1e-9), np.inf).min(1)
    right = exact > 0
    assert (distances[right] >= exact[right] - 1e-5).all()  # the range only lengthens
    confirmed = security_curve(model, X, y).distances
    assert (confirmed <= distances + 1e-7).all()


def test_display(case):
    import matplotlib.pyplot as plt

    display = SecurityCurveDisplay.from_estimator(*case, eps=[0, 0.1], n_steps=10)
    assert display.ax_.get_ylabel() == "Robust accuracy"
    assert display.figure_ is display.ax_.figure
    assert display.ax_.get_legend().get_texts()[0].get_text() == (
        f"LogisticRegression (n={len(case[2])})"
    )
    band = display.band_.get_datalim(display.ax_.transData)
    low, high = display.curve.interval.min(), display.curve.interval.max()
    assert (band.y0, band.y1) == (low, high)
    assert low < display.curve.accuracy.min() < display.curve.accuracy.max() < high
    ax = display.ax_
    other = SecurityCurveDisplay.from_predictions(
        display.curve.distances, ax=ax, name="again", line_kw={"color": "red"}
    )
    assert other.ax_ is ax
    assert other.line_.get_color() == "red"
    assert SecurityCurveDisplay(other.curve).plot().ax_.get_legend() is None
    plt.close("all")


def test_no_perturbation_found():
    curve = SecurityCurve.from_distances([np.inf, 0.0], eps=[1.0, 0.0], norm="l2")
    assert curve.eps.tolist() == [0.0, 1.0]
    assert curve.accuracy.tolist() == [0.5, 0.5]
