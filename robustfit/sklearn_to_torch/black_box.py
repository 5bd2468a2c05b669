"""Any classifier as a function of scores, for attacks that need no gradients."""

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from robustfit.exceptions import NotDifferentiableError
from robustfit.sklearn_to_torch.torch_classifier import TorchClassifier, as_torch

__all__ = ["as_black_box"]


def as_black_box(estimator: object, *, scores: str = "auto") -> TorchClassifier:
    """Return a fitted classifier as scores of tensors, without gradients.

    Parameters
    ----------
    estimator : fitted classifier
        Anything with ``decision_function``, ``predict_proba`` or ``predict``: random
        forests, boosted trees, nearest neighbours, pipelines with any steps.
    scores : {"auto", "decision_function", "predict_proba", "predict"}, default="auto"
        What to ask it for. "auto" takes the first it has, in this order.

    Returns
    -------
    TorchClassifier
        Its logits are the decision values, the logarithms of the probabilities, or,
        with "predict", one for the predicted class and zero for the others.

    Raises
    ------
    TypeError
        If the estimator has not what ``scores`` names.
    ValueError
        For an unknown ``scores``.

    See Also
    --------
    as_torch : For estimators with gradients.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from robustfit import as_black_box
    >>> X, y = load_digits(return_X_y=True)
    >>> forest = RandomForestClassifier(5, random_state=0).fit(X, y)
    >>> as_black_box(forest)(torch.tensor(X[:3], dtype=torch.float32)).shape
    torch.Size([3, 10])
    """
    module = _Scores(estimator, _choose_scores(estimator, scores))
    return TorchClassifier(module, module.classes)


def as_torch_or_black_box(estimator: object) -> TorchClassifier:
    """Return the differentiable form of an estimator, or its scores without one."""
    try:
        return as_torch(estimator)
    except NotDifferentiableError:
        return as_black_box(estimator)


_SCORES = ("decision_function", "predict_proba", "predict")


def _choose_scores(estimator, scores):
    if scores not in ("auto", *_SCORES):
        raise ValueError(
            f"scores is {scores!r}; expected 'auto' or one of {list(_SCORES)}."
        )
    wanted = _SCORES if scores == "auto" else (scores,)
    for name in wanted:
        if hasattr(estimator, name):
            return name
    raise TypeError(
        f"{type(estimator).__name__} has no {' or '.join(wanted)}; a black-box attack "
        "needs one of them. For SVC, pass probability=True or scores='auto'."
    )


class _Scores(nn.Module):
    """Scores of a scikit-learn estimator, as a module without parameters."""

    def __init__(self, estimator, method):
        super().__init__()
        check_is_fitted(estimator)
        self.estimator, self.method = estimator, method
        self.classes = np.asarray(estimator.classes_)

    def forward(self, x):
        X = x.detach().cpu().numpy()
        scores = torch.from_numpy(self._ask(X)).to(x)
        return scores

    def _ask(self, X):
        n_classes = len(self.classes)
        if self.method == "decision_function":
            values = np.asarray(self.estimator.decision_function(X))
            if values.ndim == 1 or values.shape[1] == 1:
                values = values.reshape(len(X))
                return np.stack([-values / 2, values / 2], axis=1)
            if values.shape[1] == n_classes:
                return values
            return self._one_hot(X)  # one against one: no value a class
        if self.method == "predict_proba":
            probabilities = np.asarray(self.estimator.predict_proba(X), dtype=float)
            return np.log(np.maximum(probabilities, 1e-12))
        return self._one_hot(X)

    def _one_hot(self, X):
        predicted = np.asarray(self.estimator.predict(X))
        return (predicted[:, None] == self.classes).astype(float)
