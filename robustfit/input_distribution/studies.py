"""Robustness against the transform of the images, the net's width, the set's size.

Each study trains one model a point and fold and attacks it, in parallel, and returns
scores that its Display draws. They are the experiments of "On the Sensitivity of
Adversarial Robustness to Input Data Distributions" (Ding et al., 2019).
"""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.model_selection import check_cv
from sklearn.pipeline import make_pipeline
from sklearn.utils import Bunch, check_random_state

from robustfit._utils.torch_bridge import draw_seed
from robustfit.input_distribution.study_runner import run_study

__all__ = [
    "robustness_by_training_size",
    "robustness_by_transform",
    "robustness_by_width",
]


def robustness_by_transform(
    estimator: Any,
    transforms: Mapping[str, Any],
    X: ArrayLike,
    y: ArrayLike,
    *,
    attack_space: str = "transformed",
    scoring: Callable | str | None = None,
    cv: Any = None,
    n_jobs: int | None = None,
    return_train_score: bool = False,
    random_state: int | np.random.RandomState | None = 0,
) -> Bunch:
    """Train and attack an estimator on several variants of a data set.

    Parameters
    ----------
    estimator : classifier
        Anything :func:`robustfit.as_torch` takes once fitted. Cloned.
    transforms : dict of str to transformer or None
        Stateless transforms by the name of the variant, for example ``{"original":
        None, "smooth 3": SmoothImages(3)}``. Applied to training and to test images.
    X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
        Images.
    y : array-like of shape (n_samples,)
        Labels.
    attack_space : {"transformed", "original"}, default="transformed"
        Whose pixels the adversary changes. "transformed" takes each variant as a data
        set of its own, as figure 2 of [1]_ does. "original" attacks transform and
        estimator together, which needs transforms with a gradient.
    scoring : callable, str or None, default=None
        As in ``cross_validate``; None is :class:`PredictionRobustnessReport`.
    cv : int, splitter or iterable, default=None
        As in ``cross_validate``; ``ShuffleSplit(1)`` for one split. The same rows are
        used for every variant.
    n_jobs : int or None, default=None
        Models trained at a time.
    return_train_score : bool, default=False
        Whether to attack the training images too.
    random_state : int, RandomState instance or None, default=0
        Seeds torch alike for every model, which nets draw their weights from.

    Returns
    -------
    Bunch
        ``points`` (the names), ``test_scores`` and ``train_scores`` (None unless asked
        for): dicts of arrays (n_points, n_folds) by the name of the score.

    Raises
    ------
    ValueError
        For an unknown ``attack_space`` or no transforms.

    See Also
    --------
    TransformRobustnessDisplay : Draws the result.

    References
    ----------
    .. [1] G. W. Ding, K. Y. C. Lui, X. Jin, L. Wang, R. Huang. "On the Sensitivity of
       Adversarial Robustness to Input Data Distributions", ICLR 2019.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from robustfit import robustness_by_transform
    >>> from robustfit.image_transforms import BinarizeImages
    >>> X, y = load_digits(return_X_y=True)
    >>> study = robustness_by_transform(
    ...     LogisticRegression(max_iter=200),
    ...     {"original": None, "binarized": BinarizeImages()}, X[:300] / 16, y[:300])
    >>> study.test_scores["robust_accuracy"].shape
    (2, 5)
    """
    if attack_space not in ("transformed", "original"):
        raise ValueError(
            f"attack_space is {attack_space!r}; expected 'transformed' or 'original'."
        )
    names, points = list(transforms), []
    for transform in transforms.values():
        model, images = clone(estimator), X
        if transform is not None and attack_space == "original":
            model = make_pipeline(clone(transform), model)
        elif transform is not None:
            images = clone(transform).fit_transform(X)
        points.append((model, images, None))
    return run_study(
        names,
        points,
        y,
        cv,
        scoring=scoring,
        n_jobs=n_jobs,
        return_train_score=return_train_score,
        seed=draw_seed(random_state),
    )


