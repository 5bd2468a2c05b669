"""Natural training on the learned set ends at the adversarially trained weights."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    StandardScaler,
    minmax_scale,
)
from sklearn.svm import SVC, LinearSVC

from robustfit import (
    ConvexDatasetLearner,
    RobustifiedClassifier,
    ThreatModel,
    is_convex,
    robust_accuracy_score,
)
from robustfit.exceptions import UnreachedOptimumWarning
from robustfit.robustifiers.convex_learning import learn_convex_set, learner

X_RAW, COLUMN = load_wine(return_X_y=True)
X = minmax_scale(X_RAW).astype("float32")
Y = np.array(["barolo", "grignolino", "barbera"])[COLUMN]
EXACT = {"tol": 1e-6, "max_iter": 2000}
TWO = Y != "barbera"

LEARNERS = {
    "softmax": LogisticRegression(**EXACT),
    "softmax, weak penalty": LogisticRegression(C=10, **EXACT),
    "softmax, no intercept": LogisticRegression(fit_intercept=False, **EXACT),
    "softmax, balanced": LogisticRegression(class_weight="balanced", **EXACT),
    "softmax, class weights": LogisticRegression(
        class_weight={"barolo": 3, "barbera": 0.5, "grignolino": 1}, **EXACT
    ),
    "hinge": LinearSVC(**EXACT),
    "ridge": RidgeClassifier(),
    "ridge, no intercept": RidgeClassifier(
        fit_intercept=False, class_weight="balanced"
    ),
    "standardised softmax": make_pipeline(
        StandardScaler(), LogisticRegression(**EXACT)
    ),
    "standardised, no intercept": make_pipeline(
        StandardScaler(), LogisticRegression(fit_intercept=False, **EXACT)
    ),
    "scaled hinge": make_pipeline(MinMaxScaler((-1, 1)), LinearSVC(**EXACT)),
    "scaled twice": make_pipeline(
        MaxAbsScaler(),
        "passthrough",
        StandardScaler(with_mean=False),
        RidgeClassifier(),
    ),
}


def weights(estimator):
    model = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    return np.column_stack(
        [model.coef_, np.broadcast_to(model.intercept_, len(model.coef_))]
    )


def assert_same_function(fitted, robust, X):
    assert_array_equal(fitted.classes_, robust.classes_)
    error = weights(fitted)[:, :-1] - weights(robust)[:, :-1]
    assert np.linalg.norm(error) < 1e-2 * np.linalg.norm(weights(robust))
    assert (fitted.predict(X) == robust.predict(X)).mean() > 0.99


@pytest.mark.parametrize("name", LEARNERS)
def test_natural_training_ends_at_the_robust_weights(name):
    estimator = LEARNERS[name]
    found = ConvexDatasetLearner(0.1, estimator=estimator).fit(X, Y)
    fitted = clone(estimator).fit(found.X_robust_, found.y_robust_)
    assert_same_function(fitted, found.robust_estimator_, X)
    assert found.gradient_norm_ <= 1e-3
    accuracy = [
        robust_accuracy_score(model, X, Y, loss="margin", n_steps=10, eps=0.1)
        for model in (clone(estimator).fit(X, Y), found.robust_estimator_, fitted)
    ]
    assert abs(accuracy[2] - accuracy[1]) <= 0.01
    assert accuracy[2] >= accuracy[0]
    assert found.X_robust_.min() >= 0
    assert found.X_robust_.max() <= 1


@pytest.mark.parametrize("solver", ["lbfgs", "liblinear", "newton-cholesky"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_two_classes_and_a_penalised_intercept(solver, norm):
    estimator = LogisticRegression(solver=solver, intercept_scaling=3, **EXACT)
    found = ConvexDatasetLearner(0.15, norm, estimator=estimator).fit(X[TWO], Y[TWO])
    fitted = clone(estimator).fit(found.X_robust_, Y[TWO])
    assert weights(found.robust_estimator_).shape == (1, 14)
    assert_same_function(fitted, found.robust_estimator_, X[TWO])
    assert found.weight_error_ < 1e-2


def test_sample_weights():
    weight = np.random.default_rng(0).random(len(X)) * 3
    pipe = make_pipeline(StandardScaler(), LogisticRegression(**EXACT))
    found = ConvexDatasetLearner(0.1, estimator=pipe).fit(X, Y, sample_weight=weight)
    rows = found.X_robust_
    fitted = clone(pipe).fit(rows, Y, logisticregression__sample_weight=weight)
    assert_same_function(fitted, found.robust_estimator_, X)
    unweighted = clone(pipe).fit(rows, Y)
    assert np.abs(weights(unweighted) - weights(found.robust_estimator_)).max() > 0.05
    assert not hasattr(found, "_weights")


def test_closed_form_of_one_feature():
    # min_w n/2 (1 - w (1 - eps))^2 + alpha/2 w^2, the robust ridge on x = y = +-1.
    x, alpha, eps, n = np.repeat([[-1.0], [1.0]], 5, axis=0), 3.0, 0.4, 10
    ridge = RidgeClassifier(alpha, fit_intercept=False)
    found = ConvexDatasetLearner(eps, clip_range=None, estimator=ridge, tol=1e-6)
    x_robust = found.fit_transform(x, x[:, 0]).astype(float)
    robust = (1 - eps) / ((1 - eps) ** 2 + alpha / n)
    assert_allclose(found.robust_estimator_.coef_, robust, rtol=5e-3)  # smoothed
    natural = (x_robust * x).sum() / ((x_robust**2).sum() + alpha)
    assert_allclose(natural, found.robust_estimator_.coef_.item(), rtol=1e-4)
    assert robust > 1.1 * n / (n + alpha)  # what natural training on x ends at


@pytest.mark.parametrize("seed", range(2))
def test_what_is_left_of_the_gradient_bounds_the_error(seed):
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(X), 60, replace=False)
    exact = LogisticRegression(
        solver="newton-cholesky", fit_intercept=False, tol=1e-8, max_iter=1000
    )
    found = ConvexDatasetLearner(0.1, estimator=exact, tol=0.3).fit(X[rows], Y[rows])
    fitted = clone(exact).fit(found.X_robust_.astype(float), Y[rows])
    target = found.robust_estimator_.coef_
    error = np.linalg.norm(fitted.coef_ - target) / np.linalg.norm(target)
    assert 1e-4 < error <= found.gradient_norm_ <= 0.3


def test_no_budget_leaves_the_set_alone():
    found = ConvexDatasetLearner(0, estimator=LogisticRegression(**EXACT)).fit(X, Y)
    assert found.distance_max_ < 1e-3
    assert found.weight_error_ < 1e-2


def test_it_moves_images_of_any_shape_and_keeps_the_rows():
    rows, labels = X[TWO, :12], Y[TWO]
    flat = ConvexDatasetLearner(0.1).fit(rows, labels)
    images = ConvexDatasetLearner(0.1).fit(rows.reshape(-1, 1, 3, 4), labels)
    assert images.X_robust_.shape == (130, 1, 3, 4)
    assert_array_equal(images.X_robust_.reshape(130, -1), flat.X_robust_)
    assert_array_equal(images.sample_indices_, np.arange(130))
    change = np.abs(flat.X_robust_ - rows)
    assert_allclose(
        [flat.distance_mean_, flat.distance_max_], [change.mean(), change.max()]
    )


def test_in_pipelines():
    found = ConvexDatasetLearner(0.1)
    pipe = Pipeline([("robustify", found), ("clf", LogisticRegression(**EXACT))])
    pipe.fit(X, Y, robustify__sample_weight=np.ones(len(X)))
    model = RobustifiedClassifier(found, LogisticRegression(**EXACT)).fit(X, Y)
    assert_same_function(pipe["clf"], pipe["robustify"].robust_estimator_, X)
    assert_array_equal(pipe.predict(X), model.predict(X))
    threat = ThreatModel("linf", 0.1)
    rows = learn_convex_set(LogisticRegression(), X, Y, threat, seed=3)
    assert_array_equal(rows, pipe["robustify"].X_robust_)


class Stop(KeyboardInterrupt):
    pass


def stop_in_round(number, monkeypatch):
    original, calls = learner.search_one_round, []

    def search(*arguments, **options):
        calls.append(1)
        if len(calls) == number:
            raise Stop
        return original(*arguments, **options)

    monkeypatch.setattr(learner, "search_one_round", search)
    return calls


def test_an_interrupted_fit_keeps_its_set_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(learner, "_ROUND", 3)
    whole = ConvexDatasetLearner(0.1).fit(X[TWO], Y[TWO])
    stopped = ConvexDatasetLearner(0.1, checkpoint=tmp_path)
    with monkeypatch.context() as patch:
        stop_in_round(3, patch)
        with pytest.raises(Stop):
            stopped.fit(X[TWO], Y[TWO])
    assert stopped.n_iter_ == 6
    assert stopped.X_robust_.shape == X[TWO].shape
    assert 1e-3 < stopped.gradient_norm_ < 1
    calls = stop_in_round(None, monkeypatch)
    resumed = clone(stopped).fit(X[TWO], Y[TWO])
    assert len(calls) == whole.n_iter_ / 3 - 2
    assert_array_equal(resumed.X_robust_, whole.X_robust_)
    assert_array_equal(
        weights(resumed.robust_estimator_), weights(whole.robust_estimator_)
    )


def test_it_says_how_far_it_got():
    found = ConvexDatasetLearner(0.1, max_iter=3)
    with pytest.warns(
        UnreachedOptimumWarning, match=r"after 3 iterations.*tol=0.001"
    ) as w:
        found.fit(X, Y)
    assert w[0].filename == __file__
    assert found.n_iter_ == 3
    assert found.gradient_norm_ > 1e-3
    assert f"{found.gradient_norm_:.2g} of" in str(w[0].message)


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (LogisticRegression(), None),
        (LogisticRegression(C=np.inf), "C is inf"),
        (LogisticRegression(l1_ratio=0.5), "l1_ratio is 0.5"),
        (LinearSVC(loss="hinge"), "loss is 'hinge'"),
        (LinearSVC(multi_class="crammer_singer"), "multi_class"),
        (RidgeClassifier(alpha=0), "alpha is 0"),
        (RidgeClassifier(positive=True), "positive is True"),
        (SGDClassifier(), "loss is 'hinge'"),
        (SGDClassifier("log_loss"), None),
        (SGDClassifier("log_loss", early_stopping=True), "early_stopping"),
        (SGDClassifier("log_loss", penalty="l1"), "penalty is 'l1'"),
        (SVC(), "SVC minimises no smooth convex loss"),
        (make_pipeline(StandardScaler(), LogisticRegression()), None),
        (make_pipeline(None, LogisticRegression()), None),
        (make_pipeline(Normalizer(), LogisticRegression()), "no affine scaler"),
        (make_pipeline(MinMaxScaler(clip=True), RidgeClassifier()), "no affine scaler"),
    ],
)
def test_what_is_convex(estimator, expected):
    assert is_convex(estimator) == (expected is None)
    if expected is not None:
        with pytest.raises(ValueError, match=expected):
            ConvexDatasetLearner(estimator=estimator).fit(X, Y)


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (np.ones(3), r"shape \(3,\); expected \(178,\)"),
        (-np.ones(178), r"\[-1, -1\]; expected finite weights >= 0"),
        (np.zeros(178), "not all of them zero"),
        (np.full(178, np.nan), "finite"),
    ],
)
def test_bad_sample_weights(weight, match):
    with pytest.raises(ValueError, match=match):
        ConvexDatasetLearner().fit(X, Y, sample_weight=weight)


@pytest.mark.parametrize("budget", [{"eps": 0.9}, {"eps": 50, "norm": "l2"}])
def test_a_budget_that_leaves_nothing(budget):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the unit of eps looks wrong, as it is
        with pytest.raises(ValueError, match="linear function of X is a const"):
            ConvexDatasetLearner(**budget).fit(X, Y)


def test_few_rows_and_a_noisy_solver():
    two = X[[0, 100]], Y[[0, 100]]
    assert ConvexDatasetLearner(0.1).fit(*two).gradient_norm_ <= 1e-3
    noisy = SGDClassifier("log_loss", alpha=0.1)
    found = [
        ConvexDatasetLearner(0.1, estimator=noisy, random_state=0).fit(X[TWO], Y[TWO])
        for _ in range(2)
    ]
    assert found[0].weight_error_ == found[1].weight_error_ < 0.2
