"""Save and load a shared set: one ``.npz`` with a JSON card, no pickles."""

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_array, check_consistent_length, column_or_1d

from robustfit._utils.input_arrays import as_numbers
from robustfit.exceptions import DatasetChecksumError, DatasetFormatError
from robustfit.sharing._card import (
    check_card,
    describe_robustifier,
    describe_threat_model,
    make_card,
)
from robustfit.sharing._checksums import array_checksum, card_checksum
from robustfit.sharing._reading import read_array
from robustfit.sharing.robust_dataset import RobustDataset
from robustfit.threat_model import ThreatModel

__all__ = ["load_robust_dataset", "save_robust_dataset"]

CARD = "card.json"
# Optional arrays: row numbers of the natural set.
ROW_NUMBERS = ("sample_indices", "source_indices")
LARGEST_CARD = 2**24  # bytes
_DAMAGE = (
    zipfile.BadZipFile, EOFError, zlib.error, RuntimeError, MemoryError, OverflowError,
    struct.error,
)  # fmt: skip
# A date that every file gets, so that the same set gives the same bytes.
NO_DATE = (1980, 1, 1, 0, 0, 0)


def save_robust_dataset(
    path: str | Path,
    X: Any,
    y: ArrayLike | None = None,
    *,
    source: tuple | None = None,
    measured: Sequence[dict] = (),
    license_note: str = "not stated",
    description: str = "",
    method: str | None = None,
    threat_model: ThreatModel | None = None,
    image_shape: tuple[int, ...] | None = None,
    classes: ArrayLike | None = None,
) -> RobustDataset:
    """Save a learned set with a card, as one file without pickles.

    Parameters
    ----------
    path : str or path
        Ends in ``.npz``. A file of that name is replaced at the end, in one step: a
        process that is killed leaves the old one.
    X : fitted robustifier, or array-like of shape (n_samples, n_features) or \
(n_samples, C, H, W)
        Anything with ``X_robust_`` and ``y_robust_``, also a fitted
        :class:`RobustifiedClassifier` or sampler; or the images of a set.
    y : array-like of shape (n_samples,) or (n_samples, n_classes), or None
        Labels of any type, or soft labels. Only with images.
    source : tuple of (X, y) or None, default=None
        The natural set that was given; its SHA-256 goes on the card.
    measured : sequence of dict, default=()
        What was measured on nets trained on the set: each with ``robust_accuracy`` in
        [0, 1], ``attack``, ``n`` (images), and what else should be known (``eps``,
        ``norm``, ``natural_accuracy``, ``classifier``, ``protocol``, ``seed``).
    license_note : str, default="not stated"
        Under which terms the set, and the data that it was made from, may be used.
    description : str, default=""
    method : str or None, default=None
        How the set was made; taken from a robustifier.
    threat_model : ThreatModel or None, default=None
        What the set was made for; taken from a robustifier.
    image_shape : tuple of (C, H, W) or None, default=None
        Shape that flat rows came from; taken from a robustifier.
    classes : array-like of shape (n_classes,) or None, default=None
        Label of each column of soft labels; None is 0, 1, 2, ... Taken from a
        robustifier.

    Returns
    -------
    RobustDataset
        What was saved.

    Raises
    ------
    ValueError
        For arrays that do not fit together, X of three or five axes or outside the
        threat model's range, labels that JSON cannot hold, a measured accuracy without
        attack or n, or a path that does not end in ``.npz``.
    sklearn.exceptions.NotFittedError
        For a robustifier that is not fitted.

    See Also
    --------
    load_robust_dataset : The way back.

    Notes
    -----
    The card never holds paths or devices of the machine it was made on. Checksums tell
    damage, not forgery: load sets of people you trust, as far as what is in them goes.
    Loading runs no code of the file in any case.

    Examples
    --------
    >>> import os, tempfile
    >>> from sklearn.datasets import load_digits
    >>> from robustfit import (
    ...     NoisyDataset, load_robust_dataset, save_robust_dataset)
    >>> X, y = load_digits(return_X_y=True)
    >>> noisy = NoisyDataset(eps=0.1, random_state=0).fit(X / 16, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "noisy.npz")
    ...     saved = save_robust_dataset(path, noisy, source=(X / 16, y))
    ...     loaded = load_robust_dataset(path)
    >>> bool((loaded.X == noisy.X_robust_).all())
    True
    >>> loaded.card["threat_model"]["eps"]
    0.1
    """
    path = _check_path(path)
    about = {"method": method, "parameters": None, "threat_model": None}
    if threat_model is not None:
        about["threat_model"] = _describe(threat_model)
    arrays = {}
    if y is None:
        robustifier = _find_robustifier(X)
        described = describe_robustifier(robustifier)
        about |= {name: value for name, value in described.items() if value is not None}
        X, y = robustifier.X_robust_, robustifier.y_robust_
        classes = getattr(robustifier, "classes_", classes)
        image_shape = getattr(robustifier, "image_shape_", image_shape)
        for name in ROW_NUMBERS:
            if hasattr(robustifier, f"{name}_"):
                rows = np.asarray(getattr(robustifier, f"{name}_"), dtype=np.int64)
                arrays[name] = rows
    about |= {"description": str(description), "license": str(license_note)}
    X, targets, classes = _check_set(X, y, classes)
    _check_in_range(X, about["threat_model"])
    shape = _check_shape(X, image_shape)
    card = make_card(X, targets, classes, shape, source, measured, about)
    return _save(path, {"X": X, "y": targets} | arrays, classes, card)


