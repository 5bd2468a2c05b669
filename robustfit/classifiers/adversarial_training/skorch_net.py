"""``AdversarialNet``: a skorch net whose training steps see adversarial examples."""

import math
import time

import numpy as np
import torch
from skorch import NeuralNetClassifier
from skorch.utils import to_tensor
from torch import nn
from torch.utils.data import Dataset

from robustfit._utils.skorch_private import set_training
from robustfit._utils.training_batches import LoaderWithoutLoneRow
from robustfit.classifiers.adversarial_training.training_attacks import (
    divergence,
    fast_gradient_images,
    pgd_images,
    trades_images,
)
from robustfit.sklearn_to_torch.torch_classifier import as_torch
from robustfit.threat_model import ThreatModel

__all__ = ["METHODS", "AdversarialNet"]

METHODS = ("pgd", "trades", "fgsm", "free")


class AdversarialNet(NeuralNetClassifier):
    """A skorch classifier that is trained adversarially.

    For those who work with skorch; :class:`AdversarialClassifier` adds what
    scikit-learn expects (labels and dtypes of any kind, seeds, schedules of eps).

    Parameters
    ----------
    module : torch.nn.Module class
        Maps images to logits.
    *args : tuple
        As for ``skorch.NeuralNetClassifier``.
    eps : float or array-like of shape (n_features,), default=8/255
        Radius of the perturbation, in the units of X, of all features or of each.
    norm : {"linf", "l2", "l1"}, default="linf"
    clip_range : tuple of (low, high) or None, default=(0.0, 1.0)
        Numbers, or arrays of one for each feature.
    method : {"pgd", "trades", "fgsm", "free"}, default="pgd"
        See :class:`AdversarialClassifier`.
    n_steps : int or None, default=10
        Gradient steps of "pgd" and "trades". None is as many as it takes to walk
        ``2.5 * eps`` in steps of ``step_size``.
    step_size : float or None, default=None
        Length of a step; None is ``2.5 * eps / n_steps``.
    trades_beta : float, default=6.0
        Weight of the divergence in the loss of "trades".
    n_replays : int, default=8
        Updates on each batch by "free".
    scale : array-like of shape (n_features,) or None, default=None
        Unit of ``eps`` for each feature, see :class:`robustfit.ThreatModel`.
    augment : callable or None, default=None
        Maps a batch of images (a tensor) to one of the same shape; applied before the
        attack. Draw random numbers from torch's global generator.
    criterion : class, default=torch.nn.CrossEntropyLoss
        On logits.
    **kwargs : dict
        As for ``skorch.NeuralNetClassifier``.

    Notes
    -----
    The attack runs once a batch, in ``train_step``; with a ``train_split`` the loss and
    accuracy of validation are those under attack too. ``history`` gets
    ``attack_seconds`` and ``update_seconds`` of every batch.

    A last batch of one row joins the one before it, as batch norm needs two.

    skorch casts nothing (pass float32 images and int64 labels) and predicts the index
    of a class.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from robustfit import AdversarialNet
    >>> from robustfit.nets import MLP
    >>> X, y = load_digits(return_X_y=True)
    >>> net = AdversarialNet(
    ...     MLP, module__n_features=64, eps=0.1, n_steps=2, max_epochs=1,
    ...     train_split=None, verbose=0)
    >>> net.fit((X[:200] / 16).astype("float32"), y[:200]).predict_proba(
    ...     (X[:2] / 16).astype("float32")).shape
    (2, 10)
    """

    def __init__(
        self,
        module,
        *args,
        eps=8 / 255,
        norm="linf",
        clip_range=(0.0, 1.0),
        method="pgd",
        n_steps=10,
        step_size=None,
        trades_beta=6.0,
        n_replays=8,
        scale=None,
        augment=None,
        criterion=nn.CrossEntropyLoss,
        **kwargs,
    ):
        kwargs.setdefault("iterator_train", LoaderWithoutLoneRow)
        super().__init__(module, *args, criterion=criterion, **kwargs)
        self.eps = eps
        self.norm = norm
        self.clip_range = clip_range
        self.method = method
        self.n_steps = n_steps
        self.step_size = step_size
        self.trades_beta = trades_beta
        self.n_replays = n_replays
        self.scale = scale
        self.augment = augment

    def check_data(self, X, y):
        """Check the method, and pixels against ``clip_range``, as skorch checks X."""
        super().check_data(X, y)
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}; expected one of {METHODS}.")
        if isinstance(X, np.ndarray | torch.Tensor):
            self._threat_model().check_range(X)

    def _threat_model(self):
        return ThreatModel(self.norm, self.eps, self.clip_range, self.scale)

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Train on; warn where the units of ``eps`` and X look different.

        Parameters
        ----------
        X, y, classes, **fit_params
            As for ``skorch.NeuralNetClassifier``; ``fit`` calls it.

        Returns
        -------
        self : AdversarialNet
        """
        first = X[0] if isinstance(X, Dataset) else None
        images = X
        if isinstance(first, tuple) and isinstance(first[0], torch.Tensor):
            images = first[0][None]
        if isinstance(images, np.ndarray | torch.Tensor):
            threat_model = ThreatModel(self.norm, self.eps, self.clip_range)
            threat_model.warn_of_unit(images)
        return super().partial_fit(X, y, classes=classes, **fit_params)

    def perturb(self, x, y):
        """Return the adversarial images of one batch.

        Parameters
        ----------
        x : torch.Tensor of shape (n_samples, ...)
        y : torch.Tensor of shape (n_samples,)

        Returns
        -------
        torch.Tensor of shape (n_samples, ...)
        """
        threat_model = self._threat_model()
        if threat_model.eps == 0:
            return x
        module = as_torch(self).module
        if self.method == "fgsm":
            return fast_gradient_images(module, x, y, threat_model, None)
        n_steps, step_size = steps_of(threat_model.eps, self.n_steps, self.step_size)
        steps = {"n_steps": n_steps, "step_size": step_size}
        if self.method == "trades":
            return trades_images(module, x, threat_model, None, **steps)
        return pgd_images(module, x, y, threat_model, None, **steps)

    def on_epoch_begin(self, net, **kwargs):
        """Forget the perturbation that "free" carries from batch to batch."""
        super().on_epoch_begin(net, **kwargs)
        self._carried = None

    def on_train_end(self, net, **kwargs):
        """Leave the module in eval mode, which skorch does after validation only."""
        super().on_train_end(net, **kwargs)
        set_training(self, False)

    def train_step(self, batch, **fit_params):
        """Attack the batch once, then update on what came out."""
        x, y = self._unpack(batch)
        if self.augment is not None:
            x = self._threat_model().clip(self.augment(x))
        if self.method == "free":
            return self._replay(x, y, **fit_params)
        start = self._now()
        x_adv = self.perturb(x, y)
        attacked = self._now()
        x_adv = (x, x_adv) if self.method == "trades" else x_adv
        step = super().train_step((x_adv, y), **fit_params)
        self._record_seconds(attacked - start, self._now() - attacked)
        return step

    def train_step_single(self, batch, **fit_params):
        """Compute the gradient of the method's loss."""
        if self.method != "trades":
            return super().train_step_single(batch, **fit_params)
        (x, x_adv), y = batch
        set_training(self, True)
        module = as_torch(self).module
        logits = module(x)
        on_logits = isinstance(self.criterion_, nn.CrossEntropyLoss)
        output = logits if on_logits else self.infer(x, **fit_params)
        loss = self.get_loss(output, y, X=x, training=True)
        gap = divergence(module(x_adv), logits.log_softmax(1))
        loss = loss + self.trades_beta * gap.mean()
        loss.backward()
        return {"loss": loss, "y_pred": output}

    def validation_step(self, batch, **fit_params):
        """Measure the loss on adversarial images."""
        x, y = self._unpack(batch)
        return super().validation_step((self.perturb(x, y), y), **fit_params)

    def _unpack(self, batch):
        """Return images and labels on the device; the range of data sets shows here."""
        x, y = (to_tensor(part, device=self.device) for part in batch)
        return self._threat_model().check_range(x), y

    def _replay(self, x, y, **fit_params):
        """Update net and perturbation from one gradient, again and again.

        "Adversarial training for free" (Shafahi et al., 2019, Algorithm 1): the
        perturbation of a batch is where that of the next one starts.
        """
        threat_model = self._threat_model()
        start = self._now()
        x_adv = x
        if self._carried is not None and len(self._carried) >= len(x):
            x_adv = threat_model.project(x + self._carried[: len(x)], x)
        for _ in range(self.n_replays):
            x_adv = x_adv.detach().requires_grad_(True)
            step = super().train_step((x_adv, y), **fit_params)
            step_size, gradient = threat_model.eps, x_adv.grad
            x_adv = threat_model.ascent_step(x_adv.detach(), gradient, step_size)
            x_adv = threat_model.project(x_adv, x)
        self._carried = (x_adv - x).detach()
        self._record_seconds(0.0, self._now() - start)
        return step

    def _now(self):
        if str(self.device).startswith("cuda"):
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _record_seconds(self, attack, update):
        self.history.record_batch("attack_seconds", attack)
        self.history.record_batch("update_seconds", update)


def steps_of(eps, n_steps, step_size):
    """Return the number and length of steps; what is None follows from the other."""
    if n_steps is None:
        return max(1, math.ceil(2.5 * eps / step_size - 1e-9)), step_size
    return n_steps, 2.5 * eps / n_steps if step_size is None else step_size
