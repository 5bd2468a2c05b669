"""Dropped rows against all subsets, by brute force; bounds; contracts."""

import itertools

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from robustfit import AdversarialPruner, RobustifiedClassifier, as_sampler
from robustfit.exceptions import RewrittenRowsError
from robustfit.robustifiers.adversarial_pruning.conflicts import find_conflicts
from robustfit.robustifiers.adversarial_pruning.vertex_cover import (
    cover_bipartite,
    cover_graph,
)

ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}


def random_set(seed, n_classes, n=11):
    rng = np.random.default_rng(seed)
    X = rng.random((n, 1 if n == 11 else 2)).astype("float32")
    return X, np.r_[np.arange(n_classes), rng.integers(n_classes, size=n - n_classes)]


def conflicts_by_hand(X, y, eps, norm):
    X = X.astype(float)
    return [
        (i, j)
        for i, j in itertools.combinations(range(len(X)), 2)
        if y[i] != y[j] and np.linalg.norm(X[i] - X[j], ORDERS[norm]) < 2 * eps
    ]


def smallest_cover(n, edges):
    for size in range(n + 1):
        for rows in itertools.combinations(range(n), size):
            if all(i in rows or j in rows for i, j in edges):
                return size


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_the_fewest_rows_are_dropped(norm, n_classes, seed):
    X, y = random_set(seed, n_classes)
    edges = conflicts_by_hand(X, y, 0.03, norm)
    assert edges
    pruner = AdversarialPruner(0.03, norm).fit(X, np.array(list("abcde"))[y])
    kept = pruner.sample_indices_
    assert not conflicts_by_hand(X[kept], y[kept], 0.03, norm)
    assert_array_equal(pruner.X_robust_, X[kept])
    assert_array_equal(pruner.y_robust_, np.array(list("abcde"))[y[kept]])
    fewest = smallest_cover(len(X), edges)
    assert pruner.n_dropped_ == len(X) - len(kept)
    assert pruner.n_dropped_at_least_ <= fewest <= pruner.n_dropped_
    assert pruner.n_dropped_ <= 2 * pruner.n_dropped_at_least_
    if n_classes == 2:
        assert pruner.n_dropped_at_least_ == fewest == pruner.n_dropped_


@pytest.mark.parametrize("seed", range(10))
def test_covers_of_random_graphs(seed):
    rng = np.random.default_rng(seed)
    dense = np.triu(rng.random((9, 9)) < 0.3, 1)
    edges = sklearn.utils.check_array(dense | dense.T, dtype=bool)
    edges = find_edges(edges)
    cover, at_least = cover_graph(edges)
    pairs = np.argwhere(dense)
    fewest = smallest_cover(9, pairs.tolist())
    assert all(cover[i] or cover[j] for i, j in pairs)
    assert at_least <= fewest <= cover.sum() <= 2 * at_least
    left, right = cover_bipartite(find_edges(dense))
    assert all(left[i] or right[j] for i, j in pairs)
    both = [(i, 9 + j) for i, j in pairs]
    assert left.sum() + right.sum() == smallest_cover(18, both)


def find_edges(dense):
    from scipy.sparse import csr_array

    return csr_array(dense)


def test_an_odd_cycle_is_worth_half_a_row_more():
    triangle = ~np.eye(3, dtype=bool)
    cover, at_least = cover_graph(find_edges(triangle))
    assert at_least == 2 == cover.sum()  # the relaxation says 1.5
    X, y = [[0.4], [0.5], [0.6], [0.0], [1.0]], [0, 1, 2, 0, 1]
    pruner = AdversarialPruner(0.15).fit(X, y)
    assert pruner.n_dropped_ == 2


def test_distances_in_blocks_are_the_same_ones():
    X, y = load_digits(return_X_y=True)
    X = X[:300] / 16
    with sklearn.config_context(working_memory=0.1):
        blocks = find_conflicts(X, y[:300], 0.8, "linf")
    whole = find_conflicts(X, y[:300], 0.8, "linf")
    assert blocks.nnz > 0
    assert (blocks != whole).nnz == 0
    assert (whole != whole.T).nnz == 0


def test_it_drops_rows_and_says_so():
    X, y = random_set(0, 2, n=40)
    pruner = AdversarialPruner(0.03)
    with pytest.raises(RewrittenRowsError, match="as_sampler"):
        pruner.fit_transform(X, y)
    kept, _ = as_sampler(pruner).fit_resample(X, y)
    model = RobustifiedClassifier(pruner, KNeighborsClassifier(1)).fit(X, y)
    assert 2 < len(kept) < 40
    assert_array_equal(model.robustifier_.X_robust_, kept)
    assert_array_equal(clone(pruner).fit(X, y).transform(X), X)


def test_neighbours_are_robust_where_rows_are_kept():
    X, y = random_set(3, 2, n=60)
    pruner = AdversarialPruner(0.05).fit(X, y)
    rows, labels = pruner.X_robust_, pruner.y_robust_
    assert pruner.n_dropped_ > 0
    model = KNeighborsClassifier(1, metric="chebyshev").fit(rows, labels)
    corners = np.array(list(itertools.product([-1, 1], repeat=2))) * 0.049
    for corner in corners:
        assert_array_equal(model.predict(rows + corner), labels)
    whole = clone(model).fit(X, y)
    fooled = [(whole.predict(X + corner) != y).mean() for corner in corners]
    assert max(fooled) > 0


def test_the_edges_of_the_budget():
    X, y = np.array([[0.0], [0.25], [0.5]]), ["a", "b", "a"]
    assert AdversarialPruner(0).fit(X, y).n_dropped_ == 0
    assert AdversarialPruner(0.125).fit(X, y).n_dropped_ == 0  # just 2 eps apart
    with pytest.raises(ValueError, match="are all of the class a"):
        AdversarialPruner(0.126).fit(X, y)
    images = np.tile(X[:, :, None, None], (1, 1, 2, 2))
    assert AdversarialPruner(0.1).fit(images, y).X_robust_.shape == (3, 1, 2, 2)
