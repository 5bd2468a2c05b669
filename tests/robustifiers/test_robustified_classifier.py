import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from robustfit import (
    AdversarialRelabeler,
    NoisyDataset,
    RobustDatasetLearner,
    RobustifiedClassifier,
    RobustSampler,
    as_sampler,
    as_torch,
    attack_estimator,
)
from robustfit.nets import MLP, default_classifier


def quick(**parameters):
    defaults = {"eps": 0.1, "n_candidates": 1, "n_rounds": 2, "random_state": 0}
    return RobustDatasetLearner(**defaults | parameters)


def test_string_labels_around_a_skorch_net(digits, net):
    X, y, X_test, y_test = digits
    names = np.array(list("jihgfedcba"))
    model = RobustifiedClassifier(quick(), net, random_state=0).fit(X, names[y])
    assert list(model.classes_) == sorted(names)
    assert model.score(X_test, names[y_test]) > 0.5
    assert model.predict_proba(X_test).shape == (100, 10)
    with torch.no_grad():
        column = as_torch(model)(torch.tensor(X_test)).argmax(1).numpy()
    np.testing.assert_array_equal(model.classes_[column], model.predict(X_test))


def test_float64_and_flat_rows(digits):
    X, y, _, _ = digits
    X = X.reshape(len(X), -1).astype(np.float64)
    model = RobustifiedClassifier(quick(), LogisticRegression(max_iter=200)).fit(X, y)
    assert model.n_features_in_ == 64
    assert model.decision_function(X[:2]).shape == (2, 10)
    assert model.predict(X[:1]).shape == (1,)


def test_a_fraction_trains_on_fewer_rows(digits, net):
    X, y, _, _ = digits
    model = RobustifiedClassifier(quick(fraction=0.25), net).fit(X, y)
    assert len(model.robustifier_.X_robust_) == pytest.approx(100, abs=5)


