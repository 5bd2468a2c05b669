"""``RobustDatasetLearner``: learn a training set on which nets become robust."""

import warnings
from numbers import Integral, Real

import numpy as np
import skorch
import torch

from robustfit._utils.fit_progress import FitProgress, open_fit
from robustfit._utils.labels import targets_of
from robustfit._utils.sklearn_private import Interval, StrOptions
from robustfit._utils.torch_bridge import (
    resolve_device,
    seeded_torch,
    stage_generator,
    to_array,
    to_tensor,
)
from robustfit.exceptions import CollapsedTrainingWarning
from robustfit.robustifiers.base import TrainingSetRewriter
from robustfit.robustifiers.dataset_learning.learning_problem import LearningProblem
from robustfit.robustifiers.dataset_learning.plan import plan_steps
from robustfit.robustifiers.dataset_learning.recipe import Recipe, count_nets
from robustfit.robustifiers.dataset_learning.row_selection import select_rows
from robustfit.robustifiers.dataset_learning.saved_state import (
    load_weights,
    pack_state,
    restore_state,
    unpack,
)
from robustfit.sklearn_to_torch.torch_classifier import as_torch

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
    method : {"default", "disturbance", "fictitious-play", "paper"}, default="default"
        "disturbance": label-free disturbances of the images, chosen by how robust nets
        that are trained on them, as ``protocol`` says, are on other images.
        "fictitious-play": answers to the inner net, naturally fine-tuned on the set
        again and again, then ``n_meta_epochs`` of Algorithm 1; only for fine-tuning.
        "default": disturbances; for fine-tuning, every second row then takes part in
        fictitious play instead and carries the noise of the others, if they have any
        (all rows do, without it, where noise alone is the best disturbance: vectors,
        tiny images).
        "paper": Algorithm 1 of the paper alone, with its constants (beta 0.5/255, gamma
        0.01, PGD-20 of step eps/10).
    fraction : float, default=1.0
        Share of the rows in the learned set, chosen at random within each class, in
        (0, 1]. Below 1 use :class:`RobustifiedClassifier` or :func:`as_sampler`.
    soft_labels : bool, default=False
        If True, the labels of the learned set are the class probabilities that a
        robust teacher (adversarially trained inside, from theta_0) gives the clean
        images. Nets trained from scratch on them are far more robust; use
        :class:`RobustifiedClassifier` or :func:`as_sampler`.
    unclear_fraction : float or "auto", default="auto"
        Share of the rows, those whose class is least clear to nets that have not seen
        them, that show another image of their class instead, in [0, 1). Where there are
        disturbances. "auto" is 0.05 where it was found to pay (20,000 rows and more
        with hard labels, for training from scratch, budgets from 0.15 of the range on)
        and 0 otherwise.
    n_candidates : int, default=5
        Disturbances that are compared.
    n_rounds : int, default=24
        Rounds of fictitious play.
    n_meta_epochs : int or None, default=None
        Epochs of Algorithm 1; None is 4 for "paper" and 0 otherwise.
    n_unrolled : int, default=1
        Differentiable training steps of Algorithm 1.
    meta_gradient : {"finite-difference", "exact"}, default="finite-difference"
        How Algorithm 1 differentiates through training.
    n_steps : int, default=8
        Gradient steps that perturb the set in fictitious play.
    radius_factor : float or "auto", default="auto"
        Radius of these perturbations over ``eps``. "auto" is 1.5 where all rows take
        part. Where every second one does, it is as large as keeps the radius within 0.3
        of the range (l2: 0.2 times the root of an eighth of the features), but 1 to
        2.25. Worth tuning.
    batch_size : int, default=128
    n_initializations : int, default=1
        Naturally trained nets, each of another initialisation, that the rounds of
        fictitious play and the epochs of Algorithm 1 start from in turn, so that the
        set does not answer to one net alone. Disturbances answer to none.
    validation_fraction : float, default=0.0
        Share of each class that is held out: neither learned nor trained on, so the
        learned set has fewer rows. The set so far is judged by training nets naturally
        on it and attacking these on the held-out rows, after each four rounds and each
        epoch of Algorithm 1, and the best set is kept; disturbances are judged on
        them. In [0, 1). Off by default: it costs about half as much
        time again. Above 0 use :class:`RobustifiedClassifier` or :func:`as_sampler`.
    n_iter_no_change : int or None, default=None
        Validations without a higher robust accuracy after which learning stops; None
        goes on to the end. Has no effect without ``validation_fraction``.
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
    source_indices_ : ndarray of shape (n_robust,)
        Row of X whose image each learned row shows, disturbed: its own, or another one
        of its class (``unclear_fraction``).
    estimator_ : fitted estimator
        The inner net, naturally trained on X: theta_0. Its labels are 0..n_classes-1.
    history_ : list of dict
        One record a step: its name ``step``, its ``seconds`` (and those of its parts,
        ``seconds_perturb`` and ``seconds_train``), and what it measured: the loss of
        Eq. 1 as ``outer_loss``, ``natural_accuracy`` and ``robust_accuracy`` (PGD-20)
        on held-out rows. A log: nothing that is learned depends on it.
    recipe_ : dict
        What the parameters came to for these data, every "auto" resolved, as numbers,
        strings, lists and dicts: ``protocol`` and ``batch_size``; ``candidates``, the
        disturbances that are compared, and ``to_beat``, the place of the one that the
        others have to beat clearly; ``unclear_fraction``; ``play`` (fictitious play):
        ``n_epochs`` of training after each round, ``n_steps`` and, where noise or no
        disturbance wins (``alone``) and where a pattern does (``beside_patterns``),
        which rows take part (``every``: 1 for all, 2 for every second one) and their
        ``radius_factor``; ``meta``, the constants of Algorithm 1; ``n_teacher_epochs``,
        of the teacher that gives soft labels. None (``play``, ``meta``) and 0 are
        stages that are left out.
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
        "method": [StrOptions({"default", "disturbance", "fictitious-play", "paper"})],
        "fraction": [Interval(Real, 0, 1, closed="right")],
        "soft_labels": ["boolean"],
        "unclear_fraction": [
            StrOptions({"auto"}),
            Interval(Real, 0, 1, closed="left"),
        ],
        "n_candidates": [Interval(Integral, 1, None, closed="left")],
        "n_rounds": [Interval(Integral, 1, None, closed="left")],
        "n_meta_epochs": [None, Interval(Integral, 0, None, closed="left")],
        "n_unrolled": [Interval(Integral, 1, None, closed="left")],
        "meta_gradient": [StrOptions({"finite-difference", "exact"})],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "radius_factor": [
            StrOptions({"auto"}),
            Interval(Real, 0, None, closed="neither"),
        ],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "n_initializations": [Interval(Integral, 1, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "n_iter_no_change": [None, Interval(Integral, 1, None, closed="left")],
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
        unclear_fraction="auto",
        n_candidates=5,
        n_rounds=24,
        n_meta_epochs=None,
        n_unrolled=1,
        meta_gradient="finite-difference",
        n_steps=8,
        radius_factor="auto",
        batch_size=128,
        n_initializations=1,
        validation_fraction=0.0,
        n_iter_no_change=None,
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
        self.unclear_fraction = unclear_fraction
        self.n_candidates = n_candidates
        self.n_rounds = n_rounds
        self.n_meta_epochs = n_meta_epochs
        self.n_unrolled = n_unrolled
        self.meta_gradient = meta_gradient
        self.n_steps = n_steps
        self.radius_factor = radius_factor
        self.batch_size = batch_size
        self.n_initializations = n_initializations
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.device = device
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.verbose = verbose

    def _changes_rows_or_labels(self):
        return self.fraction < 1 or self.validation_fraction > 0 or self.soft_labels

    def _learn(self, X, y, image_shape, threat_model):
        device = resolve_device(self.device)
        checkpoint, saved, seed = open_fit(self, X, y)
        rows = select_rows(y, seed, self.fraction, self.validation_fraction)
        self.sample_indices_ = rows.learned
        nets = [self._new_net(image_shape, device) for _ in range(count_nets(self))]
        for number, net in enumerate(nets):
            _train_theta_0(net, rows.natural(X), rows.natural(y), seed, number, saved)
        self.estimator_ = nets[0]  # theta_0
        problem = self._state_problem(X, y, image_shape, threat_model, rows, nets)
        recipe = Recipe.resolve(self, problem)
        self.recipe_ = recipe.as_dict()
        state = restore_state(problem, saved)
        self.history_ = state.history
        try:
            self._run_steps(problem, recipe, state, seed, checkpoint)
        finally:
            self.X_robust_ = to_array(state.x_robust)
            self.y_robust_ = self.classes_[to_array(problem.y)]
            self.source_indices_ = rows.learned
            if state.sources is not None:
                self.source_indices_ = rows.learned[to_array(state.sources)]
            if state.soft_labels is not None:
                self.y_robust_ = to_array(state.soft_labels)
        _warn_if_guessing(state.candidate_accuracy, y)

    def _state_problem(self, X, y, image_shape, threat_model, rows, nets):
        classifier = as_torch(self.estimator_)
        if next(classifier.module.parameters(), None) is None:
            raise TypeError(
                f"estimator is {type(self.estimator).__name__}, which has no trainable "
                "parameters in torch. Pass a skorch net, or None."
            )
        return LearningProblem(
            x=to_tensor(X[rows.learned], classifier.device),
            y=to_tensor(y[rows.learned], classifier.device, torch.int64),
            X_all=rows.natural(X),
            y_all=rows.natural(y),
            X_held_out=X[rows.held_out] if len(rows.held_out) else None,
            y_held_out=y[rows.held_out] if len(rows.held_out) else None,
            image_shape=image_shape,
            n_classes=len(self.classes_),
            threat_model=threat_model,
            theta_0s=[as_torch(net).module for net in nets],
            new_net=lambda: self._new_net(image_shape, classifier.device),
        )

    def _run_steps(self, problem, recipe, state, seed, checkpoint):
        """Run the steps not yet done; keep and report after each."""
        steps = plan_steps(problem, recipe)
        with FitProgress(self, len(steps)) as progress:
            for number, step in enumerate(steps):
                stopped = step.optional and state.has_stopped(self.n_iter_no_change)
                if number < state.n_done or stopped:
                    progress.skip(step.name)
                    continue
                generator = stage_generator(seed, number, device=problem.x.device)
                with progress.step(step.name):
                    self._run_step(step, state, generator, progress)
                    state.n_done = number + 1
                    checkpoint.save(*pack_state(problem, state, seed))

    def _run_step(self, step, state, generator, progress):
        measured = step.run(state, generator)
        record = {"step": step.name, "seconds": progress.seconds, **measured}
        state.history.append(record)
        progress.report(step.name, record)


def _warn_if_guessing(accuracy, y):
    """Warn when no candidate disturbance was judged by a net that had learned."""
    guessing = np.bincount(y).max() / len(y)
    if accuracy is None or accuracy > guessing + 0.05:
        return
    warnings.warn(
        "Nets trained on the candidate disturbances have a natural accuracy of at "
        f"most {accuracy:.3g}; guessing has {guessing:.3g}. The "
        "disturbance was chosen by chance. Scale X to [0, 1], or pass an estimator "
        "that learns the natural set.",
        CollapsedTrainingWarning,
        stacklevel=4,
    )


def _train_theta_0(net, X, y, seed, number, saved):
    """Fit the ``number``-th net naturally, or load its weights from a checkpoint."""
    with seeded_torch(seed + number):
        if saved is None or not isinstance(net, skorch.NeuralNet):
            net.fit(X, targets_of(net, y))
            return
        net.initialize().check_data(X, targets_of(net, y))
    load_weights(as_torch(net).module, unpack(f"theta_{number}", saved[0]))
