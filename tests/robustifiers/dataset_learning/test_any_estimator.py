"""The search with estimators that are no nets: it does no harm, and helps some."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.tree import DecisionTreeClassifier

from robustfit import RobustDatasetLearner, attack_estimator


@pytest.fixture(scope="module")
def rows():
    X, y = load_digits(return_X_y=True)
    X, words = (X / 16).astype("float32"), np.array(list("abcdefghij"))
    return X[:700], words[y[:700]], X[1000:1150], words[y[1000:1150]]


def robust_accuracy(model, X, y):
    return attack_estimator(model, X, y, eps=0.1).robust_accuracy


def test_a_convex_learner_gains_what_its_adversarial_training_has(rows):
    X, y, X_test, y_test = rows
    model = LogisticRegression(max_iter=500)
    learner = RobustDatasetLearner(
        eps=0.1, estimator=model, n_candidates=2, random_state=0
    )
    pipe = Pipeline([("robustify", learner), ("clf", model)]).fit(X, y)
    assert learner.chosen_["convex"]
    assert [r["step"] for r in learner.history_].count("convex") == 1
    natural = robust_accuracy(clone(model).fit(X, y), X_test, y_test)
    assert robust_accuracy(pipe, X_test, y_test) > natural + 0.1
    assert pipe.score(X_test, y_test) > 0.85


@pytest.mark.parametrize(
    "model",
    [
        KNeighborsClassifier(3),
        DecisionTreeClassifier(max_depth=6, random_state=0),
        GaussianNB(var_smoothing=0.1),
        make_pipeline(MinMaxScaler(), KNeighborsClassifier(1)),
    ],
    ids=lambda model: type(model).__name__,
)
def test_no_estimator_is_harmed(rows, model):
    X, y, X_test, y_test = rows
    X, y = X[:400], y[:400]
    learner = RobustDatasetLearner(eps=0.1, estimator=model, random_state=0)
    X_robust = learner.fit_transform(X, y)
    assert not learner.recipe_["tries_convex"]
    natural = robust_accuracy(model.fit(X, y), X_test, y_test)
    learned = robust_accuracy(model.fit(X_robust, y), X_test, y_test)
    assert learned >= natural - 0.04
