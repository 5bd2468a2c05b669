"""``ConvexDatasetLearner``: a set on which a convex learner ends at robust weights."""

import math
import warnings
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from robustfit._utils.fit_progress import FitProgress, open_fit
from robustfit._utils.sklearn_private import Interval
from robustfit._utils.torch_bridge import to_tensor
from robustfit.exceptions import UnreachedOptimumWarning
from robustfit.robustifiers.base import TrainingSetRewriter
from robustfit.robustifiers.convex_learning.convex_form import (
    convex_form,
    split_pipeline,
    why_not_convex,
)
from robustfit.robustifiers.convex_learning.natural_fit import (
    fit_naturally,
    put_robust_weights,
)
from robustfit.robustifiers.convex_learning.problem import (
    ConvexProblem,
    LinearFunction,
)
from robustfit.robustifiers.convex_learning.robust_weights import train_robust_weights
from robustfit.robustifiers.convex_learning.set_search import (
    gradient_length,
    search_one_round,
)

__all__ = ["ConvexDatasetLearner", "learn_convex_set"]

# Iterations of L-BFGS between two checkpoints; it starts anew after each, so that a
# resumed fit goes the same way.
_ROUND = 100
# A round that leaves more than this of the gradient is the last one.
_STUCK = 0.98
# Outputs that differ by less from row to row say nothing.
_CONSTANT = 1e-3


@dataclass
class _SearchState:
    """The robust weights, the best set so far and how much of the gradient is left."""

    function: LinearFunction
    x: torch.Tensor
    gradient_norm: float
    n_iter: int = 0
    is_stuck: bool = False

    def take(self, found, length, n_iter):
        """Keep the set that a round of ``n_iter`` iterations found, if it is better."""
        self.n_iter += n_iter
        self.is_stuck = not length < _STUCK * self.gradient_norm
        if length < self.gradient_norm:
            self.x, self.gradient_norm = found, length


