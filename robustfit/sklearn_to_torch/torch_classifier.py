"""Fitted estimators as differentiable functions: ``as_torch``.

The one crossing from scikit-learn to torch that attacks need. To teach it another
estimator, register a function with ``as_torch.register`` (classifiers) or
``transformer_as_torch.register`` (steps of a pipeline).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import singledispatch
from types import EllipsisType
from typing import Any

import numpy as np
import skorch
import torch
from numpy.typing import ArrayLike
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torch import nn

from robustfit._utils.sklearn_private import BaseSearchCV
from robustfit._utils.torch_bridge import batch_slices, eval_mode, to_array, to_tensor
from robustfit.exceptions import NotDifferentiableError
from robustfit.sklearn_to_torch.label_columns import check_columns, label_columns
from robustfit.sklearn_to_torch.logits import to_logits
from robustfit.sklearn_to_torch.probabilities import (
    log_of,
    logit_of,
    see_through_sigmoid,
    see_through_softmax,
    see_through_softmax_layer,
)

__all__ = [
    "TorchClassifier",
    "as_torch",
    "predicted_columns",
    "transformer_as_torch",
]


class TorchClassifier:
    """A fitted classifier as a differentiable function of its input.

    Parameters
    ----------
    module : torch.nn.Module
        Maps inputs (n_samples, ...) of the shape the estimator takes to logits
        (n_samples, n_classes). It may return a single column for two classes, a tuple
        that begins with logits, a dict or an object that names them ``logits``, and
        work in another float type.
    classes : array-like of shape (n_classes,) or None
        Label of each logit; None means 0, 1, 2, ...
    device : torch.device or str, default="cpu"
        Where ``module`` is.
    softmax_is_probability : bool, default=False
        Whether the softmax of the logits is the estimator's ``predict_proba``.

    Notes
    -----
    Calling it on a tensor returns logits, with gradients and in the mode the module is
    in. ``logits`` and ``columns`` are for prediction: frozen, without gradients, in
    batches. ``encode`` turns labels into columns of the logits.

    See Also
    --------
    as_torch : Makes one of a fitted estimator.

    Examples
    --------
    >>> import torch
    >>> from robustfit import TorchClassifier
    >>> model = TorchClassifier(torch.nn.Linear(4, 2), classes=["cat", "dog"])
    >>> model(torch.zeros(3, 4)).shape
    torch.Size([3, 2])
    >>> model.encode(["dog", "cat", "cow"])
    tensor([ 1,  0, -1])
    """

    def __init__(
        self,
        module: nn.Module,
        classes: ArrayLike | None = None,
        device: torch.device | str = "cpu",
        *,
        softmax_is_probability: bool = False,
    ):
        self.module = module
        self.softmax_is_probability = softmax_is_probability
        self.classes = None if classes is None else np.asarray(classes)
        self.device = torch.device(device)
        dtypes = (p.dtype for p in module.parameters() if p.is_floating_point())
        self._dtype = next(dtypes, None)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (n_samples, n_classes) of ``x``, of its dtype.

        The module is given a copy: it may write into its input.

        Raises
        ------
        ValueError
            If the module returns what no logits can be made of.
        """
        return to_logits(self.module_output(x), x)

    def module_output(self, x: torch.Tensor) -> Any:
        """Return what the module itself returns for a copy of ``x``, of any kind."""
        return self.module(self.cast(x).clone())

    def cast(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` in the float type of the module's parameters."""
        return x if self._dtype is None else x.to(self._dtype)

    @contextmanager
    def frozen(self) -> Iterator["TorchClassifier"]:
        """Hold the module in eval mode with frozen parameters inside the block."""
        with eval_mode(self.module):
            yield self

    def logits(
        self, X: np.ndarray | torch.Tensor, batch_size: int = 128
    ) -> torch.Tensor:
        """Return the logits of many inputs: frozen, without gradients, in batches.

        Parameters
        ----------
        X : ndarray or torch.Tensor of shape (n_samples, ...)
            An array is copied as float32; a tensor keeps its dtype.
        batch_size : int, default=128
            Inputs sent through the module together; what bounds the memory.

        Returns
        -------
        torch.Tensor of shape (n_samples, n_classes)
            On ``device``.
        """
        with self.frozen(), torch.no_grad():
            return torch.cat(
                [self(self._move(X[rows])) for rows in batch_slices(len(X), batch_size)]
            )

    def _move(self, X):
        if isinstance(X, torch.Tensor):
            return X.to(self.device)
        return to_tensor(X, self.device)

    def columns(
        self, X: np.ndarray | torch.Tensor, batch_size: int = 128
    ) -> np.ndarray:
        """Return the column of the largest logit; -2 where logits are not finite.

        Parameters
        ----------
        X, batch_size
            As for :meth:`logits`.

        Returns
        -------
        ndarray of shape (n_samples,), int64
        """
        return predicted_columns(self.logits(X, batch_size))

    def with_module(
        self, module: nn.Module, classes: ArrayLike | EllipsisType | None = ...
    ) -> "TorchClassifier":
        """Return a classifier with another module and all else the same.

        Parameters
        ----------
        module : torch.nn.Module
            With the logits of this one, up to what the caller changed on purpose.
        classes : array-like of shape (n_classes,) or None, default=...
            Other labels of the same columns; ``...`` keeps them.

        Returns
        -------
        TorchClassifier
        """
        return TorchClassifier(
            module,
            self.classes if classes is ... else classes,
            self.device,
            softmax_is_probability=self.softmax_is_probability,
        )

    def fingerprint(self):
        """Return what tells this classifier from others, for content hashes."""
        state = {k: to_array(v) for k, v in self.module.state_dict().items()}
        return repr(self.module), state, self.classes, self.estimator

    @property
    def estimator(self):
        """The estimator that is asked for scores, or None for a differentiable form."""
        return getattr(self.module, "estimator", None)

    def encode(self, y: ArrayLike, n_columns: int | None = None) -> torch.Tensor:
        """Return for each label its logit's column, -1 for labels never trained on.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
        n_columns : int or None, default=None
            Logits that the module returns; None does not compare with them.

        Returns
        -------
        torch.Tensor of shape (n_samples,), int64
            On ``device``.

        Raises
        ------
        ValueError
            For labels of another type than the classes, NaN, fractions, and labels
            that no column stands for where there are no ``classes``.
        """
        columns = label_columns(y, self.classes)
        if n_columns is not None:
            check_columns(y, columns, n_columns, self.classes)
        return torch.as_tensor(columns, device=self.device)


def predicted_columns(logits: torch.Tensor) -> np.ndarray:
    """Return the column of the largest logit of each row; -2 where one is not finite.

    Parameters
    ----------
    logits : torch.Tensor of shape (n_samples, n_classes)

    Returns
    -------
    ndarray of shape (n_samples,), int64
    """
    finite = torch.isfinite(logits).all(1)
    return to_array(torch.where(finite, logits.argmax(1), -2))


@singledispatch
def as_torch(estimator: object) -> TorchClassifier:
    """Return a fitted classifier as a differentiable :class:`TorchClassifier`.

    Parameters
    ----------
    estimator : fitted classifier
        A skorch net (its logits, whatever the criterion); a linear classifier, LDA,
        ``MLPClassifier``, ``SVC``, ``GaussianNB``, ``KernelRidge`` on one-hot labels,
        soft ``VotingClassifier`` or sigmoid ``CalibratedClassifierCV``; a
        ``RobustifiedClassifier``; a ``Pipeline`` (of scikit-learn or imbalanced-learn)
        whose earlier steps :func:`transformer_as_torch` takes; a search CV (its
        ``best_estimator_``); a ``FrozenEstimator`` around one of these; or a
        ``torch.nn.Module`` that returns logits.

    Returns
    -------
    TorchClassifier

    Raises
    ------
    NotDifferentiableError
        If the estimator, or the named step of a pipeline, has no differentiable form.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    See Also
    --------
    transformer_as_torch : For the steps in front of a classifier.
    as_black_box : For estimators without a differentiable form.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from robustfit import as_torch
    >>> X, y = load_digits(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    >>> import torch
    >>> as_torch(model)(torch.tensor(X[:3], dtype=torch.float32)).shape
    torch.Size([3, 10])
    """
    raise NotDifferentiableError(
        f"{type(estimator).__name__} has no differentiable form in torch, so gradient "
        "attacks cannot see through it. Use attack='auto', which knows trees and "
        "neighbours, or attack='square' (it needs predict_proba only), or register a "
        "form with robustfit.as_torch.register."
    )


@singledispatch
def transformer_as_torch(transformer: object) -> nn.Module | None:
    """Return a fitted transformer as a ``torch.nn.Module``, or None for the identity.

    Parameters
    ----------
    transformer : fitted transformer
        A robustifier, a sampler of imbalanced-learn (the identity: they act in ``fit``
        only), a transform of :mod:`robustfit.image_transforms`; a scaler,
        ``PowerTransformer``, ``QuantileTransformer``, ``Normalizer`` or ``PCA``; a
        ``FunctionTransformer`` of a :class:`TorchFunction` or of one of NumPy's
        functions that torch has, such as ``np.log1p``; a ``ColumnTransformer``,
        ``FeatureUnion`` or ``Pipeline`` of these.

    Returns
    -------
    torch.nn.Module or None
        Maps float32 inputs (n_samples, ...) to what ``transform`` returns.

    Raises
    ------
    NotDifferentiableError
        If it has no differentiable form.

    See Also
    --------
    as_torch : For classifiers and whole pipelines.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn.preprocessing import StandardScaler
    >>> from robustfit import transformer_as_torch
    >>> scaler = StandardScaler().fit(np.array([[0.0], [2.0]]))
    >>> transformer_as_torch(scaler)(torch.tensor([[3.0]]))
    tensor([[2.]])
    """
    if hasattr(transformer, "fit_resample"):
        return None  # a sampler acts on training data only
    raise NotDifferentiableError(
        f"{type(transformer).__name__} has no differentiable form in torch. Register "
        "one with robustfit.transformer_as_torch.register."
    )


@as_torch.register
def _(estimator: TorchClassifier):
    return estimator


@as_torch.register
def _(estimator: nn.Module):
    parameter = next(estimator.parameters(), None)
    return TorchClassifier(
        estimator, device="cpu" if parameter is None else parameter.device
    )


@as_torch.register
def _(estimator: FrozenEstimator):
    return as_torch(estimator.estimator)


@as_torch.register
def _(estimator: BaseSearchCV):
    check_is_fitted(estimator)
    if not hasattr(estimator, "best_estimator_"):
        raise NotDifferentiableError(
            f"{type(estimator).__name__} was run with refit=False and holds no fitted "
            "model. Use refit=True, or the name of a score with several of them."
        )
    return as_torch(estimator.best_estimator_)


@as_torch.register
def _(estimator: Pipeline):
    check_is_fitted(estimator)
    parts = _transforms(estimator.steps[:-1])
    name, step = estimator.steps[-1]
    with _named_in_errors(name):
        classifier = as_torch(step)
    module = nn.Sequential(*parts, classifier.module).to(classifier.device)
    return classifier.with_module(module)


@transformer_as_torch.register
def _(transformer: Pipeline):
    check_is_fitted(transformer)
    parts = _transforms(transformer.steps)
    return nn.Sequential(*parts) if parts else None


@transformer_as_torch.register
def _(transformer: FrozenEstimator):
    return transformer_as_torch(transformer.estimator)


def _transforms(steps):
    """Return the modules of a pipeline's steps but for those that change nothing."""
    parts = []
    for name, step in steps:
        if step is None or step == "passthrough":
            continue
        with _named_in_errors(name):
            module = transformer_as_torch(step)
        if module is not None:
            parts.append(module)
    return parts


@contextmanager
def _named_in_errors(name):
    try:
        yield
    except NotDifferentiableError as error:
        raise NotDifferentiableError(
            f"Step {name!r} of the pipeline: {error}"
        ) from None


@as_torch.register
def _(estimator: skorch.NeuralNet):
    check_is_fitted(estimator, "module_")
    # skorch predicts the column of the largest output, so columns are the labels.
    return TorchClassifier(_SkorchLogits(estimator), None, estimator.device or "cpu")


class _SkorchLogits(nn.Module):
    """Logits of a skorch net, whatever its criterion says about its outputs."""

    def __init__(self, net):
        super().__init__()
        self.module = net.module_
        self._is_binary = isinstance(net.criterion_, nn.BCEWithLogitsLoss | nn.BCELoss)
        self._see_through, self._invert = see_through_softmax_layer, _as_it_is
        if isinstance(net.criterion_, nn.NLLLoss):  # skorch takes the log itself
            self._see_through, self._invert = see_through_softmax, log_of
        elif isinstance(net.criterion_, nn.BCELoss):
            self._see_through, self._invert = see_through_sigmoid, logit_of

    def forward(self, x):
        parameter = next(self.module.parameters(), None)
        if parameter is not None:
            x = x.to(parameter.dtype)
        output, logits = self._see_through(self.module, x)
        if logits is None:
            logits = self._invert(output)
        if not self._is_binary:
            return logits
        logit = logits.reshape(len(x))
        return torch.stack([-logit / 2, logit / 2], dim=1)


def _as_it_is(output):
    return output
