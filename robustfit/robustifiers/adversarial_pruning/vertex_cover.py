"""Few vertices that touch every edge of a graph: fewest if it has two sides."""

import numpy as np
from scipy.sparse import block_array, coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_bipartite_matching

__all__ = ["cover_bipartite", "cover_graph"]


def cover_bipartite(edges):
    """Return a smallest vertex cover of a bipartite graph: König's theorem.

    Parameters
    ----------
    edges : csr_array of shape (n_left, n_right), bool

    Returns
    -------
    left, right : ndarray of shape (n_left,) and (n_right,), bool
        Members of the cover; as many as edges in a largest matching.
    """
    n_left, n_right = edges.shape
    partner = maximum_bipartite_matching(edges, perm_type="column")
    is_matched = partner >= 0
    # From the unmatched on the left, along any edge there and a matched one back.
    ends = partner[is_matched], np.flatnonzero(is_matched)
    ones = np.ones(is_matched.sum(), dtype=bool)
    back = coo_array((ones, ends), shape=(n_right, n_left))
    start = csr_array((~is_matched).astype(bool)[None])
    steps = block_array([[None, edges, None], [back, None, None], [start, None, None]])
    steps = csr_array(steps, shape=(n_left + n_right + 1,) * 2)
    reached = np.zeros(n_left + n_right + 1, dtype=bool)
    source = n_left + n_right
    reached[breadth_first_order(steps, source, return_predecessors=False)] = True
    return ~reached[:n_left], reached[n_left:source]


def cover_graph(edges):
    """Return a vertex cover at most twice the smallest, and what that is at least.

    The better of two: the linear relaxation rounded up (its optimum is half-integral
    and a smallest cover of the graph's bipartite double; Nemhauser & Trotter, 1975),
    and taking the vertex with most open edges again and again. Vertices that are not
    needed in the end are put back.

    Parameters
    ----------
    edges : csr_array of shape (n, n), bool
        Symmetric.

    Returns
    -------
    cover : ndarray of shape (n,), bool
    at_least : int
        No cover has fewer members.
    """
    left, right = cover_bipartite(edges)
    covers = [_without_idle(edges, c) for c in (left | right, _greedy(edges))]
    return min(covers, key=np.sum), int(np.ceil((left.sum() + right.sum()) / 2))


def _greedy(edges):
    """Take the vertex with most edges that no member touches; the first of several."""
    n_open, cover = edges.sum(axis=1), np.zeros(edges.shape[0], dtype=bool)
    while n_open.any():
        vertex = int(n_open.argmax())
        cover[vertex], n_open[vertex] = True, 0
        neighbours = _neighbours(edges, vertex)
        n_open[neighbours[~cover[neighbours]]] -= 1
    return cover


def _without_idle(edges, cover):
    """Drop members whose neighbours are all members, those with few edges first."""
    cover = cover.copy()
    for vertex in np.argsort(edges.sum(axis=1), kind="stable"):
        if cover[vertex] and cover[_neighbours(edges, vertex)].all():
            cover[vertex] = False
    return cover


def _neighbours(edges, vertex):
    return edges.indices[edges.indptr[vertex] : edges.indptr[vertex + 1]]
