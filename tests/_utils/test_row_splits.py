import numpy as np
import pytest

from robustfit._utils.row_splits import stratified_order, stratified_share

Y = np.repeat([4, 7, 9], [10, 3, 1])


@pytest.mark.parametrize("seed", [0, 5, [0, 1]])
def test_a_share_of_each_class(seed):
    rows = stratified_share(Y, lambda n: n // 2, seed)
    assert np.bincount(Y[rows], minlength=10)[[4, 7, 9]].tolist() == [5, 1, 0]
    assert rows.tolist() == sorted(set(rows.tolist()))
    np.testing.assert_array_equal(rows, stratified_share(Y, lambda n: n // 2, seed))
    all_rows = stratified_share(Y, lambda n: n, seed)
    np.testing.assert_array_equal(all_rows, np.arange(len(Y)))
    nothing = stratified_share(Y, lambda n: 0, seed)
    assert len(np.array(Y)[nothing]) == 0


def test_the_seed_decides():
    drawn = {tuple(stratified_share(Y, lambda n: n // 2, seed)) for seed in range(9)}
    assert len(drawn) > 5
    # what the learned sets of version 0.1 were drawn with
    assert stratified_share(Y, lambda n: n // 2, 0).tolist() == [2, 3, 4, 5, 7, 12]


def test_every_stretch_has_all_classes_in_proportion():
    y = np.arange(300) % 3
    y[:150] = 0  # shares 2/3, 1/6, 1/6
    order = stratified_order(y, 3)
    assert sorted(order) == list(range(300))
    assert sorted(y[order[:3]]) == [0, 1, 2]
    for start in range(3, 297, 60):
        stretch = y[order[start : start + 60]]
        np.testing.assert_allclose(np.bincount(stretch), [40, 10, 10], atol=4)
    np.testing.assert_array_equal(order, stratified_order(y, 3))
    assert (order != stratified_order(y, 4)).any()
