"""CBF images with byte-offset compression, as DECTRIS detectors write them.

Only the decoder is fabio's: its CBF reader never returns from a file whose binary part
does not begin, which a truncated file is.
"""

from __future__ import annotations

import base64
import bz2
import contextlib
import gzip
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

from napari_xtal.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SECTION = b"--CIF-BINARY-FORMAT-SECTION--"
_START = b"\x0c\x1a\x04\xd5"
_HEAD = 1 << 20
_TYPES = {
    "signed 8-bit integer": "i1",
    "signed 16-bit integer": "i2",
    "signed 32-bit integer": "i4",
    "unsigned 8-bit integer": "u1",
    "unsigned 16-bit integer": "u2",
    "unsigned 32-bit integer": "u4",
}


def open_bytes(path: str) -> contextlib.AbstractContextManager[BinaryIO]:
    """Open a file for reading bytes, ``.gz`` and ``.bz2`` decompressed."""
    suffix = Path(path).suffix.lower()
    if suffix == ".gz":
        return cast("BinaryIO", gzip.open(path, "rb"))
    if suffix == ".bz2":
        return cast("BinaryIO", bz2.open(path, "rb"))
    return open(path, "rb")


def read_cbf(path: str, max_bytes: int) -> tuple[NDArray[np.integer], str]:
    """Read one image and its text header.

    Parameters
    ----------
    path : str
        CBF file, possibly compressed.
    max_bytes : int
        Largest image that is read [bytes].

    Returns
    -------
    (ss, fs) ndarray of int, str
        Pixel values and the CIF text before the image.

    Raises
    ------
    InputError
        When it is damaged or compressed in another way.
    """
    try:
        with open_bytes(path) as file:
            head = file.read(_HEAD)
            if b"x-CBF_PACKED" in head:
                raise InputError(
                    f"{path}: this CBF uses 'packed' compression, which fabio cannot read; "
                    "convert it to byte-offset CBF or HDF5 with the package pycbf"
                )
            section = head.find(_SECTION)
            start = head.find(_START, max(section, 0))
            if section < 0 or start < 0:
                raise InputError(f"{path}: damaged CBF file: its image does not begin; truncated?")
            fields = _fields(head[section:start])
            shape, size, dtype = _layout(path, fields, max_bytes)
            data = head[start + len(_START) :][:size]
            data += file.read(size - len(data))
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: damaged compressed file ({error})") from error
    if len(data) < size:
        raise InputError(f"{path}: the file is truncated: {len(data)} of {size} image bytes")
    digest = fields.get("content-md5", "")
    if digest and base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()) != (
        digest.encode("ascii", "replace")
    ):
        raise InputError(f"{path}: the image is damaged (its checksum does not match)")
    return _decode(path, data, fields, shape, dtype), head[:section].decode("latin-1")


def _fields(text: bytes) -> dict[str, str]:
    found = re.findall(
        r"^\s*([\w-]+)\s*[:=]\s*(.*?)\s*;?\s*$", text.decode("latin-1"), re.MULTILINE
    )
    return {key.lower(): value.strip(' "') for key, value in found}


def _layout(
    path: str, fields: dict[str, str], max_bytes: int
) -> tuple[tuple[int, int], int, np.dtype[np.integer]]:
    try:
        fast = int(fields["x-binary-size-fastest-dimension"])
        slow = int(fields["x-binary-size-second-dimension"])
        size = int(fields["x-binary-size"])
    except (KeyError, ValueError):
        raise InputError(f"{path}: damaged CBF file: its header gives no image size") from None
    dtype = np.dtype(_TYPES.get(fields.get("x-binary-element-type", ""), "i4"))
    if fast < 1 or slow < 1 or size < 1:
        raise InputError(f"{path}: damaged CBF file: its image has no pixels")
    if fast * slow * dtype.itemsize > max_bytes or size > 2 * max_bytes:
        raise InputError(f"{path}: the header declares an image larger than the limit")
    return (slow, fast), size, dtype


def _decode(
    path: str,
    data: bytes,
    fields: dict[str, str],
    shape: tuple[int, int],
    dtype: np.dtype[np.integer],
) -> NDArray[np.integer]:
    n = shape[0] * shape[1]
    kind = fields.get("conversions", "x-CBF_NONE")
    if "BYTE_OFFSET" in kind:
        if n > len(data):
            raise InputError(f"{path}: damaged CBF file: fewer image bytes than pixels")
        from fabio.compression import decByteOffset

        try:
            pixels = np.asarray(decByteOffset(data, n, dtype))
        except (ValueError, TypeError, IndexError, AssertionError, RuntimeError) as error:
            raise InputError(f"{path}: damaged CBF file ({error})") from error
    elif "NONE" in kind:
        pixels = np.frombuffer(
            data, dtype.newbyteorder("<"), count=min(n, len(data) // dtype.itemsize)
        )
    else:
        raise InputError(
            f"{path}: CBF compression '{kind[:40]}' is not supported; convert the file"
        )
    if pixels.size != n:
        raise InputError(f"{path}: damaged CBF file: {pixels.size} pixels instead of {n}")
    return pixels.reshape(shape).astype(dtype, copy=False)
