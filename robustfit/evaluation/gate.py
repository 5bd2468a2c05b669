"""The gate that every tool's estimator, inputs and labels pass before an attack.

Behind it the estimator is a :class:`TorchClassifier` that answers as ``predict`` does,
inputs are float32 in the valid range, and labels are columns of the logits.
"""

import warnings
from typing import NamedTuple

import numpy as np
import skorch
import torch
from sklearn.base import is_classifier
from sklearn.utils.validation import check_consistent_length, column_or_1d

from robustfit._utils.input_arrays import as_numbers, plain_array
from robustfit._utils.torch_bridge import to_array, to_tensor
from robustfit.exceptions import (
    NotDifferentiableError,
    RobustnessWarning,
    UndefinedOutputWarning,
)
from robustfit.sklearn_to_torch.black_box import as_black_box, as_torch_or_black_box
from robustfit.sklearn_to_torch.probabilities import refuse_one_probability
from robustfit.sklearn_to_torch.torch_classifier import (
    TorchClassifier,
    as_torch,
    predicted_columns,
)

__all__ = ["Admitted", "admit", "admit_known", "validate_data", "warn_of_undefined"]

_TOLERATED = 0.01  # share of predictions that may differ, by rounding
_ANOTHER_MODEL = 0.5
_MOST_SHOWN = 5


class Admitted(NamedTuple):
    """A model and labels that belong together.

    Attributes
    ----------
    classifier : TorchClassifier
    predicted : ndarray of shape (n_samples,), int64
        Column that the classifier predicts, -2 where its logits are not finite.
    columns : ndarray of shape (n_samples,), int64
        Column of the label, -1 for labels that it was never trained on.
    """

    classifier: TorchClassifier
    predicted: np.ndarray
    columns: np.ndarray


def validate_data(X, y, threat_model):
    """Return inputs as float32 and labels as a vector, or raise for bad ones."""
    X = as_numbers(X)
    y = column_or_1d(plain_array(y, "y"))
    check_consistent_length(X, y)
    X = threat_model.check_range(X)
    threat_model.warn_of_unit(X)
    threat_model.warn_of_integers(X)
    return X, y


def admit(estimator, X, y, *, given=None, needs_gradients=True, batch_size=128):
    """Return a fitted estimator as the attacks take it, its answers, and its columns.

    Parameters
    ----------
    estimator : fitted classifier
    X, y : ndarray
        From :func:`validate_data`.
    given : array-like or None, default=None
        What the user passed as X: its names of columns are compared as ``predict``
        does.
    needs_gradients : bool, default=True
        False takes any classifier.
    batch_size : int, default=128

    Returns
    -------
    Admitted

    Raises
    ------
    NotDifferentiableError
        If it has no differentiable form, or one that answers differently than its
        ``predict`` on most samples.
    ValueError
        For labels that the model cannot have, see
        :mod:`robustfit.sklearn_to_torch.label_columns`.
    """
    classifier = (as_torch if needs_gradients else as_torch_or_black_box)(estimator)
    classifier.encode(y)  # a label of another type fails here, before the prediction
    with classifier.frozen():  # skorch's predict leaves a net in eval mode
        admitted = _admit_labels(classifier, X, y, batch_size)
        share = _disagreement(estimator, X, given, admitted)
    warn_of_undefined(admitted.predicted == -2, "natural inputs")
    if share > _ANOTHER_MODEL:
        if needs_gradients or not hasattr(estimator, "classes_"):
            raise NotDifferentiableError(_explain(estimator, share))
        return _admit_labels(as_black_box(estimator), X, y, batch_size)
    if share > _TOLERATED:
        warnings.warn(_explain(estimator, share), RobustnessWarning, stacklevel=4)
    return admitted


def warn_of_undefined(is_undefined, inputs):
    """Warn of samples whose logits are NaN or infinite.

    Parameters
    ----------
    is_undefined : ndarray of shape (n_samples,), bool
    inputs : str
        What the model was given.
    """
    if not is_undefined.any():
        return
    rows = np.flatnonzero(is_undefined)
    shown = ", ".join(map(str, rows[:_MOST_SHOWN])) + ", ..." * (
        len(rows) > _MOST_SHOWN
    )
    warnings.warn(
        f"The model returns NaN or infinite logits for {len(rows)} of "
        f"{len(is_undefined)} {inputs} (rows {shown}), which count as wrong answers. "
        "Look for divisions by zero (a standard deviation of equal values), roots and "
        "logarithms of zero in the model.",
        UndefinedOutputWarning,
        stacklevel=4,
    )


def admit_known(estimator, X, y, **gate):
    """Return a classifier and the columns of labels that it was all trained on.

    Parameters
    ----------
    estimator, X, y, **gate
        As for :func:`admit`.

    Returns
    -------
    classifier : TorchClassifier
    columns : torch.Tensor of shape (n_samples,), int64

    Raises
    ------
    ValueError
        Also for labels that the estimator was not trained on: they have no loss.
    """
    classifier, _, columns = admit(estimator, X, y, **gate)
    if (columns < 0).any():
        raise ValueError(
            f"y holds labels that {type(estimator).__name__} was not trained on: its "
            f"classes do not include all of {np.unique(y).tolist()}, and a label "
            "without a logit has no loss. Leave its samples out."
        )
    return classifier, torch.as_tensor(columns, device=classifier.device)


def _admit_labels(classifier, X, y, batch_size=128):
    """Do the same for a :class:`TorchClassifier`, which has no ``predict``."""
    logits = classifier.logits(X, batch_size)
    x = to_tensor(X[:1], classifier.device)
    with classifier.frozen():
        refuse_one_probability(classifier, x, logits)
    columns = to_array(classifier.encode(y, logits.shape[1]))
    return Admitted(classifier, predicted_columns(logits), columns)


def _disagreement(estimator, X, given, admitted):
    """Return the share of samples on which ``predict`` says another class."""
    if not hasattr(estimator, "predict"):
        return 0.0
    names_count = hasattr(given, "columns") and hasattr(estimator, "feature_names_in_")
    answers = np.asarray(estimator.predict(given if names_count else X))
    if answers.size > len(X):  # a score a class: one-hot labels, skorch's NeuralNet
        own = answers.reshape(len(X), -1).argmax(1)
    elif isinstance(estimator, skorch.NeuralNet) and not is_classifier(estimator):
        own = answers.reshape(len(X)) > 0.5  # the probability of the second class
    else:
        own = to_array(admitted.classifier.encode(answers))
    return float(np.mean(own != admitted.predicted))


def _explain(estimator, share):
    return (
        f"The differentiable form of {type(estimator).__name__} disagrees with its own "
        f"predict on {share:.1%} of the samples, so the robust accuracy is that of "
        "another model. Is X of the dtype and shape it was trained on? An attack on "
        "predictions needs no such form: attack='square'."
    )
