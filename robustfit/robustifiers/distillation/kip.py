"""``KIPDistiller``: learn the training set of a kernel regression (KIP)."""

from numbers import Integral, Real

import torch
from sklearn.base import clone

from robustfit._utils.fit_progress import FitProgress, open_fit, print_line
from robustfit._utils.sklearn_private import Interval, StrOptions
from robustfit._utils.torch_bridge import resolve_device, to_array, to_tensor
from robustfit.classifiers.kernel_classifier import KernelRegressionClassifier
from robustfit.classifiers.kernel_regression import kernel_dtype
from robustfit.kernels import FullyConnectedNTK
from robustfit.robustifiers.base import TrainingSetRewriter
from robustfit.robustifiers.distillation.dataset_gradient import dataset_gradients
from robustfit.robustifiers.distillation.memory import check_memory
from robustfit.robustifiers.distillation.outer_loss import (
    OUTER_LOSSES,
    classification_term,
    evaluate_terms,
)
from robustfit.robustifiers.distillation.problem import DistillationProblem
from robustfit.robustifiers.distillation.rows import choose_rows
from robustfit.robustifiers.distillation.state import DistillationState

__all__ = ["KIPDistiller"]


class KIPDistiller(TrainingSetRewriter):
    """Learn the training set of a kernel regression: kernel inducing points (KIP).

    The learned rows are those from which :class:`KernelRegressionClassifier` predicts
    natural rows best (T. Nguyen, Z. Chen, J. Lee, ICLR 2021). No adversary takes part,
    and nothing robust comes of it: it is the baseline of :class:`AdvKIPDistiller`.

    Parameters
    ----------
    eps : float, default=8/255
        Budget, in the units of X, of the adversary that ``history_`` reports on.
    norm : {"linf", "l2"}, default="linf"
    clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
        Valid values of X and of what the adversary makes of it. Learned images may
        leave it.
    image_shape : tuple of (C, H, W) or None, default=None
        Shape that flat rows came from.
    kernel : callable, tuple of callables or None, default=None
        As for :class:`KernelRegressionClassifier`; None is
        :class:`robustfit.kernels.FullyConnectedNTK`. Of a tuple, one is drawn in each
        step, so that the set does not fit one alone; the first judges.
    n_support : int or None, default=None
        Learned rows. None keeps every row, so that ``fit_transform`` and ``Pipeline``
        work; with a number use :class:`RobustifiedClassifier` or :func:`as_sampler`.
    learn_labels : bool, default=False
        If True, labels are learned with the images and ``y_robust_`` holds
        probabilities; use :class:`RobustifiedClassifier` or :func:`as_sampler`.
    n_outer_steps : int, default=200
        Steps of Adam on the set.
    n_targets : int, default=250
        Natural rows that are predicted in a step, new ones in each. A row that is a
        target is left out of the support in that step.
    outer_loss : {"mse", "cross-entropy"}, default="mse"
    learning_rate : float, default=0.01
        Of Adam, > 0, in the units of X.
    alpha : float, default=1e-6
        Ridge as a share of the mean of the kernel's diagonal, >= 0.
    validation_fraction : float, default=0.1
        Share of the rows, in [0, 0.5], 500 at most, that are never targets and judge
        the set; with 0 the last set is returned.
    validate_every : int, default=20
        Outer steps between validations (and checkpoints).
    n_iter_no_change : int or None, default=10
        Validations without a better one after which learning stops; None takes all
        steps. The set of the best validation is returned.
    batch_size : int, default=1000
        Rows of a kernel matrix worked on at a time; bounds the memory.
    device : str, default="auto"
    random_state : int, RandomState instance or None, default=None
    checkpoint : str, path or None, default=None
        Folder for the state after each validation. A fit with the same parameters and
        data goes on where an interrupted one stopped, with the same result.
    verbose : int, default=0
        1 prints the memory needed, and a line after each validation. For a progress
        bar use ``set_callbacks(sklearn.callback.ProgressBar())``.

    Attributes
    ----------
    X_robust_ : ndarray of shape (n_support, ...), float32
        The learned images.
    y_robust_ : ndarray of shape (n_support,) or (n_support, n_classes)
        Their labels, or probabilities with ``learn_labels``.
    sample_indices_ : ndarray of shape (n_support,)
        Rows of X that the learned ones started from.
    kernel_classifier_ : KernelRegressionClassifier
        Fitted on the learned set; its labels are those of y.
    history_ : list of dict
        One record a validation: the number of its outer ``step``, the ``outer_loss``,
        on the validation rows ``natural_accuracy`` and ``robust_accuracy`` (PGD-10 on
        the margin and on the cross-entropy survived) and ``gradient_norm``, the mean l2
        norm of the input gradient of the cross-entropy. It may be changed:
        nothing is read from it.
    n_outer_steps_ : int
        Steps taken.
    memory_ : str
        What was needed and what was free, in words.
    classes_, image_shape_, n_features_in_
        As for :class:`RobustDatasetLearner`.

    Raises
    ------
    MemoryBudgetError
        Before any work, if the kernel matrix does not fit into memory.

    See Also
    --------
    AdvKIPDistiller : The same against an adversary.

    Notes
    -----
    ``fit(X, y).transform(X)`` does not equal ``fit_transform(X, y)``: the latter
    returns the learned set, ``transform`` leaves its input as it is.

    An interrupt (Ctrl-C) leaves the best set so far in ``X_robust_``.

    References
    ----------
    N. Tsilivis, J. Su, J. Kempe. "Can we achieve robustness from data alone?", 2022,
    Eq. 6 and Table 9.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from robustfit import KIPDistiller
    >>> X, y = load_digits(return_X_y=True)
    >>> distiller = KIPDistiller(n_support=20, n_outer_steps=10, random_state=0)
    >>> distiller.fit(X[:500] / 16, y[:500]).X_robust_.shape
    (20, 64)
    """

    _parameter_constraints: dict = {
        "kernel": [None, callable, tuple, list],
        "n_support": [None, Interval(Integral, 2, None, closed="left")],
        "n_targets": [Interval(Integral, 1, None, closed="left")],
        "n_outer_steps": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "outer_loss": [StrOptions(set(OUTER_LOSSES))],
        "learn_labels": ["boolean"],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 0.5, closed="both")],
        "validate_every": [Interval(Integral, 1, None, closed="left")],
        "n_iter_no_change": [None, Interval(Integral, 1, None, closed="left")],
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
        kernel=None,
        n_support=None,
        learn_labels=False,
        n_outer_steps=200,
        n_targets=250,
        outer_loss="mse",
        learning_rate=0.01,
        alpha=1e-6,
        validation_fraction=0.1,
        validate_every=20,
        n_iter_no_change=10,
        batch_size=1000,
        device="auto",
        random_state=None,
        checkpoint=None,
        verbose=0,
    ):
        self.eps = eps
        self.norm = norm
        self.clip_range = clip_range
        self.image_shape = image_shape
        self.kernel = kernel
        self.n_support = n_support
        self.learn_labels = learn_labels
        self.n_outer_steps = n_outer_steps
        self.n_targets = n_targets
        self.outer_loss = outer_loss
        self.learning_rate = learning_rate
        self.alpha = alpha
        self.validation_fraction = validation_fraction
        self.validate_every = validate_every
        self.n_iter_no_change = n_iter_no_change
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.verbose = verbose

    def _changes_rows_or_labels(self):
        return self.n_support is not None or self.learn_labels

    def _learn(self, X, y, image_shape, threat_model):
        checkpoint, saved, seed = open_fit(self, X, y)
        problem = self._state_problem(X, y, threat_model, seed)
        state = problem.first_state()
        if saved is not None:
            arrays, record = saved
            state = DistillationState.unpack(arrays, record, problem.x.device)
        self.sample_indices_, self.history_ = problem.rows.support, state.history
        try:
            self._run_steps(problem, state, checkpoint)
        finally:
            self._keep(state, X.shape[1:])
        self._finish(problem, state)

    def _state_problem(self, X, y, threat_model, seed):
        device, kernels = resolve_device(self.device), self._new_kernels()
        rows = choose_rows(
            y, self.n_support, self.n_targets, self.validation_fraction, seed
        )
        dtype = kernel_dtype(kernels[0])
        self.memory_ = check_memory(
            len(rows.support),
            device,
            n_rows=len(X),
            n_targets=rows.n_targets,
            n_features=X[0].size,
            n_classes=len(self.classes_),
            batch_size=self.batch_size,
            itemsize=dtype.itemsize,
        )
        print_line(self, self.memory_)
        return DistillationProblem(
            x=to_tensor(X.reshape(len(X), -1), device, dtype),
            y=to_tensor(y, device, torch.int64),
            n_classes=len(self.classes_),
            rows=rows,
            kernels=kernels,
            threat_model=threat_model,
            alpha=self.alpha,
            batch_size=self.batch_size,
            seed=seed,
        )

    def _new_kernels(self):
        """Return the kernels as a list; the first one judges."""
        if self.kernel is None:
            return [FullyConnectedNTK()]
        several = isinstance(self.kernel, tuple | list)
        kernels = list(self.kernel) if several else [self.kernel]
        if not kernels or not all(callable(kernel) for kernel in kernels):
            raise ValueError(
                f"kernel is {self.kernel!r}; expected a callable k(X, Y=None), or a "
                "tuple of them, one of which is drawn in each step."
            )
        return [clone(kernel, safe=False) for kernel in kernels]

    def _run_steps(self, problem, state, checkpoint):
        """Take the steps not yet done; validate, keep and report in between."""
        with FitProgress(self, self.n_outer_steps) as progress:
            for _ in range(state.n_done):
                progress.skip("outer-step")
            if state.best_score is None:
                self._pause(problem, state, checkpoint, progress)
            for _ in range(state.n_done, self.n_outer_steps):
                if state.n_no_change == self.n_iter_no_change:
                    break
                with progress.step("outer-step"):
                    self._take_step(problem, state)
                is_last = state.n_done == self.n_outer_steps
                if is_last or state.n_done % self.validate_every == 0:
                    self._pause(problem, state, checkpoint, progress)

    def _pause(self, problem, state, checkpoint, progress):
        """Validate, keep the set if it is the best so far, save and report."""
        record = {"step": state.n_done}
        if state.n_done:
            record["outer_loss"] = state.loss
        score = state.n_done  # without validation the last set is the best
        if len(problem.rows.validation):
            record |= problem.validate(state)
            score = self._score(record)
        state.note(record, score)
        checkpoint.save(*state.pack(seed=problem.seed))
        progress.report("validation", record)

    def _take_step(self, problem, state):
        """Take one outer step: Algorithm 1, lines 3 to 8."""
        rows, kernel = problem.draw(state.n_done)
        regression, kept = problem.regress(state.x, state.y, rows, kernel)
        x, y = problem.x[rows], problem.y[rows]
        terms = self._terms(problem, regression, x, y, state.n_done)
        state.loss, points, upstream = evaluate_terms(
            regression, terms, self.batch_size
        )
        gradients = dataset_gradients(regression, points, upstream, self.batch_size)
        gradient_x, gradient_y = torch.zeros_like(state.x), torch.zeros_like(state.y)
        gradient_x[kept], gradient_y[kept] = gradients
        state.take_step(
            gradient_x, gradient_y if self.learn_labels else None, self.learning_rate
        )

    def _terms(self, problem, regression, x, y, step):
        """Return the terms of the outer loss on the targets ``x``, ``y``."""
        return [classification_term(x, y, self.outer_loss)]

    def _score(self, record):
        """Return what early stopping maximises."""
        return record["natural_accuracy"]

    def _keep(self, state, shape):
        """Set the learned attributes from the best state so far."""
        is_judged = state.best_score is not None
        x, y = (state.best_x, state.best_y) if is_judged else (state.x, state.y)
        self.X_robust_ = to_array(x.float()).reshape(len(x), *shape)
        self.y_robust_ = to_array(y.float())
        if not self.learn_labels:
            self.y_robust_ = self.classes_[self.y_robust_.argmax(1)]
        self.n_outer_steps_ = state.n_done

    def _finish(self, problem, state):
        """Fit the kernel predictor of the learned set."""
        self.kernel_classifier_ = self._fit_predictor(
            problem, self.X_robust_, self.y_robust_
        )

    def _fit_predictor(self, problem, X, y):
        predictor = KernelRegressionClassifier(
            problem.kernels[0], self.alpha, device=self.device
        ).fit(X, y)
        predictor.classes_ = self.classes_  # of soft labels too
        return predictor
