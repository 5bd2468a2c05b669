import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import ShuffleSplit, cross_validate, learning_curve

from robustfit import (
    PredictionRobustnessReport,
    RobustAccuracyScorer,
    TrainingSizeRobustnessDisplay,
    TransformRobustnessDisplay,
    WidthRobustnessDisplay,
    robustness_by_training_size,
    robustness_by_transform,
    robustness_by_width,
)
from robustfit.exceptions import NotDifferentiableError
from robustfit.image_transforms import BinarizeImages, SaturateImages, ScaleContrast
from robustfit.nets import LeNet5, default_classifier

SCORES = ["natural_accuracy", "robust_accuracy", "robustness_wrt_predictions"]
REPORT = PredictionRobustnessReport(eps=0.1, n_steps=5)
VARIANTS = {"original": None, "binarized": BinarizeImages()}


@pytest.fixture(scope="module")
def flat(digits):
    X, y, _, _ = digits
    return X.reshape(len(X), -1)[:200], y[:200]


@pytest.fixture
def model():
    return LogisticRegression(max_iter=200)


def test_variants_are_data_sets_of_their_own(flat, model):
    X, y = flat
    study = robustness_by_transform(model, VARIANTS, X, y, scoring=REPORT, cv=3)
    assert study.points == ["original", "binarized"]
    assert sorted(study.test_scores) == SCORES
    assert study.train_scores is None
    expected = cross_validate(
        model, BinarizeImages().fit_transform(X), y, scoring=REPORT, cv=3
    )
    np.testing.assert_array_equal(
        study.test_scores["robust_accuracy"][1], expected["test_robust_accuracy"]
    )
    assert not hasattr(model, "coef_")


def test_the_adversary_may_act_before_the_transform(flat, model):
    X, y = flat
    scaled = {"scaled": ScaleContrast(0.3)}
    after, before = (
        robustness_by_transform(
            model, scaled, X, y, attack_space=space, scoring=REPORT, cv=2
        ).test_scores["robust_accuracy"].mean()
        for space in ("transformed", "original")
    )  # fmt: skip
    assert after < before  # the same eps reaches further on smaller distances
    with pytest.raises(NotDifferentiableError, match="BinarizeImages"):
        robustness_by_transform(model, VARIANTS, X, y, attack_space="original", cv=2)


def test_random_splits_are_the_same_for_every_variant(flat, model):
    X, y = flat
    study = robustness_by_transform(
        model,
        {"a": None, "b": SaturateImages(2)},
        X,
        y,
        scoring=REPORT,
        cv=ShuffleSplit(2, random_state=np.random.RandomState(0)),
        return_train_score=True,
    )
    for scores in (*study.test_scores.values(), *study.train_scores.values()):
        assert scores.shape == (2, 2)
        np.testing.assert_array_equal(scores[0], scores[1])


def test_parallel_gives_the_same_numbers(digits, net):
    X, y, _, _ = digits
    net.set_params(max_epochs=3)
    options = {"scoring": REPORT, "cv": 2, "random_state": 1}
    serial, parallel = (
        robustness_by_transform(
            net, VARIANTS, X[:100], y[:100], n_jobs=n, **options
        ).test_scores
        for n in (1, 2)
    )
    for name in SCORES:
        np.testing.assert_array_equal(serial[name], parallel[name])


def test_one_scorer_instead_of_a_report(flat, model):
    study = robustness_by_transform(
        model, VARIANTS, *flat, scoring=RobustAccuracyScorer(eps=0.05, n_steps=3), cv=2
    )
    assert list(study.test_scores) == ["score"]


def test_widths_of_a_net(digits):
    X, y, _, _ = digits
    net = default_classifier((1, 8, 8), 10, max_epochs=1).set_params(
        module=LeNet5, module__widen_factor=1
    )
    study = robustness_by_width(
        net, X[:100], y[:100], widths=[0.125, 0.25], scoring=REPORT, cv=2
    )
    assert study.points == [0.125, 0.25]
    assert study.test_scores["robust_accuracy"].shape == (2, 2)


def test_training_sizes_against_learning_curve(flat, model):
    X, y = flat
    study = robustness_by_training_size(
        model, X, y, train_sizes=[30, 0.5, 1.0], scoring=REPORT, cv=2,
        return_train_score=True,
    )  # fmt: skip
    assert study.points == [30, 50, 100]
    scorer = RobustAccuracyScorer(eps=0.1, n_steps=5)
    _, train, test = learning_curve(
        model, X, y, train_sizes=[100], cv=2, scoring=scorer, error_score="raise"
    )
    # All rows of a fold, in another order: the same model up to its solver.
    np.testing.assert_allclose(
        study.test_scores["robust_accuracy"][2], test[0], atol=0.03
    )
    np.testing.assert_allclose(
        study.train_scores["robust_accuracy"][2], train[0], atol=0.03
    )
    again = robustness_by_training_size(
        model, X, y, train_sizes=[30], scoring=REPORT, cv=2
    )
    np.testing.assert_array_equal(
        again.test_scores["robust_accuracy"][0], study.test_scores["robust_accuracy"][0]
    )


@pytest.mark.parametrize("size", [0, 1000, 1.5])
def test_sizes_a_fold_does_not_have(flat, model, size):
    with pytest.raises(ValueError, match=f"train_sizes holds {size}"):
        robustness_by_training_size(model, *flat, train_sizes=[size], cv=2)


def test_bad_studies(flat, model):
    with pytest.raises(ValueError, match="attack_space is 'both'"):
        robustness_by_transform(model, VARIANTS, *flat, attack_space="both")
    with pytest.raises(ValueError, match="no points"):
        robustness_by_transform(model, {}, *flat)


def test_displays(flat, model):
    plt = pytest.importorskip("matplotlib.pyplot")
    X, y = flat
    _, ax = plt.subplots()
    display = TransformRobustnessDisplay.from_estimator(
        model, VARIANTS, X, y, scoring=REPORT, cv=2, return_train_score=True, ax=ax
    )
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    labels = [text.get_text() for text in ax.get_xticklabels()]
    assert labels == ["original", "binarized"]
    assert len(display.lines_) == 6
    np.testing.assert_array_equal(
        display.lines_[0].get_ydata(), display.test_scores["natural_accuracy"].mean(1)
    )
    sizes = TrainingSizeRobustnessDisplay.from_estimator(
        model, X, y, train_sizes=[20, 60], scoring=REPORT, cv=ShuffleSplit(1)
    )
    assert sizes.ax_.get_xscale() == "log"
    assert [t.get_text() for t in sizes.ax_.get_xticklabels()] == ["20", "60"]
    widths = WidthRobustnessDisplay.from_estimator(
        model, X, y, widths=[0.1, 1], param_name="C", scoring=REPORT, cv=2
    )
    assert list(widths.lines_[0].get_xdata()) == [0.1, 1]
    plt.close("all")
