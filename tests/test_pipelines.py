"""The lines of the quick start, as a user would write them."""

import pickle

import numpy as np
import pytest
from imblearn.pipeline import Pipeline as SamplerPipeline
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline

from robustfit import (
    RobustAccuracyScorer,
    RobustDatasetLearner,
    as_sampler,
    as_torch,
    robust_accuracy_score,
)
from robustfit.nets import default_classifier


@pytest.fixture
def pipe():
    net = default_classifier((1, 8, 8), 10, max_epochs=30)
    learner = RobustDatasetLearner(eps=8 / 255, n_candidates=1, random_state=0)
    return Pipeline([("robustify", learner), ("clf", net)])


@pytest.mark.parametrize("as_rows", [False, True])
def test_fit_predict_and_cross_validate(digits, pipe, as_rows):
    X, y, X_test, _ = digits
    if as_rows:
        X, X_test = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
    assert pipe.fit(X, y).predict(X_test).shape == (100,)
    scores = cross_val_score(
        pipe, X, y, cv=2, error_score="raise",
        scoring=RobustAccuracyScorer(attack="pgd", eps=8 / 255, n_steps=5),
    )  # fmt: skip
    assert ((scores > 0.1) & (scores <= 1)).all()


def test_cross_validated_autoattack_in_two_processes(digits, pipe):
    X, y, _, _ = digits
    X, y = X[:60], y[:60]
    scorer = RobustAccuracyScorer(
        attack="autoattack", eps=8 / 255, version=["apgd-ce", "apgd-t"]
    )
    scores = cross_val_score(
        pipe, X, y, cv=2, scoring=scorer, n_jobs=2, error_score="raise"
    )
    assert ((scores >= 0) & (scores < 1)).all()


def test_grid_search_over_eps(digits, pipe):
    X, y, _, _ = digits
    search = GridSearchCV(
        pipe, {"robustify__eps": [0.02, 0.2]}, cv=2, error_score="raise",
        scoring=RobustAccuracyScorer(eps=8 / 255, n_steps=3),
    ).fit(X, y)  # fmt: skip
    assert search.best_params_["robustify__eps"] in (0.02, 0.2)
    assert robust_accuracy_score(search, X[:20], y[:20], eps=0) > 0


def test_memory_caches_the_learned_set(digits, tmp_path, monkeypatch):
    X, y, _, _ = digits
    learner = RobustDatasetLearner(n_candidates=1, random_state=0)
    pipe = Pipeline(
        [("robustify", learner), ("clf", LogisticRegression(max_iter=50))],
        memory=str(tmp_path),
    )
    X = X.reshape(len(X), -1)
    pipe.fit(X, y)
    monkeypatch.setattr(
        RobustDatasetLearner, "_learn", lambda *a: pytest.fail("learned again")
    )
    pipe.set_params(clf__C=0.5).fit(X, y)


def test_clone_and_pickle(digits, pipe):
    X, y, X_test, _ = digits
    pipe.fit(X, y)
    restored = pickle.loads(pickle.dumps(pipe))
    np.testing.assert_array_equal(restored.predict(X_test), pipe.predict(X_test))
    assert not hasattr(clone(pipe)[0], "X_robust_")


def test_imbalanced_learn_pipeline(digits):
    X, y, X_test, y_test = digits
    X, X_test = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
    learner = RobustDatasetLearner(fraction=0.5, n_candidates=1, random_state=0)
    pipe = SamplerPipeline(
        [("robustify", as_sampler(learner)), ("clf", LogisticRegression(max_iter=200))]
    )
    pipe.fit(X, y)
    assert pipe.score(X_test, y_test) > 0.7


def test_attacks_see_through_a_sampler_pipeline(digits):
    X, y, _, _ = digits
    X = X.reshape(len(X), -1)
    learner = RobustDatasetLearner(fraction=0.5, n_candidates=1, random_state=0)
    pipe = SamplerPipeline(
        [("robustify", as_sampler(learner)), ("clf", LogisticRegression(max_iter=200))]
    ).fit(X, y)
    assert as_torch(pipe).classes.tolist() == list(range(10))
