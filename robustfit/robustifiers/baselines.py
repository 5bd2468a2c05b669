"""Baselines of robust dataset learning: adversarial examples and noise as a set."""

import copy
import math
from numbers import Integral, Real

import numpy as np
import torch

from robustfit._utils.sklearn_private import Interval, StrOptions
from robustfit._utils.torch_bridge import (
    batch_slices,
    draw_seed,
    resolve_device,
    seeded_torch,
    stage_generator,
    to_array,
    to_tensor,
)
from robustfit._utils.uninterrupted_fit import fit_uninterrupted
from robustfit.attacks.gradient import EveryStepPGD
from robustfit.classifiers.adversarial_training.module_training import (
    train_adversarially,
)
from robustfit.robustifiers.base import TrainingSetRewriter
from robustfit.sklearn_to_torch.torch_classifier import as_torch

__all__ = ["AdversarialDataset", "NoisyDataset"]


class AdversarialDataset(TrainingSetRewriter):
    """Replace each image by its adversarial example, and keep its label.

    The baselines "adversarial data of natural classifier" and "of robust classifier"
    of "Towards Robust Dataset Learning" (section 5.1, Table 1). Neither makes nets
    robust: the figures of the paper and ours agree on that.

    Parameters
    ----------
    eps : float or array-like of shape (n_features,), default=8/255
        Radius of the perturbation, in the units of X, of all features or of each.
    norm : {"linf", "l2"}, default="linf"
    clip_range : tuple of (low, high) or None, default=(0.0, 1.0)
        Numbers, or arrays of one for each feature.
    image_shape : tuple of (C, H, W) or None, default=None
        Shape that flat rows came from.
    source : {"natural", "robust"}, default="natural"
        The classifier that is attacked: naturally trained, or adversarially trained
        for ``n_epochs`` from there.
    estimator : skorch net or None, default=None
        The classifier, unfitted; None takes
        :func:`robustfit.nets.default_classifier`.
    n_steps : int, default=20
        Steps of PGD, of length ``eps / 10`` (section 5.1).
    n_epochs : int, default=8
        Epochs of adversarial training of the robust source.
    batch_size : int, default=128
    device : str, default="auto"
    random_state : int, RandomState instance or None, default=None

    Attributes
    ----------
    X_robust_, y_robust_, sample_indices_, classes_, image_shape_, n_features_in_
        As for :class:`RobustDatasetLearner`.
    source_estimator_ : fitted estimator
        The attacked classifier; its labels are 0..n_classes-1.
    estimator_ : fitted estimator
        The same, naturally trained only: what fine-tuning starts from.

    Notes
    -----
    ``fit(X, y).transform(X)`` does not equal ``fit_transform(X, y)``: the latter
    returns the adversarial set, ``transform`` leaves its input as it is.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from robustfit import AdversarialDataset
    >>> X, y = load_digits(return_X_y=True)
    >>> baseline = AdversarialDataset(eps=0.1, random_state=0)
    >>> X_adv = baseline.fit_transform(X[:200] / 16, y[:200])
    >>> bool(abs(X_adv - X[:200] / 16).max() <= 0.1 + 1e-6)
    True
    """

    _takes_per_feature = True
    _parameter_constraints: dict = {
        "source": [StrOptions({"natural", "robust"})],
        "estimator": [None, object],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        eps=8 / 255,
        norm="linf",
        *,
        clip_range=(0.0, 1.0),
        image_shape=None,
        source="natural",
        estimator=None,
        n_steps=20,
        n_epochs=8,
        batch_size=128,
        device="auto",
        random_state=None,
    ):
        self.eps = eps
        self.norm = norm
        self.clip_range = clip_range
        self.image_shape = image_shape
        self.source = source
        self.estimator = estimator
        self.n_steps = n_steps
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state

    def _learn(self, X, y, image_shape, threat_model):
        device, seed = resolve_device(self.device), draw_seed(self.random_state)
        with seeded_torch(seed):
            net = self._new_net(image_shape, device, len(X))
            self.estimator_ = fit_uninterrupted(net, X, y)
        # Fine-tuning starts from estimator_, so that one stays naturally trained.
        self.source_estimator_ = copy.deepcopy(self.estimator_)
        classifier = as_torch(self.source_estimator_)
        x = to_tensor(X, classifier.device)
        y_column = to_tensor(y, classifier.device, torch.int64)
        if self.source == "robust":
            for epoch in range(self.n_epochs):
                train_adversarially(
                    classifier.module,
                    x,
                    y_column,
                    threat_model,
                    epoch=epoch,
                    n_epochs=self.n_epochs,
                    batch_size=self.batch_size,
                    generator=stage_generator(seed, epoch, device=x.device),
                )
        self.X_robust_ = to_array(self._attack(classifier, x, y_column, threat_model))
        self.y_robust_ = self.classes_[y]
        self.sample_indices_ = np.arange(len(X))

    def _attack(self, classifier, x, y, threat_model):
        """Run every step of PGD on every image, whether it is fooled or not."""
        x_adv, attack = x.clone(), EveryStepPGD(self.n_steps, threat_model.eps / 10)
        with classifier.frozen():
            for rows in batch_slices(len(x), self.batch_size):
                found = attack.run(classifier, x[rows], y[rows], threat_model)
                x_adv[rows] = found.x_adv
        return x_adv


