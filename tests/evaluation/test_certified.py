import joblib
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from robustfit import (
    RobustAccuracyScorer,
    RobustnessReport,
    ThreatModel,
    attack_estimator,
    certified_accuracy,
)
from robustfit.attacks import NeighbourAttack, Square, TreeAttack
from robustfit.evaluation.attack_choice import attack_for
from robustfit.exceptions import NoStructureError, PixelRangeError

KNOWN = [
    LogisticRegression(),
    DecisionTreeClassifier(random_state=0),
    RandomForestClassifier(10, random_state=0),
    HistGradientBoostingClassifier(max_iter=3),
    KNeighborsClassifier(1),
    KNeighborsClassifier(3),
]


@pytest.fixture(scope="module")
def table():
    X, y = load_digits(return_X_y=True)
    names = np.array(list("jihgfedcba"))
    return X[:300] / 16, names[y[:300]], X[300:340] / 16, names[y[300:340]]


def test_auto_is_what_sees_most_of_the_model(table):
    X, y, X_test, y_test = table
    expected = ["pgd", "tree", "tree", "tree", "neighbours", "neighbours"]
    assert [attack_for(m.fit(X, y), ThreatModel()) for m in KNOWN] == expected
    cosine = KNeighborsClassifier(3, metric="cosine").fit(X, y)
    assert attack_for(cosine, ThreatModel()) == "square"
    own = ThreatModel(eps=np.full(X.shape[1], 0.1))
    assert attack_for(KNOWN[4], own) == "square"
    assert attack_for(KNOWN[1], own) == "tree"
    forest = KNOWN[2]
    auto = attack_estimator(forest, X_test, y_test, eps=0.1)
    named = attack_estimator(forest, X_test, y_test, eps=0.1, attack="tree")
    np.testing.assert_array_equal(auto.X_adv, named.X_adv)
    linear = attack_estimator(KNOWN[0], X_test, y_test, eps=0.1)
    pgd = attack_estimator(KNOWN[0], X_test, y_test, eps=0.1, attack="pgd")
    np.testing.assert_array_equal(linear.X_adv, pgd.X_adv)


def test_the_attacks_find_what_square_does_not(table):
    X, y, X_test, y_test = table
    n_more = 0
    for model in (KNOWN[2], KNOWN[3], KNOWN[5]):
        model.fit(X, y)
        auto = attack_estimator(model, X_test, y_test, eps=0.1)
        square = attack_estimator(model, X_test, y_test, eps=0.1, attack=Square(100))
        assert auto.robust_accuracy <= square.robust_accuracy
        n_more += int(square.robust.sum() - auto.robust.sum())
        assert (auto.certified <= square.robust).all()
    assert n_more > 0


@pytest.mark.parametrize("model", KNOWN, ids=str)
def test_no_budget_and_any_budget(table, model):
    X, y, X_test, y_test = table
    model = model.fit(X, y)
    nothing = certified_accuracy(model, X_test, y_test, eps=0)
    attacked = attack_estimator(model, X_test, y_test, eps=0)
    right = model.predict(X_test) == y_test
    for verdict in (nothing.certified, attacked.robust, attacked.certified):
        np.testing.assert_array_equal(verdict, right)
    assert nothing.exact
    everything = attack_estimator(
        model, X_test[:5], y_test[:5], eps=100, norm="l2", clip_range=None
    )
    assert everything.certified_accuracy == 0
    assert everything.robust_accuracy <= 0.2


@pytest.mark.parametrize("model", KNOWN[1:], ids=str)
def test_one_row_one_class_and_labels_never_met(table, model):
    X, y, X_test, y_test = table
    model = model.fit(X, y)
    one = certified_accuracy(model, X_test[:1], y_test[:1], eps=0.01)
    assert one.n_samples == 1
    unknown = certified_accuracy(model, X_test[:3], ["z"] * 3, eps=0.01)
    assert unknown.certified_accuracy == unknown.natural_accuracy == 0
    if isinstance(model, HistGradientBoostingClassifier):
        return  # does not take one class
    single = type(model)(**model.get_params()).fit(X, np.full(len(X), "j"))
    proven = certified_accuracy(single, X_test, np.full(len(X_test), "j"), eps=0.5)
    assert proven.certified_accuracy == 1
    attacked = attack_estimator(single, X_test, np.full(len(X_test), "j"), eps=0.5)
    assert attacked.robust_accuracy == attacked.certified_accuracy == 1