def test_learned_soft_labels_reach_the_net(digits, net):
    X, y, _, _ = digits

    class Soft(RobustDatasetLearner):
        def _learn(self, *args):
            super()._learn(*args)
            hard = np.eye(10, dtype=np.float32)[self.y_robust_]
            self.y_robust_ = 0.9 * hard + 0.01

    soft = Soft(eps=0.1, n_candidates=1, random_state=0)
    model = RobustifiedClassifier(soft, net, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.5
    with pytest.raises(TypeError, match="labels are soft"):
        RobustifiedClassifier(soft, LogisticRegression()).fit(X, y)


def test_fine_tuning_starts_from_theta_0(digits, net):
    X, y, _, _ = digits
    net.set_params(lr=1e-9)  # so that training on the set changes nothing
    learner = quick(estimator=default_classifier((1, 8, 8), 10, max_epochs=15))
    model = RobustifiedClassifier(learner, net, fine_tune=True).fit(X, y)
    theta_0 = model.robustifier_.estimator_.module_.state_dict()
    for name, weight in model.classifier_.module_.state_dict().items():
        torch.testing.assert_close(weight, theta_0[name], atol=1e-5, rtol=0)
    assert model.robustifier_.protocol == "fine-tune"  # "auto" was told
    assert learner.protocol == "auto"  # and the user's own object was not touched


def test_fine_tuning_learns_with_the_classifier_itself_by_default(digits, net):
    X, y, _, _ = digits
    model = RobustifiedClassifier(quick(), net, fine_tune=True).fit(X[:80], y[:80])
    assert model.robustifier_.estimator_.max_epochs == net.max_epochs


def test_fine_tuning_another_architecture_trains_it_naturally_first(digits):
    X, y, _, _ = digits
    mlp = default_classifier((64,), 10, max_epochs=10)
    assert mlp.module is MLP
    learner = quick(estimator=default_classifier((1, 8, 8), 10, max_epochs=2))
    model = RobustifiedClassifier(learner, mlp, fine_tune=True, random_state=0)
    model.fit(X, y)
    assert len(model.classifier_.history) == 20  # natural epochs, then fine-tuning
    assert model.score(X, y) > 0.7


def test_fine_tuning_needs_a_net(digits):
    X, y, _, _ = digits
    model = RobustifiedClassifier(quick(), LogisticRegression(), fine_tune=True)
    with pytest.raises(TypeError, match="fine_tune=True needs a skorch net"):
        model.fit(X, y)


def test_same_seed_same_predictions(digits, net):
    X, y, X_test, _ = digits
    first, second = (
        RobustifiedClassifier(quick(), net, random_state=4).fit(X, y) for _ in range(2)
    )
    np.testing.assert_array_equal(
        first.predict_proba(X_test), second.predict_proba(X_test)
    )


def test_grid_search_over_the_robustifier(digits):
    X, y, _, _ = digits
    X = X.reshape(len(X), -1)
    model = RobustifiedClassifier(quick(), LogisticRegression(max_iter=100))
    grid = {"robustifier__fraction": [0.2, 1.0], "fine_tune": [False]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, y)
    assert search.best_params_["robustifier__fraction"] in (0.2, 1.0)


def test_sampler_returns_the_learned_set(digits):
    X, y, _, _ = digits
    sampler = clone(as_sampler(quick(fraction=0.2)))
    assert isinstance(sampler, RobustSampler)
    assert not hasattr(sampler, "transform")
    X_robust, y_robust = sampler.fit_resample(X, y)
    assert len(X_robust) == len(y_robust) == len(sampler.sample_indices_)
    assert sampler.get_params()["robustifier__fraction"] == 0.2


def test_a_class_that_the_learned_set_lacks_shifts_no_label(digits):
    class WithoutOne(RobustDatasetLearner):
        def _learn(self, *args):
            super()._learn(*args)
            kept = self.y_robust_ != "b"
            self.X_robust_, self.y_robust_ = self.X_robust_[kept], self.y_robust_[kept]

    X, y, _, _ = digits
    X, y = X[y < 3].reshape(-1, 64), np.array(list("abc"))[y[y < 3]]
    learner = WithoutOne(eps=0.1, n_candidates=1, random_state=0)
    model = RobustifiedClassifier(learner, LogisticRegression(max_iter=200)).fit(X, y)
    classifier = as_torch(model)
    assert classifier.classes.tolist() == ["a", "c"]
    np.testing.assert_array_equal(
        classifier.classes[classifier.columns(X)], model.predict(X)
    )


class _Halves(NoisyDataset):
    """A robustifier whose learned labels are those of the even classes only."""

    def fit(self, X, y):
        super().fit(X, y)
        even = self.classes_[::2]
        place = np.searchsorted(self.classes_, self.y_robust_)
        self.y_robust_ = even[place // 2 % self.n_kept]
        return self

    n_kept = 5


@pytest.mark.parametrize("n_kept", [2, 5])
@pytest.mark.parametrize(
    "classifier",
    [LogisticRegression(max_iter=500), SVC(break_ties=True), RandomForestClassifier(5)],
)
def test_columns_of_classes_that_the_learned_set_lacks(digits, n_kept, classifier):
    X, y, X_test, y_test = digits
    X, X_test = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
    names = np.array(list("jihgfedcba"))
    robustifier = _Halves(eps=0.01, random_state=0)
    with pytest.MonkeyPatch.context() as patch:  # clones read the class
        patch.setattr(_Halves, "n_kept", n_kept)
        model = RobustifiedClassifier(robustifier, classifier).fit(X, names[y])
    predicted = model.predict(X_test)
    assert len(model.classifier_.classes_) == n_kept
    for method in ("predict_proba", "decision_function"):
        if hasattr(model, method):
            values = getattr(model, method)(X_test)
            assert values.shape == (len(X_test), 10)
            np.testing.assert_array_equal(model.classes_[values.argmax(1)], predicted)
            assert (np.isfinite(values) & (values != 0)).any(0).sum() == n_kept
    for attack in ("pgd", "square"):
        if attack == "square" or not isinstance(classifier, RandomForestClassifier):
            result = attack_estimator(
                model, X_test, names[y_test], attack=attack, eps=0
            )
            assert result.natural_accuracy == model.score(X_test, names[y_test])


def test_a_relabelled_dozen(digits):
    X, y, X_test, _ = digits
    X, X_test = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
    relabeler = AdversarialRelabeler(random_state=0)
    model = RobustifiedClassifier(relabeler, LogisticRegression()).fit(X[:12], y[:12])
    assert len(model.classifier_.classes_) < 10
    probabilities = model.predict_proba(X_test)
    assert probabilities.shape == (len(X_test), 10)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(1), model.predict(X_test))
