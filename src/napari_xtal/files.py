"""Writing whole files so that a failure leaves nothing half done and nothing lost."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from napari_xtal.errors import OutputError


@contextlib.contextmanager
def new_file(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[str]:
    """Give a temporary name beside `path`; on success it becomes `path`, else it vanishes.

    Parameters
    ----------
    path : path-like
        The file to make.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    OutputError
        When `path` exists, or cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{path}: is a directory; give a file name")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already; choose another name or allow overwriting")
    try:
        handle, temporary = tempfile.mkstemp(
            prefix=f".{path.name[:100]}.", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
    except OSError as error:
        raise OutputError(_explain(path, error)) from error
    try:
        yield temporary
        # mkstemp makes the file private; results are shared like any other new file.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        _publish(temporary, path, overwrite)
    except FileExistsError as error:
        raise OutputError(f"{path}: was created by someone else meanwhile; kept") from error
    except OutputError:
        raise
    except (OSError, RuntimeError) as error:
        # InputError of the frames is a ValueError and passes through unchanged.
        raise OutputError(_explain(path, error)) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _publish(temporary: str, path: Path, overwrite: bool) -> None:
    if overwrite:
        os.replace(temporary, path)
        return
    try:
        # A hard link fails when the name was taken since the first check; rename would not.
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # file systems without hard links
        os.replace(temporary, path)


def _explain(path: Path, error: BaseException) -> str:
    text = str(error)
    number = getattr(error, "errno", None)
    if number == errno.ENOSPC or "errno = 28" in text or "No space left" in text:
        return f"{path}: the disk is full; nothing was written"
    if number == errno.EDQUOT or "errno = 122" in text:
        return f"{path}: the disk quota is used up; nothing was written"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path}: no permission to write in {path.parent}; choose another folder"
    if number == errno.ENOENT:
        return f"{path}: the folder {path.parent} does not exist; make it first"
    return f"{path}: cannot be written ({text.splitlines()[0][:200] if text else error!r})"
