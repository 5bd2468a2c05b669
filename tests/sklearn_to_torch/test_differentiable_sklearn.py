import warnings

import numpy as np
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import VotingClassifier
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import (
    LogisticRegression,
    Perceptron,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import SVC, LinearSVC, NuSVC

from robustfit import NoisyDataset, RobustifiedClassifier, as_torch, attack_estimator
from robustfit.exceptions import NotDifferentiableError
from robustfit.theory import RobustGaussianClassifier

LINEAR = LogisticRegression(max_iter=50)
NOISE = NoisyDataset(eps=0.1, clip_range=None, random_state=0)
WITH_PROBABILITIES = [
    LinearDiscriminantAnalysis(),
    LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1),
    GaussianNB(),
    GaussianNB(var_smoothing=1e-3),
    VotingClassifier(
        [("a", LINEAR), ("b", GaussianNB(var_smoothing=1e-3))], voting="soft"
    ),
    VotingClassifier([("a", LINEAR), ("b", GaussianNB()), ("c", MLPClassifier((4,)))],
                     voting="soft", weights=[2, 0, 1]),
    RobustGaussianClassifier(eps=0.1),
    RobustifiedClassifier(NOISE, LINEAR),
    *(VotingClassifier([("a", part), ("b", GaussianNB(var_smoothing=1e-3))],
                       voting="soft")
      for part in (RobustifiedClassifier(NOISE, LINEAR), make_pipeline(NOISE, LINEAR),
                   RobustGaussianClassifier(eps=0.1))),
    CalibratedClassifierCV(RobustifiedClassifier(NOISE, GaussianNB(var_smoothing=1e-3)),
                           cv=2),
    CalibratedClassifierCV(LinearSVC(), cv=2),
    CalibratedClassifierCV(GaussianNB(var_smoothing=1e-2), cv=2),
    CalibratedClassifierCV(SVC(), cv=2, ensemble=False),
    make_pipeline(PCA(8), LINEAR),
    make_pipeline(PCA(8, whiten=True), LINEAR),
    *(make_pipeline(Normalizer(norm=norm), LINEAR) for norm in ("l1", "l2", "max")),
]  # fmt: skip
WITH_DECISIONS = [
    LinearSVC(),
    RidgeClassifier(),
    SGDClassifier(random_state=0),
    Perceptron(),
    SVC(),
    NuSVC(nu=0.2),
    SVC(kernel="linear"),
    SVC(kernel="poly", coef0=1.0, degree=2),
    SVC(kernel="sigmoid", gamma=0.01),
    make_pipeline(StandardScaler(), PCA(10), SVC(C=10)),
]


@pytest.fixture(scope="module")
def flat(digits):
    X, y, _, _ = digits
    return X.reshape(len(X), -1), np.array(list("jihgfedcba"))[y]


def fit(model, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X, y)


def select(flat, n_classes):
    X, y = flat
    rows = np.isin(y, list("jihgfedcba")[:n_classes])
    return X[rows], y[rows]


def logits_of(model, X):
    with torch.no_grad():
        return as_torch(model)(torch.tensor(X))


def named(model):
    return str(model).replace("\n", "").replace(" ", "")[:60]


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize("model", WITH_PROBABILITIES, ids=named)
def test_agrees_with_predict_proba(flat, n_classes, model):
    X, y = select(flat, n_classes)
    model = fit(model, X, y)
    np.testing.assert_allclose(
        logits_of(model, X).softmax(1), model.predict_proba(X), atol=1e-5
    )


@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize("model", WITH_DECISIONS, ids=named)
def test_agrees_with_decision_function(flat, n_classes, model):
    X, y = select(flat, n_classes)
    model = fit(model, X, y)
    logits = logits_of(model, X)
    own = logits if n_classes > 2 else logits[:, 1] - logits[:, 0]
    expected = model.decision_function(X)
    np.testing.assert_allclose(own, expected, atol=1e-5, rtol=1e-5)
    assert as_torch(model).classes.tolist() == model.classes_.tolist()


def test_kernel_ridge_on_one_hot_labels(flat):
    X, y = flat
    one_hot = (y[:, None] == np.unique(y)).astype(float)
    for kernel in ("rbf", "linear", "poly", "polynomial", "sigmoid"):
        model = KernelRidge(kernel=kernel, alpha=1.0).fit(X, one_hot)
        np.testing.assert_allclose(logits_of(model, X), model.predict(X), atol=1e-5)
    columns = one_hot.argmax(1)
    result = attack_estimator(model, X[:20], columns[:20], eps=0.1)
    assert result.robust_accuracy <= result.natural_accuracy
    with pytest.raises(NotDifferentiableError, match="one-hot"):
        as_torch(KernelRidge().fit(X, columns))


@pytest.mark.parametrize("model", [SVC(), GaussianNB(var_smoothing=1e-2),
                                   CalibratedClassifierCV(LinearSVC(), cv=2)],
                         ids=named)  # fmt: skip
def test_gradient_attacks_find_what_the_estimator_itself_gets_wrong(flat, model):
    X, y = select(flat, 5)
    model = fit(model, X, y)
    result = attack_estimator(model, X[:30], y[:30], eps=0.15)
    assert result.robust_accuracy == model.score(result.X_adv, y[:30])
    assert result.robust_accuracy < result.natural_accuracy


def test_what_has_no_gradient_is_refused(flat):
    X, y = select(flat, 3)
    hard = VotingClassifier([("a", LINEAR)]).fit(X, y)
    with pytest.raises(NotDifferentiableError, match="voting='soft'"):
        as_torch(hard)
    isotonic = fit(CalibratedClassifierCV(LINEAR, method="isotonic", cv=2), X, y)
    with pytest.raises(NotDifferentiableError, match="method='isotonic'"):
        as_torch(isotonic)
    custom = SVC(kernel=lambda a, b: a @ b.T).fit(X, y)
    with pytest.raises(NotDifferentiableError, match="kernel="):
        as_torch(custom)
    margins = CalibratedClassifierCV(MLPClassifier((3,), max_iter=2), cv=2)
    as_torch(fit(margins, X, y))
