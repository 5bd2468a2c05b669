"""Budgets and ranges of features, through everything that attacks an estimator."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from robustfit import (
    AdversarialClassifier,
    AdversarialDataset,
    AdversarialNet,
    AdversarialRelabeler,
    KIPDistiller,
    NoisyDataset,
    RobustAccuracyScorer,
    RobustDatasetLearner,
    RobustnessReport,
    ThreatModel,
    as_torch,
    attack_estimator,
    certified_accuracy,
    check_gradient_masking,
    load_robust_dataset,
    minimal_distances,
    perturbable_volume,
    pixel_histogram,
    save_robust_dataset,
    security_curve,
    write_report,
)
from robustfit.attacks import AutoAttack, HardLabelAttack, SignAttack, Square
from robustfit.attacks.by_name import ATTACKS
from robustfit.exceptions import IntegerFeatureWarning, PixelRangeError
from robustfit.nets import MLP

X, y = load_breast_cancer(return_X_y=True)
X_TRAIN, Y_TRAIN = X[:400], np.array(["malignant", "benign"])[y[:400]]
X_TEST, Y_TEST = X[400:424], np.array(["malignant", "benign"])[y[400:424]]
SCALE = X_TRAIN.std(0)
EPS = 0.5 * SCALE * (np.arange(30) % 3 > 0)  # every third stays
POSITIVE = (np.zeros(30), np.full(30, np.inf))
LINEAR = make_pipeline(StandardScaler(), LogisticRegression()).fit(X_TRAIN, Y_TRAIN)
QUICK = {
    "autoattack": AutoAttack(n_steps=10, n_queries=50),
    "square": Square(50),
    "sign": SignAttack(20),
    "hard-label": HardLabelAttack(20),
}
# The rest read what kind of model it is, not a net.
NAMES = sorted(set(ATTACKS) - {"autoattack-reference", "neighbours", "tree"})
DUAL = {"linf": 1, "l2": 2, "l1": np.inf}
SIZE = {"linf": 1, "l2": 3, "l1": 6}  # of budgets at which about half falls


def slopes_and_margins():
    """Return the linear model's gradient in units of X, and margins of the test set."""
    scaler, linear = LINEAR[0], LINEAR[1]
    sign = np.where(linear.classes_[1] == Y_TEST, 1, -1)
    return linear.coef_[0] / scaler.scale_, sign * LINEAR.decision_function(X_TEST)


