import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from robustfit import attack_estimator, robust_accuracy_score
from robustfit.attacks import FGSM, PGD
from robustfit.exceptions import (
    AttackBudgetError,
    NotDifferentiableError,
    PixelRangeError,
)


@pytest.fixture(scope="module")
def logistic(digits):
    X, y, _, _ = digits
    names = np.array(list("abcdefghij"))[y]
    return LogisticRegression(max_iter=200).fit(X.reshape(len(X), -1), names)


@pytest.fixture(scope="module")
def test_set(digits):
    _, _, X, y = digits
    return X.reshape(len(X), -1), np.array(list("abcdefghij"))[y]


@pytest.mark.parametrize("attack", ["fgsm", "pgd", PGD(3), FGSM()])
def test_result_is_consistent(logistic, test_set, attack):
    X, y = test_set
    result = attack_estimator(logistic, X, y, attack=attack, eps=0.1)
    assert result.X_adv.shape == X.shape
    assert result.X_adv.dtype == np.float32
    assert np.abs(result.X_adv - X).max() <= 0.1 + 1e-5
    assert not (result.robust & ~result.natural_correct).any()
    assert result.natural_accuracy == logistic.score(X, y)
    # The adversarial inputs fool the scikit-learn estimator itself.
    assert result.robust_accuracy == logistic.score(result.X_adv, y)
    lost = 1 - result.robust_accuracy / result.natural_accuracy
    assert result.attack_success_rate == pytest.approx(lost)


@pytest.mark.parametrize("attack", ["pgd", "autoattack"])
def test_attack_on_predictions(logistic, test_set, attack):
    X, y = test_set[0][:40], test_set[1][:40].copy()
    y[:5] = np.where(logistic.predict(X[:5]) == "a", "b", "a")  # wrong predictions
    options = {"attack": attack, "eps": 0.08, "version": ["apgd-ce"]}
    result = attack_estimator(logistic, X, y, labels="predicted", **options)
    unchanged = logistic.predict(result.X_adv) == logistic.predict(X)
    np.testing.assert_array_equal(result.robust, unchanged)
    np.testing.assert_array_equal(result.natural_correct, logistic.predict(X) == y)
    # On right predictions it is the same attack.
    true = attack_estimator(logistic, X, y, **options)
    assert (result.robust & result.natural_correct).sum() == true.robust.sum()
    assert result.attack_success_rate == true.attack_success_rate
    # The labels have no say in what is attacked.
    other = attack_estimator(logistic, X, y[::-1], labels="predicted", **options)
    np.testing.assert_array_equal(other.X_adv, result.X_adv)


def test_eps_zero_and_huge(logistic, test_set):
    X, y = test_set
    natural = robust_accuracy_score(logistic, X, y, eps=0)
    assert natural == logistic.score(X, y)
    assert robust_accuracy_score(logistic, X, y, eps=0, norm="l2") == natural
    assert robust_accuracy_score(logistic, X, y, eps=1) == 0


@pytest.mark.parametrize("attack", ["pgd", "autoattack"])
def test_one_row_and_no_right_row(logistic, test_set, attack):
    X, y = test_set
    result = attack_estimator(logistic, X[:1], y[:1], attack=attack, eps=0.2)
    assert result.robust.shape == (1,)
    wrong = np.where(logistic.predict(X[:3]) == "a", "b", "a")
    result = attack_estimator(logistic, X[:3], wrong, attack=attack, eps=0.2)
    assert result.natural_accuracy == result.attack_success_rate == 0
    np.testing.assert_array_equal(result.X_adv, X[:3])


def test_labels_never_trained_on_are_wrong_not_an_error(logistic, test_set):
    X, _ = test_set
    result = attack_estimator(logistic, X[:5], np.full(5, "unknown"), eps=0.1)
    assert result.natural_accuracy == 0


def test_same_seed_same_bytes_and_any_random_state(logistic, test_set):
    X, y = test_set
    runs = [
        attack_estimator(logistic, X, y, eps=0.1, random_state=s) for s in (1, 1, 2)
    ]
    np.testing.assert_array_equal(runs[0].X_adv, runs[1].X_adv)
    assert (runs[0].X_adv != runs[2].X_adv).any()
    attack_estimator(logistic, X, y, random_state=np.random.RandomState(0))
    attack_estimator(logistic, X, y, random_state=None)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"eps": -1}, ValueError, "eps is -1"),
        ({"eps": [0.1]}, ValueError, "expected one number"),
        ({"norm": "l7"}, ValueError, "norm is 'l7'"),
        ({"attack": "cw"}, ValueError, "attack is 'cw'; expected one of"),
        ({"version": "fast", "attack": "autoattack"}, ValueError, "version is 'fast'"),
        ({"loss": "hinge"}, ValueError, "loss is 'hinge'"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"labels": "guess"}, ValueError, "labels is 'guess'; expected one of"),
    ],
)
def test_bad_parameters(logistic, test_set, change, error, message):
    with pytest.raises(error, match=message):
        attack_estimator(logistic, *test_set, **change)


def test_bad_data(logistic, test_set):
    X, y = test_set
    with pytest.raises(ValueError, match="NaN"):
        attack_estimator(logistic, X * np.nan, y)
    with pytest.raises(PixelRangeError, match="X / 255"):
        attack_estimator(logistic, (X * 255).astype(np.uint8), y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        attack_estimator(logistic, X, y[:-1])


def test_no_gradients_no_attack(test_set):
    X, y = test_set
    forest = RandomForestClassifier(2, random_state=0).fit(X, y)
    with pytest.raises(NotDifferentiableError, match="RandomForestClassifier"):
        attack_estimator(forest, X, y, attack="pgd")


def test_a_cheating_attack_is_caught(logistic, test_set):
    def cheat(logits_fn, x, y, threat_model, generator):
        return torch.zeros_like(x)

    with pytest.raises(AttackBudgetError):
        attack_estimator(logistic, *test_set, attack=cheat, eps=0.1)


def test_a_wrong_differentiable_form_is_noticed(digits, fitted_net):
    class Shifted(type(fitted_net)):
        def predict(self, X):
            return (super().predict(X) + 1) % 10

    _, _, X, y = digits
    net = Shifted.__new__(Shifted)
    net.__dict__.update(fitted_net.__dict__)
    with pytest.raises(NotDifferentiableError, match="disagrees with its own predict"):
        attack_estimator(net, X[:10], y[:10], n_steps=2)


def test_unbounded_features_and_other_ranges(digits):
    X, y, X_test, y_test = digits
    scaled = X.reshape(len(X), -1) * 10 - 5
    scaled_test = X_test.reshape(len(X_test), -1) * 10 - 5
    model = LogisticRegression(max_iter=200).fit(scaled, y)
    accuracies = [
        robust_accuracy_score(
            model,
            scaled_test[:15],
            y_test[:15],
            attack=attack,
            eps=1.0,
            clip_range=clip_range,
            version=["apgd-ce", "apgd-t"],
        )
        for attack in ("pgd", "autoattack")
        for clip_range in ((-5.0, 5.0), None)
    ]
    pgd_boxed, pgd_free, auto_boxed, auto_free = accuracies
    assert auto_boxed <= pgd_boxed
    assert auto_free <= pgd_free
    assert auto_free <= auto_boxed