class ConvexDatasetLearner(TrainingSetRewriter):
    """Learn a set on which natural training ends at adversarially trained weights.

    For learners that minimise a convex loss, such as logistic regression. They are
    first trained adversarially, with their own regularisation; then a set close to X is
    found on which the gradient of *natural* training vanishes at those weights. By
    convexity they are the optimum of natural training there: fitted as usual, the
    learner is as robust as after adversarial training (Theorem 4 in :ref:`theory`).

    Parameters
    ----------
    eps : float, default=8/255
        Budget of the adversary, in the units of X. The set is not bound by it.
    norm : {"linf", "l2"}, default="linf"
    clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
        Range of X, of the adversary (under linf) and of the learned set.
    image_shape : tuple of (C, H, W) or None, default=None
        Shape that flat rows came from.
    estimator : estimator or None, default=None
        The learner that the set is for, unfitted, one for which :func:`is_convex` is
        true; None is ``LogisticRegression()``. In a Pipeline with scalers, X and eps
        are those before the scalers, which are refitted on the learned set: the set is
        such that scalers *and* model together end at the robust function.
    tol : float, default=1e-3
        Where to stop: the gradient's length over the penalty and the length of the
        weights. It bounds how far from them natural training ends, relative to them.
    max_iter : int, default=2000
        Most iterations of L-BFGS that search for the set.
    random_state : int, RandomState instance or None, default=None
        Seeds the natural fit of an estimator that is random (SGDClassifier); the set
        does not depend on it.
    checkpoint : str, path or None, default=None
        Folder for the state after every 100 iterations. A fit with the same parameters
        and data goes on where an interrupted one stopped, with the same result.
    verbose : int, default=0
        1 prints a line every 100 iterations. For a progress bar use
        ``set_callbacks(sklearn.callback.ProgressBar())``.

    Attributes
    ----------
    X_robust_ : ndarray of the shape of X, float32
        The learned set.
    y_robust_, sample_indices_, classes_, image_shape_, n_features_in_
        As for :class:`RobustDatasetLearner`.
    robust_estimator_ : fitted estimator
        ``estimator`` with the adversarially trained weights, and with scalers fitted on
        the learned set: what its natural training on that set shall end at. It takes
        flat rows.
    gradient_norm_ : float
        What is left of the gradient, in the units of ``tol``.
    weight_error_ : float
        Distance of the weights of ``estimator``, naturally fitted on the learned set
        as it is set up, from those of ``robust_estimator_``, relative to the latter.
        More than ``gradient_norm_`` means that it stops before its optimum: lower
        *its* ``tol``.
    distance_mean_, distance_max_ : float
        Mean and largest absolute change of a number of X.
    n_iter_ : int
        Iterations taken by the search.

    Raises
    ------
    ValueError
        If ``is_convex(estimator)`` is false, or eps so large that the most robust
        linear function is a constant.

    Warns
    -----
    UnreachedOptimumWarning
        If the gradient could not be brought below ``tol``, with how far it got.

    See Also
    --------
    is_convex : Tells which estimators can be passed.
    RobustDatasetLearner : Sets for nets.

    Notes
    -----
    ``fit(X, y).transform(X)`` does not equal ``fit_transform(X, y)``: the latter
    returns the learned set, ``transform`` leaves its input as it is.

    SGDClassifier stops where its noise lets it, which with its defaults is far from any
    optimum; ``average=True`` and more regularisation bring it closer.

    Adversarial training is exact for two classes under linf, range included; for
    several it minimises the cross-entropy of the worst margins (softmax), or has an
    adversary for each output (one against rest). Under l2 the adversary may leave the
    range. Memory is about 300 bytes a number of X. An interrupt (Ctrl-C) leaves the
    best set so far in ``X_robust_``.

    References
    ----------
    "Towards Robust Dataset Learning", 2022: the bi-level problem, Eq. 1,
    whose inner minimum is here known in closed form.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import minmax_scale
    >>> from robustfit import ConvexDatasetLearner, robust_accuracy_score
    >>> X, y = load_wine(return_X_y=True)
    >>> X = minmax_scale(X)
    >>> X_robust = ConvexDatasetLearner(eps=0.1).fit_transform(X, y)
    >>> for training_set in (X, X_robust):
    ...     model = LogisticRegression().fit(training_set, y)
    ...     print(f"{robust_accuracy_score(model, X, y, eps=0.1):.2f}")
    0.58
    0.75
    """

    _parameter_constraints: dict = {
        "estimator": [None, object],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        eps=8 / 255,
        norm="linf",
        *,
        clip_range=(0.0, 1.0),
        image_shape=None,
        estimator=None,
        tol=1e-3,
        max_iter=2000,
        random_state=None,
        checkpoint=None,
        verbose=0,
    ):
        self.eps = eps
        self.norm = norm
        self.clip_range = clip_range
        self.image_shape = image_shape
        self.estimator = estimator
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.verbose = verbose

    def fit(self, X, y, sample_weight=None):
        """Learn a robust training set from ``X`` and ``y``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
            In ``clip_range``.
        y : array-like of shape (n_samples,)
            Class labels of any type; at least two classes.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            Weights that the estimator will be fitted with, >= 0.

        Returns
        -------
        self : estimator
        """
        self._weights = sample_weight
        try:
            return super().fit(X, y)
        finally:
            del self._weights

    def fit_transform(self, X, y, sample_weight=None):
        """Learn a robust training set and return its images.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`.

        Returns
        -------
        X_robust : ndarray of the shape of X, float32
            ``X_robust_``: same rows, same order, for the labels ``y``.

        Notes
        -----
        ``fit(X, y).transform(X)`` does not equal ``fit_transform(X, y)``: the training
        set is rewritten, the data the model later sees are not.
        """
        return self.fit(X, y, sample_weight=sample_weight).X_robust_

    def _learn(self, X, y, image_shape, threat_model):
        estimator = self._checked_estimator()
        weights, labels = _check_weights(self._weights, X), self.classes_[y]
        checkpoint, saved, seed = open_fit(self, X, y, start=weights)
        scalers, model = split_pipeline(estimator)
        form = convex_form(model, labels, weights)
        problem = ConvexProblem(form, scalers, to_tensor(y, dtype=torch.int64))
        x = to_tensor(X.reshape(len(X), -1), dtype=torch.float64)
        self.y_robust_, self.sample_indices_ = labels, np.arange(len(X))
        with FitProgress(self, 1 + math.ceil(self.max_iter / _ROUND)) as progress:
            state = None if saved is None else _unpack(*saved)
            with progress.step("adversarial-training"):
                state = state or _first_state(problem, x, threat_model)
            progress.report("adversarial-training", {"gradient": state.gradient_norm})
            try:
                for _ in self._search(problem, state, x, threat_model, progress):
                    checkpoint.save(*_pack(state, seed))
            finally:
                self._keep(state, X)
        rows = self.X_robust_.reshape(len(X), -1)
        fitted = fit_naturally(estimator, rows, labels, weights, seed)
        self.weight_error_ = put_robust_weights(fitted, state.function, rows)
        self.robust_estimator_ = fitted
        self._warn_if_unreached()

    def _checked_estimator(self):
        estimator = LogisticRegression() if self.estimator is None else self.estimator
        objection = why_not_convex(estimator)
        if objection is not None:
            raise ValueError(
                f"estimator is {estimator!r}, but {objection}. Expected an estimator "
                "for which is_convex is true; RobustDatasetLearner takes others."
            )
        return estimator

    def _search(self, problem, state, x, threat_model, progress):
        """Yield after each round, until the gradient is small or no longer falls."""
        for _ in range(math.ceil(state.n_iter / _ROUND)):
            progress.skip("search")
        while (
            state.gradient_norm > self.tol
            and state.n_iter < self.max_iter
            and not state.is_stuck
        ):
            n_iter = min(_ROUND, self.max_iter - state.n_iter)
            with progress.step("search"):
                found = search_one_round(
                    problem, state.function, x, state.x, threat_model,
                    tol=self.tol, max_iter=n_iter,
                )  # fmt: skip
            state.take(found, gradient_length(problem, state.function, found), n_iter)
            progress.report("search", {"gradient": state.gradient_norm})
            yield

    def _keep(self, state, X):
        """Set the learned attributes from the best state so far."""
        self.X_robust_ = state.x.numpy().astype(np.float32).reshape(X.shape)
        self.gradient_norm_, self.n_iter_ = state.gradient_norm, state.n_iter
        change = np.abs(self.X_robust_ - X)
        self.distance_mean_ = float(change.mean())
        self.distance_max_ = float(change.max())

    def _warn_if_unreached(self):
        if self.gradient_norm_ <= self.tol:
            return
        warnings.warn(
            f"The natural gradient at the robust weights is {self.gradient_norm_:.2g} "
            f"of their penalty after {self.n_iter_} iterations, expected "
            f"tol={self.tol:.2g}; natural training on the set ends "
            f"{self.weight_error_:.1%} away from them. More rows or features, more "
            "regularisation, a smaller eps or a larger max_iter may help.",
            UnreachedOptimumWarning,
            stacklevel=6,
        )


