import dataclasses
import math

import numpy as np
import pytest
from scipy.stats import binom

from robustfit import AttackResult, attack_estimator, compare
from robustfit.evaluation.counting_error import mcnemar_p_value, wilson_interval


def result(robust, natural=None):
    robust = np.asarray(robust, dtype=bool)
    natural = robust if natural is None else np.asarray(natural, dtype=bool)
    return AttackResult(np.zeros((len(robust), 1)), natural, robust, seed=3)


@pytest.mark.parametrize(("n_right", "n"), [(0, 1), (1, 1), (3, 10), (180, 200)])
def test_wilson_interval_by_its_formula(n_right, n):
    z, p = 1.959963984540054, n_right / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = wilson_interval(n_right, n)
    assert (low, high) == pytest.approx((centre - half, centre + half), abs=1e-9)
    assert 0 <= low <= p <= high <= 1


def test_a_result_shows_its_error_its_samples_and_its_seed():
    shown = result([True] * 90 + [False] * 110, [True] * 150 + [False] * 50)
    assert shown.natural_interval == wilson_interval(150, 200)
    assert shown.robust_interval == wilson_interval(90, 200)
    assert repr(shown) == (
        "AttackResult(n_samples=200, natural_accuracy=0.750, robust_accuracy=0.450, "
        "natural_interval=[0.686, 0.805], robust_interval=[0.383, 0.519], seed=3)"
    )


def test_the_seed_is_the_one_that_repeats_the_attack(digits, fitted_net):
    _, _, X, y = digits
    drawn = attack_estimator(
        fitted_net, X[:30], y[:30], eps=0.1, n_steps=3,
        random_state=np.random.RandomState(5),
    )  # fmt: skip
    again = attack_estimator(
        fitted_net, X[:30], y[:30], eps=0.1, n_steps=3, random_state=drawn.seed
    )
    np.testing.assert_array_equal(drawn.X_adv, again.X_adv)
    assert f"seed={drawn.seed})" in repr(again)


def test_mcnemar_by_hand():
    # 8 samples for a alone, 2 for b alone: two tails of a binomial of 10 at one half.
    a = [True] * 8 + [False] * 2 + [True] * 5
    b = [False] * 8 + [True] * 2 + [True] * 5
    found = compare(result(a), result(b))
    assert (found.only_a, found.only_b, found.n_samples) == (8, 2, 15)
    assert found.p_value == pytest.approx(2 * binom.sf(7, 10, 0.5))
    assert found.difference == pytest.approx(found.accuracy_a - found.accuracy_b)
    assert "difference=+0.400" in repr(found)
    other = compare(result(b), result(a))
    assert other.difference == -found.difference
    assert other.p_value == found.p_value
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.p_value = 0


def test_models_that_agree_do_not_differ():
    same = compare(result([True, False]), result([True, False]))
    assert (same.p_value, same.difference) == (1.0, 0.0)
    one_sided = mcnemar_p_value(np.ones(1, bool), np.ones(1, bool), "greater")
    assert one_sided == 1.0


def test_other_samples_cannot_be_compared():
    with pytest.raises(ValueError, match="2 and 1 samples"):
        compare(result([True, False]), result([True]))
