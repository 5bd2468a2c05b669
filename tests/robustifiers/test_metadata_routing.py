"""Sample weights and other metadata reach the classifier, row by learned row."""

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from robustfit import (
    AdversarialClassifier,
    NoisyDataset,
    RobustifiedClassifier,
)
from robustfit.nets import default_classifier

X, y = load_breast_cancer(return_X_y=True)
X = StandardScaler().fit_transform(X)[:200].astype(np.float32)
y = np.array(["benign", "malignant"])[y[:200]]
WEIGHT = np.linspace(0.1, 3.0, 200)
NOISY = NoisyDataset(0.1, clip_range=None, random_state=0)


class Recorder(ClassifierMixin, BaseEstimator):
    """Keeps what its fit is given."""

    def fit(self, X, y, sample_weight=None, name=None):
        self.classes_ = np.unique(y)
        self.given_ = X, y, sample_weight, name
        return self

    def predict(self, X):
        return np.zeros(len(X), dtype=int)


class EveryThird(NoisyDataset):
    """A robustifier that learns a set of other rows."""

    def _learn(self, X, y, image_shape, threat_model):
        super()._learn(X, y, image_shape, threat_model)
        self.sample_indices_ = np.arange(0, len(X), 3)[::-1]
        self.X_robust_ = self.X_robust_[self.sample_indices_]
        self.y_robust_ = self.y_robust_[self.sample_indices_]

    def _changes_rows_or_labels(self):
        return True


def test_weights_are_those_of_training_on_the_learned_set():
    model = RobustifiedClassifier(NOISY, LogisticRegression())
    model.fit(X, y, sample_weight=WEIGHT)
    plain = LogisticRegression().fit(model.robustifier_.X_robust_, y, WEIGHT)
    np.testing.assert_allclose(model.classifier_.coef_, plain.coef_, atol=1e-6)
    without = RobustifiedClassifier(NOISY, LogisticRegression()).fit(X, y)
    assert abs(without.classifier_.coef_ - plain.coef_).max() > 1e-3


def test_weights_follow_the_rows_of_a_fraction():
    model = RobustifiedClassifier(EveryThird(clip_range=None), Recorder())
    model.fit(X, y, sample_weight=WEIGHT, name="abc")
    X_robust, _, weight, name = model.classifier_.given_
    assert len(X_robust) == len(weight) == 67
    np.testing.assert_array_equal(weight, WEIGHT[model.robustifier_.sample_indices_])
    assert name == "abc"


@pytest.mark.parametrize(
    "classifier", [KNeighborsClassifier(), default_classifier((30,), 2)]
)
def test_a_classifier_without_weights_is_named_before_any_work(classifier):
    model = RobustifiedClassifier(NOISY, classifier)
    with pytest.raises(TypeError, match=r"sample_weight, which .* does not take"):
        model.fit(X, y, sample_weight=WEIGHT)
    assert not hasattr(model, "robustifier_")


def test_routing_gives_each_what_it_requests():
    with sklearn.config_context(enable_metadata_routing=True):
        recorder = Recorder().set_fit_request(sample_weight=True, name=False)
        model = RobustifiedClassifier(NOISY, recorder)
        model.fit(X, y, sample_weight=WEIGHT)
        np.testing.assert_array_equal(model.classifier_.given_[2], WEIGHT)
        pipeline = make_pipeline(
            StandardScaler().set_fit_request(sample_weight=False), model
        )
        accuracy = get_scorer("accuracy").set_score_request(sample_weight=False)
        scores = cross_validate(
            pipeline, X, y, cv=2, scoring=accuracy, error_score="raise",
            params={"sample_weight": WEIGHT}, return_estimator=True,
        )  # fmt: skip
        for fitted in scores["estimator"]:
            assert len(fitted[-1].classifier_.given_[2]) == 100
        with pytest.raises(UnsetMetadataPassedError):
            RobustifiedClassifier(NOISY, Recorder()).fit(X, y, sample_weight=WEIGHT)


def train(weight=None, **parameters):
    model = AdversarialClassifier(
        0.1, clip_range=None, n_steps=1, n_epochs=3, random_state=0, **parameters
    )
    return model.fit(X, y, sample_weight=weight)


def test_rows_without_weight_are_not_trained_on():
    malignant = y == "malignant"
    model = train(np.where(malignant, 2.0, 0.0))
    assert (model.predict(X) == "malignant").all()


def test_equal_weights_are_none_and_others_are_the_same_bytes_again(tmp_path):
    plain = train().predict_proba(X)
    np.testing.assert_array_equal(train(np.full(200, 7.0)).predict_proba(X), plain)
    weighted = train(WEIGHT, checkpoint=tmp_path).predict_proba(X)
    np.testing.assert_array_equal(train(WEIGHT).predict_proba(X), weighted)
    assert not np.array_equal(weighted, plain)
    # Another fit, not the one that was saved.
    again = train(checkpoint=tmp_path).predict_proba(X)
    np.testing.assert_array_equal(again, plain)
    assert len(list(tmp_path.iterdir())) == 2


def test_weights_of_held_out_rows_are_held_out():
    model = train(WEIGHT, early_stopping=True)
    assert "robust_accuracy" in model.history_[-1]


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (WEIGHT[:5], r"expected \(200,\)"),
        (np.zeros(200), "not all of them 0"),
        (WEIGHT - 1, "numbers >= 0"),
        (WEIGHT * np.nan, "NaN"),
    ],
)
def test_bad_weights_are_named(weight, message):
    with pytest.raises(ValueError, match=message):
        train(weight)
    with pytest.raises(TypeError, match="takes sample_weight only"):
        AdversarialClassifier(clip_range=None).fit(X, y, weights=weight)


def test_adversarial_training_requests_weights_by_routing():
    with sklearn.config_context(enable_metadata_routing=True):
        model = AdversarialClassifier(
            0.1, clip_range=None, n_steps=1, n_epochs=3, random_state=0
        ).set_fit_request(sample_weight=True)
        weight = np.where(y == "malignant", 2.0, 0.0)
        pipeline = make_pipeline(
            StandardScaler().set_fit_request(sample_weight=False), model
        )
        pipeline.fit(X, y, sample_weight=weight)
        assert (pipeline.predict(X) == "malignant").all()
