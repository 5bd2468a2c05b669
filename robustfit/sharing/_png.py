"""PNG files of 8 bits, written with the standard library alone."""

import struct
import zlib

__all__ = ["png_bytes"]

COLOUR_TYPES = {1: 0, 3: 2}  # grey, RGB


def png_bytes(image):
    """Return an image as the bytes of a PNG file.

    Parameters
    ----------
    image : ndarray of shape (1 or 3, H, W), uint8
    """
    n_channels, height, width = image.shape
    header = struct.pack(
        ">IIBBBBB", width, height, 8, COLOUR_TYPES[n_channels], 0, 0, 0
    )
    rows = image.transpose(1, 2, 0).reshape(height, -1)
    unfiltered = b"".join(b"\0" + row.tobytes() for row in rows)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            _chunk(b"IDAT", zlib.compress(unfiltered, 6)),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(kind, data):
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
