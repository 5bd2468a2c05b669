"""The card of a shared set: what it is, where it comes from, what was measured."""

import json
import math
import platform
from datetime import UTC, datetime
from numbers import Integral, Real

import numpy as np
import sklearn
import torch

from robustfit._utils.fit_progress import NOT_IN_RESULT
from robustfit._version import __version__
from robustfit.exceptions import DatasetFormatError
from robustfit.sharing._checksums import array_checksum
from robustfit.threat_model import ThreatModel

__all__ = ["FORMAT_VERSION", "check_card", "describe_robustifier", "make_card"]

FORMAT = "robustfit dataset"
FORMAT_VERSION = 1


def make_card(X, y, classes, image_shape, source, measured, about):
    """Return the card, a dict that JSON can hold, without checksums.

    Parameters
    ----------
    X, y, classes : ndarray
    image_shape : tuple of int
    source : tuple of (X, y) or None
        The natural set, for its hash.
    measured : sequence of dict
    about : dict
        Method, parameters, threat model, notes.
    """
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **about,
        "source": None if source is None else describe_source(*source),
        "n_rows": len(X),
        "shape": list(X.shape[1:]),
        "image_shape": [int(side) for side in image_shape],
        "labels": "soft" if y.ndim == 2 else "hard",
        "classes": classes.tolist(),
        "measured": [check_measurement(m) for m in measured],
        "versions": list_versions(),
        "created": datetime.now(UTC).date().isoformat(),
    }


def list_versions():
    """Return the versions that the set was saved with."""
    return {
        "robustfit": __version__,
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def describe_source(X, y):
    """Return number of rows and SHA-256 of the natural set."""
    return {
        "n_rows": len(X),
        "sha256": {"X": array_checksum(X), "y": array_checksum(y)},
    }


def describe_robustifier(robustifier):
    """Return method, parameters and threat model of a fitted robustifier."""
    parameters = robustifier.get_params(deep=False)
    names = [name for name in ("norm", "eps", "clip_range") if name in parameters]
    given = ThreatModel(**{name: parameters[name] for name in names})
    threat_model = {name: describe_threat_model(given)[name] for name in names}
    return {
        "method": type(robustifier).__name__,
        "parameters": {
            name: _as_json(value)
            for name, value in parameters.items()
            if name not in NOT_IN_RESULT
        },
        "threat_model": threat_model or None,
    }


def describe_threat_model(threat_model):
    """Return norm, budget and range; a list of numbers where features differ."""
    described = {
        "norm": threat_model.norm,
        "eps": threat_model.budget,
        "clip_range": threat_model.clip_range,
    }
    return {name: _as_json(value) for name, value in described.items()}


def check_measurement(measurement):
    """Return a measured accuracy as JSON can hold it, checked.

    Raises
    ------
    ValueError
        Unless it names the attack, the number of images and an accuracy in [0, 1].
    """
    record = {k: _as_json(v) for k, v in dict(measurement).items()}
    accuracy, n = record.get("robust_accuracy"), record.get("n")
    complete = isinstance(record.get("attack"), str) and record["attack"]
    if not complete or isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(
            f"measured holds {measurement!r}; expected a dict with 'robust_accuracy', "
            "'attack' (a name) and 'n' (images): an accuracy without them says nothing."
        )
    if not isinstance(accuracy, int | float) or not 0 <= accuracy <= 1:
        raise ValueError(
            f"measured holds a robust_accuracy of {accuracy!r}; expected a share in "
            "[0, 1]."
        )
    return record


def check_card(text):
    """Return the card that ``text`` (bytes) holds.

    Raises
    ------
    DatasetFormatError
        If it is no card, or one of a later format.
    """
    try:
        card = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DatasetFormatError(f"card.json is not JSON ({error}).") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise DatasetFormatError(
            f"card.json is not the card of a shared set: expected format {FORMAT!r}."
        )
    if card.get("format_version") != FORMAT_VERSION:
        raise DatasetFormatError(
            f"The set has format version {card.get('format_version')!r}, this robustfit"
            f" reads version {FORMAT_VERSION}. Install the version that saved it: "
            f"{_version_of(card)}."
        )
    missing = {"classes", "labels", "image_shape", "checksums", "n_rows", "shape"}
    missing -= set(card)
    if missing or not isinstance(card["checksums"], dict):
        raise DatasetFormatError(f"card.json lacks {sorted(missing) or 'checksums'}.")
    _check_values(card)
    return card


def _refuse_constant(name):
    raise ValueError(f"it holds {name}")


def _version_of(card):
    versions = card.get("versions")
    return versions.get("robustfit") if isinstance(versions, dict) else "unknown"


def _check_values(card):
    """Raise for sizes, classes or a threat model that no set has."""
    sizes = {"n_rows": [card["n_rows"]]} | {
        k: card[k] for k in ("shape", "image_shape")
    }
    for name, value in sizes.items():
        is_list = isinstance(value, list) and len(value) in (1, 3)
        if not is_list or not all(type(v) is int and 0 < v < 2**40 for v in value):
            raise DatasetFormatError(
                f"card.json has {name} {card[name]!r}; expected positive numbers."
            )
    if math.prod(card["shape"]) != math.prod(card["image_shape"]):
        raise DatasetFormatError("card.json has an image_shape of another size.")
    if card["labels"] not in ("soft", "hard") or not isinstance(card["classes"], list):
        raise DatasetFormatError("card.json lacks hard or soft labels and classes.")
    threat_model = card.get("threat_model")
    try:
        if threat_model is not None:
            ThreatModel(**threat_model)
    except (TypeError, ValueError) as error:
        raise DatasetFormatError(f"card.json has no threat model: {error}") from error


def _as_json(value):
    """Return ``value`` as JSON can hold it; what it cannot hold becomes its repr."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else repr(float(value))
    if isinstance(value, tuple | list):
        return [_as_json(v) for v in value]
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return _as_json(value.tolist())
    if isinstance(value, dict):
        return {str(k): _as_json(v) for k, v in value.items()}
    return " ".join(repr(value).split())
