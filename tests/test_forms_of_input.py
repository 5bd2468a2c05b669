"""The same images in other forms give the same numbers, at every entry."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.utils.data import DataLoader, TensorDataset

from robustfit import (
    AdversarialClassifier,
    AdversarialDataset,
    GammaCorrect,
    KernelRegressionClassifier,
    NoisyDataset,
    RobustDatasetLearner,
    RobustnessReport,
    SaliencyDisplay,
    ThreatModel,
    attack_estimator,
    check_gradient_masking,
    inter_class_distance,
    minimal_distances,
    perturbable_volume,
    pixel_histogram,
    security_curve,
    transferability_matrix,
)
from robustfit.exceptions import ImageShapeError, PixelRangeError
from robustfit.kernels import FullyConnectedNTK
from robustfit.nets import MLP
from robustfit.theory import robust_usefulness

BUDGET = {"eps": 0.1}


class Adversarial(AdversarialClassifier):
    """Small and quick."""

    def __init__(self, eps=0.1, clip_range=(0.0, 1.0)):
        super().__init__(
            eps, clip_range=clip_range, estimator=MLP, n_steps=1, n_epochs=1,
            n_warmup_epochs=0, random_state=0,
        )  # fmt: skip


def learn(X, y, **options):
    learner = RobustDatasetLearner(
        estimator=small_net(), n_candidates=1, random_state=0, **BUDGET, **options
    )
    return learner.fit(X, y).X_robust_


def small_net():
    from robustfit.nets import default_classifier

    return default_classifier((64,), 10, max_epochs=1)


ATTACKING = {
    "attack": lambda m, X, y, **o: attack_estimator(m, X, y, **BUDGET, **o).X_adv,
    "square": lambda m, X, y, **o: attack_estimator(
        m, X, y, attack="square", **BUDGET, **o).X_adv,
    "report": lambda m, X, y, **o: [*RobustnessReport(
        version=["apgd-ce"], **BUDGET, **o)(m, X, y).values()],
    "curve": lambda m, X, y, **o: security_curve(m, X, y, n_steps=5, **o).distances,
    "distances": lambda m, X, y, **o: minimal_distances(m, X, y, n_steps=5, **o),
    "transfer": lambda m, X, y, **o: transferability_matrix(
        {"a": m}, X, y, **BUDGET, **o).rates,
    "saliency": lambda m, X, y, **o: SaliencyDisplay.from_estimators(
        m, X[:2], y[:2], image_shape=(1, 8, 8), **o).maps[type(m).__name__],
}  # fmt: skip
FITTING = {
    "adversarial": lambda m, X, y, **o: Adversarial(**o).fit(X, y).predict_proba(X),
    "learner": lambda m, X, y, **o: learn(X, y, **o),
    "noisy": lambda m, X, y, **o: NoisyDataset(
        random_state=0, **o).fit_transform(X, y),
    "adversarial set": lambda m, X, y, **o: AdversarialDataset(
        estimator=m, random_state=0, **o).fit_transform(X, y),
    "gamma": lambda m, X, y, **o: GammaCorrect(2, **o).fit_transform(X),
    "volume": lambda m, X, y, **o: perturbable_volume(X, eps=0.1, **o),
    "usefulness": lambda m, X, y, **o: robust_usefulness(
        lambda x: x[:, 20], X, y, eps=0.1, **o),
}  # fmt: skip
WITHOUT_RANGE = {
    "masking": lambda m, X, y: [
        c.measured for c in check_gradient_masking(m, X, y, n_steps=3, n_queries=5,
                                                   eps=0.1).checks],
    "kernel": lambda m, X, y: KernelRegressionClassifier(
        FullyConnectedNTK()).fit(X, y).decision_function(X),
    "histogram": lambda m, X, y: pixel_histogram(X, bins=5)[0],
    "class distance": lambda m, X, y: inter_class_distance(X, y),
}  # fmt: skip
ENTRIES = ATTACKING | FITTING | WITHOUT_RANGE
# Values that bfloat16 holds without rounding, so that its tensors are the same images.
FORMS = {
    "reversed twice": lambda X: np.ascontiguousarray(X[:, ::-1])[:, ::-1],
    "rows reversed twice": lambda X: np.ascontiguousarray(X[::-1])[::-1],
    "gradient": lambda X: torch.tensor(X, requires_grad=True),
    "bfloat16": lambda X: torch.tensor(X, dtype=torch.bfloat16),
    "tensor": torch.tensor,
}


@pytest.fixture(scope="module")
def case(digits):
    X, y, _, _ = digits
    X = X.reshape(len(X), -1)
    model = LogisticRegression(max_iter=500).fit(X, y)
    rows = np.concatenate([np.flatnonzero(y == label)[:4] for label in range(10)])
    return model, X[rows], y[rows]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("entry", ENTRIES)
def test_every_form_gives_the_same_numbers(case, entry):
    model, X, y = case
    expected = np.asarray(ENTRIES[entry](model, X, y))
    for form, change in FORMS.items():
        found = np.asarray(ENTRIES[entry](model, change(X), y))
        assert np.array_equal(found, expected), form
    found = np.asarray(ENTRIES[entry](model, X, torch.tensor(y)))
    assert np.array_equal(found, expected), "y as a tensor"


@pytest.mark.parametrize("entry", ENTRIES)
def test_data_sets_are_told_how_to_become_arrays(case, entry):
    model, X, y = case
    data = TensorDataset(torch.tensor(X), torch.tensor(y))
    for given in (data, DataLoader(data)):
        if entry == "saliency":
            continue  # takes rows by indexing before it is called
        with pytest.raises(TypeError, match=r"Data(set|Loader); expected an array"):
            ENTRIES[entry](model, given, y)


MEAN, STD = 0.1307, 0.3081
SCALED = (0 - MEAN) / STD, (1 - MEAN) / STD


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("entry", ATTACKING | FITTING)
def test_data_scaled_like_their_range_lie_in_it(case, entry):
    _, X, y = case
    scaled = (X - np.float32(MEAN)) / np.float32(STD)
    assert scaled.max() > SCALED[1] or scaled.min() < SCALED[0]
    model = LogisticRegression(max_iter=500).fit(scaled, y)
    result = ENTRIES[entry](model, scaled, y, clip_range=SCALED)
    assert np.isfinite(result).all()


def test_a_frame_read_backwards(case):
    pd = pytest.importorskip("pandas")
    _, X, y = case
    frame = pd.DataFrame(X).add_prefix("p")
    backwards = frame.iloc[:, ::-1]
    model = LogisticRegression(max_iter=500).fit(X[:, ::-1], y)
    result = attack_estimator(model, backwards, y, **BUDGET)
    straight = attack_estimator(model, X[:, ::-1].copy(), y, **BUDGET)
    np.testing.assert_array_equal(result.X_adv, straight.X_adv)
    fitted = Adversarial().fit(backwards, y)
    assert fitted.predict(backwards).shape == y.shape


def test_images_turned_upside_down(digits, fitted_net):
    X, y, _, _ = digits
    turned = X[:20, :, ::-1, ::-1]
    assert attack_estimator(fitted_net, turned, y[:20], eps=0.05).n_samples == 20
    model = AdversarialClassifier(n_epochs=1, n_steps=1).fit(turned, y[:20])
    assert model.predict(turned).shape == (20,)


@pytest.mark.parametrize("value", [1.0000002, -2.0e-7])
def test_rounding_beyond_the_range_is_clipped(value):
    X = np.array([[0.5, value]], dtype=np.float32)
    clipped = ThreatModel().check_range(X)
    assert clipped.tolist() == [[0.5, float(round(value))]]
    assert clipped.dtype == np.float32
    inside = np.array([[0.0, 1.0]])
    assert ThreatModel().check_range(inside) is inside


@pytest.mark.parametrize("value", [1.00001, -1e-5, 1.01])
def test_more_than_rounding_is_an_error(value):
    with pytest.raises(PixelRangeError, match="expected clip_range"):
        ThreatModel().check_range(np.array([[0.5, value]], dtype=np.float32))


@pytest.mark.parametrize("pair", [[0, 1], np.array([0, 1]), np.array([0.0, 1.0])])
def test_a_range_may_be_a_list_or_an_array(case, pair):
    model, X, y = case
    assert ThreatModel(clip_range=pair) == ThreatModel()
    given = attack_estimator(model, X, y, clip_range=pair, **BUDGET)
    expected = attack_estimator(model, X, y, **BUDGET)
    np.testing.assert_array_equal(given.X_adv, expected.X_adv)
    assert Adversarial(clip_range=pair).fit(X, y).predict(X).shape == y.shape
    with pytest.raises(ValueError, match=r"expected \(low, high\) or None"):
        ThreatModel(clip_range=np.array([0, 1, 2]))


def test_films_are_no_images():
    X, y = np.zeros((4, 2, 1, 3, 3)), [0, 1, 0, 1]
    for fit in (Adversarial().fit, NoisyDataset().fit, RobustDatasetLearner().fit):
        with pytest.raises(ImageShapeError, match=r"\(4, 2, 1, 3, 3\).*reshape"):
            fit(X, y)
