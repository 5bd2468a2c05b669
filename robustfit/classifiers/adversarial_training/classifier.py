"""``AdversarialClassifier``: adversarial training as a scikit-learn classifier."""

from numbers import Integral, Real

from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils.validation import check_is_fitted
from torch import nn

from robustfit._utils.checkpoint import Checkpoint
from robustfit._utils.fit_progress import FitProgress, open_fit
from robustfit._utils.sklearn_private import Interval, StrOptions
from robustfit._utils.torch_bridge import (
    draw_seed,
    resolve_device,
    seeded_torch,
    to_array,
)
from robustfit.classifiers.adversarial_training.eps_schedule import Stage, plan_stages
from robustfit.classifiers.adversarial_training.net_building import build_net
from robustfit.classifiers.adversarial_training.net_classifier import NetClassifier
from robustfit.classifiers.adversarial_training.skorch_net import METHODS
from robustfit.classifiers.adversarial_training.training_loop import (
    TrainingLoop,
    hold_out,
    warn_if_collapsed,
)
from robustfit.sklearn_to_torch.torch_classifier import TorchClassifier, as_torch
from robustfit.threat_model import ThreatModel

__all__ = ["AdversarialClassifier"]


class AdversarialClassifier(CallbackSupportMixin, NetClassifier):
    """A neural network trained on adversarial examples of its training set.

    Parameters
    ----------
    eps : float or array-like of shape (n_features,), default=8/255
        Budget of the adversary, in the units of X: of all features or of each, 0 for
        those that it cannot touch. Steps and increments are then those of the largest.
    norm : {"linf", "l2", "l1"}, default="linf"
    clip_range : tuple of (low, high) or None, default=(0.0, 1.0)
        Valid values of X, two numbers or arrays of one for each feature; None for
        unbounded features.
    image_shape : tuple of (C, H, W) or None, default=None
        Shape that flat rows came from; the net then sees images.
    estimator : None, skorch net or torch.nn.Module class, default=None
        What is trained. None takes :func:`robustfit.nets.default_classifier` for the
        image shape. A module class (given ``image_shape``, ``n_features`` and
        ``n_classes`` where its constructor has them) is trained in the same way: SGD,
        0.05 on a cosine, momentum 0.9, weight decay 5e-4. A skorch net keeps its
        optimizer, learning rate, batch size, device and callbacks; its number of epochs
        and train split are those of this class.
    method : {"pgd", "trades", "fgsm", "free"}, default="pgd"
        "pgd": cross-entropy on PGD images [1]_. "trades": cross-entropy on the images
        plus ``trades_beta`` times the divergence of the predictions on adversarial
        images [2]_. "fgsm": one step of 1.25 eps from a random start [3]_; fast, and
        may overfit to that step (watch PGD accuracy). "free": ``n_replays`` updates on
        each batch, each giving the next step of the perturbation as well [4]_; give it
        fewer epochs.
    n_steps : int or None, default=10
        Gradient steps of "pgd" and "trades". None is as many as it takes to walk
        ``2.5 * eps`` in steps of ``step_size``, the rule of [5]_.
    step_size : float or None, default=None
        Length of a step in ``norm``; None is ``2.5 * eps / n_steps``.
    trades_beta : float, default=6.0
    n_replays : int, default=8
    eps_schedule : {"constant", "iterative"}, default="constant"
        "constant": ``eps`` after ``n_warmup_epochs``. "iterative": iterative
        adversarial training ([5]_, section 3.4), eps grows by ``eps_increment`` an
        epoch up to ``eps``, and training ends before that when the training loss jumps.
    eps_stages : tuple of float or None, default=None
        Extended adversarial training ([5]_, section 3.1): budgets one after another,
        each starting from the weights of the one before, for example ``(0.3, 0.4)``.
        Takes the place of ``eps``; needs ``eps_schedule="constant"``.
    n_epochs : int, default=30
        Passes over the training set; with ``eps_stages``, of the first stage; with
        "iterative", those left after growing are spent at ``eps``.
    n_stage_epochs : int, default=5
        Passes for each later stage of ``eps_stages``.
    n_warmup_epochs : int or None, default=None
        First epochs, of the ``n_epochs``, in which the budget grows linearly: from
        random weights, training at a large budget fails. None is a third of them for
        new weights and none for trained ones; 0 is the literal method.
    eps_increment : float, default=0.01
    loss_jump : float, default=0.25
        Rise of the training loss over the lowest of the three epochs before that ends
        "iterative", in units of the loss of guessing, log(n_classes). The weights
        before the jump are kept.
    augment : callable or None, default=None
        Maps a batch of images (a tensor) to one of the same shape, before the attack.
        Draw its random numbers from torch's global generator, which is seeded here.
    early_stopping : bool, default=False
        Hold out ``validation_fraction`` of each class, stop when robust accuracy on it
        (PGD with the margin loss, at the full budget) has not risen for
        ``n_iter_no_change`` epochs, and keep the best weights. In every stage.
    validation_fraction : float, default=0.1
    n_iter_no_change : int, default=10
    batch_size : int, default=128
        For nets that are not given as a skorch net, and for prediction.
    device : str, default="auto"
        "auto" is a GPU when there is one. A skorch net runs on its own device.
    warm_start : bool, default=False
        If True, ``fit`` goes on from the weights of the last ``fit``: after
        ``set_params(eps=...)``, extended adversarial training.
    random_state : int, RandomState instance or None, default=None
        With an integer, the same bytes come out on the same machine.
    checkpoint : str, path or None, default=None
        Folder for the state after each epoch. A fit with the same parameters and data
        goes on where one that was interrupted stopped. Callbacks of a skorch net that
        keep a state of their own begin anew.
    verbose : int, default=0
        1 prints a line after each epoch. For a progress bar use
        ``set_callbacks(sklearn.callback.ProgressBar())``.

    Attributes
    ----------
    net_ : AdversarialNet
        The fitted skorch net; its labels are 0..n_classes-1.
    classes_ : ndarray of shape (n_classes,)
    eps_ : float
        Budget that the weights were trained at last, of the feature with the largest.
    history_ : list of dict
        One record an epoch: ``epoch``, ``stage``, ``eps``, ``train_loss`` (of the
        method, under attack), ``seconds`` and those of parts (``attack_seconds``,
        ``update_seconds``), with ``early_stopping`` the ``natural_accuracy`` and
        ``robust_accuracy`` on held-out images and ``validation_seconds``; ``stopped``
        says why a stage ended early. Goes on over ``partial_fit`` and warm starts.
        It may be changed: nothing is read from it.
    image_shape_ : tuple of int
    n_features_in_ : int
        Numbers in a (flattened) sample.

    See Also
    --------
    RobustDatasetLearner : Robustness by another training set, with natural training.
    RobustnessReport : Measures what came of it; believe AutoAttack's number.

    Notes
    -----
    An interrupt (Ctrl-C) leaves the weights after the last finished epoch.

    References
    ----------
    .. [1] A. Madry, A. Makelov, L. Schmidt, D. Tsipras, A. Vladu. "Towards Deep
       Learning Models Resistant to Adversarial Attacks", ICLR 2018.
    .. [2] H. Zhang, Y. Yu, J. Jiao, E. Xing, L. El Ghaoui, M. Jordan. "Theoretically
       Principled Trade-off between Robustness and Accuracy", ICML 2019, Eq. 5.
    .. [3] E. Wong, L. Rice, J. Z. Kolter. "Fast is better than free: Revisiting
       adversarial training", ICLR 2020.
    .. [4] A. Shafahi et al. "Adversarial Training for Free!", NeurIPS 2019.
    .. [5] A. Shaeiri, R. Nobahari, M. H. Rohban. "Towards Deep Learning Models
       Resistant to Large Perturbations", 2020.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from robustfit import AdversarialClassifier, robust_accuracy_score
    >>> X, y = load_digits(return_X_y=True)
    >>> model = AdversarialClassifier(
    ...     eps=0.1, image_shape=(1, 8, 8), n_steps=2, n_epochs=30, random_state=0)
    >>> model.fit(X[:500] / 16, y[:500]).predict(X[:2] / 16).shape
    (2,)
    >>> robust_accuracy_score(model, X[500:700] / 16, y[500:700], eps=0.1) > 0.3
    True
    """

    _parameter_constraints: dict = {
        "method": [StrOptions(set(METHODS))],
        "estimator": [None, object],
        "n_steps": [None, Interval(Integral, 1, None, closed="left")],
        "step_size": [None, Interval(Real, 0, None, closed="neither")],
        "trades_beta": [Interval(Real, 0, None, closed="left")],
        "n_replays": [Interval(Integral, 1, None, closed="left")],
        "eps_schedule": [StrOptions({"constant", "iterative"})],
        "eps_stages": [None, tuple, list],
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "n_stage_epochs": [Interval(Integral, 1, None, closed="left")],
        "n_warmup_epochs": [None, Interval(Integral, 0, None, closed="left")],
        "eps_increment": [Interval(Real, 0, None, closed="neither")],
        "loss_jump": [Interval(Real, 0, None, closed="neither")],
        "augment": [None, callable],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
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
        method="pgd",
        n_steps=10,
        step_size=None,
        trades_beta=6.0,
        n_replays=8,
        eps_schedule="constant",
        eps_stages=None,
        n_epochs=30,
        n_stage_epochs=5,
        n_warmup_epochs=None,
        eps_increment=0.01,
        loss_jump=0.25,
        augment=None,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        batch_size=128,
        device="auto",
        warm_start=False,
        random_state=None,
        checkpoint=None,
        verbose=0,
    ):
        self.eps = eps
        self.norm = norm
        self.clip_range = clip_range
        self.image_shape = image_shape
        self.estimator = estimator
        self.method = method
        self.n_steps = n_steps
        self.step_size = step_size
        self.trades_beta = trades_beta
        self.n_replays = n_replays
        self.eps_schedule = eps_schedule
        self.eps_stages = eps_stages
        self.n_epochs = n_epochs
        self.n_stage_epochs = n_stage_epochs
        self.n_warmup_epochs = n_warmup_epochs
        self.eps_increment = eps_increment
        self.loss_jump = loss_jump
        self.augment = augment
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.batch_size = batch_size
        self.device = device
        self.warm_start = warm_start
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.verbose = verbose

    # Not a named parameter of fit: scikit-learn's checks take that for repetitions of
    # rows, bit by bit, which batches in random order cannot be.
    __metadata_request__fit = {"sample_weight": None}

    @with_callbacks
    def fit(self, X, y, **fit_params):
        """Train adversarially on ``X`` and ``y``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
            Images in ``clip_range``, 4-D or flattened.
        y : array-like of shape (n_samples,)
            Class labels of any type; at least two classes.
        **fit_params
            ``sample_weight`` of shape (n_samples,), >= 0: each epoch draws as many rows
            as there are, in proportion to their weights, with replacement. Equal
            weights are none. With scikit-learn's metadata routing, request it with
            ``set_fit_request(sample_weight=True)``.

        Returns
        -------
        self : AdversarialClassifier

        Raises
        ------
        PixelRangeError, ImageShapeError, ValueError, TypeError
            For bad data or parameters, before any training.
        """
        goes_on = self.warm_start and hasattr(self, "net_")
        X, y = self._validate(X, y, reset=not goes_on)
        weights = self._validate_weights(fit_params, X)
        for eps in self.eps_stages or (self.eps,):
            ThreatModel(self.norm, eps, self.clip_range).warn_of_unit(X)
        stages = plan_stages(
            self._threat_model().eps,
            eps_stages=self.eps_stages,
            eps_schedule=self.eps_schedule,
            n_epochs=self.n_epochs,
            n_stage_epochs=self.n_stage_epochs,
            n_warmup_epochs=self.n_warmup_epochs,
            eps_increment=self.eps_increment,
            trained_eps=self.eps_ if goes_on else None,
        )
        checkpoint, saved, seed = self._open_fit(X, y, goes_on, weights)
        if not goes_on:
            self._start_anew(seed)
        early_stopping = None
        if self.early_stopping:
            X, y, weights, early_stopping = hold_out(
                X, y, weights, self.validation_fraction, self.n_iter_no_change,
                self._seed,
            )  # fmt: skip
        state = self._train(
            X, y, stages, checkpoint=checkpoint, saved=saved,
            early_stopping=early_stopping, weights=weights,
        )  # fmt: skip
        warn_if_collapsed(state, stages[-1].budgets[-1], len(self.classes_))
        return self

    @with_callbacks
    def partial_fit(self, X, y, classes=None):
        """Train for one epoch at ``eps``, from the weights there are.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
        y : array-like of shape (n_samples,)
        classes : array-like of shape (n_classes,) or None, default=None
            All labels that will come; needed in the first call unless ``y`` has them.

        Returns
        -------
        self : AdversarialClassifier
        """
        goes_on = hasattr(self, "net_")
        X, y = self._validate(X, y, classes=classes, reset=not goes_on)
        if not goes_on:
            self._start_anew(draw_seed(self.random_state))
        eps = self._threat_model().eps
        self._train(X, y, [Stage(eps, (eps,))], checkpoint=Checkpoint(None))
        return self

    def _validate_parameters(self):
        """Check the parameters before any work."""
        self._validate_params()
        is_one = self._threat_model().scale is None
        for eps in self.eps_stages or ():
            stage = ThreatModel(self.norm, eps, self.clip_range)
            if not is_one or stage.scale is not None:
                raise ValueError(
                    "eps_stages are budgets of all features, and eps or one of them is "
                    "given per feature. Fit one after another with warm_start=True."
                )
        if self.n_steps is None and self.step_size is None:
            raise ValueError("n_steps and step_size are both None; give one of them.")

    def _threat_model(self):
        return ThreatModel(self.norm, self.eps, self.clip_range)

    def _validate(self, X, y, **options):
        X, y = super()._validate(X, y, **options)
        self._threat_model().check_features(X)
        return X, y

    def _open_fit(self, X, y, goes_on, weights):
        """Open the checkpoint; a warm start's depends on the weights it starts from."""
        start = seed = None
        if goes_on:
            weights = self.net_.module_.state_dict()
            start, seed = {k: to_array(v) for k, v in weights.items()}, self._seed
        if weights is not None:
            start = start, weights
        return open_fit(self, X, y, not_in_key=("warm_start",), start=start, seed=seed)

    def _start_anew(self, seed):
        """Set an initialized net; what was learned before is forgotten."""
        self._seed = seed
        self.net_ = build_net(
            self.estimator,
            self.image_shape_,
            len(self.classes_),
            batch_size=self.batch_size,
            device=resolve_device(self.device),
            clip_range=self.clip_range,
        )
        with seeded_torch(self._seed):
            self.net_.initialize()
        self.history_ = []
        self.eps_ = None
        self._n_trained = 0

    def _train(self, X, y, stages, **options):
        """Train through the stages; return the state at their end."""
        self.net_.set_params(
            norm=self.norm,
            clip_range=self.clip_range,
            method=self.method,
            n_steps=self.n_steps,
            step_size=self.step_size,
            trades_beta=self.trades_beta,
            n_replays=self.n_replays,
            scale=self._threat_model().scale,
            augment=self.augment,
        )
        n_epochs = sum(len(stage.budgets) for stage in stages)
        with FitProgress(self, n_epochs) as progress:
            loop = TrainingLoop(
                self.net_,
                X,
                y,
                history=self.history_,
                seed=self._seed,
                n_classes=len(self.classes_),
                progress=progress,
                trained_eps=self.eps_,
                n_trained=self._n_trained,
                loss_jump=self.loss_jump,
                **options,
            )
            try:
                loop.run(stages)
            finally:
                self.eps_, self._n_trained = loop.state.good.eps, loop.n_epochs
        return loop.state


@as_torch.register
def _(estimator: AdversarialClassifier):
    check_is_fitted(estimator, "net_")
    inner = as_torch(estimator.net_)
    return TorchClassifier(
        nn.Sequential(_ToImages(estimator.image_shape_), inner.module),
        estimator.classes_,
        inner.device,
        softmax_is_probability=True,
    )


class _ToImages(nn.Module):
    """Flat rows as the images the net was trained on."""

    def __init__(self, image_shape):
        super().__init__()
        self.image_shape = tuple(image_shape)

    def forward(self, x):
        return x.reshape(len(x), *self.image_shape)