def learn_convex_set(estimator, X, y, threat_model, seed=None):
    """Return the set that :class:`ConvexDatasetLearner` learns for an estimator.

    Parameters
    ----------
    estimator : estimator
        Unfitted, one for which :func:`is_convex` is true.
    X : ndarray of shape (n_samples, ...)
    y : ndarray of shape (n_samples,)
    threat_model : ThreatModel
        "linf" or "l2".
    seed : int or None, default=None

    Returns
    -------
    X_robust : ndarray of the shape of X, float32
    """
    learner = ConvexDatasetLearner(
        threat_model.eps, threat_model.norm, clip_range=threat_model.clip_range,
        estimator=estimator, random_state=seed,
    )  # fmt: skip
    return learner.fit_transform(X, y)


def _check_weights(sample_weight, X):
    """Return the weights as float64, None as it is."""
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (len(X),):
        raise ValueError(
            f"sample_weight has shape {weights.shape}; expected ({len(X)},), one "
            "number for each row of X."
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError(
            f"sample_weight lies in [{weights.min():g}, {weights.max():g}]; expected "
            "finite weights >= 0, not all of them zero."
        )
    return weights


def _first_state(problem, x, threat_model):
    """Train the weights adversarially; the search begins at the natural set."""
    function = train_robust_weights(problem, x, threat_model)
    outputs = function(x)
    if float((outputs.amax(0) - outputs.amin(0)).max()) < _CONSTANT:
        raise ValueError(
            f"Under {threat_model} the most robust linear function of X is a constant, "
            "which no set can teach. Use a smaller eps, less regularisation, or "
            "features that say more about y."
        )
    return _SearchState(function, x, gradient_length(problem, function, x))


def _pack(state, seed):
    arrays = {
        "x": state.x.numpy(),
        "coefficients": state.function.coefficients.numpy(),
        "offsets": state.function.offsets.numpy(),
    }
    record = {
        "seed": seed, "n_iter": state.n_iter, "gradient_norm": state.gradient_norm,
        "is_stuck": state.is_stuck,
    }  # fmt: skip
    return arrays, record


def _unpack(arrays, record):
    tensors = {name: torch.as_tensor(array) for name, array in arrays.items()}
    function = LinearFunction(tensors["coefficients"], tensors["offsets"])
    return _SearchState(
        function, tensors["x"], record["gradient_norm"], record["n_iter"],
        record["is_stuck"],
    )  # fmt: skip
