"""Network files: tensors as safetensors, everything else as JSON in the file's header."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.errors import InputError, MissingFileError, OutputError
from napari_xtal.files import new_file

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

#: Version of the layout of the metadata.
FORMAT = 1
#: Changes when windows are normalised in another way: old weights would not fit.
NORMALISATION = "significance-1"
#: The one key of the header.
KEY = "napari_xtal"
#: Largest header and file that are looked at [bytes].
MAX_HEADER, MAX_FILE = 1 << 20, 64 << 20
#: Metadata that a file must have, with their types.
NEEDED: dict[str, type | tuple[type, ...]] = {
    "format": int,
    "kind": str,
    "architecture": str,
    "normalisation": str,
    "half": int,
    "channels": list,
    "classes": list,
    "temperature": (int, float),
    "bias": (int, float),
    "threshold": (int, float),
    "hash": str,
}
#: What does not change predictions and may be added later.
NOT_HASHED = ("hash", "report")

_OTHERS = (
    (b"PK", "is a zip archive (a torch checkpoint?)"),
    (b"\x80", "is a pickle, which could run any code"),
    (b"\x89HDF", "is an HDF5 file"),
)


def content_hash(tensors: dict[str, NDArray[Any]], metadata: dict[str, Any]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 over weights and metadata.

    Parameters
    ----------
    tensors : dict of ndarray
        Weights by name.
    metadata : dict
        JSON values; ``hash`` and ``report`` do not count.
    """
    digest = hashlib.sha256()
    kept = {k: v for k, v in metadata.items() if k not in NOT_HASHED}
    digest.update(json.dumps(kept, sort_keys=True).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name} {array.shape} {little.dtype.str}".encode())
        digest.update(little.tobytes())
    return digest.hexdigest()[:16]


def write_model(
    path: str | os.PathLike[str],
    tensors: dict[str, NDArray[np.float32]],
    metadata: dict[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Write weights and metadata.

    Parameters
    ----------
    path : path-like
        File to make, ending in ``.safetensors``.
    tensors : dict of ndarray of float32
        Weights by name.
    metadata : dict
        JSON values, among them those of `NEEDED`.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    OutputError
        When the file exists, cannot be written, or the metadata are too large.
    """
    from safetensors.numpy import save

    if Path(path).suffix != ".safetensors":
        raise OutputError(f"{path}: a network is stored as .safetensors; choose such a name")
    text = json.dumps(metadata, sort_keys=True)
    if len(text) > MAX_HEADER // 2:
        raise OutputError(f"{path}: the metadata take {len(text)} characters; shorten the report")
    content = save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, {KEY: text})
    with new_file(path, overwrite=overwrite) as temporary:
        Path(temporary).write_bytes(content)


def read_model(
    path: str | os.PathLike[str],
) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
    """Read weights and metadata and check that they belong together.

    Parameters
    ----------
    path : path-like
        A file that `write_model` wrote.

    Returns
    -------
    tensors : dict of ndarray of float32
        Weights by name, all finite.
    metadata : dict
        The metadata.

    Raises
    ------
    MissingFileError
        When there is no such file.
    InputError
        When it is something else, damaged, of another version, or was altered.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = Path(path)
    content = _read_bytes(path)
    header = _header(path, content)
    try:
        tensors = load(content)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0][:120]
        raise InputError(f"{path}: damaged or truncated model file ({reason})") from error
    metadata = _metadata(path, header)
    for name, array in tensors.items():
        if array.dtype != np.float32:
            raise InputError(f"{path}: tensor '{name}' has type {array.dtype}, not float32")
        if not np.isfinite(array).all():
            raise InputError(f"{path}: tensor '{name}' holds NaN or infinite weights")
    if content_hash(tensors, metadata) != metadata["hash"]:
        raise InputError(f"{path}: the content does not fit its hash; the file was altered")
    return tensors, metadata


def _read_bytes(path: Path) -> bytes:
    if not path.exists():
        raise MissingFileError(f"{path}: no such model file")
    if not path.is_file():
        raise InputError(f"{path}: is not a file; give a .safetensors model")
    try:
        if path.stat().st_size > MAX_FILE:
            raise InputError(f"{path}: larger than {MAX_FILE >> 20} MiB; no model of this program")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _header(path: Path, content: bytes) -> dict[str, Any]:
    """Return the JSON header after checking that this can be a safetensors file at all."""
    for start, what in _OTHERS:
        if content.startswith(start) and content[8:9] != b"{":
            raise InputError(f"{path}: {what}; give a .safetensors model")
    size = int.from_bytes(content[:8], "little") if len(content) >= 8 else 0
    if content[8:9] != b"{":
        raise InputError(f"{path}: not a safetensors file, or damaged")
    if size > MAX_HEADER:
        raise InputError(f"{path}: its header claims {size} bytes; no model of this program")
    if len(content) < 8 + size:
        raise InputError(f"{path}: truncated; copy the file again")
    try:
        header = json.loads(content[8 : 8 + size])
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: its header is damaged") from error
    return header if isinstance(header, dict) else {}


def _metadata(path: Path, header: dict[str, Any]) -> dict[str, Any]:
    """Return our metadata from a header, complete and of the right types."""
    try:
        metadata = json.loads(header["__metadata__"][KEY])
    except (KeyError, TypeError, ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise InputError(f"{path}: a safetensors file, but no model of napari-xtal")
    if metadata.get("format") != FORMAT:
        raise InputError(
            f"{path}: format {metadata.get('format')}; this version of napari-xtal reads {FORMAT}"
        )
    for name, kind in NEEDED.items():
        if not isinstance(metadata.get(name), kind):
            raise InputError(f"{path}: '{name}' is missing from its metadata, or of a wrong type")
    if metadata["normalisation"] != NORMALISATION:
        raise InputError(
            f"{path}: made for windows normalised as '{metadata['normalisation']}', this version "
            f"makes '{NORMALISATION}'; train the model again"
        )
    numbers = [metadata[k] for k in ("temperature", "bias", "threshold")]
    if not all(math.isfinite(v) for v in numbers) or metadata["temperature"] <= 0:
        raise InputError(f"{path}: temperature, bias or threshold is out of range")
    if not 0 <= metadata["threshold"] <= 1:
        raise InputError(f"{path}: threshold {metadata['threshold']} is not a probability")
    return metadata