class AsImages(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rows = as_torch(LINEAR)

    def forward(self, x):
        return self.rows(x.flatten(1))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("name", NAMES)
def test_no_attack_moves_what_has_no_budget(name, norm):
    labels, eps = (Y_TEST == "malignant").astype(int), SIZE[norm] * EPS
    for model, shape, target, clip_range in (
        (LINEAR, (30,), Y_TEST, None),
        (AsImages(), (1, 5, 6), labels, POSITIVE),
    ):
        inputs = X_TEST.reshape(-1, *shape).astype(np.float32)
        result = attack_estimator(
            model, inputs, target, attack=QUICK.get(name, name), norm=norm,
            eps=eps.reshape(shape), clip_range=clip_range,
        )  # fmt: skip
        move = (result.X_adv - inputs).reshape(len(inputs), -1)
        assert (move[:, EPS == 0] == 0).all()
        assert move.any() or name in ("sign", "hard-label", "square")
        share = np.abs(move[:, EPS > 0].astype(float)) / eps[EPS > 0]
        order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
        assert np.linalg.norm(share, order, axis=1).max() <= 1 + 1e-3
        if clip_range is not None:
            assert result.X_adv.min() >= 0


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("name", ["apgd", "fab"])
def test_a_linear_model_falls_where_the_dual_norm_says(name, norm):
    slopes, margins = slopes_and_margins()
    gain = SIZE[norm] * np.linalg.norm(slopes * EPS, DUAL[norm])
    assert 2 < (margins > gain).sum() < 22
    result = attack_estimator(
        LINEAR,
        X_TEST,
        Y_TEST,
        attack=name,
        eps=SIZE[norm] * EPS,
        norm=norm,
        clip_range=None,
    )
    far = np.abs(margins / gain - 1) > 0.06  # FAB goes 5 % beyond the border
    np.testing.assert_array_equal(result.robust[far], (margins > gain)[far])


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("name", NAMES)
def test_a_constant_array_is_the_number(name, norm):
    given = {"attack": QUICK.get(name, name), "norm": norm}
    one = attack_estimator(LINEAR, X_TEST, Y_TEST, eps=9.0, clip_range=None, **given)
    each = attack_estimator(
        LINEAR, X_TEST, Y_TEST, eps=np.full(30, 9.0), clip_range=None, **given
    )
    np.testing.assert_array_equal(each.X_adv, one.X_adv)
    np.testing.assert_array_equal(each.robust, one.robust)


def test_minimal_distances_are_in_units_of_scale():
    slopes, margins = slopes_and_margins()
    scale = EPS / 0.5
    exact = np.maximum(margins, 0) / np.abs(slopes * scale).sum()
    found = minimal_distances(
        LINEAR, X_TEST, Y_TEST, scale=scale, clip_range=None, n_steps=30
    )
    np.testing.assert_allclose(found, exact, rtol=0.06)
    curve = security_curve(
        LINEAR, X_TEST, Y_TEST, scale=scale, clip_range=None, n_steps=30, eps=[0.5]
    )
    assert curve.unit == "units of scale"
    result = attack_estimator(
        LINEAR, X_TEST, Y_TEST, attack="apgd", eps=EPS, clip_range=None
    )
    assert abs(curve.accuracy[0] - result.robust_accuracy) <= 1 / len(X_TEST)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"eps": EPS[:5]}, r"eps .* has shape \(5,\), but a sample of X has .*\(30,\)"),
        ({"clip_range": ([0, 0], 1e4)}, r"clip_range has shape \(2,\)"),
        ({"eps": -EPS}, "finite number >= 0 for each feature"),
        ({"eps": EPS, "attack": "autoattack-reference"}, "attack='autoattack'"),
    ],
)
def test_bad_arrays_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        attack_estimator(LINEAR, X_TEST, Y_TEST, **{"clip_range": None} | parameters)


def test_a_value_outside_its_columns_range_is_named():
    low = np.zeros(30)
    low[7] = X_TEST[:, 7].min() + 0.01
    with pytest.raises(PixelRangeError, match="in column 7"):
        attack_estimator(LINEAR, X_TEST, Y_TEST, clip_range=(low, np.inf))


def test_scorers_reports_and_checks(tmp_path):
    budget = {"eps": EPS, "clip_range": POSITIVE}
    scorer = clone(RobustAccuracyScorer(**budget, n_steps=5))
    assert scorer.__name__.endswith("_per_feature")
    robust = attack_estimator(LINEAR, X_TEST, Y_TEST, **budget, n_steps=5)
    assert scorer(LINEAR, X_TEST, Y_TEST) == robust.robust_accuracy
    scores = cross_val_score(
        clone(LINEAR), X_TRAIN, Y_TRAIN, cv=2, scoring=scorer, error_score="raise"
    )
    assert (scores < 0.9).all()
    report = RobustnessReport(**budget, version=["apgd-ce"])(LINEAR, X_TEST, Y_TEST)
    assert report["pgd_accuracy"] == robust.robust_accuracy
    masking = check_gradient_masking(
        LINEAR, X_TEST, Y_TEST, **budget, n_steps=5, n_queries=10
    )
    assert masking["unbounded attack reaches zero"].passed is None
    path = write_report(
        tmp_path / "a.md", LINEAR, X_TEST, Y_TEST, attacks=["pgd"], n_pictures=0,
        threat_models=ThreatModel("linf", **budget),
    )  # fmt: skip
    assert "10 of 30 fixed" in path.read_text()