def robustness_by_width(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    widths: Sequence[float] = (0.125, 0.25, 0.5, 1, 2, 4),
    param_name: str = "module__widen_factor",
    scoring: Callable | str | None = None,
    cv: Any = None,
    n_jobs: int | None = None,
    return_train_score: bool = False,
    random_state: int | np.random.RandomState | None = 0,
) -> Bunch:
    """Train and attack nets of several widths on one data set.

    Parameters
    ----------
    estimator : classifier
        For example a skorch net around :class:`robustfit.nets.LeNet5`. Cloned.
    X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
    y : array-like of shape (n_samples,)
    widths : sequence of float, default=(0.125, 0.25, 0.5, 1, 2, 4)
        Values of the parameter; the default is that of table 4 of [1]_.
    param_name : str, default="module__widen_factor"
        Parameter of the estimator that makes it wider.
    scoring, cv, n_jobs, return_train_score, random_state
        As in :func:`robustness_by_transform`.

    Returns
    -------
    Bunch
        As of :func:`robustness_by_transform`; ``points`` are the widths.

    See Also
    --------
    WidthRobustnessDisplay : Draws the result.

    References
    ----------
    .. [1] G. W. Ding, K. Y. C. Lui, X. Jin, L. Wang, R. Huang. "On the Sensitivity of
       Adversarial Robustness to Input Data Distributions", ICLR 2019.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neural_network import MLPClassifier
    >>> from robustfit import robustness_by_width
    >>> X, y = load_digits(return_X_y=True)
    >>> study = robustness_by_width(
    ...     MLPClassifier(max_iter=500, random_state=0), X[:200] / 16, y[:200],
    ...     widths=[4, 16], param_name="hidden_layer_sizes", cv=2)
    >>> study.test_scores["natural_accuracy"].shape
    (2, 2)
    """
    points = [
        (clone(estimator).set_params(**{param_name: width}), X, None)
        for width in widths
    ]
    return run_study(
        list(widths),
        points,
        y,
        cv,
        scoring=scoring,
        n_jobs=n_jobs,
        return_train_score=return_train_score,
        seed=draw_seed(random_state),
    )


def robustness_by_training_size(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    train_sizes: Sequence | float = (0.1, 0.33, 0.55, 0.78, 1.0),
    scoring: Callable | str | None = None,
    cv: Any = None,
    n_jobs: int | None = None,
    return_train_score: bool = False,
    random_state: int | np.random.RandomState | None = 0,
) -> Bunch:
    """Train an estimator on more and more rows and attack it.

    ``sklearn.model_selection.learning_curve`` with several scores from one fit and one
    attack; with a single scorer, such as :class:`RobustAccuracyScorer`, that function
    does the same.

    Parameters
    ----------
    estimator : classifier
        Cloned.
    X : array-like of shape (n_samples, n_features) or (n_samples, C, H, W)
    y : array-like of shape (n_samples,)
    train_sizes : sequence of int or float, default=(0.1, 0.33, 0.55, 0.78, 1.0)
        Rows, or in (0, 1] shares of the smallest training fold. Smaller sets are part
        of larger ones.
    scoring, cv, n_jobs, return_train_score
        As in :func:`robustness_by_transform`. Training scores are of the rows used.
    random_state : int, RandomState instance or None, default=0
        Shuffles the rows of each training fold, and seeds torch alike for every model.

    Returns
    -------
    Bunch
        As of :func:`robustness_by_transform`; ``points`` are the numbers of rows.

    Raises
    ------
    ValueError
        For a size that a training fold does not have.

    See Also
    --------
    TrainingSizeRobustnessDisplay : Draws the result.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from robustfit import robustness_by_training_size
    >>> X, y = load_digits(return_X_y=True)
    >>> study = robustness_by_training_size(
    ...     LogisticRegression(max_iter=200), X[:300] / 16, y[:300],
    ...     train_sizes=[60, 1.0], cv=3)
    >>> study.points
    [60, 200]
    """
    random = check_random_state(random_state)
    folds = [
        (random.permutation(train), test)
        for train, test in check_cv(cv, y, classifier=True).split(X, y)
    ]
    n_rows = _resolve_sizes(train_sizes, min(len(train) for train, _ in folds))
    points = [
        (estimator, X, [(train[:n], test) for train, test in folds]) for n in n_rows
    ]
    return run_study(
        n_rows,
        points,
        y,
        cv,
        scoring=scoring,
        n_jobs=n_jobs,
        return_train_score=return_train_score,
        seed=draw_seed(random),
    )


def _resolve_sizes(sizes, n_largest):
    n_rows = []
    for size in sizes:
        is_share = isinstance(size, Real) and not isinstance(size, Integral)
        n = round(size * n_largest) if is_share else size
        if not 1 <= n <= n_largest:
            raise ValueError(
                f"train_sizes holds {size!r}; expected shares in (0, 1] or up to "
                f"{n_largest} rows, the size of the smallest training fold."
            )
        n_rows.append(int(n))
    return n_rows
