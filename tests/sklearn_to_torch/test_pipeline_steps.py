"""Steps in front of a classifier: as scikit-learn transforms, and with gradients."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from robustfit import (
    TorchFunction,
    as_torch,
    attack_estimator,
    transformer_as_torch,
)
from robustfit.exceptions import NotDifferentiableError

X, y = load_breast_cancer(return_X_y=True)
X = X.astype(np.float32)


def ratio_of_first_two(x):
    return torch.cat([x, x[:, :1] / (1 + x[:, 1:2])], dim=1)


COLUMNS = ColumnTransformer(
    [
        ("first", StandardScaler(), slice(0, 10)),
        ("none", PCA(2), []),
        ("some", Pipeline([("log", FunctionTransformer(np.log1p)),
                           ("scale", RobustScaler())]), [25, 12, 13]),
        ("as they are", "passthrough", [20, 21]),
        ("not", "drop", [22]),
    ],
    remainder=MinMaxScaler(),
    transformer_weights={"some": 0.5},
)  # fmt: skip
STEPS = [
    RobustScaler(),
    RobustScaler(with_centering=False),
    RobustScaler(with_scaling=False),
    RobustScaler(quantile_range=(10, 90), unit_variance=True),
    MaxAbsScaler(),
    PowerTransformer(),
    PowerTransformer(standardize=False),
    make_pipeline(FunctionTransformer(TorchFunction(lambda x: x + 1)),
                  PowerTransformer(method="box-cox")),
    QuantileTransformer(n_quantiles=50),
    QuantileTransformer(n_quantiles=285),
    QuantileTransformer(n_quantiles=50, output_distribution="normal"),
    FunctionTransformer(),
    FunctionTransformer(np.log1p),
    FunctionTransformer(TorchFunction(ratio_of_first_two)),
    FrozenEstimator(StandardScaler().fit(X)),
    Pipeline([("a", StandardScaler()), ("b", "passthrough"),
              ("c", Pipeline([("d", None), ("e", PCA(5))]))]),
    FeatureUnion([("a", PCA(3)), ("b", RobustScaler()), ("c", "drop"),
                  ("d", "passthrough")], transformer_weights={"a": 2.0}),
    COLUMNS,
    make_pipeline(COLUMNS, StandardScaler()),
]  # fmt: skip


@pytest.mark.parametrize("step", STEPS, ids=lambda step: repr(step)[:40])
def test_a_step_transforms_as_scikit_learn_does(step):
    step = clone(step).fit(X[::2], y[::2])
    module = transformer_as_torch(step)
    x = torch.tensor(X)
    own = x if module is None else module(x)
    expected = step.transform(X)
    assert own.dtype == torch.float32
    assert np.shape(own) == np.shape(expected)
    spread = np.std(expected, axis=0) + 1e-6
    assert np.abs((own.numpy() - expected) / spread).max() < 2e-3


@pytest.mark.parametrize("step", STEPS, ids=lambda step: repr(step)[:40])
def test_a_pipeline_answers_as_predict_and_has_gradients(step):
    model = make_pipeline(clone(step), StandardScaler(), LogisticRegression())
    model.fit(X[::2], y[::2])
    classifier = as_torch(model)
    np.testing.assert_array_equal(classifier.columns(X), model.predict(X))
    x = torch.tensor(X[1:20:2], requires_grad=True)
    (gradient,) = torch.autograd.grad(classifier(x)[:, 1].sum(), x)
    assert torch.isfinite(gradient).all()
    assert (gradient != 0).any(1).all()


@pytest.mark.parametrize(
    "step",
    [
        PowerTransformer(),
        QuantileTransformer(n_quantiles=285, output_distribution="normal"),
    ],
)
def test_slopes_of_bent_columns_are_those_of_finite_differences(step):
    # At zeros and at the quantiles themselves, too.
    step = step.fit(X[::2].astype(float))
    x = torch.tensor(X[::2][:40])
    x = torch.cat([x, torch.zeros(1, 30), -x[:3]])
    module = transformer_as_torch(step)
    leaf = x.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(module(leaf).sum(), leaf)
    move = 1e-2 * X.std(0)
    above, below = (step.transform(x.numpy() + s * move) for s in (1, -1))
    numeric = (above - below) / (2 * move)
    moves = (above != below) & (slope.numpy() != 0)
    assert moves.mean() > 0.8
    ratio = slope.numpy()[moves] / numeric[moves]
    assert (ratio >= 0).all()
    assert np.median(abs(np.log(ratio))) < 0.3


def test_columns_by_mask_number_and_function():
    columns = ColumnTransformer(
        [
            ("slice", RobustScaler(), slice(5, 8)),
            ("mask", MaxAbsScaler(), np.arange(30) > 27),
            ("last", StandardScaler(), [-3]),
            ("chosen", "passthrough", lambda X: [10]),
        ]
    )
    model = make_pipeline(columns, LogisticRegression(max_iter=2000)).fit(X, y)
    assert model[-1].n_features_in_ == 7
    np.testing.assert_array_equal(as_torch(model).columns(X), model.predict(X))


def test_columns_by_name():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(30)])
    columns = ColumnTransformer(
        [
            ("named", StandardScaler(), ["x3", "x1"]),
            ("slice", RobustScaler(), slice("x5", "x7")),
        ]
    )
    model = make_pipeline(columns, LogisticRegression(max_iter=2000)).fit(frame, y)
    np.testing.assert_array_equal(as_torch(model).columns(X), model.predict(frame))
    result = attack_estimator(model, frame, y, eps=0.0, clip_range=None)
    assert result.natural_accuracy == model.score(frame, y)


def test_samplers_act_in_fit_only():
    imblearn = pytest.importorskip("imblearn")
    from imblearn.over_sampling import SMOTE
    from imblearn.pipeline import make_pipeline as make_sampling_pipeline
    from imblearn.under_sampling import RandomUnderSampler

    assert imblearn is not None
    scarce = np.r_[np.flatnonzero(y == 0)[:40], np.flatnonzero(y == 1)]
    model = make_sampling_pipeline(
        StandardScaler(), SMOTE(random_state=0), RandomUnderSampler(random_state=0),
        LogisticRegression(),
    ).fit(X[scarce], y[scarce])  # fmt: skip
    assert model[-1].n_features_in_ == 30
    np.testing.assert_array_equal(as_torch(model).columns(X), model.predict(X))
    eps = 0.1 * X.std(0)
    result = attack_estimator(model, X, y, eps=eps, clip_range=None, loss="margin")
    assert result.natural_accuracy == model.score(X, y)
    assert result.robust_accuracy < result.natural_accuracy


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (FunctionTransformer(np.cbrt), r"TorchFunction\(my_function\)"),
        (FunctionTransformer(np.sign), r"TorchFunction\(my_function\)"),
        (FunctionTransformer(np.log1p, kw_args={"dtype": float}), "without kw_args"),
        (MaxAbsScaler(clip=True), r"MaxAbsScaler\(clip=True\)"),
        (MinMaxScaler(clip=True), r"MinMaxScaler\(clip=True\)"),
        (ColumnTransformer([("bins", KBinsDiscretizer(encode="ordinal"), [0])]),
         "Transformer 'bins': KBinsDiscretizer"),
        (Pipeline([("a", StandardScaler()), ("b", KBinsDiscretizer())]),
         "Step 'inner' of the pipeline: Step 'b' of the pipeline: KBins"),
    ],
)  # fmt: skip
def test_what_has_no_form_is_named(step, message):
    model = Pipeline([("inner", step), ("clf", LogisticRegression(max_iter=9000))])
    model.fit(X, y)
    with pytest.raises(NotDifferentiableError, match=message):
        as_torch(model)


def test_a_torch_function_maps_arrays_of_any_type_and_pickles():
    function = TorchFunction(ratio_of_first_two)
    assert function(X).dtype == np.float32
    assert function(X.astype(float)).dtype == np.float64
    assert function([[1, 1]]).tolist() == [[1.0, 1.0, 0.5]]
    again = pickle.loads(pickle.dumps(FunctionTransformer(function)))
    np.testing.assert_array_equal(again.fit_transform(X), function(X))
    assert "ratio_of_first_two" in repr(clone(FunctionTransformer(function)))
    with pytest.raises(TypeError, match="expected a function"):
        TorchFunction("log1p")
