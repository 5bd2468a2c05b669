"""Clear rows: images that are hard to tell leave the set, clear ones take their place.

With one hard label, an image that could as well be another digit is learned by whatever
tells this one image apart, and what does that is fragile. Few rows are like that, and
they cost much: see ``benchmarks/results/from_scratch_search.md``.
"""

import torch

from robustfit._utils.labels import targets_of
from robustfit._utils.torch_bridge import seeded_torch, to_array
from robustfit.sklearn_to_torch.torch_classifier import as_torch

__all__ = ["judge_clarity", "replace_unclear"]

# Rows that a judge is trained on.
LARGEST_TRAINING = 8000
BATCH_SIZE = 1000


def judge_clarity(x, y, disturb, new_net, generator):
    """Return the probability of each row's class, from nets that have not seen it.

    Each half of the rows is judged by a net trained naturally, from scratch, on
    disturbed rows of the other half.

    Parameters
    ----------
    x : torch.Tensor of shape (n_samples, ...)
        Natural images.
    y : torch.Tensor of shape (n_samples,)
    disturb : callable
        Returns a disturbed copy of images.
    new_net : callable
        Returns an unfitted estimator that :func:`as_torch` takes once it is fitted.
    generator : torch.Generator

    Returns
    -------
    torch.Tensor of shape (n_samples,)
        In [0, 1]; 0 where the other half has no row of the class.
    """
    clarity = torch.empty(len(x), device=x.device)
    first, second = _halves(y, generator)
    for trained, judged in ((first, second), (second, first)):
        rows = trained[:LARGEST_TRAINING]
        with seeded_torch(generator.initial_seed()):
            net = new_net()
            net.fit(to_array(disturb(x[rows])), targets_of(net, to_array(y[rows])))
        classifier = as_torch(net)
        target = classifier.encode(to_array(y[judged]))
        known = target >= 0
        columns = torch.where(known, target, 0)
        chances = classifier.logits(x[judged], BATCH_SIZE).softmax(1)
        own = chances.gather(1, columns[:, None])[:, 0]
        clarity[judged] = torch.where(known, own, 0.0)
    return clarity


def _halves(y, generator):
    """Return row numbers of two random halves, with the classes in equal shares."""
    order = torch.randperm(len(y), generator=generator, device=y.device)
    by_class = order[torch.argsort(y[order], stable=True)]
    halves = by_class[::2], by_class[1::2]
    return [
        half[torch.randperm(len(half), generator=generator, device=y.device)]
        for half in halves
    ]


def replace_unclear(clarity, y, share, generator):
    """Return, for each row, the row whose image it shall show.

    Parameters
    ----------
    clarity : torch.Tensor of shape (n_samples,)
    y : torch.Tensor of shape (n_samples,)
    share : float
        Of the rows that show another one: those of least clarity. In [0, 1).
    generator : torch.Generator

    Returns
    -------
    torch.Tensor of shape (n_samples,)
        Row numbers; a row's own, or a random clear row of its class where there is one.
    """
    sources = torch.arange(len(y), device=y.device)
    unclear = torch.zeros(len(y), dtype=torch.bool, device=y.device)
    unclear[torch.argsort(clarity)[: round(share * len(y))]] = True
    for label in y.unique():
        clear = torch.nonzero((y == label) & ~unclear)[:, 0]
        rows = torch.nonzero((y == label) & unclear)[:, 0]
        if len(clear):
            drawn = torch.randint(
                len(clear), (len(rows),), generator=generator, device=y.device
            )
            sources[rows] = clear[drawn]
    return sources