def test_checkpoints_tell_budgets_apart(tmp_path):
    given = {"clip_range": None, "n_steps": 3, "checkpoint": tmp_path}
    smaller = EPS.copy()
    smaller[1] = 0.0
    for eps in (EPS, smaller, EPS):
        attack_estimator(LINEAR, X_TEST, Y_TEST, eps=eps, **given)
    assert len(list(tmp_path.iterdir())) == 2


def test_integers_that_move_are_warned_of():
    table = np.c_[X_TEST[:, :3], np.arange(24) % 4]
    model = RandomForestClassifier(5, random_state=0).fit(table, Y_TEST)
    given = {"attack": Square(5), "clip_range": None}
    with pytest.warns(IntegerFeatureWarning, match=r"Columns \[3\]"):
        attack_estimator(model, table, Y_TEST, eps=[1, 1, 1, 1], **given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attack_estimator(model, table, Y_TEST, eps=[1, 1, 1, 0], **given)
        attack_estimator(model, table, Y_TEST, eps=1.0, **given)


SCALED = ((X_TRAIN - X_TRAIN.mean(0)) / SCALE).astype(np.float32)


@pytest.mark.parametrize("method", ["pgd", "trades", "fgsm", "free"])
def test_adversarial_training_at_budgets_of_features(method):
    model = AdversarialClassifier(
        EPS / SCALE, clip_range=None, method=method, n_steps=2, n_epochs=3,
        early_stopping=True, random_state=0,
    )  # fmt: skip
    model = clone(model).fit(SCALED, Y_TRAIN)
    assert model.eps_ == 0.5
    x = torch.tensor(SCALED[:50])
    move = model.net_.perturb(x, torch.zeros(50, dtype=torch.int64)) - x
    assert (move[:, EPS == 0] == 0).all()
    assert 0 < move.abs().max() <= 0.5 + 1e-6


def test_adversarial_training_at_an_array_of_one_number():
    one = AdversarialClassifier(0.1, clip_range=None, n_epochs=1, random_state=0)
    each = clone(one).set_params(eps=np.full(30, 0.1))
    np.testing.assert_array_equal(
        one.fit(SCALED, Y_TRAIN).predict_proba(SCALED),
        each.fit(SCALED, Y_TRAIN).predict_proba(SCALED),
    )


def test_adversarial_net_takes_arrays():
    net = AdversarialNet(
        MLP, module__n_features=30, module__n_classes=2, eps=EPS / SCALE, n_steps=2,
        clip_range=None, max_epochs=1, train_split=None, verbose=0,
    )  # fmt: skip
    target = (Y_TRAIN == "malignant").astype(np.int64)
    net.fit(SCALED, target)
    with pytest.raises(ValueError, match="has shape"):
        net.set_params(eps=EPS[:4]).fit(SCALED, target)


def test_search_over_arrays():
    model = NoisyDataset(clip_range=None, random_state=0)
    search = GridSearchCV(
        make_pipeline(model, LogisticRegression()),
        {"noisydataset__eps": [EPS / SCALE, 0.1 * EPS / SCALE, 0.2]},
        cv=2,
        error_score="raise",
    )
    search.fit(SCALED, Y_TRAIN)
    assert np.shape(search.best_params_["noisydataset__eps"]) in ((), (30,))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    "rewriter",
    [
        NoisyDataset(random_state=0),
        NoisyDataset(kind="sign", random_state=0),
        AdversarialDataset(n_steps=2, random_state=0),
        AdversarialRelabeler(n_steps=2, random_state=0),
    ],
)
def test_rewriters_leave_what_has_no_budget(rewriter, norm, tmp_path):
    rewriter = clone(rewriter).set_params(eps=EPS / SCALE, norm=norm)
    low = SCALED[:80].min(0)
    rewriter.set_params(clip_range=(low, np.full(30, np.inf)))
    rewriter.fit(SCALED[:80], Y_TRAIN[:80])
    move = rewriter.X_robust_ - SCALED[:80]
    assert (move[:, EPS == 0] == 0).all()
    assert move.any()
    assert (rewriter.X_robust_ >= low).all()
    save_robust_dataset(tmp_path / "a.npz", rewriter)
    loaded = load_robust_dataset(tmp_path / "a.npz")
    np.testing.assert_allclose(loaded.card["threat_model"]["eps"], EPS / SCALE)
    assert "eps per feature" in repr(loaded)


