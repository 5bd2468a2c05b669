"""Representation inversion: images that a net's representation layer sees as others.

Shaped as an attack, run with ``(classifier, x, start, threat_model, generator)``, so
that chunks, processes, threads and checkpoints are those of ``attack_in_chunks``: what
an attack calls the labels are here the images to start from.
"""

import torch

from robustfit._utils.sample_random import (
    sample_keys,
    sample_normal,
    sample_uniform,
    with_stream,
)
from robustfit._utils.torch_bridge import batch_slices, to_array, to_tensor
from robustfit.attacks.base import Attack, AttackOutcome
from robustfit.sklearn_to_torch.representation import Representation

__all__ = ["RepresentationInversion", "StartImages", "default_step_size"]

# "Adversarial Examples Are Not Bugs, They Are Features", Table 5: 1000 steps of l2
# length 0.1 on CIFAR-10, a path of 100 in 3072 dimensions.
_PATH_LENGTH, _PATH_DIMENSIONS = 100.0, 3072


def default_step_size(n_features, n_steps, clip_range):
    """Return the step with which the path has the paper's length, for any image size.

    Distances between images grow with the root of their size, and with their range.
    """
    width = 1.0 if clip_range is None else clip_range[1] - clip_range[0]
    path = _PATH_LENGTH * width * (n_features / _PATH_DIMENSIONS) ** 0.5
    return path / n_steps


class RepresentationInversion(Attack):
    """Normalised gradient descent on ``||g(x_r) - g(x)||_2`` within the pixel range.

    Parameters
    ----------
    layer : str or None
        See :class:`robustfit.sklearn_to_torch.representation.Representation`.
    n_steps : int
    step_size : float
        L2 length of each step.
    """

    wants_logits = False  # but features

    def __init__(self, layer, n_steps, step_size):
        self.layer = layer
        self.n_steps = n_steps
        self.step_size = step_size

    def check_model(self, logits_fn, x, y):
        """Ask nothing: ``y`` are images, and there is no loss of classes."""
        return []

    def run(self, logits_fn, x, y, threat_model, generator=None):
        """Return x_r for each ``x``, from the images ``y`` (n_samples, ...)."""
        represent = Representation(logits_fn, self.layer)
        with torch.no_grad():
            target = represent(x)
        x_r = y.detach().clone()
        for _ in range(self.n_steps):
            gradient = _distance_gradient(represent, x_r, target)
            x_r = threat_model.l2_descent_step(x_r, gradient, self.step_size)
        return AttackOutcome(x_r)


def _distance_gradient(represent, x, target):
    """Return the direction in which ``||g(x) - target||_2`` grows, of any length.

    The gradient of the norm is that of the residual's product with itself, divided by
    the norm; as steps are normalised the division, and with it a singular point, is
    left out.
    """
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        found = represent(x)
        residual = found.detach() - target
        (gradient,) = torch.autograd.grad(found, x, residual)
    return gradient


class StartImages:
    """Where inversions start: another image of a pool, or noise.

    The draw depends on a seed, on the image that shall be inverted and on a number, not
    on the image's place or on the other images.

    Parameters
    ----------
    kind : {"images", "noise"}
    pool : ndarray of shape (n_pool, ...), float32
        Images to draw from. For noise their mean and standard deviation are used.
    seed : int
    """

    def __init__(self, kind, pool, seed):
        self.kind, self.seed = kind, seed
        if kind == "images":
            self.pool = pool.copy()
        else:
            self.mean, self.scale = float(pool.mean()), float(pool.std())

    def draw(self, X, number, threat_model):
        """Return an image (float32, in the range) for each of ``X``.

        ``number`` of shape (n_samples,) tells the starts of one image apart.
        """
        keys = with_stream(
            sample_keys(to_tensor(X), self.seed), to_tensor(number, dtype=torch.int64)
        )
        if self.kind == "noise":
            noise = sample_normal(keys, (len(X), *X.shape[1:]))
            return to_array(threat_model.clip(self.mean + self.scale * noise))
        n_pool = len(self.pool)
        place = sample_uniform(keys, (len(X), 1))[:, 0].double() * n_pool
        rows = to_array(place.long())
        axes = tuple(range(1, X.ndim))
        itself = (self.pool[rows] == X.reshape(len(X), *self.pool.shape[1:])).all(axes)
        rows = (rows + itself) % n_pool  # another image than the one inverted
        return self.pool[rows].reshape(X.shape)


def relative_feature_error(classifier, layer, X, X_robust, batch_size):
    """Return ``||g(x_r) - g(x)|| / ||g(x)||`` for each sample, shape (n_samples,)."""
    represent = Representation(classifier, layer)
    errors = []
    with torch.no_grad():
        for rows in batch_slices(len(X), batch_size):
            target = represent(to_tensor(X[rows], classifier.device))
            found = represent(to_tensor(X_robust[rows], classifier.device))
            length = torch.linalg.vector_norm(target, dim=1)
            gap = torch.linalg.vector_norm(found - target, dim=1)
            errors.append(gap / torch.where(length > 0, length, 1.0))
    return to_array(torch.cat(errors))
