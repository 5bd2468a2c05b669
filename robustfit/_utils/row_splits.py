"""Random rows with the classes in their shares: parts to learn, to hold out, to judge.

A part is drawn by :func:`stratified_share`; where several parts of one set follow each
other, each of any length, they are stretches of :func:`stratified_order`.
"""

import numpy as np

__all__ = ["stratified_order", "stratified_share"]


def stratified_share(y, count, seed):
    """Return rows drawn within each class.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Classes.
    count : callable
        Returns how many of the n rows of a class are drawn, an integer in [0, n].
    seed : int or sequence of int

    Returns
    -------
    ndarray
        Row numbers, sorted.
    """
    rng = np.random.default_rng(seed)
    chosen = [
        rng.choice(rows, count(len(rows)), replace=False)
        for rows in (np.flatnonzero(y == label) for label in np.unique(y))
    ]
    return np.sort(np.concatenate(chosen))


def stratified_order(y, seed):
    """Return all rows in a random order in which every stretch has all classes.

    The first rows are one of each class.
    """
    rng = np.random.default_rng(seed)
    place = np.empty(len(y))
    for label in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == label))
        place[rows] = (np.arange(len(rows)) + rng.random(len(rows))) / len(rows)
        place[rows[0]] -= 1  # one row of each class comes first
    return np.argsort(place, kind="stable")
