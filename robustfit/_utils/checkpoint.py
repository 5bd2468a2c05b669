"""Checkpoints of long fits: one file, arrays and JSON only, written atomically."""

import json
import os
from pathlib import Path

import joblib
import numpy as np

__all__ = ["Checkpoint"]


class Checkpoint:
    """The last good state of one fit, found again by its parameters and data.

    Parameters
    ----------
    folder : str, path or None
        Where the file goes; None means that nothing is saved or loaded.
    *identity : object
        What makes two fits the same: class name, parameters, data. Their hash is the
        file's name, so different fits never meet in one folder.
    """

    def __init__(self, folder, *identity):
        self.path = None
        if folder is not None:
            name = f"{joblib.hash(identity)}.npz"
            self.path = Path(folder) / name

    def load(self):
        """Return ``(arrays, record)`` as saved, or None if there is no checkpoint."""
        if self.path is None or not self.path.exists():
            return None
        with np.load(self.path, allow_pickle=False) as stored:
            arrays = {k: stored[k] for k in stored.files if k != "record"}
            return arrays, json.loads(str(stored["record"]))

    def save(self, arrays, record):
        """Replace the saved state: a dict of arrays and a record JSON can hold."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
        with temporary.open("wb") as file:
            np.savez(file, record=np.array(json.dumps(record)), **arrays)
        os.replace(temporary, self.path)
