"""Arrays out of the file of a stranger: nothing is read before its size is known."""

import math
import zipfile

import numpy as np

from robustfit.exceptions import DatasetFormatError

__all__ = ["read_array"]

_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What zeros are deflated to is a thousandth; images are to a fiftieth at most.
_LARGEST_RATIO = 200
_ALWAYS_ALLOWED = 2**26  # bytes


def read_array(archive, name, expected):
    """Return the array ``name``, whose dtype and shape the card says.

    Parameters
    ----------
    archive : zipfile.ZipFile
    name : str
    expected : tuple of (dtype, shape)

    Raises
    ------
    DatasetFormatError
        If it is no array, or another than the card's, which is seen before it is read.
    """
    member = f"{name}.npy"
    if member not in archive.namelist():
        raise DatasetFormatError(f"The file holds no {member}, which its card names.")
    info = archive.getinfo(member)
    if info.compress_type not in _COMPRESSIONS:
        raise DatasetFormatError(
            f"{member} is compressed by method {info.compress_type}; expected deflate."
        )
    try:
        with archive.open(info) as file:
            dtype, shape = _read_header(file)
    except ValueError as error:
        raise DatasetFormatError(f"{member} is no plain array ({error}).") from error
    if dtype.hasobject:
        raise DatasetFormatError(f"{member} is no plain array (it holds objects).")
    if (dtype, shape) != (np.dtype(expected[0]), tuple(expected[1])):
        raise DatasetFormatError(
            f"Card and arrays do not fit: {name} is {dtype} {shape}, the card says "
            f"{np.dtype(expected[0])} {tuple(expected[1])}."
        )
    _check_size(member, info, dtype.itemsize * math.prod(shape))
    with archive.open(info) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _read_header(file):
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"format {version}")
    shape, _, dtype = read(file)
    return dtype, shape


def _check_size(member, info, n_bytes):
    """Raise unless a member is as long as its array, and no bomb."""
    if not n_bytes <= info.file_size <= n_bytes + 2**16:
        raise DatasetFormatError(
            f"{member} is cut off: {info.file_size} bytes for an array of {n_bytes}."
        )
    allowed = max(_ALWAYS_ALLOWED, _LARGEST_RATIO * info.compress_size)
    if info.file_size > allowed:
        raise DatasetFormatError(
            f"{member} unpacks {info.compress_size} bytes to {info.file_size}, more "
            f"than {_LARGEST_RATIO} times as many: it would fill the memory, and is no "
            "set of images."
        )