def _save(path, arrays, classes, card):
    """Write arrays and card, with checksums, in one step; return the set."""
    card["checksums"] = {name: array_checksum(a) for name, a in arrays.items()}
    card["checksums"]["card"] = card_checksum(card)
    with _replacing(path) as file:
        _write_archive(file, arrays, card)
    return _as_dataset(arrays, classes, card)


def _as_dataset(arrays, classes, card):
    rows = {name: arrays.get(name) for name in ROW_NUMBERS}
    return RobustDataset(arrays["X"], arrays["y"], classes, card, **rows)


def load_robust_dataset(path: str | Path) -> RobustDataset:
    """Load a set that :func:`save_robust_dataset` saved, and check it.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    RobustDataset
        Fit estimators with its ``X`` and ``y``.

    Raises
    ------
    DatasetFormatError
        If the file is no such set, is cut off, has a later format, or holds what no
        set holds: NaN, values outside its range, sizes that would fill the memory.
    DatasetChecksumError
        If the arrays or the card are not those that were saved.
    FileNotFoundError
        If there is no such file.

    See Also
    --------
    save_robust_dataset : Makes the file.

    Notes
    -----
    Nothing is unpickled or extracted, so the file of a stranger can do no more than
    hold bad data.

    Examples
    --------
    See :func:`save_robust_dataset`.

    >>> from robustfit import load_robust_dataset
    >>> load_robust_dataset("nothing.npz")
    Traceback (most recent call last):
    ...
    FileNotFoundError: [Errno 2] No such file or directory: 'nothing.npz'
    """
    if not isinstance(path, str | os.PathLike):
        raise DatasetFormatError(f"path is {path!r}; expected the name of a file.")
    try:
        with zipfile.ZipFile(path) as archive:
            card = _read_card(archive)
            names = [n for n in card["checksums"] if n != "card"]
            if not {"X", "y"} <= set(names) <= {"X", "y", *ROW_NUMBERS}:
                raise DatasetFormatError(f"The card names the arrays {sorted(names)}.")
            arrays = {n: read_array(archive, n, _expected(card, n)) for n in names}
    except _DAMAGE as error:
        raise DatasetFormatError(
            f"{os.fspath(path)} is damaged, cut off or no .npz file ({error})."
        ) from error
    _verify(card, arrays)
    classes = _check_loaded(card, arrays)
    return _as_dataset(arrays, classes, card)


def _check_path(path):
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"path is {str(path)!r}; expected a name that ends in .npz.")
    return path


def _find_robustifier(estimator):
    robustifier = getattr(estimator, "robustifier_", estimator)
    if hasattr(robustifier, "X_robust_") and hasattr(robustifier, "y_robust_"):
        return robustifier
    if hasattr(robustifier, "fit"):
        raise NotFittedError(
            f"{type(robustifier).__name__} holds no learned set (X_robust_, y_robust_);"
            " fit it first."
        )
    raise ValueError(
        f"y is None and X is a {type(estimator).__name__}; pass images and labels, or "
        "a fitted robustifier."
    )


def _describe(threat_model):
    if not isinstance(threat_model, ThreatModel):
        raise ValueError(f"threat_model is {threat_model!r}; expected a ThreatModel.")
    return describe_threat_model(threat_model)


