"""``RobustDatasetLearner``: learn a training set on which nets become robust."""

import warnings
from numbers import Integral, Real

import numpy as np
import skorch
import torch
from sklearn.utils.validation import check_is_fitted

from robustfit._utils.fit_progress import FitProgress, open_fit
from robustfit._utils.image_validation import validate_images
from robustfit._utils.labels import targets_of, validate_labels
from robustfit._utils.sklearn_private import Interval, StrOptions
from robustfit._utils.torch_bridge import (
    resolve_device,
    seeded_torch,
    stage_generator,
    to_array,
    to_tensor,
)
from robustfit._utils.uninterrupted_fit import fit_uninterrupted
from robustfit.exceptions import CollapsedTrainingWarning, RewrittenRowsError
from robustfit.robustifiers.base import TrainingSetRewriter
from robustfit.robustifiers.dataset_learning.learning_problem import LearningProblem
from robustfit.robustifiers.dataset_learning.plan import plan_steps
from robustfit.robustifiers.dataset_learning.recipe import Recipe, count_nets
from robustfit.robustifiers.dataset_learning.row_rewriter import RowRewriter
from robustfit.robustifiers.dataset_learning.row_selection import select_rows
from robustfit.robustifiers.dataset_learning.saved_state import (
    load_weights,
    pack_state,
    restore_state,
    unpack,
)
from robustfit.sklearn_to_torch.torch_classifier import as_torch
from robustfit.threat_model import ThreatModel

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
    estimator : classifier or None, default=None
        The inner net, unfitted: what the set is learned for. A skorch net; for
        ``protocol="scratch"`` with hard labels and the cross-fitted judge any
        classifier, which is then attacked by its scores if it has no gradients. For
        learners that :func:`robustfit.is_convex` tells, the set of
        :class:`ConvexDatasetLearner` is compared, too. None takes
        :func:`robustfit.nets.default_classifier` for the image shape.
    protocol : {"auto", "scratch", "fine-tune"}, default="auto"
        What the set is learned for: classifiers trained on it from scratch (what a
        ``Pipeline`` does), or weights naturally trained on X and then fine-tuned on it
        (the paper's protocol). "auto" is "scratch", and "fine-tune" inside
        ``RobustifiedClassifier(fine_tune=True)``.
    method : {"default", "disturbance", "fictitious-play", "paper"}, default="default"
        "disturbance": label-free disturbances of the images, and rows left out whose
        class is unclear, chosen by how robust nets that are trained on them, as
        ``protocol`` says, are on other images: the most robust of those that lose at
        most ``max_natural_loss``, and the natural set where none is clearly better. The
        comparison costs about as much as three trainings of the net on all rows,
        more below 4,000 rows, where all is tried twice.
        "fictitious-play": answers to the inner net, naturally fine-tuned on the set
        again and again, then ``n_meta_epochs`` of Algorithm 1; only for fine-tuning.
        "default": disturbances. For fine-tuning, images moved towards random classes
        on theta_0, by 16/255 or 24/255 of the range, are compared as well and taken
        where they are clearly better (photographs); else every second row then takes
        part in fictitious play and carries the noise of the others, if they have any
        (all rows do, without it, where noise alone is the best disturbance).
        "paper": Algorithm 1 of the paper alone, with its constants (beta 0.5/255, gamma
        0.01, PGD-20 of step eps/10).
    fraction : float, default=1.0
        Share of the rows in the learned set, chosen at random within each class, in
        (0, 1]. Below 1 use :class:`RobustifiedClassifier` or :func:`as_sampler`.
    soft_labels : bool, default=False
        If True, the labels of the learned set are the class probabilities that the
        ``judge`` gives the clean images, while the set shows them disturbed. Nets
        trained from scratch on them are far more robust; use
        :class:`RobustifiedClassifier` or :func:`as_sampler`.
    unclear_fraction : float or "auto", default="auto"
        Share of the rows of each class, those whose class is least clear to a judge
        that has not seen them, that show another image of their class instead, in
        [0, 1). "auto" tries 0, 0.05, 0.25 and 0.5 (for fine-tuning 0 and 0.5) and takes
        what the search finds best; 0 with soft labels, and where nothing is compared.
    judge : {"auto", "cross-fitted", "adversarial"}, default="auto"
        Who says how clear a row is, and what its soft label is. "cross-fitted": two
        nets like ``estimator``, each naturally trained on one half of the set, as it is
        disturbed, about the rows of the other half; costs one training of the net and
        no attack. "adversarial": a robust teacher, trained adversarially inside from
        theta_0, about all rows; costs many. "auto" is "adversarial" with
        ``soft_labels``, and "cross-fitted" without: measured in
        ``docs/reproducing/robust_dataset_learning.rst``.
    max_natural_loss : float, default=0.1
        Natural accuracy, in [0, 1], that a net trained on the learned set may lose to
        one trained on the natural set, as the search measures both.
    n_candidates : int or None, default=None
        Disturbances that are compared, beside the natural set, which is always among
        them: what does not clearly help is not done. None is all there are, 6 for
        images and 3 for vectors. 1 takes the first, noise of 0.2 of the range (vectors:
        0.1), and compares nothing.
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
    chosen_ : dict or None
        What the set was made by: the ``disturbance``'s parameters, as shares of the
        range, ``unclear_fraction``, ``radius`` and ``convex``. None where the set
        answers to nets only.
    history_ : list of dict
        One record a step: its name ``step``, its ``seconds`` (and those of its parts,
        ``seconds_perturb`` and ``seconds_train``), and what it measured: the loss of
        Eq. 1 as ``outer_loss``, ``natural_accuracy`` and ``robust_accuracy`` (PGD-20)
        on held-out rows. A log: nothing that is learned depends on it.
    recipe_ : dict
        What the parameters came to for these data, every "auto" resolved, as numbers,
        strings, lists and dicts: ``protocol``, ``batch_size``, ``soft_labels``;
        ``candidates``, the disturbances that are compared, and ``variants``, the shares
        of rows left out (None: the natural set) and radii of moves that are tried with
        the best of them; ``tries_convex``; ``n_candidate_rows`` and
        ``n_variant_rows``, the rows each of these is trained on, ``n_repeats`` times;
        ``max_natural_loss``;
        ``unclear_fraction`` (None: the search's choice); ``judge``; ``play``
        (fictitious play): ``n_epochs`` of training after each round, ``n_steps`` and,
        where noise or no disturbance wins (``alone``) and where a pattern does
        (``beside_patterns``), which rows take part (``every``: 1 for all, 2 for every
        second one) and their ``radius_factor``; ``meta``, the constants of Algorithm 1;
        ``n_teacher_epochs``, of the adversarial judge. None (``play``, ``meta``) and 0
        are stages that are left out.
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
        "judge": [StrOptions({"auto", "cross-fitted", "adversarial"})],
        "max_natural_loss": [Interval(Real, 0, 1, closed="both")],
        "n_candidates": [None, Interval(Integral, 1, None, closed="left")],
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
        judge="auto",
        max_natural_loss=0.1,
        n_candidates=None,
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
        self.judge = judge
        self.max_natural_loss = max_natural_loss
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

    def rewrite(self, X, y):
        """Rewrite further rows as the fit has rewritten its own.

        For sets that do not fit into memory, or on one machine: learn on a sample,
        then rewrite the rest in parts. What becomes of a row depends on its values, its
        class and the fit's seed alone, so parts of any size give the same bytes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
            Rows like those of the fit; not those themselves, which ``fit_transform``
            returns.
        y : array-like of shape (n_samples,)
            Their labels, among ``classes_``.

        Returns
        -------
        X_robust : ndarray of the shape of X, float32
            Rows that the judges find unclear show an image of their class from the
            sample that was fitted.

        Raises
        ------
        ValueError
            If a label was not fitted.
        RewrittenRowsError
            If the set answers to nets row by row (fictitious play, Algorithm 1), or its
            labels are soft.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from robustfit import RobustDatasetLearner
        >>> X, y = load_digits(return_X_y=True)
        >>> learner = RobustDatasetLearner(eps=0.1, n_candidates=1, random_state=0)
        >>> learner = learner.fit(X[:200] / 16, y[:200])
        >>> learner.rewrite(X[200:250] / 16, y[200:250]).shape
        (50, 64)
        """
        check_is_fitted(self)
        if self._rewriter is None:
            raise RewrittenRowsError(
                "This set answers to nets row by row, is a convex learner's, has soft "
                "labels, or was left unfinished: there is no rule for further rows. "
                'Fit with protocol="scratch", method="disturbance" and hard labels, or '
                "fit all rows at once."
            )
        threat_model = ThreatModel(clip_range=self.clip_range)
        X = validate_images(self, X, threat_model, reset=False).X
        y = validate_labels(self, X, y)
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y holds {unknown[:3].tolist()}, which the fit has not met; expected "
                f"labels among {self.classes_.tolist()}."
            )
        return self._rewriter.rewrite(X, np.searchsorted(self.classes_, y))

    def _changes_rows_or_labels(self):
        return self.fraction < 1 or self.validation_fraction > 0 or self.soft_labels

    def _learn(self, X, y, image_shape, threat_model):
        device = resolve_device(self.device)
        checkpoint, saved, seed = open_fit(self, X, y)
        rows = select_rows(y, seed, self.fraction, self.validation_fraction)
        self.sample_indices_ = rows.learned
        n_kept = len(rows.kept)
        nets = [
            self._new_net(image_shape, device, n_kept) for _ in range(count_nets(self))
        ]
        _check_estimator(self, nets[0])
        for number, net in enumerate(nets):
            _train_theta_0(net, rows.natural(X), rows.natural(y), seed, number, saved)
        self.estimator_ = nets[0]  # theta_0
        problem = self._state_problem(
            X, y, image_shape, threat_model, rows, nets, seed, device
        )
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
            self.chosen_ = None if state.chosen is None else state.chosen.as_dict()
            self._rewriter = _rewriter(problem, recipe, state)
        _warn_if_guessing(state.measured, y)

    def _state_problem(self, X, y, image_shape, threat_model, rows, nets, seed, device):
        theta_0s = [_module_of(net) for net in nets]
        if theta_0s[0] is not None:
            device = next(theta_0s[0].parameters()).device
        return LearningProblem(
            x=to_tensor(X[rows.learned], device),
            y=to_tensor(y[rows.learned], device, torch.int64),
            X_all=rows.natural(X),
            y_all=rows.natural(y),
            X_held_out=X[rows.held_out] if len(rows.held_out) else None,
            y_held_out=y[rows.held_out] if len(rows.held_out) else None,
            image_shape=image_shape,
            n_classes=len(self.classes_),
            threat_model=threat_model,
            theta_0s=[theta_0 for theta_0 in theta_0s if theta_0 is not None],
            new_net=lambda: self._new_net(image_shape, device, len(rows.kept)),
            batch_size=self.batch_size,
            seed=seed,
        )

    def _run_steps(self, problem, recipe, state, seed, checkpoint):
        """Run the steps not yet done; keep and report after each."""
        steps = plan_steps(problem, recipe)
        with FitProgress(self, len(steps)) as progress:
            for number, step in enumerate(steps):
                stopped = step.optional and state.has_stopped(self.n_iter_no_change)
                if number < state.n_done or stopped or not step.is_needed(state):
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


def _rewriter(problem, recipe, state):
    """Return what rewrites further rows; None where no rule says how."""
    if state.chosen is None or recipe.soft_labels or recipe.meta is not None:
        return None
    if state.chosen.convex:
        return None
    if recipe.play is not None and state.chosen.radius == 0:
        return None
    judges = state.judges
    if state.chosen.unclear_fraction > 0 and recipe.judge == "adversarial":
        judges = [state.player]
    if state.chosen.unclear_fraction > 0 and not judges:
        return None  # resumed, with judges whose state no checkpoint holds
    return RowRewriter.from_fit(problem, state, judges)


def _check_estimator(learner, net):
    """Raise before any training where the parameters ask for what only nets can do."""
    if isinstance(net, skorch.NeuralNet):
        return
    asks_for_net = {
        "soft_labels=True": learner.soft_labels,
        'judge="adversarial"': learner.judge == "adversarial",
        'protocol="fine-tune"': learner.protocol == "fine-tune",
        f'method="{learner.method}"': learner.method in ("paper", "fictitious-play"),
    }
    for parameter, asked in asks_for_net.items():
        if asked:
            raise TypeError(
                f"estimator is {type(net).__name__}, which has no trainable parameters "
                f"in torch; {parameter} trains its weights. Pass a skorch net, or "
                "None, as estimator."
            )


def _module_of(net):
    """Return theta_0, or None where the estimator is none with trainable weights."""
    if not isinstance(net, skorch.NeuralNet):
        return None
    module = as_torch(net).module
    if next(module.parameters(), None) is None:
        raise TypeError(
            f"estimator is {type(net).__name__} around {type(net.module_).__name__}, "
            "which has no trainable parameters. Pass another net, or None."
        )
    return module


def _warn_if_guessing(measured, y):
    """Warn when no candidate was judged by a net that had learned."""
    guessing = np.bincount(y).max() / len(y)
    if not measured or max(m[0] for m in measured) > guessing + 0.05:
        return
    warnings.warn(
        "Nets trained on the candidate sets have a natural accuracy of at "
        f"most {max(m[0] for m in measured):.3g}; guessing has {guessing:.3g}. The "
        "set was chosen by chance. Scale X to [0, 1], or pass an estimator "
        "that learns the natural set.",
        CollapsedTrainingWarning,
        stacklevel=4,
    )


def _train_theta_0(net, X, y, seed, number, saved):
    """Fit the ``number``-th net naturally, or load its weights from a checkpoint."""
    with seeded_torch(seed + number):
        if saved is None or not isinstance(net, skorch.NeuralNet):
            fit_uninterrupted(net, X, targets_of(net, y))
            return
        net.initialize().check_data(X, targets_of(net, y))
    load_weights(as_torch(net).module, unpack(f"theta_{number}", saved[0]))
