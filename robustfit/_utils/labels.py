"""What counts as class labels, and the errors for what does not."""

import skorch
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from robustfit._utils.input_arrays import plain_array

__all__ = ["check_class_count", "check_same_rows", "targets_of", "validate_labels"]


def validate_labels(estimator, X, y):
    """Return ``y`` as a vector of class labels, one for each row of ``X``.

    Raises
    ------
    ValueError
        If it is missing, of another length, or no classes.
    """
    if y is None:
        raise ValueError(
            f"requires y to be passed, but the target y is None: "
            f"{type(estimator).__name__} needs the class of every row."
        )
    y = column_or_1d(plain_array(y, "y"), warn=True)
    check_classification_targets(y)
    check_same_rows(X, y)
    return y


def targets_of(estimator, y):
    """Return ``y``, as a net for two classes wants it if ``estimator`` is one.

    Parameters
    ----------
    estimator : classifier
        A skorch ``NeuralNetBinaryClassifier`` wants the share of class 1 as float32.
    y : ndarray of shape (n_samples,) or (n_samples, n_classes)
        Columns, or soft labels.
    """
    if not isinstance(estimator, skorch.NeuralNetBinaryClassifier):
        return y
    n_classes = y.shape[1] if y.ndim == 2 else int(y.max()) + 1
    if n_classes > 2:
        raise ValueError(
            f"{type(estimator).__name__} tells two classes apart; y has {n_classes}. "
            "Use a NeuralNetClassifier with an output for each class."
        )
    return (y[:, 1] if y.ndim == 2 else y).astype("float32")


def check_same_rows(X, y):
    """Raise a ValueError unless there is a label for each row of ``X``."""
    if len(y) != len(X):
        raise ValueError(
            f"X has {len(X)} rows and y has {len(y)}; expected as many labels as "
            "rows (inconsistent numbers of samples)."
        )


def check_class_count(classes):
    """Raise a ValueError unless there are two classes to tell apart."""
    if len(classes) < 2:
        raise ValueError(
            f"y holds {len(classes)} class, {classes[0]!r}; expected at least two "
            "classes."
        )
