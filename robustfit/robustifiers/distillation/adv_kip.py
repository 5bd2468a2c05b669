"""``AdvKIPDistiller``: KIP against an adversary, and its verdict on itself."""

import warnings
from numbers import Integral, Real

from robustfit._utils.sklearn_private import Interval
from robustfit._utils.torch_bridge import stage_generator, to_array
from robustfit.evaluation.attacking import attack_estimator
from robustfit.exceptions import GradientMaskingWarning
from robustfit.robustifiers.distillation.inner_attack import (
    INNER_LOSSES,
    attack_targets,
)
from robustfit.robustifiers.distillation.kip import KIPDistiller
from robustfit.robustifiers.distillation.outer_loss import (
    classification_term,
    small_gradient_term,
)

__all__ = ["AdvKIPDistiller"]

_TOLERATED_GAP = 0.05


class AdvKIPDistiller(KIPDistiller):
    """Learn a training set from which kernel regression is robust (adv-KIP).

    Algorithm 1 of "Can we achieve robustness from data alone?": natural targets are
    attacked through the kernel predictor of the set, and the set is moved so that the
    predictor is right on the attacked targets. Nothing but the data is learned, and
    anything may be trained on them.

    Much of the robustness that the paper measures with PGD on raw outputs is masked:
    AutoAttack leaves far less on the kernel predictor and next to nothing on nets
    trained on the set (the paper: 0.00). See the user guide for what was measured.

    Parameters
    ----------
    eps : float, default=8/255
        Budget of the adversary, in the units of X.
    norm : {"linf", "l2"}, default="linf"
    clip_range : tuple of (float, float) or None, default=(0.0, 1.0)
        Valid values of X and of what the adversary makes of it. Learned images may
        leave it.
    image_shape : tuple of (C, H, W) or None, default=None
    kernel, n_support, learn_labels, n_outer_steps, n_targets
        As for :class:`KIPDistiller`.
    n_steps : int, default=10
        PGD steps of the inner maximisation, from a random start.
    step_size : float or None, default=None
        Their length; None is ``2.5 * eps / n_steps``.
    inner_loss : str or tuple of str, default="margin"
        What the inner steps maximise: "cross-entropy" of the raw outputs (the paper's),
        "scaled-cross-entropy", "margin", "dlr", "targeted-margin" (towards a random
        class). Of a tuple, each attacks an equal share of the targets.
    outer_loss : {"mse", "cross-entropy"}, default="mse"
    clean_weight : float, default=0.0
        Share of the loss at the natural targets in the outer loss, in [0, 1].
    gradient_penalty : float, default=0.0
        Weight of a penalty on input gradients too small to tell what the budget can do,
        >= 0.
    learning_rate, alpha, validation_fraction, validate_every, n_iter_no_change
        As for :class:`KIPDistiller`; here robust accuracy judges.
    n_checked : int, default=50
        Validation rows on which the kernel predictor is attacked with PGD-40 and
        AutoAttack when all is done; 0 for none.
    batch_size, device, random_state, checkpoint, verbose
        As for :class:`KIPDistiller`.

    Attributes
    ----------
    X_robust_, y_robust_, sample_indices_, kernel_classifier_, history_, \
n_outer_steps_, memory_, classes_, image_shape_, n_features_in_
        As for :class:`KIPDistiller`.
    pgd_accuracy_, autoattack_accuracy_ : float or None
        What each leaves of the kernel predictor on ``n_checked`` held-out rows.

    Warns
    -----
    GradientMaskingWarning
        If PGD leaves over 5 points more than AutoAttack on these rows, with both
        numbers.

    Raises
    ------
    MemoryBudgetError
        Before any work, if the kernel matrix does not fit into memory.

    See Also
    --------
    KIPDistiller : The same without an adversary.
    KernelRegressionClassifier : The predictor.
    RobustDatasetLearner : Sets on which nets become robust under AutoAttack.

    Notes
    -----
    ``fit(X, y).transform(X)`` does not equal ``fit_transform(X, y)``: the latter
    returns the learned set, ``transform`` leaves its input as it is.

    An outer step costs one Cholesky factorisation and ``n_steps`` kernel derivatives
    between targets and support: ``K_SS^-1 Y`` is solved once, before the inner steps.

    References
    ----------
    N. Tsilivis, J. Su, J. Kempe. "Can we achieve robustness from data alone?", 2022,
    Algorithm 1.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from robustfit import AdvKIPDistiller
    >>> X, y = load_digits(return_X_y=True)
    >>> distiller = AdvKIPDistiller(
    ...     eps=0.2, n_support=20, n_outer_steps=10, n_checked=0, random_state=0)
    >>> distiller.fit(X[:500] / 16, y[:500]).X_robust_.shape
    (20, 64)
    """

    _parameter_constraints: dict = {
        **KIPDistiller._parameter_constraints,
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "step_size": [None, Interval(Real, 0, None, closed="neither")],
        "inner_loss": [str, tuple, list],
        "clean_weight": [Interval(Real, 0, 1, closed="both")],
        "gradient_penalty": [Interval(Real, 0, None, closed="left")],
        "n_checked": [Interval(Integral, 0, None, closed="left")],
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
        n_steps=10,
        step_size=None,
        inner_loss="margin",
        outer_loss="mse",
        clean_weight=0.0,
        gradient_penalty=0.0,
        learning_rate=0.01,
        alpha=1e-6,
        validation_fraction=0.1,
        validate_every=20,
        n_iter_no_change=10,
        n_checked=50,
        batch_size=1000,
        device="auto",
        random_state=None,
        checkpoint=None,
        verbose=0,
    ):
        super().__init__(
            eps,
            norm,
            clip_range=clip_range,
            image_shape=image_shape,
            kernel=kernel,
            n_support=n_support,
            learn_labels=learn_labels,
            n_outer_steps=n_outer_steps,
            n_targets=n_targets,
            outer_loss=outer_loss,
            learning_rate=learning_rate,
            alpha=alpha,
            validation_fraction=validation_fraction,
            validate_every=validate_every,
            n_iter_no_change=n_iter_no_change,
            batch_size=batch_size,
            device=device,
            random_state=random_state,
            checkpoint=checkpoint,
            verbose=verbose,
        )
        self.n_steps = n_steps
        self.step_size = step_size
        self.inner_loss = inner_loss
        self.clean_weight = clean_weight
        self.gradient_penalty = gradient_penalty
        self.n_checked = n_checked

    def _validate_parameters(self):
        threat_model = super()._validate_parameters()
        unknown = set(self._inner_losses()) - set(INNER_LOSSES)
        if unknown or not self._inner_losses():
            raise ValueError(
                f"inner_loss is {self.inner_loss!r}; expected one of {INNER_LOSSES}, "
                "or a tuple of them."
            )
        return threat_model

    def _inner_losses(self):
        is_one = isinstance(self.inner_loss, str)
        return (self.inner_loss,) if is_one else tuple(self.inner_loss)

    def _terms(self, problem, regression, x, y, step):
        threat_model, weight = problem.threat_model, self.clean_weight
        terms = []
        if weight < 1:
            x_adv = self._attack(problem, regression, x, y, step)
            terms.append(classification_term(x_adv, y, self.outer_loss, 1 - weight))
        if weight > 0:
            terms.append(classification_term(x, y, self.outer_loss, weight))
        if self.gradient_penalty > 0 and threat_model.eps > 0:
            terms.append(
                small_gradient_term(
                    regression, x, y, threat_model, self.gradient_penalty
                )
            )
        return terms

    def _attack(self, problem, regression, x, y, step):
        return attack_targets(
            regression,
            x,
            y,
            problem.threat_model,
            losses=self._inner_losses(),
            n_steps=self.n_steps,
            step_size=self.step_size,
            batch_size=self.batch_size,
            generator=stage_generator(problem.seed, 4, step, device=x.device),
            n_classes=problem.n_classes,
        )

    def _score(self, record):
        return record["robust_accuracy"]

    def _finish(self, problem, state):
        super()._finish(problem, state)
        self.pgd_accuracy_ = self.autoattack_accuracy_ = None
        rows = problem.rows.validation[: self.n_checked]
        if len(rows):
            self._check_masking(problem, rows)

    def _check_masking(self, problem, rows):
        """Attack the predictor of the learned set on rows it was not learned for."""
        kept = problem.rows.support_without(rows)
        predictor = self.kernel_classifier_
        if not kept.all():
            predictor = self._fit_predictor(
                problem, self.X_robust_[kept], self.y_robust_[kept]
            )
        X, y = to_array(problem.x[rows]), self.classes_[to_array(problem.y[rows])]
        common = {
            "eps": self.eps, "norm": self.norm, "clip_range": self.clip_range,
            "random_state": problem.seed % 2**31,
        }  # fmt: skip
        pgd, auto = (
            attack_estimator(predictor, X, y, attack=attack, **common).robust_accuracy
            for attack in ("pgd", "autoattack")
        )
        self.pgd_accuracy_, self.autoattack_accuracy_ = pgd, auto
        if pgd - auto > _TOLERATED_GAP:
            warnings.warn(
                f"On {len(rows)} held-out rows the kernel predictor of the learned set "
                f"has {pgd:.1%} robust accuracy under PGD-40 and {auto:.1%} under "
                f"AutoAttack ({self.norm}, eps={self.eps:g}): part of its robustness "
                "is masked gradients. Believe the second number.",
                GradientMaskingWarning,
                stacklevel=2,
            )
