"""Square: random search with windows; it needs scores and no gradients."""

import math
from itertools import pairwise

import torch

from robustfit._utils.argument_checks import check_count
from robustfit._utils.sample_random import sample_uniform, with_stream
from robustfit.attacks.base import Attack, AttackOutcome
from robustfit.attacks.losses import margin
from robustfit.attacks.search import Survivors, is_fooled

__all__ = ["Square"]

_FIRST_SHARE = 0.8  # of the image's area that the first windows cover
# The share halves after each of these queries (Andriushchenko et al., section 4.1).
_HALVE_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
# Proposals of later queries that are asked in vain, about, for each that is not.
_WASTE = 0.5


class Square(Attack):
    """Square attack (Andriushchenko et al., 2020): black box, by scores only.

    Parameters
    ----------
    n_queries : int, default=5000
        Calls of the model for a sample that is not fooled.
    n_restarts : int, default=1
        A sample fooled by one is not attacked by the next.
    batch_size : int, default=128
        Samples in one call of the model.

    Raises
    ------
    ValueError
        For a count below one.

    Notes
    -----
    Called as ``attack(logits_fn, x, y, threat_model, generator=None)``. Images of any
    height and width work; on flat rows the windows are runs of neighbouring features.
    All samples of a query try the same window, which depends on the seed and on the
    number of the query alone; signs that differ between samples depend on the sample.
    In the linf ball, proposals that change nothing are not asked, and when few samples
    are left the next queries of each share a call of the model.

    References
    ----------
    M. Andriushchenko, F. Croce, N. Flammarion, M. Hein. "Square attack: a
    query-efficient black-box adversarial attack via random search", ECCV 2020
    (Algorithms 1 to 3).

    Examples
    --------
    >>> import torch
    >>> from robustfit import ThreatModel
    >>> from robustfit.attacks import Square
    >>> weight = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    >>> x, y = torch.tensor([[0.6, 0.4]]), torch.tensor([0])
    >>> x_adv = Square(n_queries=50)(
    ...     lambda x: x @ weight.T, x, y, ThreatModel("linf", eps=0.2))
    >>> bool((x_adv @ weight.T).argmax(1) == 1)
    True
    """

    needs_gradients = False

    def __init__(
        self, n_queries: int = 5000, *, n_restarts: int = 1, batch_size: int = 128
    ):
        check_count("n_queries", n_queries)
        check_count("n_restarts", n_restarts)
        check_count("batch_size", batch_size)
        self.n_queries = n_queries
        self.n_restarts = n_restarts
        self.batch_size = batch_size

    def run(self, logits_fn, x, y, threat_model, generator=None):
        """Return what fools the model; robust samples unchanged."""
        images = x.detach().reshape(_image_view(x.shape))

        def image_logits(points):
            return logits_fn(points.reshape(len(points), *x.shape[1:]))

        start = self._start(logits_fn, x, y, generator)
        survivors = Survivors(images, start.fooled)
        for restart in range(self.n_restarts):
            for i in survivors.batches(self.batch_size):
                keys = with_stream(start.keys[i], restart)
                randomness = _Randomness(start.seed, restart, keys, x.device)
                search = _SEARCHES[threat_model.norm](
                    threat_model, images[i], randomness, self.n_queries
                )
                with torch.no_grad():
                    self._search(image_logits, search, y[i], i, survivors)
        return AttackOutcome(survivors.x_adv.reshape(x.shape))

    def _search(self, logits_fn, search, y, rows, survivors):
        """Query by query, keep for each sample what raises its loss.

        Few proposals do, so those of the next queries go to the model together. What
        follows the first that raises the loss of a sample is asked anew: the outcome
        is that of one query at a time.
        """
        best = search.start()
        worst, fooled = _ask(logits_fn, best, y)
        query, raise_rate = torch.zeros_like(y), 1.0
        while True:
            left = ~fooled & (query < self.n_queries)
            if not left.all():
                survivors.record(rows, best, fooled)
                rows, y, best = rows[left], y[left], best[left]
                worst, query = worst[left], query[left]
                search.keep(left)
            if len(rows) == 0:
                return
            ahead = self._look_ahead(len(rows), raise_rate, search.longest_look)
            proposals, asked = search.propose(best, query, ahead)
            of, offset = asked // ahead, asked % ahead
            loss, fell = _ask(logits_fn, proposals, y[of])
            hits = torch.nonzero((loss > worst[of]) | fell)[:, 0]
            raise_rate += 0.1 * (len(hits) / (len(rows) * ahead) - raise_rate)
            place = torch.full_like(query, ahead)
            hits = _first_of_each(hits, of, offset, place)
            best[of[hits]] = proposals[hits]
            worst[of[hits]] = loss[hits]
            fooled = torch.zeros_like(y, dtype=torch.bool)
            fooled[of[hits]] = fell[hits]
            query = query + (place + 1).clamp_max(ahead)

    def _look_ahead(self, n_left, raise_rate, longest):
        """Return how many queries of a sample to ask at once; few if many succeed."""
        worthwhile = int(_WASTE / max(raise_rate, 1e-3))
        return max(1, min(self.batch_size // n_left, worthwhile, longest))


def _ask(logits_fn, proposals, y):
    """Return the loss of each proposal and whether it fools the model."""
    if len(y) == 0:
        return proposals.new_zeros(0), torch.zeros_like(y, dtype=torch.bool)
    logits = logits_fn(proposals)
    value = margin(logits, y, value_only=True).to(proposals.dtype)
    return value, is_fooled(logits, y)


def _first_of_each(hits, of, offset, place):
    """Return each sample's first hit; note in ``place`` (n_samples,) where it was."""
    place.scatter_reduce_(0, of[hits], offset[hits], "amin")
    return hits[offset[hits] == place[of[hits]]]


def _share(query):
    return _FIRST_SHARE / 2 ** sum(query > limit for limit in _HALVE_AFTER)


def _image_view(shape):
    """Return ``shape`` as (n, channels, height, width); flat rows have height one."""
    if len(shape) == 4:
        return shape
    return (shape[0], 1, 1, math.prod(shape[1:]))


class _Randomness:
    """The random decisions of one run: shared ones a query, and a sample's own."""

    def __init__(self, seed, restart, keys, device):
        self._generator = torch.Generator().manual_seed((seed + 7919 * restart) % 2**63)
        self.keys, self._device, self._n_draws = keys, device, 0

    def place(self, n_places):
        """Return an integer in ``range(n_places)``, the same for all samples."""
        return int(torch.randint(n_places, (), generator=self._generator))

    def places(self, n_places):
        """Return an integer below each of ``n_places``, the same for all samples."""
        uniform = torch.rand(
            n_places.shape, generator=self._generator, dtype=torch.float64
        )
        return (uniform * n_places).long()

    def flips(self, *shape):
        """Return fair coin flips, 0 or 1, the same for all samples."""
        return torch.randint(2, shape, generator=self._generator).to(self._device)

    def signs(self, *shape):
        """Return signs (n_samples, *shape), each sample's own."""
        self._n_draws += 1
        keys = with_stream(self.keys, self._n_draws)
        return (sample_uniform(keys, (len(keys), *shape)) < 0.5).float() * 2 - 1


class _Search:
    """Proposals of the random search in one norm's ball."""

    longest_look = 1  # queries whose proposals may be made together

    def __init__(self, threat_model, x, randomness, n_queries):
        self.threat_model, self.x, self.randomness = threat_model, x, randomness
        self.n_queries = n_queries
        self.channels, self.height, self.width = x.shape[1:]

    def keep(self, left):
        self.x, self.randomness.keys = self.x[left], self.randomness.keys[left]

    def _window_size(self, share, smallest=1):
        """Return height and width of a window of about ``share`` of the area."""
        area = share * self.height * self.width
        side = max(round(math.sqrt(area)), smallest)
        height = min(side, self.height)
        # Where the image is lower than the window, the window is wider instead.
        if height < side:
            side = max(round(area / height), smallest)
        return height, min(side, self.width)

    def _place(self, height, width):
        top = self.randomness.place(self.height - height + 1)
        left = self.randomness.place(self.width - width + 1)
        return ..., slice(top, top + height), slice(left, left + width)


class _LinfSearch(_Search):
    """Windows at plus or minus eps, one sign a channel (Algorithm 2)."""

    longest_look = 64

    def __init__(self, threat_model, x, randomness, n_queries):
        super().__init__(threat_model, x, randomness, n_queries)
        self._ends = torch.stack(threat_model.corners(x), 1).flatten(3)
        sizes = [self._window_size(_share(query)) for query in range(n_queries)]
        size = torch.tensor(sizes)
        place = randomness.places(torch.tensor([self.height, self.width]) - size + 1)
        self._size, self._corner = size.to(x.device), place.to(x.device)
        self._flips = randomness.flips(n_queries, self.channels)

    def start(self):
        stripes = self.randomness.signs(self.channels, 1, self.width)
        return self.threat_model.move_to_sphere(self.x, stripes.expand_as(self.x))

    def keep(self, left):
        super().keep(left)
        self._ends = self._ends[left]

    def propose(self, best, query, ahead):
        """Return the proposals of the next queries, and which of them are asked.

        Returns
        -------
        proposals : torch.Tensor of shape (n_asked, C, H, W)
            Those that differ from ``best``.
        asked : torch.Tensor of shape (n_asked,)
            Of sample ``asked // ahead``, for its query ``asked % ahead`` from now.
        """
        number = query[:, None] + torch.arange(ahead, device=query.device)
        exists = (number < self.n_queries).flatten()
        number = number.flatten().clamp_max(self.n_queries - 1)
        of = torch.arange(len(number), device=query.device) // ahead
        pixels = self._pixels(number)[:, None].expand(-1, self.channels, -1)
        proposals = best.flatten(2)[of]
        ends = self._ends_at(of, self._flips[number], pixels)
        changes = (proposals.gather(2, pixels) != ends).flatten(1).any(1) & exists
        proposals.scatter_(2, pixels, ends)
        asked = torch.nonzero(changes)[:, 0]
        return proposals[asked].reshape(len(asked), *best.shape[1:]), asked

    def _pixels(self, number):
        """Return where the windows lie in a flat image (n, area of the largest)."""
        size, corner = self._size[number], self._corner[number]
        height, width = size.amax(0).tolist()
        # A smaller window names its last row and column again.
        rows = torch.arange(height, device=number.device)
        rows = corner[:, :1] + torch.minimum(rows, size[:, :1] - 1)
        columns = torch.arange(width, device=number.device)
        columns = corner[:, 1:] + torch.minimum(columns, size[:, 1:] - 1)
        return (rows[:, :, None] * self.width + columns[:, None]).flatten(1)

    def _ends_at(self, of, flips, pixels):
        """Return the values at ``pixels`` of the end of the ball that flips chose."""
        channel = torch.arange(self.channels, device=of.device)
        first = ((of[:, None] * 2 + flips) * self.channels + channel)[:, :, None]
        return self._ends.take(first * self._ends.shape[3] + pixels)


class _PyramidSearch(_Search):
    """Two-sided pyramids that take their mass from another window (Algorithm 3).

    Perturbations are in units of the threat model's scale.
    """

    order, _power = 2, 2

    def start(self):
        delta = torch.zeros_like(self.x)
        for rows in _tiles(self.height):
            for columns in _tiles(self.width):
                bump = self._bump(rows.stop - rows.start, columns.stop - columns.start)
                signs = self.randomness.signs(self.channels, 1, 1)
                delta[..., rows, columns] = bump * signs
        return self.threat_model.move_to_sphere(self.x, delta)

    def propose(self, best, query, ahead):
        delta = self.threat_model.to_units(best - self.x)
        share = _share(int(query[0]))  # without looking ahead all are at one query
        target = self._place(*self._window_size(share, smallest=3))
        height, width = delta[target].shape[2:]
        source = self._place(height, width)
        mass = self._mass_of(delta, target, source)
        window = delta[target]
        fresh = self._bump(height, width) * self.randomness.signs(self.channels, 1, 1)
        fresh = fresh + window / self._size(window).clamp_min(1e-12)
        fresh = fresh / self._size(fresh).clamp_min(1e-12) * mass
        delta[source] = 0
        delta[target] = fresh
        proposals = self.threat_model.move_to_sphere(self.x, delta)
        return proposals, torch.arange(len(best), device=best.device)

    def _size(self, window):
        return torch.linalg.vector_norm(window, self.order, dim=(2, 3), keepdim=True)

    def _mass_of(self, delta, target, source):
        """Return what a window may hold: both windows' mass and what is unused."""
        both = torch.zeros_like(delta)
        both[target], both[source] = delta[target], delta[source]
        used = self.threat_model.unit_length(delta)
        left = self.threat_model.eps**self.order - used**self.order
        left = left.clamp_min(0)[:, None, None, None] / self.channels
        return (self._size(both) ** self.order + left) ** (1 / self.order)

    def _bump(self, height, width):
        """Return a positive and a negative pyramid side by side, of norm one."""
        lies = self.randomness.place(2) == 1 if min(height, width) > 1 else width > 1
        if lies:
            first = _pyramid(height, width // 2, self._power)
            second = _pyramid(height, width - width // 2, self._power)
            bump = torch.cat([first, -second], 1)
        else:
            first = _pyramid(height // 2, width, self._power)
            second = _pyramid(height - height // 2, width, self._power)
            bump = torch.cat([first, -second], 0)
        return (bump / torch.linalg.vector_norm(bump, self.order)).to(self.x)


class _SparsePyramidSearch(_PyramidSearch):
    """The pyramids of the l1 ball: steeper, and measured in l1."""

    order, _power = 1, 4


def _pyramid(height, width, power):
    """Sum of centred, growing rectangles of decreasing weight (Figure 3)."""
    rows = torch.arange(height).sub((height - 1) / 2).abs().ceil()
    columns = torch.arange(width).sub((width - 1) / 2).abs().ceil()
    ring = torch.maximum(rows[:, None], columns)
    n_rings = int(ring.max()) + 1 if ring.numel() else 0
    weights = 1.0 / torch.arange(1, n_rings + 1) ** power
    tails = weights.flip(0).cumsum(0).flip(0)
    return tails[ring.long()]


def _tiles(length):
    """Split ``range(length)`` into about five slices."""
    size = max(1, length // 5)
    edges = [*range(0, length - size + 1, size), length]
    return [slice(a, b) for a, b in pairwise(edges) if b > a]


_SEARCHES = {"linf": _LinfSearch, "l2": _PyramidSearch, "l1": _SparsePyramidSearch}