def test_ties_go_to_the_first_class():
    """Four of eight votes for each class: the first wins, and no proof says less."""
    X, y = np.array([[0.1], [0.9]] * 10), np.array(["a", "b"] * 10)
    forest = RandomForestClassifier(8, random_state=0, bootstrap=True).fit(X, y)
    for eps in (0.1, 0.3, 0.5, 0.7):
        exact = certified_accuracy(forest, X[:2], y[:2], eps=eps, method="exact")
        attack = attack_estimator(forest, X[:2], y[:2], eps=eps)
        np.testing.assert_array_equal(exact.certified, attack.robust)


def test_predictions_instead_of_labels(table):
    X, y, X_test, y_test = table
    tree = KNOWN[1].fit(X, y)
    true = attack_estimator(tree, X_test, y_test, eps=0.05)
    own = attack_estimator(tree, X_test, y_test, eps=0.05, labels="predicted")
    assert own.certified_accuracy > true.certified_accuracy
    np.testing.assert_array_equal(own.certified, own.robust)


def test_chunks_and_jobs_do_not_change_a_byte(table):
    X, y, X_test, y_test = table
    for model, attack in ((KNOWN[2], TreeAttack(3)), (KNOWN[5], NeighbourAttack(3))):
        model.fit(X, y)
        with joblib.parallel_config(backend="threading"):
            whole, chunks = (
                attack_estimator(
                    model, X_test, y_test, attack=attack, eps=0.1, **parameters
                )
                for parameters in ({}, {"batch_size": 7, "n_jobs": 2})
            )
        np.testing.assert_array_equal(whole.X_adv, chunks.X_adv)


def test_reports_show_both_numbers(table):
    X, y, X_test, y_test = table
    forest = KNOWN[2].fit(X, y)
    report = RobustnessReport(eps=0.04)(forest, X_test, y_test)
    result = attack_estimator(forest, X_test, y_test, eps=0.04)
    assert report["robust_accuracy"] == result.robust_accuracy
    assert report["certified_accuracy"] == result.certified_accuracy
    low, high = result.certified_interval
    assert (report["certified_accuracy_low"], report["certified_accuracy_high"]) == (
        low, high,
    )  # fmt: skip
    assert f"certified_accuracy={result.certified_accuracy:.3f}" in repr(result)
    assert 0 < result.certified_accuracy < result.robust_accuracy < 1
    scores = cross_validate(
        forest, X, y, cv=2, scoring=RobustnessReport(eps=0.04), error_score="raise"
    )
    assert (scores["test_certified_accuracy"] <= scores["test_robust_accuracy"]).all()
    svc = SVC(break_ties=True).fit(X, y)
    report = RobustnessReport(eps=0.02, n_steps=3, version=["apgd-ce"])(
        svc, X_test[:5], y_test[:5]
    )
    assert np.isnan(report["certified_accuracy"])
    assert report["robust_accuracy"] == report["worst_case_accuracy"]
    scorer = RobustAccuracyScorer("auto", eps=0.04)
    assert scorer(forest, X_test, y_test) == result.robust_accuracy


def test_errors_say_what_is_known(table):
    X, y, X_test, y_test = table
    forest = KNOWN[2].fit(X, y)
    with pytest.raises(ValueError, match="method is 'milp'"):
        certified_accuracy(forest, X_test, y_test, method="milp")
    with pytest.raises(PixelRangeError):
        certified_accuracy(forest, X_test * 16, y_test)
    with pytest.raises(NoStructureError, match="3 neighbours"):
        certified_accuracy(KNOWN[5].fit(X, y), X_test, y_test, method="exact")
    for change, message in (
        ({"metric": "manhattan"}, "metric='euclidean'"),
        ({"weights": "distance"}, "weights='uniform'"),
    ):
        other = KNeighborsClassifier(3, **change).fit(X, y)
        with pytest.raises(NoStructureError, match=message):
            certified_accuracy(other, X_test, y_test)
        with pytest.raises(NoStructureError, match=message):
            attack_estimator(other, X_test, y_test, attack="neighbours")
    with pytest.raises(NoStructureError, match=r"is none of the models|made of"):
        certified_accuracy(SVC(break_ties=True).fit(X, y), X_test, y_test)
    with pytest.raises(NoStructureError, match="attack on trees"):
        attack_estimator(KNOWN[0].fit(X, y), X_test, y_test, attack="tree")
    with pytest.raises(NoStructureError, match="attack on neighbours"):
        attack_estimator(forest, X_test, y_test, attack="neighbours")