def _check_set(X, y, classes):
    """Return X (float32), the labels as columns or soft labels, and the classes."""
    X = as_numbers(X)
    if X.ndim not in (2, 4):
        raise ValueError(
            f"X has shape {X.shape}; expected (n_samples, n_features) or (n_samples, "
            "C, H, W). Flatten other rows: X.reshape(len(X), -1)."
        )
    if np.ndim(y) == 2:
        targets = check_array(y, dtype=np.float32, input_name="y")
        classes = np.arange(targets.shape[1]) if classes is None else classes
        classes = _plain_labels(np.asarray(classes))
        if len(classes) != targets.shape[1]:
            raise ValueError(
                f"y has {targets.shape[1]} columns and classes {len(classes)} labels; "
                "expected one label a column."
            )
    else:
        found = _plain_labels(column_or_1d(y))
        classes = np.unique(found if classes is None else _plain_labels(classes))
        targets = np.searchsorted(classes, found).astype(np.int64)
        known = classes[np.minimum(targets, len(classes) - 1)] == found
        if not known.all():
            raise ValueError(f"y holds {found[~known][0]!r}, which classes lacks.")
    check_consistent_length(X, targets)
    return X, targets, classes


def _plain_labels(labels):
    """Return labels as an array of numbers or of str, which JSON and numpy can hold."""
    labels = np.asarray(labels)
    if labels.dtype == object and all(isinstance(v, str) for v in labels):
        labels = labels.astype(str)
    if labels.dtype.kind not in "biufU":
        raise ValueError(
            f"Labels are of type {labels.dtype}; expected numbers, bools or str."
        )
    return labels


def _check_shape(X, image_shape):
    if image_shape is None:
        return X.shape[1:]
    if np.prod(image_shape) != X[0].size:
        raise ValueError(
            f"image_shape={tuple(image_shape)} holds {int(np.prod(image_shape))} "
            f"numbers, a row of X {X[0].size}."
        )
    return tuple(image_shape)


@contextmanager
def _replacing(path):
    """Open a file that takes the place of ``path`` once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{get_ident()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_archive(file, arrays, card):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        text = json.dumps(card, indent=1, allow_nan=False) + "\n"
        archive.writestr(_member(CARD), text)
        for name, array in arrays.items():
            with archive.open(_member(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _member(name):
    info = zipfile.ZipInfo(name, NO_DATE)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def _read_card(archive):
    if CARD not in archive.namelist():
        raise DatasetFormatError(
            f"The file holds no {CARD}; it was not saved by save_robust_dataset. Arrays"
            " of your own are saved with save_robust_dataset(path, X, y)."
        )
    if archive.getinfo(CARD).file_size > LARGEST_CARD:
        raise DatasetFormatError(f"{CARD} is larger than {LARGEST_CARD} bytes.")
    return check_card(archive.read(CARD))


def _verify(card, arrays):
    """Compare every checksum of the card with what was read."""
    found = {name: array_checksum(array) for name, array in arrays.items()}
    found["card"] = card_checksum(card)
    for name, checksum in found.items():
        if card["checksums"].get(name) != checksum:
            raise DatasetChecksumError(
                f"The SHA-256 of {name} is {checksum[:12]}..., the card says "
                f"{str(card['checksums'].get(name))[:12]}...: it was changed after it "
                "was saved. Get the file anew."
            )


def _expected(card, name):
    """Return dtype and shape of an array, as the card says."""
    n_rows, n_classes = card["n_rows"], len(card["classes"])
    if name == "X":
        return np.float32, (n_rows, *card["shape"])
    if name == "y" and card["labels"] == "soft":
        return np.float32, (n_rows, n_classes)
    return np.int64, (n_rows,)


def _check_loaded(card, arrays):
    """Return the classes; raise unless the arrays are a set that fits the card."""
    targets, is_hard = arrays["y"], card["labels"] == "hard"
    try:
        classes = _plain_labels(card["classes"])
        if not all(np.isfinite(arrays[name]).all() for name in ("X", "y")):
            raise ValueError("X or y hold NaN or infinity")
        if is_hard and not (targets.min() >= 0 and targets.max() < len(classes)):
            raise ValueError(f"y holds other columns than those of {len(classes)}")
        _check_in_range(arrays["X"], card.get("threat_model"))
        for name in set(ROW_NUMBERS) & set(arrays):
            if arrays[name].min() < 0:
                raise ValueError(f"{name} holds negative numbers")
    except (ValueError, TypeError) as error:
        raise DatasetFormatError(f"Card and arrays do not fit ({error}).") from error
    return classes


def _check_in_range(X, threat_model):
    """Raise a PixelRangeError unless X lies in the range that the set was made for."""
    if threat_model and threat_model.get("clip_range"):
        low, high = threat_model["clip_range"]
        ThreatModel(clip_range=(low, high)).check_range(X)
