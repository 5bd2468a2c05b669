import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from robustfit import ThreatModel, as_black_box, attack_estimator
from robustfit.attacks import HardLabelAttack, SignAttack, Square, TransferAttack
from robustfit.exceptions import NotDifferentiableError


@pytest.fixture(scope="module")
def data(digits):
    X, y, X_test, y_test = digits
    names = np.array(list("jihgfedcba"))
    return (
        X.reshape(len(X), -1), names[y], X_test.reshape(len(X_test), -1)[:15],
        names[y_test[:15]],
    )  # fmt: skip


@pytest.mark.parametrize("attack", [Square(60), SignAttack(60), HardLabelAttack(60)])
@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(10, random_state=0),
        KNeighborsClassifier(3),
        HistGradientBoostingClassifier(max_iter=3),
        make_pipeline(StandardScaler(), DecisionTreeClassifier(random_state=0)),
        make_pipeline(KBinsDiscretizer(4, encode="ordinal"), LogisticRegression()),
        SVC(kernel=lambda a, b: a @ b.T, break_ties=True),
    ],
    ids=lambda m: type(m).__name__,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_any_classifier_is_attacked(data, model, attack):
    X, y, X_test, y_test = data
    model = model.fit(X, y)
    result = attack_estimator(model, X_test, y_test, attack=attack, eps=0.3)
    assert np.abs(result.X_adv - X_test).max() <= 0.3 + 1e-5
    assert result.robust_accuracy == model.score(result.X_adv, y_test)
    if not isinstance(attack, SignAttack):
        assert result.robust_accuracy < result.natural_accuracy


def test_two_classes(data):
    X, y, _, _ = data
    model = RandomForestClassifier(10, random_state=0).fit(X, y < "e")
    result = attack_estimator(model, X[:10], y[:10] < "e", attack="square", eps=0.4)
    assert result.robust_accuracy < result.natural_accuracy


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("attack", [Square(300), SignAttack(50), HardLabelAttack(300)])
def test_gradient_free_attacks_on_a_linear_model(norm, attack):
    net = torch.nn.Linear(20, 2)
    x = torch.rand(30, 20, generator=torch.Generator().manual_seed(0))
    y = net(x).argmax(1)
    eps = {"linf": 0.3, "l2": 0.9, "l1": 3.0}[norm]
    x_adv = attack(net, x, y, ThreatModel(norm, eps), torch.Generator().manual_seed(1))
    ThreatModel(norm, eps).check_perturbation(x_adv, x)
    fooled = net(x_adv).argmax(1) != y
    torch.testing.assert_close(x_adv[~fooled], x[~fooled])


def test_hard_label_attack_sees_labels_only(data):
    X, y, X_test, y_test = data
    model = LogisticRegression(max_iter=100).fit(X, y)
    labels = as_black_box(model, scores="predict")
    assert set(np.unique(labels(torch.tensor(X_test)))) == {0.0, 1.0}
    attack = HardLabelAttack(300)
    for norm, eps in (("linf", 0.2), ("l2", 2.0)):
        blind, seeing = (
            attack_estimator(m, X_test, y_test, attack=attack, eps=eps, norm=norm)
            for m in (labels, model)
        )
        np.testing.assert_array_equal(blind.robust, seeing.robust)
        assert blind.robust_accuracy < blind.natural_accuracy


def test_hard_label_attack_on_unbounded_features(data):
    X, y, X_test, y_test = data
    model = LogisticRegression(max_iter=100).fit(X, y)
    result = attack_estimator(
        model, X_test, y_test, attack="hard-label", eps=0.2, clip_range=None
    )
    assert result.robust_accuracy < result.natural_accuracy


def test_scores_agree_with_the_estimator(data):
    X, y, X_test, _ = data
    x = torch.tensor(X_test)
    forest = RandomForestClassifier(10, random_state=0).fit(X, y)
    logits = as_black_box(forest)(x)
    np.testing.assert_allclose(
        logits.softmax(1), forest.predict_proba(X_test), atol=1e-5
    )
    binary = LogisticRegression().fit(X, y < "e")
    logits = as_black_box(binary)(x)
    np.testing.assert_allclose(
        logits[:, 1] - logits[:, 0], binary.decision_function(X_test), atol=1e-5
    )


def test_scores_that_are_not_there(data):
    X, y, _, _ = data
    svc = SVC().fit(X, y)
    with pytest.raises(TypeError, match="SVC has no predict_proba"):
        as_black_box(svc, scores="predict_proba")
    with pytest.raises(ValueError, match="scores is 'logits'"):
        as_black_box(svc, scores="logits")


def test_transfer_from_a_surrogate(data):
    X, y, X_test, y_test = data
    forest = RandomForestClassifier(10, random_state=0).fit(X, y)
    surrogate = LogisticRegression(max_iter=100).fit(X, y)
    with pytest.raises(NotDifferentiableError):
        attack_estimator(forest, X_test, y_test, attack="pgd")
    result = attack_estimator(
        forest, X_test, y_test, attack=TransferAttack([surrogate]), eps=0.3
    )
    assert result.robust_accuracy < result.natural_accuracy
    own = attack_estimator(surrogate, X_test, y_test, eps=0.1)
    transferred = attack_estimator(
        surrogate, X_test, y_test, attack=TransferAttack([surrogate]), eps=0.1
    )
    np.testing.assert_array_equal(own.robust, transferred.robust)
    with pytest.raises(ValueError, match="non-empty list"):
        TransferAttack([])
