"""Checkpoints of long fits: one file, arrays and JSON only, written atomically."""

import json
import os
import re
import socket
import tempfile
import threading
import zipfile
import zlib
from pathlib import Path

import numpy as np

from robustfit._utils.content_identity import content_hash
from robustfit._version import __version__

__all__ = ["Checkpoint"]

_DAMAGE = (EOFError, KeyError, OSError, ValueError, zipfile.BadZipFile, zlib.error)
_HOST = re.sub(r"[^\w-]", "-", socket.gethostname())
_TEMPORARY = re.compile(rf"[0-9a-f]+\.{re.escape(_HOST)}\.(\d+)\.\d+\.tmp")


class Checkpoint:
    """The last good state of one fit, found again by its parameters and data.

    Parameters
    ----------
    folder : str, path or None
        Where the file goes; None means that nothing is saved or loaded.
    *identity : object
        What makes two fits the same: class name, parameters, data. Their hash, with
        robustfit's version, is the file's name, so different fits never meet.

    Raises
    ------
    ValueError
        For a folder that cannot be written to, and what has no identity.
    """

    def __init__(self, folder, *identity):
        self.path = None
        if folder is not None:
            folder = _prepare(folder)
            self.path = folder / f"{content_hash(__version__, *identity)}.npz"

    def load(self):
        """Return ``(arrays, record)`` as saved, or None if there is no checkpoint.

        Raises
        ------
        ValueError
            If the file is damaged.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            with np.load(self.path, allow_pickle=False) as stored:
                arrays = {k: stored[k] for k in stored.files if k != "record"}
                record = json.loads(str(stored["record"]))
        except _DAMAGE as error:
            raise self.refusal(f"{type(error).__name__}: {error}") from error
        if not isinstance(record, dict):
            raise self.refusal(f"its record is a {type(record).__name__}")
        return arrays, record

    def refusal(self, fault):
        """Return the error to raise for a file that this fit cannot have saved."""
        return ValueError(
            f"The checkpoint {self.path} is damaged, or not what robustfit saved there "
            f"({fault}). Delete it, and this part of the work is done anew."
        )

    def save(self, arrays, record):
        """Replace the saved state: a dict of arrays and a record JSON can hold."""
        if self.path is None:
            return
        owner = f"{_HOST}.{os.getpid()}.{threading.get_ident()}"
        temporary = self.path.with_suffix(f".{owner}.tmp")
        try:
            with temporary.open("wb") as file:
                np.savez(file, record=np.array(json.dumps(record)), **arrays)
            os.replace(temporary, self.path)
        finally:
            temporary.unlink(missing_ok=True)


def _prepare(folder):
    """Return the folder as a path; make it, try it and clean it up before any work."""
    try:
        if not os.fspath(folder):
            raise ValueError("an empty name")
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(
            f"checkpoint is {folder!r}, where nothing can be saved ({error}); expected "
            "a folder that can be written to, or None."
        ) from error
    _remove_dead(path)
    return path


def _remove_dead(folder):
    """Remove what processes of this machine left that were killed during a save."""
    if os.name != "posix":  # elsewhere asking for a process may end it
        return
    for file in folder.glob("*.tmp"):
        match = _TEMPORARY.fullmatch(file.name)
        if match and not _is_alive(int(match[1])):
            file.unlink(missing_ok=True)


def _is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
