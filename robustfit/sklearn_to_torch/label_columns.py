"""The one place that turns labels into columns of logits.

A label that no column stands for must not count as a wrong prediction in silence: it
says that model and labels do not belong together. Only a label of the right type that a
model has not met, as in a fold without one class, is a wrong prediction.
"""

import numpy as np

__all__ = ["check_columns", "label_columns"]

_MOST_SHOWN = 10
_KINDS = {"b": "number", "i": "number", "u": "number", "f": "number", "U": "string"}


def label_columns(y, classes=None):
    """Return the column of each label (n_samples,), -1 for classes never trained on.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
    classes : ndarray of shape (n_classes,) or None, default=None
        The label of each column; None means 0, 1, 2, ...

    Raises
    ------
    ValueError
        For labels of another type than ``classes``, NaN, and fractions.
    """
    y = np.asarray(y)
    known = np.arange(1) if classes is None else _plain(np.asarray(classes))
    _check_type(y, known, classes)
    y = _plain(y)
    if known.dtype.kind in "biu":
        _check_integers(y, classes)
    if classes is None:
        return y.astype(np.int64)
    order = np.argsort(known, kind="stable")
    place = np.searchsorted(known, y, sorter=order)
    column = order[np.minimum(place, len(order) - 1)]
    return np.where(known[column] == y, column, -1).astype(np.int64)


def check_columns(y, columns, n_columns, classes=None):
    """Raise a ValueError unless the model has the columns of the labels ``y``.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
    columns : ndarray of shape (n_samples,)
        What :func:`label_columns` returned.
    n_columns : int
        Logits that the model returns.
    classes
        As for :func:`label_columns`.
    """
    outside = columns >= n_columns
    if classes is None:
        outside |= columns < 0
    if not outside.any():
        return
    label = np.asarray(y)[outside][0]
    if classes is not None:
        raise ValueError(
            f"y holds the label {_show(label)}, class {columns[outside][0]} of "
            f"{len(classes)}, and the model returns {n_columns} logits a sample. "
            "Name as many classes as it has outputs."
        )
    raise ValueError(
        f"y holds the label {_show(label)}, and the model has {n_columns} outputs, for "
        f"the labels 0 to {n_columns - 1}. Encode y as columns of the output "
        "(sklearn.preprocessing.LabelEncoder), or name the labels of the outputs: "
        "TorchClassifier(module, classes=[...])."
    )


def _check_type(y, known, classes):
    wanted = _kind(known.dtype)
    if y.dtype.kind == "O":
        wrong = [label for label in y.ravel() if _kind_of(label) != wanted]
    else:
        wrong = [] if _kind(y.dtype) == wanted else [y.ravel()[0]] if y.size else []
    if wrong:
        raise ValueError(
            f"y holds the label {_show(wrong[0])} of type {type(wrong[0]).__name__}; "
            f"expected {_expected(classes)}. Pass labels of the type that the model "
            f"was trained on, say y.astype({'str' if wanted == 'string' else 'int'})."
        )


def _check_integers(y, classes):
    """Raise a ValueError for labels that are no whole numbers, NaN among them."""
    if y.dtype.kind != "f":
        return
    wrong = y[~(np.isfinite(y) & (y == np.floor(y)))]
    if len(wrong):
        raise ValueError(
            f"y holds the label {_show(wrong[0])}; expected {_expected(classes)}. "
            "Leave out samples without a class, and pass classes, not scores."
        )


def _plain(values):
    """Return an object array as one of strings or numbers, if it holds such only."""
    if values.dtype.kind != "O":
        return values
    kinds = {_kind_of(value) for value in values.ravel()}
    if kinds == {"string"}:
        return values.astype(str)
    return np.array(values.tolist()) if kinds == {"number"} else values


def _kind_of(label):
    return "string" if isinstance(label, str) else _kind(np.asarray(label).dtype)


def _kind(dtype):
    return _KINDS.get(dtype.kind, dtype.kind)


def _expected(classes):
    if classes is None:
        return "whole numbers 0, 1, 2, ..., the columns of the model's output"
    shown = ", ".join(_show(label) for label in classes[:_MOST_SHOWN])
    more = ", ..." if len(classes) > _MOST_SHOWN else ""
    return f"the model's classes [{shown}{more}]"


def _show(label):
    return repr(label.item() if isinstance(label, np.generic) else label)
