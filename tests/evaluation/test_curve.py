import warnings

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
from robustfit.exceptions import BudgetUnitWarning

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
        f"LogisticRegression (n={len(case[2])}, seed 0)"
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
    plt.close("all")


def test_no_perturbation_found():
    curve = SecurityCurve.from_distances([np.inf, 0.0], eps=[1.0, 0.0], norm="l2")
    assert curve.eps.tolist() == [0.0, 1.0]
    assert curve.accuracy.tolist() == [0.5, 0.5]


def test_the_display_tells_n_and_seed(case):
    model, X, y = case
    settings = {"eps": [0, 0.1], "n_steps": 2, "n_targets": 1}
    shown = SecurityCurveDisplay.from_estimator(model, X, y, **settings)
    assert shown.line_.get_label() == "LogisticRegression (n=40, seed 0)"
    shown = SecurityCurveDisplay(security_curve(model, X, y, **settings)).plot()
    assert shown.line_.get_label() == "n=40, seed 0"
    assert "n=40, seed 0" in {t.get_text() for t in shown.ax_.get_legend().get_texts()}
    shown = SecurityCurveDisplay.from_predictions([0.0, 0.1, 0.2])
    assert shown.line_.get_label() == "n=3"  # the distances tell no seed


@pytest.mark.parametrize(
    "eps", [0.1, -1, [-1.0], [0.1, np.nan], [np.inf], [], [[0.1]], "linf", [True], None]
)
def test_bad_budgets_are_named(case, eps):
    if eps is not None:  # None chooses them
        with pytest.raises(ValueError, match=r"eps is .*; expected a list of finite"):
            security_curve(*case, eps=eps)
    with pytest.raises(ValueError, match=r"eps is .*; expected a list of finite"):
        SecurityCurve.from_distances([0.1], eps=eps)


@pytest.mark.parametrize("distances", [[np.nan], [-0.1], [], 0.1])
def test_bad_distances_are_named(distances):
    with pytest.raises(ValueError, match="distances is"):
        SecurityCurve.from_distances(distances, eps=[0.1])


@pytest.mark.parametrize("eps", [[8.0], [0, 2, 4, 8]])
def test_budgets_of_another_unit_are_told(case, eps):
    with pytest.warns(BudgetUnitWarning, match="The unit of eps looks wrong"):
        security_curve(*case, eps=eps, n_steps=1, n_targets=1, confirm=False)


@pytest.mark.parametrize("eps", [[0], [0, 0.1, 1.0], [0, 0.05, 0.1, 2.0]])
def test_one_wide_budget_of_many_is_not(case, eps):
    with warnings.catch_warnings():
        warnings.simplefilter("error", BudgetUnitWarning)
        security_curve(*case, eps=eps, n_steps=1, n_targets=1, confirm=False)