@pytest.mark.parametrize(
    "fit",
    [
        lambda: RobustDatasetLearner(EPS, clip_range=None).fit(X_TRAIN, Y_TRAIN),
        lambda: KIPDistiller(clip_range=POSITIVE).fit(X_TRAIN, Y_TRAIN),
        lambda: pixel_histogram(X_TRAIN, clip_range=POSITIVE),
    ],
)
def test_what_knows_one_budget_says_what_to_do(fit):
    with pytest.raises(ValueError, match=r"given per feature; .* takes one eps .*\."):
        fit()


def test_stages_are_budgets_of_all_features():
    for parameters in ({"eps": EPS, "eps_stages": (0.1,)}, {"eps_stages": (EPS,)}):
        with pytest.raises(ValueError, match="warm_start=True"):
            AdversarialClassifier(clip_range=None, **parameters).fit(SCALED, Y_TRAIN)


def test_volume_of_a_box_with_sides_of_its_own():
    assert perturbable_volume([[0.0, 0.5]], eps=[0.25, 0.125]) == -2 - 2
    with pytest.raises(ValueError, match="no volume"):
        perturbable_volume([[0.0, 0.5]], eps=[0.25, 0.0])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_trees_with_a_budget_for_each_feature_are_scaled_trees(norm):
    X, y = make_classification(120, 5, random_state=0)
    X = ((X - X.min(0)) / np.ptp(X, axis=0)).astype("float32")
    scale = np.array([1.0, 2.0, 0.5, 4.0, 0.25])  # powers of two: nothing is rounded
    given = {"norm": norm, "clip_range": None}
    forest = RandomForestClassifier(7, random_state=0).fit(X, y)
    scaled = RandomForestClassifier(7, random_state=0).fit(X * scale, y)
    rows = slice(0, 40)
    plain = attack_estimator(forest, X[rows], y[rows], eps=0.1, **given)
    other = attack_estimator(
        scaled, (X * scale)[rows], y[rows], eps=0.1 * scale, **given
    )
    np.testing.assert_array_equal(plain.natural_correct, other.natural_correct)
    np.testing.assert_array_equal(plain.certified, other.certified)
    assert 0 < other.certified_accuracy <= other.robust_accuracy < 1
    still = scale * np.array([0, 1, 0, 1, 1])
    fixed = attack_estimator(forest, X[rows], y[rows], eps=0.1 * still, **given)
    assert (fixed.X_adv[:, [0, 2]] == X[rows][:, [0, 2]]).all()
    assert fixed.certified_accuracy <= fixed.robust_accuracy


def test_bounds_that_know_one_budget_say_so():
    X, y = make_classification(60, 4, random_state=0)
    eps = np.array([0.1, 0.2, 0.1, 0.1])
    for model in (LogisticRegression(), KNeighborsClassifier(3)):
        model.fit(X, y)
        with pytest.raises(ValueError, match="trees take arrays"):
            certified_accuracy(model, X, y, eps=eps, clip_range=None)
        result = attack_estimator(model, X, y, eps=eps, clip_range=None)
        assert result.certified_accuracy is None
    with pytest.raises(ValueError, match='use attack="square"'):
        attack_estimator(model, X, y, eps=eps, clip_range=None, attack="neighbours")
