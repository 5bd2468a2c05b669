"""What was chosen on a sample, done to any further rows, each by itself.

What becomes of a row is a function of its values, its class and the fit's seed alone:
chunks, memory maps, Dask blocks and single items of a torch data set give the same
bytes as one call.
"""

from dataclasses import dataclass

import numpy as np
import torch

from robustfit._utils.sample_random import sample_keys
from robustfit._utils.torch_bridge import make_generator, to_array, to_tensor
from robustfit.robustifiers.dataset_learning.candidate import Candidate
from robustfit.robustifiers.dataset_learning.row_judges import (
    class_probabilities,
    own_probability,
    unclear_below,
)
from robustfit.robustifiers.dataset_learning.set_making import move_images, reach_of
from robustfit.threat_model import ThreatModel

__all__ = ["RowRewriter"]

# Clear images of the sample that unclear rows show, and that patterns are cut from.
POOL_ROWS = 2000
# Rows that a judge is asked about at once, always: other numbers round otherwise.
JUDGED_ROWS = 100


@dataclass(frozen=True)
class RowRewriter:
    """A choice and what it takes to apply it to a row.

    Attributes
    ----------
    candidate : Candidate
    threat_model : ThreatModel
    image_shape : tuple of int
    value_range : tuple of (float, float)
    background : float
        Median value of the sample.
    pool, pool_labels : torch.Tensor of shape (n_pool, ...), (n_pool,)
        Clear images of the sample.
    judges : list of fitted estimators
        What they say on average is a row's clarity; empty where all rows are kept.
    bounds : torch.Tensor of shape (n_classes,)
        Clarity below which a row shows an image of the pool.
    theta_0 : torch.nn.Module or None
    seed : int
    """

    candidate: Candidate
    threat_model: ThreatModel
    image_shape: tuple[int, ...]
    value_range: tuple[float, float]
    background: float
    pool: torch.Tensor
    pool_labels: torch.Tensor
    judges: list
    bounds: torch.Tensor
    theta_0: torch.nn.Module | None
    seed: int

    @classmethod
    def from_fit(cls, problem, state, judges):
        """Return the rewriter of what a fit has chosen.

        Parameters
        ----------
        problem : LearningProblem
        state : LearningState
            With ``chosen``.
        judges : list of fitted estimators
        """
        share = state.chosen.unclear_fraction
        is_clear = torch.ones(len(problem.x), dtype=torch.bool, device=problem.x.device)
        bounds = torch.full((problem.n_classes,), -torch.inf, device=problem.x.device)
        if share > 0:
            clarity = own_probability(state.row_probabilities, problem.y)
            bounds = unclear_below(clarity, problem.y, share, problem.n_classes)
            is_clear = clarity >= bounds[problem.y]
        rows = torch.nonzero(is_clear)[:, 0]
        order = np.random.default_rng([problem.seed, 3]).permutation(len(rows))
        pool = rows[torch.tensor(order[:POOL_ROWS], device=rows.device)]
        return cls(
            candidate=state.chosen,
            threat_model=problem.threat_model,
            image_shape=problem.image_shape,
            value_range=problem.value_range,
            background=float(problem.x.median()),
            pool=problem.x[pool].clone(),
            pool_labels=problem.y[pool].clone(),
            judges=judges if share > 0 else [],
            bounds=bounds,
            theta_0=problem.theta_0 if state.chosen.radius > 0 else None,
            seed=problem.seed,
        )

    def rewrite(self, X, y):
        """Return the rows of X as the learned set would show them.

        Parameters
        ----------
        X : ndarray of shape (n_samples, ...), float32
        y : ndarray of shape (n_samples,)
            Classes 0, 1, ...

        Returns
        -------
        ndarray of the shape of X, float32
        """
        device = self.pool.device
        x, labels = to_tensor(X, device), to_tensor(y, device, torch.int64)
        keys = sample_keys(x, self.seed).tolist()
        is_unclear = self._is_unclear(x, labels)
        low, high = self.value_range
        others = (self.pool.reshape(-1, *self.image_shape) - low) / (high - low)
        rewritten = torch.empty_like(x)
        for row, key in enumerate(keys):
            generator = make_generator(key % 2**63, device)
            image = x[row : row + 1]
            if is_unclear[row]:
                image = self._image_of_class(labels[row], generator, image)
            rewritten[row] = self._change(image, others, generator)[0]
        return to_array(rewritten)

    def _is_unclear(self, x, labels):
        """Return which rows the judges, who have not seen them, find unclear."""
        unclear = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        if not self.judges:
            return unclear
        for start in range(0, len(x), JUDGED_ROWS):
            rows = slice(start, min(start + JUDGED_ROWS, len(x)))
            part = x[rows]
            padding = part[:1].expand(JUDGED_ROWS - len(part), *part.shape[1:])
            padded = torch.cat([part, padding])
            chances = [
                class_probabilities(judge, padded, len(self.bounds))[: len(part)]
                for judge in self.judges
            ]
            clarity = own_probability(sum(chances) / len(chances), labels[rows])
            unclear[rows] = clarity < self.bounds[labels[rows]]
        return unclear

    def _image_of_class(self, label, generator, image):
        """Return a clear image of the class; the row's own where the pool has none."""
        rows = torch.nonzero(self.pool_labels == label)[:, 0]
        if len(rows) == 0:
            return image
        place = torch.randint(
            len(rows), (1,), generator=generator, device=self.pool.device
        )
        return self.pool[rows[place]]

    def _change(self, image, others, generator):
        """Return one image (1, ...) moved and disturbed."""
        if self.theta_0 is not None:
            clip_range = self.threat_model.clip_range
            reach = reach_of(self.candidate, self.value_range, clip_range)
            image = move_images(
                self.theta_0, image, reach, len(self.bounds), generator, batch_size=1
            )
        shape = (-1, *self.image_shape)
        disturbed = self.candidate.disturbance.apply(
            image.reshape(shape),
            self.value_range,
            generator,
            others=others,
            background=self.background,
        )
        return self.threat_model.clip(disturbed.reshape(image.shape))
