"""``RobustDatasetLearner``: learn a training set on which nets become robust."""

import copy
import time
from numbers import Integral, Real

import numpy as np
import skorch
import torch

from robustfit._base import TrainingSetRewriter
from robustfit._checkpoint import Checkpoint
from robustfit._sklearn_private import Interval, StrOptions
from robustfit._torch_bridge import (
    draw_seed,
    resolve_device,
    seeded_torch,
    stage_generator,
    to_array,
    to_tensor,
)
from robustfit.dataset_learning.plan import LearningProblem, LearningState, plan_steps
from robustfit.torch_classifier import as_torch

__all__ = ["RobustDatasetLearner"]


class RobustDatasetLearner(TrainingSetRewriter):
    """Rewrite a training set so that a net naturally trained on it is robust.

    The set is judged at three levels: a net is trained naturally on it, the *natural*
    images are attacked on that net, and the set is changed so that the attack fails
    ("Towards Robust Dataset Learning", Eq. 1). Rows keep their labels.

    Parameters
    ----------
    eps : float, default=8/255
        Budget of the adversary that nets trained on the set shall withstand, in the
        units of X.
    norm : {"linf", "l2"}, default="linf"
    clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
        Valid values of X; None for unbounded features.
    image_shape : tuple of (C, H, W) or None, default=None
        Shape that flat rows came from. None takes 4-D X as it is and flat rows as
        vectors.
    estimator : skorch net or None, default=None
        The inner net, unfitted; anything :func:`as_torch` can differentiate with
        respect to its parameters. None takes :func:`robustfit.nets.default_classifier`
        for the image shape.
    protocol : {"auto", "scratch", "fine-tune"}, default="auto"
        What the set is learned for: classifiers trained on it from scratch (what a
        ``Pipeline`` does), or weights naturally trained on X and then fine-tuned on it
        (the paper's protocol). "auto" is "scratch", and "fine-tune" inside
        ``RobustifiedClassifier(fine_tune=True)``.
    method : {"default", "paper"}, default="default"
        "default": for "scratch", label-free disturbances chosen by how robust nets
        trained from scratch on them are; for "fine-tune", fictitious play, then
        ``n_meta_epochs`` of Algorithm 1. "paper": Algorithm 1 of the paper alone, with
        its constants (beta 0.5/255, gamma 0.01, PGD-20 of step eps/10).
    fraction : float, default=1.0
        Share of the rows in the learned set, chosen at random within each class, in
        (0, 1]. Below 1 use :class:`RobustifiedClassifier` or :func:`as_sampler`.
    soft_labels : bool, default=False
        If True, the labels of the learned set are the class probabilities that a
        robust teacher (adversarially trained inside, from theta_0) gives the clean
        images. Nets trained from scratch on them are far more robust; use
        :class:`RobustifiedClassifier` or :func:`as_sampler`.
    n_candidates : int, default=5
        Disturbances that are compared for "scratch".
    n_rounds : int, default=24
        Rounds of fictitious play for "fine-tune".
    n_meta_epochs : int or None, default=None
        Epochs of Algorithm 1; None is 4 for "paper" and 0 otherwise.
    n_unrolled : int, default=1
        Differentiable training steps of Algorithm 1.
    meta_gradient : {"finite-difference", "exact"}, default="finite-difference"
        How Algorithm 1 differentiates through training.
    n_steps : int, default=8
        Gradient steps that perturb the set in fictitious play.
    batch_size : int, default=128
    device : str, default="auto"
        For the default inner net: "auto" is a GPU when there is one. A net that is
        passed runs on its own device.
    random_state : int, RandomState instance or None, default=None
        With an integer, the same bytes come out on the same machine.
    checkpoint : str, path or None, default=None
        Folder for the state after each step. A fit with the same parameters and data
        goes on where one that was interrupted stopped.
    verbose : int, default=0
        1 prints a line after each step. For a progress bar use
        ``set_callbacks(sklearn.callback.ProgressBar())``.

    Attributes
    ----------
    X_robust_ : ndarray of shape (n_robust, ...), float32
        The learned set.
    y_robust_ : ndarray of shape (n_robust,) or (n_robust, n_classes)
        Its labels; with ``soft_labels`` probabilities, a column for each of
        ``classes_``.
    sample_indices_ : ndarray of shape (n_robust,)
        Row of X that each learned row belongs to.
    estimator_ : fitted estimator
        The inner net, naturally trained on X: theta_0. Its labels are 0..n_classes-1.
    history_ : list of dict
        One record a step: its name, seconds, and what it measured.
    classes_ : ndarray of shape (n_classes,)
    image_shape_ : tuple of int
    n_features_in_ : int
        Numbers in a (flattened) sample.

    See Also
    --------
    RobustifiedClassifier : A robustifier and a classifier as one estimator.
    as_sampler : For imbalanced-learn's Pipeline.
    RobustnessReport : Measures what came of it; believe AutoAttack's number.

    Notes
    -----
    ``fit(X, y).transform(X)`` does not equal ``fit_transform(X, y)``: the latter
    returns the learned set, ``transform`` leaves its input as it is.

    An interrupt (Ctrl-C) leaves the set learned so far in ``X_robust_``.

    References
    ----------
    "Towards Robust Dataset Learning", Algorithm 1 and section 5.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from robustfit import RobustDatasetLearner
    >>> X, y = load_digits(return_X_y=True)
    >>> learner = RobustDatasetLearner(eps=0.1, image_shape=(1, 8, 8), random_state=0)
    >>> X_robust = learner.fit_transform(X[:300] / 16, y[:300])
    >>> X_robust.shape
    (300, 64)
    """

    _parameter_constraints: dict = {
        "estimator": [None, object],
        "protocol": [StrOptions({"auto", "scratch", "fine-tune"})],
        "method": [StrOptions({"default", "paper"})],
        "fraction": [Interval(Real, 0, 1, closed="right")],
        "soft_labels": ["boolean"],
        "n_candidates": [Interval(Integral, 1, None, closed="left")],
        "n_rounds": [Interval(Integral, 1, None, closed="left")],
        "n_meta_epochs": [None, Interval(Integral, 0, None, closed="left")],
        "n_unrolled": [Interval(Integral, 1, None, closed="left")],
        "meta_gradient": [StrOptions({"finite-difference", "exact"})],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
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
        protocol="auto",
        method="default",
        fraction=1.0,
        soft_labels=False,
        n_candidates=5,
        n_rounds=24,
        n_meta_epochs=None,
        n_unrolled=1,
        meta_gradient="finite-difference",
        n_steps=8,
        batch_size=128,
        device="auto",
        random_state=None,
        checkpoint=None,
        verbose=0,
    ):
        self.eps = eps
        self.norm = norm
        self.clip_range = clip_range
        self.image_shape = image_shape
        self.estimator = estimator
        self.protocol = protocol
        self.method = method
        self.fraction = fraction
        self.soft_labels = soft_labels
        self.n_candidates = n_candidates
        self.n_rounds = n_rounds
        self.n_meta_epochs = n_meta_epochs
        self.n_unrolled = n_unrolled
        self.meta_gradient = meta_gradient
        self.n_steps = n_steps
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.verbose = verbose

    def _changes_rows_or_labels(self):
        return self.fraction < 1 or self.soft_labels

    def _learn(self, X, y, image_shape, threat_model):
        device = resolve_device(self.device)
        checkpoint = self._open_checkpoint(X, y)
        saved = checkpoint.load()
        seed = draw_seed(self.random_state) if saved is None else saved[1]["seed"]
        self.estimator_ = self._new_net(image_shape, device)
        self._train_theta_0(X, y, seed, saved)
        problem = self._state_problem(X, y, image_shape, threat_model, seed)
        state = _initial_state(problem, saved)
        self.history_ = state.history
        try:
            self._run_steps(problem, state, seed, checkpoint)
        finally:
            self.X_robust_ = to_array(state.x_robust)
            self.y_robust_ = self.classes_[to_array(problem.y)]
            if state.soft_labels is not None:
                self.y_robust_ = to_array(state.soft_labels)

    def _open_checkpoint(self, X, y):
        if self.checkpoint is None:
            return Checkpoint(None)
        parameters = self.get_params()
        for name in ("checkpoint", "verbose", "device"):
            del parameters[name]
        return Checkpoint(self.checkpoint, type(self).__name__, parameters, X, y)

    def _train_theta_0(self, X, y, seed, saved):
        """Fit ``estimator_`` naturally on X, or load its weights from a checkpoint."""
        with seeded_torch(seed):
            if saved is None or not isinstance(self.estimator_, skorch.NeuralNet):
                self.estimator_.fit(X, y)
                return
            self.estimator_.initialize().check_data(X, y)
        _load_weights(as_torch(self.estimator_).module, _unpack("theta_0", saved[0]))

    def _state_problem(self, X, y, image_shape, threat_model, seed):
        classifier = as_torch(self.estimator_)
        if next(classifier.module.parameters(), None) is None:
            raise TypeError(
                f"estimator is {type(self.estimator).__name__}, which has no trainable "
                "parameters in torch. Pass a skorch net, or None."
            )
        self.sample_indices_ = _choose_rows(y, self.fraction, seed)
        return LearningProblem(
            x=to_tensor(X[self.sample_indices_], classifier.device),
            y=to_tensor(y[self.sample_indices_], classifier.device, torch.int64),
            X_all=X,
            y_all=y,
            image_shape=image_shape,
            n_classes=len(self.classes_),
            threat_model=threat_model,
            theta_0=classifier.module,
            new_net=lambda: self._new_net(image_shape, classifier.device),
        )

    def _run_steps(self, problem, state, seed, checkpoint):
        """Run the steps not yet in the history; keep and report after each."""
        protocol = "scratch" if self.protocol == "auto" else self.protocol
        steps = plan_steps(problem, self, protocol)
        done = len(state.history)
        context = self._init_callback_context(max_subtasks=len(steps))
        context.call_on_fit_task_begin(estimator=self)
        for number, step in enumerate(steps):
            subcontext = context.subcontext(task_name=step.name)
            subcontext.call_on_fit_task_begin(estimator=self)
            if number >= done:
                generator = stage_generator(seed, number, device=problem.x.device)
                self._run_step(step, state, generator, len(steps))
                checkpoint.save(*_pack(problem, state, seed))
            subcontext.call_on_fit_task_end(estimator=self)
        context.call_on_fit_task_end(estimator=self)

    def _run_step(self, step, state, generator, n_steps):
        start = time.perf_counter()
        measured = step.run(state, generator)
        seconds = time.perf_counter() - start
        state.history.append({"step": step.name, "seconds": seconds, **measured})
        if self.verbose:
            numbers = ", ".join(
                f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}"
                for k, v in state.history[-1].items()
                if k != "step"
            )
            count = f"{len(state.history)}/{n_steps}"
            print(f"[RobustDatasetLearner] {count} {step.name}: {numbers}")  # noqa: T201


