"""What the user named: files, patterns and datasets inside files."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from pathlib import Path
from typing import Any

from napari_xtal.errors import InputError, MissingFileError


def expand(paths: Any) -> list[tuple[str, str | None]]:
    """Return (file, dataset or None) for each named file, patterns expanded.

    Parameters
    ----------
    paths : str, path-like or sequence of these
        ``file.h5``, ``run_*.cbf``, or ``file.h5::/path/to/dataset``. Files found by a
        pattern come in natural order (2 before 10).

    Raises
    ------
    InputError
        When nothing is named or a pattern matches nothing.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    try:
        items = list(paths)
    except TypeError:
        raise InputError(f"frames: expected a path or a list of paths, got {paths!r}") from None
    if not items:
        raise InputError("frames: no file was given")
    result: list[tuple[str, str | None]] = []
    for item in items:
        if not isinstance(item, (str, os.PathLike)):
            raise InputError(f"frames: expected a path, got {type(item).__name__}")
        text = os.fsdecode(item)
        if not text or "\0" in text:
            raise InputError(f"frames: {text!r} is not a usable path")
        file, dataset = _split(text)
        if isinstance(item, str) and any(c in file for c in "*?[") and not os.path.exists(file):
            found = sorted(glob.glob(os.path.expanduser(file)), key=natural)
            if not found:
                raise MissingFileError(f"{file}: no file matches this pattern")
            result += [(match, dataset) for match in found]
        else:
            result.append((os.path.expanduser(file), dataset))
    return result


def _split(text: str) -> tuple[str, str | None]:
    if "::" in text and not os.path.exists(text):
        file, dataset = text.split("::", 1)
        return file, dataset or None
    return text, None


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key in which numbers inside a name count as numbers."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", name)
        if part
    ]


def file_fingerprint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return size, modification time and a hash of the first 64 KiB of a file.

    Enough to notice that a file was exchanged, cheap for files of any size.
    """
    path = Path(path)
    try:
        status = path.stat()
        with path.open("rb") as file:
            digest = hashlib.sha256(file.read(1 << 16)).hexdigest()
    except OSError as error:
        raise MissingFileError(f"{path}: cannot be read ({error.strerror})") from error
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256_64k": digest}
