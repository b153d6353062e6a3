"""Opening HDF5 files: one clear message for each way a file can be wrong."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import hdf5plugin  # noqa: F401  (registers bitshuffle, LZ4, Zstd … before any file is opened)

from napari_xtal.errors import InputError, MissingFileError, UnsafeLinkError

if TYPE_CHECKING:
    from napari_xtal.io.links import LinkPolicy

#: Filters of HDF5 itself that need no plug-in; the rest is named in messages.
FILTER_NAMES = {
    1: "deflate",
    4: "szip",
    307: "bzip2",
    32000: "LZF",
    32001: "Blosc",
    32004: "LZ4",
    32008: "bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32026: "Blosc2",
}


def check_file(path: str | os.PathLike[str]) -> Path:
    """Return `path` when it is a non-empty regular file.

    Raises
    ------
    InputError
        When it is missing, a directory, empty or not permitted.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(
                f"{path}: this is a directory; give a file or a pattern such as '{path}/*.h5'"
            )
        if not path.exists():
            raise MissingFileError(f"{path}: no such file; check the path")
        if not path.is_file():
            raise InputError(f"{path}: not a regular file")
        size = path.stat().st_size
        with path.open("rb"):
            pass
    except PermissionError:
        raise InputError(f"{path}: no permission to read this file") from None
    except OSError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{str(path)!r}: not a usable path ({error})") from error
    if size == 0:
        raise InputError(f"{path}: the file is empty; was it copied or written completely?")
    return path


def open_hdf5(path: str | os.PathLike[str], chunk_cache: int | None = None) -> h5py.File:
    """Open an HDF5 file for reading.

    Parameters
    ----------
    path : path-like
        The file.
    chunk_cache : int, optional
        Bytes of decoded chunks that HDF5 keeps per dataset. It must hold one chunk,
        or every frame of a chunk that groups frames decodes the whole chunk again.

    Raises
    ------
    InputError
        When the file is missing, empty, truncated, being written or not HDF5.
    """
    path = check_file(path)
    options: dict[str, int] = {}
    if chunk_cache is not None:
        options = {"rdcc_nbytes": chunk_cache, "rdcc_nslots": 10007}
    try:
        return h5py.File(path, "r", **options)
    except BlockingIOError as error:
        raise InputError(
            f"{path}: another program is writing this file; wait until it has finished"
        ) from error
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        text = str(error)
        if "truncated" in text:
            raise InputError(
                f"{path}: the file is truncated; copy it again or wait until it is written"
            ) from error
        if "already open for write" in text:
            try:
                return h5py.File(path, "r", swmr=True, **options)
            except (OSError, RuntimeError, KeyError, ValueError):
                raise InputError(
                    f"{path}: the writer did not close this file; repair it with 'h5clear -s'"
                ) from error
        if "signature not found" in text:
            raise InputError(f"{path}: not an HDF5 file") from error
        raise InputError(f"{path}: damaged HDF5 file ({_first_line(text)})") from error


def _first_line(text: str) -> str:
    return text.splitlines()[0][:200] if text else "no details"


def missing_filter(dataset: h5py.Dataset) -> str | None:
    """Return a sentence naming the compression filter that is not installed, or None."""
    plist = dataset.id.get_create_plist()
    for k in range(plist.get_nfilters()):
        number, _flags, _values, name = plist.get_filter(k)
        if not h5py.h5z.filter_avail(number):
            label = FILTER_NAMES.get(number) or name.decode("latin-1", "replace") or "unnamed"
            return (
                f"needs HDF5 filter {number} ({label}), which is not installed; install its "
                f"plug-in and set HDF5_PLUGIN_PATH to the plug-in's folder"
            )
    return None


def check_storage(path: str, dataset: h5py.Dataset, frame_bytes: int, policy: LinkPolicy) -> None:
    """Refuse external storage and frames larger than the policy allows.

    Only the bytes of one frame count: an honest virtual master declares tens of
    gigabytes while storing none.
    """
    if dataset.external and not policy.allow_external_storage:
        raise UnsafeLinkError(
            f"{path}: dataset {dataset.name} keeps its bytes in another file "
            f"('{dataset.external[0][0]}', external storage), which is refused because such a "
            "file could name any file of this computer; copy the data with h5repack"
        )
    if frame_bytes > policy.max_frame_bytes:
        raise InputError(
            f"{path}: one frame of {dataset.name} {dataset.shape} {dataset.dtype} needs "
            f"{frame_bytes / 2**30:.1f} GiB, more than the limit of "
            f"{policy.max_frame_bytes / 2**30:.1f} GiB (LinkPolicy.max_frame_bytes)"
        )


class HandleCache:
    """A few open HDF5 files, least recently used closed first.

    Handles belong to the process that opened them: after a fork the child forgets
    them (HDF5's state does not survive) and opens its own.
    """

    def __init__(self, size: int = 16) -> None:
        self._size = size
        self._files: OrderedDict[str, h5py.File] = OrderedDict()
        self._pid = os.getpid()

    def get(self, path: str, chunk_cache: int | None = None) -> h5py.File:
        """Return an open handle of `path`."""
        if os.getpid() != self._pid:
            self._files, self._pid = OrderedDict(), os.getpid()
        handle = self._files.get(path)
        if handle is None or not handle:
            handle = open_hdf5(path, chunk_cache)
            self._files[path] = handle
            while len(self._files) > self._size:
                _, old = self._files.popitem(last=False)
                old.close()
        self._files.move_to_end(path)
        return handle

    def close(self) -> None:
        """Close every file."""
        if os.getpid() == self._pid:
            for handle in self._files.values():
                handle.close()
        self._files.clear()