def _choose_rows(y, fraction, seed):
    """Return sorted rows: ``fraction`` of each class, at least one of each."""
    if fraction == 1:
        return np.arange(len(y))
    rng = np.random.default_rng(seed)
    chosen = [
        rng.choice(rows, max(1, round(fraction * len(rows))), replace=False)
        for rows in (np.flatnonzero(y == c) for c in np.unique(y))
    ]
    return np.sort(np.concatenate(chosen))


def _initial_state(problem, saved):
    state = LearningState(problem.x.clone(), problem.theta_0)
    if saved is not None:
        arrays, record = saved
        state.x_robust = to_tensor(arrays["x_robust"], problem.x.device)
        player = _unpack("player", arrays)
        if player:
            state.player = copy.deepcopy(problem.theta_0)
            _load_weights(state.player, player)
        state.history = record["history"]
        if "soft_labels" in arrays:
            state.soft_labels = to_tensor(arrays["soft_labels"], problem.x.device)
    return state


def _pack(problem, state, seed):
    """Return the state as arrays and a JSON record, for a checkpoint."""
    arrays = {"x_robust": to_array(state.x_robust)}
    modules = {"theta_0": problem.theta_0}
    if state.player is not problem.theta_0:
        modules["player"] = state.player
    for name, module in modules.items():
        for key, tensor in module.state_dict().items():
            arrays[f"{name}/{key}"] = to_array(tensor)
    if state.soft_labels is not None:
        arrays["soft_labels"] = to_array(state.soft_labels)
    return arrays, {"seed": seed, "history": state.history}


def _load_weights(module, weights):
    module.load_state_dict({k: torch.as_tensor(v) for k, v in weights.items()})


def _unpack(name, arrays):
    start = f"{name}/"
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
