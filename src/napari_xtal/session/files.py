"""Files of a session: whole-file writes that cannot tear, fingerprints, texts of failures."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_xtal.errors import OutputError

#: A fingerprint hashes the beginning of a file only: cheap for files of any size.
_HASHED_BYTES = 1 << 16


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file under a temporary name, then put it in place in one step.

    Parameters
    ----------
    path : Path
        The file to make or replace.
    write : callable
        Gets the temporary path, in the same folder, and writes the whole content.

    Raises
    ------
    OutputError
        When the file cannot be written; what `path` held before is still there.
    """
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        write(Path(temporary))
        # mkstemp makes the file private, but a session is shared like the data beside it.
        os.chmod(temporary, 0o666 & ~_UMASK)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        raise OutputError(explain(path, error)) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON as a whole file and keep the former version as ``.bak``.

    Raises
    ------
    OutputError
        When the file cannot be written; the former version is still there.
    """
    text = json.dumps(content, indent=1, allow_nan=False).encode()
    with contextlib.suppress(OSError):
        former = path.read_bytes()
        if former == text:
            return
        write_whole(path.with_name(path.name + ".bak"), lambda p: _put(p, former))
    write_whole(path, lambda p: _put(p, text))


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def sync_folder(folder: Path) -> None:
    """Make a new name in a folder durable, where the system can do that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def fingerprint(path: str | os.PathLike[str], *, hashed: bool = True) -> dict[str, Any] | None:
    """Return size, modification time and a hash of the first 64 KiB; None when unreadable.

    Parameters
    ----------
    path : path-like
        A source file.
    hashed : bool
        Whether to read the beginning of the file.
    """
    try:
        status = os.stat(path)
        found: dict[str, Any] = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
        if hashed:
            with open(path, "rb") as file:
                found["sha256_64k"] = hashlib.sha256(file.read(_HASHED_BYTES)).hexdigest()
    except OSError:
        return None
    return found


def same_content(one: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    """Whether two fingerprints can be of one file; copies may differ in time.

    Where no hash was taken, the size alone decides; an unknown fingerprint fits anything.
    """
    if not one or not other:
        return True
    keys = [k for k in ("size", "sha256_64k") if k in one and k in other]
    return all(one[k] == other[k] for k in keys)


def explain(path: Path, error: BaseException) -> str:
    """Return one sentence that names the place, the failure and the remedy."""
    number = getattr(error, "errno", None)
    text = str(error)
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text or "quota" in text:
        return f"{path.parent}: the disk is full, {path.name} was not written; free some space"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path.parent}: no permission to write {path.name}; choose another folder"
    if number in (errno.ENOENT, errno.ENOTDIR):
        return f"{path.parent}: the folder is missing, {path.name} was not written"
    reason = text.splitlines()[0][:200] if text else repr(error)
    return f"{path}: cannot be written ({reason}); choose another folder"


def _current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


# Read once: asking for it sets it for a moment, which other threads would see.
_UMASK = _current_umask()