class NoisyDataset(TrainingSetRewriter):
    """Add noise to each image: the baseline that a learned set has to beat.

    Parameters
    ----------
    eps : float or array-like of shape (n_features,), default=8/255
        Budget of the adversary, in the units of X, of all features or of each; the
        noise is scaled to it.
    norm : {"linf", "l2"}, default="linf"
    clip_range : tuple of (low, high) or None, default=(0.0, 1.0)
        Numbers, or arrays of one for each feature.
    image_shape : tuple of (C, H, W) or None, default=None
    kind : {"gaussian", "sign"}, default="gaussian"
        White Gaussian noise, or random signs.
    scale : float or None, default=None
        Standard deviation in the units of X; with ``eps`` per feature, of the one with
        the largest (the others' are in proportion). None is ``2.5 * eps`` (gaussian) or
        ``2 * eps`` (sign) for linf; for l2, those times ``sqrt(8 / n_features)``.
    random_state : int, RandomState instance or None, default=None

    Attributes
    ----------
    X_robust_, y_robust_, sample_indices_, classes_, image_shape_, n_features_in_
        As for :class:`RobustDatasetLearner`.

    Notes
    -----
    ``fit(X, y).transform(X)`` does not equal ``fit_transform(X, y)``: the latter
    returns the noisy set, ``transform`` leaves its input as it is.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from robustfit import NoisyDataset
    >>> X, y = load_digits(return_X_y=True)
    >>> NoisyDataset(eps=0.1, random_state=0).fit_transform(X / 16, y).shape
    (1797, 64)
    """

    _takes_per_feature = True
    _parameter_constraints: dict = {
        "kind": [StrOptions({"gaussian", "sign"})],
        "scale": [None, Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        eps=8 / 255,
        norm="linf",
        *,
        clip_range=(0.0, 1.0),
        image_shape=None,
        kind="gaussian",
        scale=None,
        random_state=None,
    ):
        self.eps = eps
        self.norm = norm
        self.clip_range = clip_range
        self.image_shape = image_shape
        self.kind = kind
        self.scale = scale
        self.random_state = random_state

    def _learn(self, X, y, image_shape, threat_model):
        generator = stage_generator(draw_seed(self.random_state), 0)
        x = to_tensor(X)
        noise = torch.randn(x.shape, generator=generator)
        if self.kind == "sign":
            noise = noise.sign()
        scale = self._scale(X, threat_model)
        x = threat_model.clip(x + threat_model.from_units(scale * noise))
        self.X_robust_ = to_array(x)
        self.y_robust_ = self.classes_[y]
        self.sample_indices_ = np.arange(len(X))

    def _scale(self, X, threat_model):
        if self.scale is not None:
            return self.scale
        scale = (2.5 if self.kind == "gaussian" else 2.0) * threat_model.eps
        if self.norm != "l2":
            return scale
        return scale * math.sqrt(8 / max(1, threat_model.n_touchable(X)))
