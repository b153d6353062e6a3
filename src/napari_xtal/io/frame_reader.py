"""The one place where frames are decoded, whatever file they are in."""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.detector.frame import FrameId, FrameStatus
from napari_xtal.errors import InputError
from napari_xtal.io.hdf5 import HandleCache
from napari_xtal.io.layouts import images, numpy_arrays, stack

if TYPE_CHECKING:
    from napari_xtal.io.layouts.base import Block, DecodedImage, FileFrames

#: Decoded frames kept: the shown one, its neighbours and what a live search looks at.
_CACHED_FRAMES = 4
_CACHE_BYTES = 256 * 2**20
_READ_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, IndexError, EOFError)


class FrameReader:
    """Finds and decodes frames of joined files; thread-safe, with a small cache.

    Parameters
    ----------
    files : list of FileFrames
        The files in order.
    shape, dtype : (int, int), dtype
        What every frame must have, and the type it is handed out in.
    """

    def __init__(
        self, files: list[FileFrames], shape: tuple[int, int], dtype: np.dtype[Any]
    ) -> None:
        self.files = files
        self.shape = shape
        self.dtype = dtype
        # HDF5 decodes one dataset at a time anyway; the lock also guards the caches.
        self.lock = threading.RLock()
        self.handles = HandleCache()
        self._frames: OrderedDict[int, DecodedImage] = OrderedDict()
        self._pairs = [(n, block) for n, file in enumerate(files) for block in file.blocks]
        self._starts = _cumulative([block.n_frames for _, block in self._pairs])
        self._file_starts = _cumulative([file.n_frames for file in files])

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def blocks(self) -> list[Block]:
        """Blocks of all files."""
        return [block for _, block in self._pairs]

    def close(self) -> None:
        """Close the files and forget decoded frames; reading opens them again."""
        with self.lock:
            self.handles.close()
            self._frames.clear()

    def where(self, index: int) -> tuple[FileFrames, Block, int]:
        """Return file, block and number in the block of a frame."""
        place = bisect_right(self._starts, index) - 1
        number, block = self._pairs[place]
        return self.files[number], block, index - self._starts[place]

    def place_in_file(self, index: int) -> tuple[int, int]:
        """Return (number of the file, index of the frame in the file)."""
        number = bisect_right(self._file_starts, index) - 1
        return number, index - self._file_starts[number]

    def decode(self, index: int) -> tuple[str, str, DecodedImage | None]:
        """Return (status, reason, image or None); the one place where frames are read."""
        with self.lock:
            cached = self._frames.get(index)
            if cached is not None:
                self._frames.move_to_end(index)
                return FrameStatus.OK, "", cached
        file, block, k = self.where(index)
        if block.status != "ok":
            return block.status, block.reason, None
        lost = stack.frame_hole(block, k, self.shape)
        if lost is not None:
            return lost[0], lost[1], None
        try:
            decoded = self._read(file, block, k)
        except InputError as error:
            gone = not os.path.exists(block.target.file if block.target else file.path)
            status = FrameStatus.MISSING_SOURCE if gone else FrameStatus.CORRUPT
            return status, str(error), None
        except MemoryError:
            return FrameStatus.CORRUPT, f"{file.path}: not enough memory for the frame", None
        except _READ_ERRORS as error:
            return *self._classify(error, file, block), None
        if decoded.image.shape != self.shape:
            text = f"{file.path}: frame of {decoded.image.shape}, expected {self.shape}"
            return FrameStatus.WRONG_SHAPE, text, None
        with self.lock:
            self._frames[index] = decoded
            limit = max(1, min(_CACHED_FRAMES, _CACHE_BYTES // max(decoded.image.nbytes, 1)))
            while len(self._frames) > limit:
                self._frames.popitem(last=False)
        return FrameStatus.OK, "", decoded

    def _read(self, file: FileFrames, block: Block, k: int) -> DecodedImage:
        if file.kind == "image":
            return images.read_frame(file.path, k, self.dtype)
        if file.kind == "numpy":
            return numpy_arrays.read_frame(file.path, block, k, self.dtype)
        assert block.target is not None
        # Two chunks fit, so that frames grouped in a chunk are decoded once.
        cache = max(2**20, 2 * block.chunk_bytes)
        with self.lock:
            handle = self.handles.get(block.target.file, cache)
            return stack.read_frame(handle, block, k, self.dtype)

    def _classify(self, error: BaseException, file: FileFrames, block: Block) -> tuple[str, str]:
        text = (str(error) or type(error).__name__).splitlines()[0][:300]
        where = block.target.file if block.target else file.path
        if "filter" in text and ("not registered" in text or "plugin" in text.lower()):
            return FrameStatus.FILTER_MISSING, f"{where}: {block.dataset}: {text}"
        if not os.path.exists(where):
            return FrameStatus.MISSING_SOURCE, f"{where}: the file has disappeared"
        return (
            FrameStatus.CORRUPT,
            f"{where}: {block.dataset or 'image'} cannot be decoded ({text})",
        )

    def unwritten(self, block: Block, k: int, value: float) -> bool:
        """Whether a frame of one value is a chunk that was never written."""
        assert block.target is not None
        with self.lock:
            try:
                handle = self.handles.get(block.target.file)
                return stack.never_written(handle, block, k, value, value)
            except (*_READ_ERRORS, InputError):
                return False


class FrameIds(Sequence[FrameId]):
    """Identities of all frames, made when asked for."""

    def __init__(self, reader: FrameReader) -> None:
        self._reader = reader

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        n = len(self)
        index = int(index)
        if not -n <= index < n:
            raise IndexError(f"frame {index} does not exist; the source has {n} frames")
        file, block, k = self._reader.where(index % n)
        return FrameId(file.path, block.dataset, block.event(k))

    def __iter__(self) -> Iterator[FrameId]:
        # Block by block: half the time of looking up each of 10^5 frames.
        for file in self._reader.files:
            for block in file.blocks:
                for k in range(block.n_frames):
                    yield FrameId(file.path, block.dataset, block.event(k))

    def __repr__(self) -> str:
        return f"<{len(self)} frame identities>"


def _cumulative(counts: list[int]) -> list[int]:
    starts: list[int] = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).tolist()
    return starts
