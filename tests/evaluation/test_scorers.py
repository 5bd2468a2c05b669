import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate

from robustfit import (
    PredictionRobustnessReport,
    RobustAccuracyScorer,
    RobustnessReport,
    attack_estimator,
)
from robustfit.evaluation.counting_error import wilson_interval
from robustfit.evaluation.scorers import warn_if_masked
from robustfit.exceptions import GradientMaskingWarning


@pytest.fixture(scope="module")
def flat(digits):
    X, y, _, _ = digits
    return X.reshape(len(X), -1)[:200], y[:200]


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "autoattack"])
def test_score_is_the_robust_accuracy(digits, fitted_net, attack):
    _, _, X, y = digits
    parameters = {"eps": 0.1, "n_steps": 5, "version": ["apgd-ce"]}
    scorer = RobustAccuracyScorer(attack, **parameters)
    expected = attack_estimator(fitted_net, X, y, attack=attack, **parameters)
    assert scorer(fitted_net, X, y) == expected.robust_accuracy
    assert 0 < expected.robust_accuracy < expected.natural_accuracy


def test_prediction_report_is_two_scores_in_one_attack(digits, fitted_net):
    _, _, X, y = digits
    report = PredictionRobustnessReport(eps=0.1, n_steps=5)(fitted_net, X, y)
    wrt = RobustAccuracyScorer(eps=0.1, n_steps=5, labels="predicted")
    assert wrt(fitted_net, X, y) == report["robustness_wrt_predictions"]
    assert "robustness_wrt_predictions" in wrt.__name__
    assert report["natural_accuracy"] == fitted_net.score(X, y)
    assert report["robust_accuracy"] <= report["robustness_wrt_predictions"]
    n_wrong = 1 - report["natural_accuracy"]
    assert report["robust_accuracy"] >= report["robustness_wrt_predictions"] - n_wrong


def test_clone_pickle_repr_name():
    scorer = RobustAccuracyScorer("autoattack", eps=0.25, norm="l2")
    for other in (clone(scorer), pickle.loads(pickle.dumps(scorer))):
        assert other.get_params() == scorer.get_params()
    assert "eps=0.25" in repr(scorer)
    assert scorer.__name__ == "robust_accuracy_autoattack_l2_0.25"
    assert "linf" in RobustnessReport().__name__


def test_autoattack_is_at_most_pgd(digits, fitted_net):
    _, _, X, y = digits
    pgd, auto = (
        RobustAccuracyScorer(attack, eps=0.1)(fitted_net, X[:10], y[:10])
        for attack in ("pgd", "autoattack")
    )
    assert auto <= pgd


def test_report_adds_up(digits, fitted_net):
    _, _, X, y = digits
    report = RobustnessReport(eps=0.1)(fitted_net, X[:10], y[:10])
    assert report["autoattack_after_square"] == report["autoattack_accuracy"]
    assert report["worst_case_accuracy"] <= report["pgd_accuracy"]
    assert report["autoattack_accuracy"] <= report["autoattack_after_apgd_ce"]
    lost = 1 - report["worst_case_accuracy"] / report["natural_accuracy"]
    assert report["attack_success_rate"] == pytest.approx(lost)


def test_report_predicts_once_and_gives_what_the_attacks_give(flat):
    X, y = flat
    calls = []

    class Counting(LogisticRegression):
        def predict(self, X):
            calls.append(len(X))
            return super().predict(X)

    model = Counting(max_iter=100).fit(X, y)
    parameters = {"eps": 0.05, "n_steps": 3, "version": ["apgd-ce"]}
    report = RobustnessReport(**parameters)(model, X[:30], y[:30])
    assert calls == [30]
    for name in ("pgd", "autoattack"):
        alone = attack_estimator(model, X[:30], y[:30], attack=name, **parameters)
        assert report[f"{name}_accuracy"] == alone.robust_accuracy


def test_masking_is_announced():
    with pytest.warns(GradientMaskingWarning, match=r"PGD reports 90.0%.*20.0%"):
        warn_if_masked(0.9, 0.2)


def test_no_masking_no_warning(recwarn):
    warn_if_masked(0.55, 0.5)
    assert not recwarn.list


def test_in_cross_validation_and_search(flat):
    X, y = flat
    model = LogisticRegression(max_iter=100)
    scorer = RobustAccuracyScorer(eps=0.05, n_steps=3)
    scores = cross_val_score(model, X, y, cv=3, scoring=scorer, error_score="raise")
    assert ((scores > 0) & (scores < 1)).all()
    report = RobustnessReport(eps=0.05, n_steps=3, version=["apgd-ce"])
    table = cross_validate(model, X, y, cv=2, scoring=report, error_score="raise")
    assert (table["test_autoattack_accuracy"] <= table["test_natural_accuracy"]).all()
    search = GridSearchCV(
        model, {"C": [0.01, 1]}, scoring=report, refit="autoattack_accuracy", cv=2
    ).fit(X, y)
    assert "mean_test_pgd_accuracy" in search.cv_results_


def test_parallel_gives_the_same_numbers(flat):
    X, y = flat
    scorer = RobustAccuracyScorer(eps=0.05, n_steps=3)
    model = LogisticRegression(max_iter=100)
    serial, parallel = (
        cross_val_score(model, X, y, cv=2, scoring=scorer, n_jobs=n) for n in (1, 2)
    )
    np.testing.assert_array_equal(serial, parallel)


def test_bad_pixels_raise_when_asked(flat):
    X, y = flat
    with pytest.raises(ValueError, match="clip_range"):
        cross_val_score(
            LogisticRegression(max_iter=10), X * 255, y, cv=2,
            scoring=RobustAccuracyScorer(), error_score="raise",
        )  # fmt: skip


def test_report_tells_its_error(flat):
    X, y = flat
    model = LogisticRegression(max_iter=100).fit(X, y)
    parameters = {"eps": 0.05, "n_steps": 3, "version": ["apgd-ce"]}
    report = RobustnessReport(random_state=7, **parameters)(model, X[:30], y[:30])
    assert (report["n_samples"], report["seed"]) == (30, 7)
    for name in ("natural", "pgd", "autoattack", "worst_case"):
        accuracy = report[f"{name}_accuracy"]
        low, high = report[f"{name}_accuracy_low"], report[f"{name}_accuracy_high"]
        assert (low, high) == wilson_interval(round(30 * accuracy), 30)
    assert all(isinstance(value, int | float) for value in report.values())


def test_a_fold_without_a_right_sample_has_all_scores(flat):
    X, y = flat
    model = LogisticRegression(max_iter=100).fit(X, y)
    wrong = (y + 1) % 10
    parameters = {"eps": 0.05, "n_steps": 3, "version": ["apgd-ce", "square"]}
    right = np.flatnonzero(model.predict(X) == y)[:10]
    report = RobustnessReport(**parameters)
    nothing = report(model, X[right], wrong[right])
    assert list(nothing) == list(report(model, X[right], y[right]))
    assert nothing["autoattack_after_square"] == nothing["natural_accuracy"] == 0
    assert nothing["attack_success_rate"] == 0
    # One fold of wrong labels in a cross-validation: no score is lost.
    X, y = np.concatenate([X[right]] * 2), np.concatenate([y[right], wrong[right]])
    rows = np.arange(10), np.arange(10, 20)
    table = cross_validate(
        model, X, y, cv=[(rows[0], rows[1]), (rows[0], rows[0])], scoring=report,
        error_score="raise",
    )  # fmt: skip
    assert table["test_autoattack_accuracy"][0] == 0
    assert table["test_natural_accuracy"].tolist() == [0, 1]
