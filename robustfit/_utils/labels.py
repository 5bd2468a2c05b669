"""What counts as class labels, and the errors for what does not."""

from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

__all__ = ["check_class_count", "check_same_rows", "validate_labels"]


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
    y = column_or_1d(y, warn=True)
    check_classification_targets(y)
    check_same_rows(X, y)
    return y


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
