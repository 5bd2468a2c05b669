"""Judges of rows: what nets that have not seen an image say it shows.

With one hard label, an image that could as well be of another class is learned by
whatever tells this one image apart, and what does that is fragile. On photographs half
of the rows are like that, and leaving them out is worth more than any disturbance; see
``docs/reproducing/robust_dataset_learning.rst``.
"""

import torch

from robustfit._utils.labels import targets_of
from robustfit._utils.torch_bridge import seeded_torch, to_array
from robustfit._utils.uninterrupted_fit import fit_uninterrupted
from robustfit.sklearn_to_torch.black_box import as_torch_or_black_box

__all__ = [
    "class_probabilities",
    "cross_fit",
    "halves",
    "own_probability",
    "replace_unclear",
    "unclear_below",
]

# Rows that a judge is trained on.
LARGEST_TRAINING = 10_000
BATCH_SIZE = 1000


def cross_fit(x, y, disturb, new_net, generator):
    """Return two judges, each trained on disturbed rows of one half of the rows.

    Parameters
    ----------
    x : torch.Tensor of shape (n_samples, ...)
        Natural images.
    y : torch.Tensor of shape (n_samples,)
    disturb : callable
        Returns a disturbed copy of images.
    new_net : callable
        Returns an unfitted estimator.
    generator : torch.Generator
        Its first draws make the halves, as :func:`halves` does.

    Returns
    -------
    list of two fitted estimators
        The first judges the second half.
    """
    judges = []
    for half in halves(y, generator):
        rows = half[:LARGEST_TRAINING]
        with seeded_torch(generator.initial_seed()):
            net = new_net()
            targets = targets_of(net, to_array(y[rows]))
            fit_uninterrupted(net, to_array(disturb(x[rows])), targets)
        judges.append(net)
    return judges


def halves(y, generator):
    """Return row numbers of two random halves, with the classes in equal shares."""
    order = torch.randperm(len(y), generator=generator, device=y.device)
    by_class = order[torch.argsort(y[order], stable=True)]
    return [
        half[torch.randperm(len(half), generator=generator, device=y.device)]
        for half in (by_class[::2], by_class[1::2])
    ]


def class_probabilities(judge, x, n_classes):
    """Return the probabilities that a fitted estimator gives the classes 0, 1, ...

    Parameters
    ----------
    judge : fitted estimator
    x : torch.Tensor of shape (n_samples, ...)
    n_classes : int

    Returns
    -------
    torch.Tensor of shape (n_samples, n_classes)
        Zero for classes that the judge has not met.
    """
    classifier = as_torch_or_black_box(judge)
    with torch.no_grad():
        chances = classifier.logits(x.to(classifier.device), BATCH_SIZE).softmax(1)
    probabilities = torch.zeros(len(x), n_classes, device=x.device)
    for label in range(n_classes):
        column = int(classifier.encode(to_array(torch.tensor([label])))[0])
        if column >= 0:
            probabilities[:, label] = chances[:, column].to(x.device)
    return probabilities


def own_probability(probabilities, y):
    """Return the probability of each row's own class, shape (n_samples,)."""
    return probabilities.gather(1, y[:, None])[:, 0]


def unclear_below(clarity, y, share, n_classes):
    """Return, for each class, the clarity below which rows are among its least clear.

    Parameters
    ----------
    clarity : torch.Tensor of shape (n_samples,)
    y : torch.Tensor of shape (n_samples,)
    share : float
        Of the rows of each class that are unclear, in [0, 1); at least one stays clear.
    n_classes : int

    Returns
    -------
    torch.Tensor of shape (n_classes,)
        Minus infinity where a class has no unclear row.
    """
    bounds = torch.full((n_classes,), -torch.inf, device=y.device)
    for label in range(n_classes):
        own = clarity[y == label].sort().values
        n_unclear = min(round(share * len(own)), len(own) - 1)
        if n_unclear > 0:
            bounds[label] = own[n_unclear]
    return bounds


def replace_unclear(clarity, y, bounds, generator):
    """Return, for each row, the row whose image it shall show.

    Parameters
    ----------
    clarity : torch.Tensor of shape (n_samples,)
    y : torch.Tensor of shape (n_samples,)
    bounds : torch.Tensor of shape (n_classes,)
        Clarity below which a row of that class shows another image.
    generator : torch.Generator

    Returns
    -------
    torch.Tensor of shape (n_samples,)
        Row numbers: a row's own, or a clear row's of its class. Clear rows are shown
        as often as each other, give or take one.
    """
    sources = torch.arange(len(y), device=y.device)
    is_unclear = clarity < bounds[y]
    for label in range(len(bounds)):
        clear = torch.nonzero((y == label) & ~is_unclear)[:, 0]
        rows = torch.nonzero((y == label) & is_unclear)[:, 0]
        if len(rows) == 0 or len(clear) == 0:
            continue
        order = torch.randperm(len(clear), generator=generator, device=y.device)
        turns = torch.arange(len(rows), device=y.device) % len(clear)
        sources[rows] = clear[order[turns]]
    return sources
