"""Fitted estimators as differentiable functions: ``as_torch``.

The one crossing from scikit-learn to torch that attacks need. To teach it another
estimator, register a function with ``as_torch.register`` (classifiers) or
``transformer_as_torch.register`` (steps of a pipeline).
"""

from functools import singledispatch

import numpy as np
import skorch
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torch import nn

from robustfit._utils.sklearn_private import BaseSearchCV
from robustfit._utils.torch_bridge import to_array
from robustfit.exceptions import NotDifferentiableError

__all__ = ["TorchClassifier", "as_torch", "transformer_as_torch"]


class TorchClassifier:
    """A fitted classifier as a differentiable function of its input.

    Parameters
    ----------
    module : torch.nn.Module
        Maps inputs (n_samples, ...) of the shape the estimator takes, float32, to
        logits (n_samples, n_classes).
    classes : array-like of shape (n_classes,) or None
        Label of each logit; None means 0, 1, 2, ...
    device : torch.device or str, default="cpu"
        Where ``module`` is.
    softmax_is_probability : bool, default=False
        Whether the softmax of the logits is the estimator's ``predict_proba``.

    Notes
    -----
    Calling it returns logits; ``encode`` turns labels into columns of the logits.

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
        self, module, classes=None, device="cpu", *, softmax_is_probability=False
    ):
        self.module = module
        self.softmax_is_probability = softmax_is_probability
        self.classes = None if classes is None else np.asarray(classes)
        self.device = torch.device(device)

    def __call__(self, x):
        """Return the logits (n_samples, n_classes) of the tensor ``x``."""
        return self.module(x)

    def fingerprint(self):
        """Return what tells this classifier from others, for content hashes."""
        state = {k: to_array(v) for k, v in self.module.state_dict().items()}
        return repr(self.module), state, self.classes, getattr(
            self.module, "estimator", None
        )  # fmt: skip

    def encode(self, y):
        """Return for each label its logit's column, -1 for labels never trained on."""
        y = np.asarray(y)
        if self.classes is None:
            return torch.as_tensor(y.astype(np.int64), device=self.device)
        order = np.argsort(self.classes, kind="stable")
        place = np.searchsorted(self.classes, y, sorter=order)
        column = order[np.minimum(place, len(order) - 1)]
        column = np.where(self.classes[column] == y, column, -1)
        return torch.as_tensor(column, dtype=torch.int64, device=self.device)


@singledispatch
def as_torch(estimator):
    """Return a fitted classifier as a differentiable :class:`TorchClassifier`.

    Parameters
    ----------
    estimator : fitted classifier
        A skorch net (its logits, whatever the criterion); a linear classifier, LDA,
        ``MLPClassifier``, ``SVC``, ``GaussianNB``, ``KernelRidge`` on one-hot labels,
        soft ``VotingClassifier`` or sigmoid ``CalibratedClassifierCV``; a
        ``RobustifiedClassifier``; a ``Pipeline`` whose earlier steps are robustifiers,
        scalers, ``PCA`` or ``Normalizer``; a search CV (its ``best_estimator_``); a
        ``FrozenEstimator`` around one of these; or a ``torch.nn.Module`` that returns
        logits.

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
        "attacks cannot see through it. Use attack='square' (it needs predict_proba "
        "only), or register a form with robustfit.as_torch.register."
    )


@singledispatch
def transformer_as_torch(transformer):
    """Return a fitted transformer as a ``torch.nn.Module``, or None for the identity.

    Parameters
    ----------
    transformer : fitted transformer
        A robustifier or sampler (the identity), a transform of
        :mod:`robustfit.image_transforms`, a scaler, ``PCA`` or ``Normalizer``.

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
    parts = []
    for name, step in estimator.steps[:-1]:
        if step is None or step == "passthrough":
            continue
        try:
            module = transformer_as_torch(step)
        except NotDifferentiableError as error:
            raise NotDifferentiableError(
                f"Step {name!r} of the pipeline: {error}"
            ) from None
        if module is not None:
            parts.append(module)
    name, step = estimator.steps[-1]
    try:
        classifier = as_torch(step)
    except NotDifferentiableError as error:
        raise NotDifferentiableError(
            f"Step {name!r} of the pipeline: {error}"
        ) from None
    module = nn.Sequential(*parts, classifier.module).to(classifier.device)
    return TorchClassifier(
        module,
        classifier.classes,
        classifier.device,
        softmax_is_probability=classifier.softmax_is_probability,
    )


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
        self._takes_probabilities = isinstance(net.criterion_, nn.NLLLoss)
        self._is_binary = isinstance(net.criterion_, nn.BCEWithLogitsLoss | nn.BCELoss)
        self._takes_probability = isinstance(net.criterion_, nn.BCELoss)

    def forward(self, x):
        parameter = next(self.module.parameters(), None)
        output, softmax_input = _run_and_watch_softmax(
            self.module, x if parameter is None else x.to(parameter.dtype)
        )
        if softmax_input is not None:
            return softmax_input
        if self._takes_probability:
            output = torch.logit(output)
        if self._is_binary:
            output = output.reshape(len(x))
            return torch.stack([-output / 2, output / 2], dim=1)
        if self._takes_probabilities:
            # skorch takes the log itself; the floor keeps log(0) finite.
            return output.clamp_min(torch.finfo(output.dtype).tiny).log()
        return output


def _run_and_watch_softmax(module, x):
    """Return the first output, and its logits if it is what a Softmax layer returned.

    The logits before a softmax carry gradients where saturated probabilities do not.
    """
    seen = []

    def watch(_, inputs, output):
        seen.append((inputs[0], output))

    layers = [part for part in module.modules() if isinstance(part, nn.Softmax)]
    handles = [layer.register_forward_hook(watch) for layer in layers]
    try:
        output = module(x)
    finally:
        for handle in handles:
            handle.remove()
    if isinstance(output, tuple):
        output = output[0]
    if seen and seen[-1][1] is output:
        return output, seen[-1][0]
    return output, None
