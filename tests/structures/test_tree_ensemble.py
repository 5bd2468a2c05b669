import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from robustfit import NoisyDataset, RobustifiedClassifier, ThreatModel, as_black_box
from robustfit.exceptions import NoStructureError
from robustfit.structures.find_structure import structure_of
from robustfit.structures.tree_reach import Reach

TREES = [
    DecisionTreeClassifier(random_state=0, min_samples_leaf=3),
    RandomForestClassifier(7, random_state=0),
    ExtraTreesClassifier(7, random_state=0),
    GradientBoostingClassifier(n_estimators=5, random_state=0),
    GradientBoostingClassifier(n_estimators=5, init="zero", random_state=0),
    HistGradientBoostingClassifier(max_iter=5),
]


@pytest.fixture(scope="module", params=[2, 3])
def table(request):
    """Standardised features, one of them constant, and string labels."""
    X, y = make_classification(
        200, 6, n_informative=4, n_classes=request.param, random_state=0
    )
    X[:, 5] = 1.0
    return X, np.array(["b", "a", "c"])[y]


@pytest.mark.parametrize("model", TREES, ids=lambda m: type(m).__name__)
def test_scores_are_those_of_the_estimator(table, model):
    X, y = table
    model = model.fit(X, y)
    ensemble = structure_of(as_black_box(model))
    scores = ensemble.scores(ensemble.cells(X.astype(np.float32)))
    assert (model.classes_[scores.argmax(1)] == model.predict(X)).all()
    if hasattr(model, "decision_function"):
        raw = model.decision_function(X.astype(np.float32))
        own = scores if scores.shape[1] > 2 else scores[:, 1] - scores[:, 0]
        np.testing.assert_allclose(own, raw, atol=1e-9)
    else:
        mean = scores / len(ensemble.roots)
        np.testing.assert_allclose(mean, model.predict_proba(X), atol=1e-12)


@pytest.mark.parametrize("model", TREES[1:6:4], ids=lambda m: type(m).__name__)
def test_points_lie_in_their_cells_and_thresholds_are_crossed_in_float32(table, model):
    X, y = table
    X = X.astype(np.float32)
    ensemble = structure_of(as_black_box(model.fit(X, y)))
    rng = np.random.default_rng(0)
    cells = rng.integers(0, np.diff(ensemble.offsets), (len(X), 6))
    points = ensemble.points(cells, X)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(ensemble.cells(points), cells)
    predicted = model.classes_[ensemble.scores(cells).argmax(1)]
    assert (predicted == model.predict(points)).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_leaves_within_reach_are_those_that_points_of_the_ball_meet(norm):
    X, y = make_classification(80, 2, n_informative=2, n_redundant=0, random_state=1)
    model = RandomForestClassifier(4, random_state=0).fit(X, y)
    ensemble = structure_of(as_black_box(model))
    threat_model = ThreatModel(norm, 0.3, clip_range=None)
    reach = Reach(ensemble, X[:1], threat_model)
    grid = np.stack(np.meshgrid(*[np.linspace(-0.3, 0.3, 400)] * 2), -1).reshape(-1, 2)
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    ball = X[0] + grid[np.linalg.norm(grid, order, axis=1) <= 0.3]
    met = np.unique(ensemble.leaves(ensemble.cells(ball.astype(np.float32))))
    found = np.unique(reach.leaves()[1])
    assert set(met) <= set(found)
    assert len(found) <= len(met) + 2  # slivers that the grid steps over


def test_estimators_around_trees_are_seen_through(table):
    X, y = table
    forest = RandomForestClassifier(3, random_state=0)
    around = [
        FrozenEstimator(forest.fit(X, y)),
        make_pipeline(NoisyDataset(0.1, clip_range=None), forest).fit(X, y),
        RobustifiedClassifier(NoisyDataset(0.1, clip_range=None), forest).fit(X, y),
    ]
    for model in around:
        ensemble = structure_of(as_black_box(model))
        scores = ensemble.scores(ensemble.cells(X.astype(np.float32)))
        assert (model.classes_[scores.argmax(1)] == model.predict(X)).all()


def test_what_cannot_be_read_is_named(table):
    X, y = table
    scaled = make_pipeline(StandardScaler(), DecisionTreeClassifier()).fit(X, y)
    with pytest.raises(NoStructureError, match="Step 'standardscaler' of the pipeline"):
        structure_of(as_black_box(scaled))
    codes = np.round(np.abs(X))
    boosting = HistGradientBoostingClassifier(max_iter=2, categorical_features=[0])
    with pytest.raises(NoStructureError, match="categorical"):
        structure_of(as_black_box(boosting.fit(codes, y)))
    begun = GradientBoostingClassifier(n_estimators=2, init=LogisticRegression())
    with pytest.raises(NoStructureError, match="starts from LogisticRegression"):
        structure_of(as_black_box(begun.fit(X, y)))
    with pytest.raises(NoStructureError, match=r"expected robustfit.as_black_box"):
        structure_of(lambda x: x)
