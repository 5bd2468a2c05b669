import pickle

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

from robustfit import (
    AdversarialClassifier,
    AdversarialRelabeler,
    NonRobustFeatureExtractor,
    RobustFeatureExtractor,
    RobustifiedClassifier,
    as_sampler,
    as_torch,
)
from robustfit.exceptions import (
    NotDifferentiableError,
    PixelRangeError,
    RewrittenRowsError,
)
from robustfit.nets import SmallCNN, default_classifier
from robustfit.robustifiers.features.representation_inversion import (
    RepresentationInversion,
    StartImages,
    default_step_size,
)
from robustfit.sklearn_to_torch.representation import Representation
from robustfit.threat_model import ThreatModel


@pytest.fixture(scope="module")
def small_digits(digits):
    X, y, X_test, _ = digits
    return X[:60], y[:60], X_test[:20]


@pytest.fixture
def extractor(fitted_net):
    return RobustFeatureExtractor(estimator=fitted_net, n_steps=30, random_state=0)


class TwoFeatures(nn.Module):
    """A net whose representation is the first two of four inputs."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(2, 2)

    def forward(self, x):
        return self.head(x[:, :2])


# --- the representation layer -----------------------------------------------------


def test_representation_is_what_the_last_layer_reads(fitted_net, digits):
    x = torch.tensor(digits[2][:5])
    module = fitted_net.module_.eval()
    found = Representation(fitted_net)(x)
    assert torch.equal(found, module.features(x))
    assert torch.equal(Representation(fitted_net, "features")(x), found)
    assert torch.equal(Representation(fitted_net, "head")(x), module(x))


def test_unknown_layer_is_named(extractor, small_digits):
    X, y, _ = small_digits
    with pytest.raises(ValueError, match=r"layer is 'penultimate'.*features"):
        extractor.set_params(layer="penultimate").fit(X, y)


def test_a_net_without_a_last_linear_layer_asks_for_a_name(small_digits):
    X, y, _ = small_digits
    net = nn.Sequential(
        nn.Conv2d(1, 10, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    extractor = RobustFeatureExtractor(estimator=net, n_steps=2)
    with pytest.raises(TypeError, match="layer="):
        extractor.fit(X, y)
    assert extractor.set_params(layer="1").fit(X, y).X_robust_.shape == X.shape


# --- the inversion ---------------------------------------------------------------


def test_inversion_copies_the_features_and_keeps_the_rest_of_the_start():
    x = torch.tensor([[0.9, 0.2, 0.3, 0.3], [0.1, 0.6, 0.5, 0.5]])
    start = torch.tensor([[0.1, 0.8, 0.7, 0.0], [0.5, 0.5, 0.2, 1.0]])
    x_r = RepresentationInversion(None, n_steps=1000, step_size=0.005)(
        as_torch(TwoFeatures()), x, start, ThreatModel("linf", 1.0)
    )
    assert torch.allclose(x_r[:, :2], x[:, :2], atol=0.006)  # a step's length
    assert torch.equal(x_r[:, 2:], start[:, 2:])


def test_steps_have_the_given_l2_length():
    x, start = torch.tensor([[0.9, 0.9, 0.0, 0.0]]), torch.full((1, 4), 0.5)
    for n_steps, expected in [(1, 0.03), (5, 0.15)]:
        x_r = RepresentationInversion(None, n_steps, 0.03)(
            as_torch(TwoFeatures()), x, start, ThreatModel("linf", 1.0)
        )
        moved = float((x_r - start).norm())
        assert moved == pytest.approx(expected, abs=1e-5)


def test_inversion_stays_in_the_range_and_stops_at_a_perfect_match():
    x = torch.tensor([[2.0, -1.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    start = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.1, 0.2]])
    x_r = RepresentationInversion(None, 50, 0.1)(
        as_torch(TwoFeatures()), x, start, ThreatModel("linf", 1.0)
    )
    assert x_r[0].tolist() == [1.0, 0.0, 0.5, 0.5]
    assert torch.equal(x_r[1], start[1])  # zero gradient, and no NaN


def test_default_step_is_the_papers_on_cifar_10():
    assert default_step_size(3072, 1000, (0, 1)) == pytest.approx(0.1)
    assert default_step_size(3072, 1000, (-1, 1)) == pytest.approx(0.2)
    assert default_step_size(768, 1000, None) == pytest.approx(0.05)


def test_start_images_come_from_the_pool_and_are_others():
    pool = np.arange(12, dtype=np.float32).reshape(6, 2) / 12
    rows = np.repeat(np.arange(6), 50)
    start = StartImages("images", pool, seed=0).draw(
        pool[rows], np.tile(np.arange(50), 6), ThreatModel()
    )
    drawn = (start[:, None] == pool[None]).all(2).argmax(1)
    assert np.array_equal(pool[drawn], start)
    assert (drawn != rows).all()
    counts = np.bincount(drawn, minlength=6)
    assert counts.min() > 25  # 50 expected: every image of the pool is drawn


def test_noise_starts_have_the_pools_mean_and_spread(digits):
    X = digits[0]
    start = StartImages("noise", X, seed=0).draw(
        X, np.zeros(len(X), int), ThreatModel(clip_range=None)
    )
    assert start.mean() == pytest.approx(X.mean(), abs=0.01)
    assert start.std() == pytest.approx(X.std(), abs=0.01)


# --- the extractors --------------------------------------------------------------


@pytest.mark.parametrize("start", ["images", "noise"])
def test_learned_images_look_the_same_to_the_net_only(extractor, small_digits, start):
    X, y, _ = small_digits
    extractor.set_params(start=start, n_steps=200).fit(X, y)
    assert extractor.feature_error_.shape == (60,)
    assert extractor.feature_error_.mean() < 0.1
    assert extractor.X_robust_.min() >= 0
    assert extractor.X_robust_.max() <= 1
    assert np.array_equal(extractor.y_robust_, y)
    same = extractor.estimator.predict(extractor.X_robust_) == (
        extractor.estimator.predict(X)
    )
    assert same.mean() > 0.9
    assert not np.allclose(extractor.X_robust_, X, atol=0.1)


def test_more_steps_invert_better(extractor, small_digits):
    X, y, _ = small_digits
    errors = [
        extractor.set_params(n_steps=n).fit(X, y).feature_error_.mean()
        for n in (1, 20, 100)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_extract_does_on_the_training_set_what_fit_did(extractor, small_digits):
    X, y, X_test = small_digits
    X_robust = extractor.fit_transform(X, y)
    assert np.array_equal(extractor.extract(X), X_robust)
    assert extractor.extract(X_test).shape == X_test.shape
    assert np.array_equal(extractor.transform(X_test), X_test)


def test_samples_are_independent_of_batches_order_and_jobs(extractor, small_digits):
    X, y, _ = small_digits
    extractor.set_params(batch_size=20)
    X_robust = extractor.fit_transform(X, y)
    with parallel_config(backend="threading"):
        by_two = clone_with(extractor, n_jobs=2).fit_transform(X, y)
    assert np.array_equal(by_two, X_robust)
    other = clone_with(extractor, batch_size=7).fit_transform(X, y)
    assert np.allclose(other, X_robust, atol=1e-3)
    order = np.random.default_rng(0).permutation(len(X))
    assert np.allclose(extractor.extract(X[order]), X_robust[order], atol=1e-3)
    assert np.allclose(extractor.extract(X[3:4]), X_robust[3:4], atol=1e-3)


def clone_with(estimator, **parameters):
    """Clone an extractor around the same fitted net, with other parameters."""
    frozen = FrozenEstimator(estimator.estimator)
    return clone(estimator.set_params(estimator=frozen)).set_params(**parameters)


def test_same_seed_same_bytes(extractor, small_digits):
    X, y, _ = small_digits
    runs = [
        extractor.set_params(random_state=seed).fit_transform(X, y).tobytes()
        for seed in (0, 0, 1)
    ]
    assert runs[0] == runs[1] != runs[2]


def test_global_random_state_is_not_touched(small_digits):
    X, y, _ = small_digits
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    NonRobustFeatureExtractor(
        estimator=default_classifier((1, 8, 8), 10, max_epochs=1), n_steps=2
    ).fit(X, y)
    assert torch.equal(torch.rand(1), expected)


def test_several_starts_give_several_images_a_row(extractor, small_digits):
    X, y, _ = small_digits
    extractor.set_params(n_starts=3)
    with pytest.raises(RewrittenRowsError, match="RobustifiedClassifier"):
        extractor.fit_transform(X, y)
    extractor.fit(X, y)
    assert extractor.X_robust_.shape == (180, 1, 8, 8)
    assert np.array_equal(extractor.sample_indices_, np.tile(np.arange(60), 3))
    assert np.array_equal(extractor.y_robust_, np.tile(y, 3))
    first, second, _ = extractor.X_robust_.reshape(3, *X.shape)
    assert not np.allclose(first, second, atol=0.1)
    assert np.allclose(extractor.extract(X), first, atol=1e-3)


def test_a_fit_goes_on_where_it_was_interrupted(extractor, small_digits, tmp_path):
    X, y, _ = small_digits
    extractor.set_params(batch_size=20)
    expected = extractor.fit_transform(X, y)
    extractor.set_params(checkpoint=tmp_path)
    run, calls = extractor._run, []

    def run_twice(*arguments):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(arguments)
        return run(*arguments)

    extractor._run = run_twice
    with pytest.raises(KeyboardInterrupt):
        extractor.fit(X, y)
    assert np.array_equal(extractor.X_robust_, expected[:40])
    assert np.array_equal(extractor.y_robust_, y[:40])
    assert np.array_equal(extractor.sample_indices_, np.arange(40))
    del extractor._run
    assert len(list(tmp_path.glob("*.npz"))) == 1 + 2  # the seed, two chunks
    assert np.array_equal(extractor.fit_transform(X, y), expected)
    assert len(list(tmp_path.glob("*.npz"))) == 1 + 3


def test_a_fitted_net_is_known_again_by_its_weights(fitted_net, small_digits, tmp_path):
    X, y, _ = small_digits
    copied = pickle.loads(pickle.dumps(fitted_net))
    copied.module_.train()
    other = default_classifier((1, 8, 8), 10, max_epochs=1).fit(X, y)
    seeds = [
        RobustFeatureExtractor(estimator=net, n_steps=1, checkpoint=tmp_path)
        .fit(X, y)
        ._seed
        for net in (fitted_net, copied, other)
    ]
    assert seeds[0] == seeds[1] != seeds[2]


def test_verbose_says_how_far_it_is(extractor, small_digits, capsys):
    X, y, _ = small_digits
    extractor.set_params(verbose=1, n_steps=1, batch_size=30).fit(X, y)
    assert "[RobustFeatureExtractor] 2/2 to row 60" in capsys.readouterr().out


def test_the_fitted_net_is_left_as_it_was(extractor, small_digits):
    X, y, _ = small_digits
    module = extractor.estimator.module_
    before = [(p.clone(), p.grad.clone()) for p in module.parameters()]
    module.train()
    extractor.fit(X, y)
    assert module.training
    for (value, grad), parameter in zip(before, module.parameters(), strict=True):
        assert parameter.requires_grad
        assert torch.equal(parameter, value)
        assert torch.equal(parameter.grad, grad)


# --- where the net comes from ------------------------------------------------------


@pytest.mark.filterwarnings("ignore::robustfit.exceptions.CollapsedTrainingWarning")
def test_without_an_estimator_an_adversarial_classifier_is_trained(small_digits):
    X, y, _ = small_digits
    labels = np.array([f"digit {d}" for d in y])
    extractor = RobustFeatureExtractor(
        eps=0.02,
        estimator=AdversarialClassifier(eps=0.02, n_epochs=2, n_steps=2),
        n_steps=3,
        random_state=0,
    )
    assert set(extractor.fit(X, labels).y_robust_) <= set(labels)
    by_net = RobustFeatureExtractor(
        eps=0.02,
        estimator=default_classifier((1, 8, 8), 10, max_epochs=2),
        n_steps=3,
        random_state=0,
    ).fit(X, labels)
    by_default = RobustFeatureExtractor(eps=0.02, n_steps=2, random_state=0)
    by_default.fit(X[:20], labels[:20])
    for fitted in (extractor, by_net, by_default):
        assert isinstance(fitted.source_estimator_, AdversarialClassifier)
        assert fitted.source_estimator_.eps == 0.02


def test_a_naturally_trained_estimator_is_not_trained_by_mistake(small_digits):
    X, y, _ = small_digits
    with pytest.raises(NotFittedError, match="FrozenEstimator"):
        RobustFeatureExtractor(estimator=LogisticRegression()).fit(X, y)
    flat = X.reshape(60, -1)
    model = RobustFeatureExtractor(
        estimator=LogisticRegression().fit(flat, y), layer=None, n_steps=2
    )
    assert model.fit(flat, y).X_robust_.shape == flat.shape


def test_a_frozen_net_survives_meta_estimators(fitted_net, small_digits):
    X, y, X_test = small_digits
    extractor = RobustFeatureExtractor(
        estimator=FrozenEstimator(fitted_net), n_steps=5, n_starts=2, random_state=0
    )
    net = default_classifier((1, 8, 8), 10, max_epochs=1)
    model = RobustifiedClassifier(extractor, net, random_state=0).fit(X, y)
    assert model.robustifier_.source_estimator_.estimator is fitted_net
    assert model.predict(X_test).shape == (20,)
    pipeline = make_pipeline(clone(extractor).set_params(n_starts=1), net)
    assert pipeline.fit(X, y).predict(X_test).shape == (20,)
    assert as_sampler(extractor).fit_resample(X, y)[0].shape == (120, 1, 8, 8)


@pytest.mark.filterwarnings("ignore::robustfit.exceptions.CollapsedTrainingWarning")
def test_fine_tuning_does_not_start_from_the_robust_net(small_digits):
    X, y, _ = small_digits
    net = default_classifier((1, 8, 8), 10, max_epochs=1)
    extractor = RobustFeatureExtractor(
        0.02, estimator=AdversarialClassifier(0.02, n_epochs=1), n_steps=2
    )
    model = RobustifiedClassifier(extractor, net, fine_tune=True, random_state=0)
    model.fit(X, y)
    assert not hasattr(model.robustifier_, "estimator_")


def test_estimators_without_gradients_are_refused(small_digits):
    X, y, _ = small_digits
    flat = X.reshape(60, -1)
    forest = RandomForestClassifier(2, random_state=0).fit(flat, y)
    with pytest.raises(NotDifferentiableError):
        RobustFeatureExtractor(estimator=forest).fit(flat, y)


# --- what may be asked of any rewriter ----------------------------------------------


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (12,)])
@pytest.mark.parametrize("rewriter", [NonRobustFeatureExtractor, AdversarialRelabeler])
def test_any_shape_and_two_string_classes(shape, rewriter):
    X = np.random.default_rng(0).random((6, *shape))
    X.flags.writeable = False
    y = np.array(["cat", "dog"] * 3)
    learned = rewriter(n_steps=2, random_state=0).fit(X, y)
    assert learned.X_robust_.shape == X.shape
    assert learned.X_robust_.dtype == np.float32
    assert set(learned.y_robust_) <= {"cat", "dog"}


@pytest.mark.parametrize("rewriter", [RobustFeatureExtractor, AdversarialRelabeler])
def test_bad_input_is_refused_before_long_work(rewriter, fitted_net, small_digits):
    X, y, _ = small_digits
    model = rewriter(estimator=fitted_net)
    with pytest.raises(PixelRangeError, match="16"):
        model.fit(X * 16, y)
    with pytest.raises(ValueError, match="NaN"):
        model.fit(np.where(X > 0.5, np.nan, X), y)
    with pytest.raises(ValueError, match="n_steps"):
        rewriter(estimator=fitted_net, n_steps=0).fit(X, y)


def test_constant_images_and_one_row_to_extract(fitted_net):
    X = np.zeros((4, 1, 8, 8), dtype=np.float32)
    extractor = RobustFeatureExtractor(estimator=fitted_net, n_steps=3)
    extractor.fit(X, [0, 1, 0, 1])
    assert np.isfinite(extractor.X_robust_).all()
    assert np.isfinite(extractor.feature_error_).all()
    assert extractor.extract(X[:1]).shape == (1, 1, 8, 8)


# --- relabelled sets -----------------------------------------------------------------


def test_next_class_is_the_label_and_the_net_believes_it(fitted_net, small_digits):
    X, y, _ = small_digits
    relabeler = AdversarialRelabeler(
        2.0, "l2", estimator=fitted_net, target="next", random_state=0
    ).fit(X, y)
    assert np.array_equal(relabeler.y_robust_, (y + 1) % 10)
    assert (fitted_net.predict(relabeler.X_robust_) == relabeler.y_robust_).mean() > 0.9
    length = np.linalg.norm((relabeler.X_robust_ - X).reshape(len(X), -1), axis=1)
    assert length.max() <= 2 + 1e-4


def test_random_classes_are_uniform_and_do_not_depend_on_the_label(digits, fitted_net):
    X, y, _, _ = digits
    target = (
        AdversarialRelabeler(0.1, estimator=fitted_net, n_steps=1, random_state=0)
        .fit(X, y)
        .y_robust_
    )
    assert np.bincount(target, minlength=10).min() > 20  # 40 expected
    assert (target == y).mean() == pytest.approx(0.1, abs=0.06)


def test_budget_zero_leaves_the_images(fitted_net, small_digits):
    X, y, _ = small_digits
    relabeler = AdversarialRelabeler(0.0, estimator=fitted_net, n_steps=2).fit(X, y)
    assert np.array_equal(relabeler.X_robust_, X)


def test_changed_labels_go_through_robustified_classifier(fitted_net, small_digits):
    X, y, _ = small_digits
    labels = np.array([f"digit {d}" for d in y])
    relabeler = AdversarialRelabeler(
        0.1, estimator=default_classifier((1, 8, 8), 10, max_epochs=2), target="next",
        n_steps=2, random_state=0,
    )  # fmt: skip
    with pytest.raises(RewrittenRowsError, match="as_sampler"):
        relabeler.fit_transform(X, labels)
    with pytest.raises(ValueError, match="pass it unfitted"):
        clone(relabeler).set_params(estimator=fitted_net).fit(X, labels)
    model = RobustifiedClassifier(relabeler, clone(relabeler.estimator)).fit(X, labels)
    assert set(model.robustifier_.y_robust_) == set(labels)
    expected = [f"digit {(d + 1) % 10}" for d in y]
    assert list(model.robustifier_.y_robust_) == expected
    assert np.array_equal(as_sampler(relabeler).fit_resample(X, labels)[1], expected)


def test_jobs_do_not_change_the_relabelled_set(fitted_net, small_digits):
    X, y, _ = small_digits
    relabeler = AdversarialRelabeler(
        0.2, estimator=fitted_net, n_steps=5, batch_size=20, random_state=0
    )
    X_robust = relabeler.fit(X, y).X_robust_
    with parallel_config(backend="threading", n_jobs=2):
        assert np.array_equal(relabeler.fit(X, y).X_robust_, X_robust)


def test_module_takes_the_place_of_an_estimator(small_digits):
    X, y, _ = small_digits
    module = SmallCNN((1, 8, 8))
    extractor = NonRobustFeatureExtractor(estimator=module, n_steps=2).fit(X, y)
    assert extractor.source_estimator_ is module
