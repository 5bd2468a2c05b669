"""SHA-256 of arrays and cards."""

import hashlib
import json

import numpy as np

__all__ = ["array_checksum", "card_checksum"]


def array_checksum(array):
    """Return the SHA-256 of an array's dtype, shape and values, in hexadecimal.

    Byte order and memory layout do not matter; labels of any type are hashed as their
    words where they are not numbers.
    """
    array = np.asarray(array)
    if array.dtype.kind not in "biuf":
        array = np.char.encode(array.astype(str), "utf-8")
    array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(array.data)
    return digest.hexdigest()


def card_checksum(card):
    """Return the SHA-256 of everything that a card says but its checksums."""
    said = {k: v for k, v in card.items() if k != "checksums"}
    text = json.dumps(said, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
