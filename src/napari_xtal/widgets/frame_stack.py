"""What napari slices: a run as a thin, read-only array that reads one frame at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.detector.contrast import contrast_limits, highest_background
from napari_xtal.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_xtal.detector.frame import Frame

#: Frames kept: the shown one, the one a search runs on, and one prefetched.
CACHED_FRAMES = 3
#: A slice of more frames than this is an accident (3-D view, `np.asarray` of a run).
MAX_FRAMES_PER_SLICE = 16
#: Percentiles of the unmasked pixels shown as white and black.
PERCENTILES = (1.0, 99.8)
#: A water ring is not drawn in full black, so that peaks on it can be seen: black is at least
#: this many times as far from white as the brightest smooth part of the frame.
ABOVE_BACKGROUND = 1.4
#: Length of the contrast slider in units of the limits' distance.
RANGE_FACTOR = 10.0


def display_image(frame: Frame) -> NDArray[np.float32]:
    """Return what is drawn: float32 counts, NaN (transparent in napari) where masked.

    Parameters
    ----------
    frame : Frame
        A frame; a broken one is masked everywhere.

    Returns
    -------
    (ss, fs) ndarray of float32
        A new array. Integers above 2**24 lose digits; raw counts are in ``frame.image``.
    """
    image = np.asarray(frame.image).astype(np.float32)
    image[~frame.good] = np.nan
    return image


class FrameStack:
    """A run as an array of shape (n_frames, ss, fs), float32, masked pixels NaN.

    Parameters
    ----------
    source : FrameSource
        The run.
    on_broken : callable, optional
        Called with one text, once for each broken frame that is shown.

    Notes
    -----
    napari asks for one frame at a time. Everything that would read a whole run
    (``np.asarray``, the 3-D view) raises instead of filling the memory. dask is not used:
    its cost for one slice grows with the number of frames (58 ms at 10^5 frames).
    """

    ndim = 3
    dtype = np.dtype(np.float32)

    def __init__(self, source: Any, on_broken: Callable[[str], object] | None = None) -> None:
        self.source = source
        self.shape = (len(source), *source.shape)
        self._on_broken = on_broken
        self._told: set[int] = set()
        self._lock = threading.RLock()  # one reader per source: HDF5 handles are shared
        self._cache: OrderedDict[int, tuple[Frame, NDArray[np.float32]]] = OrderedDict()
        self._last = -1
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: Future[None] | None = None

    @property
    def size(self) -> int:
        """Number of pixels of the whole run."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes the whole run would take as float32."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"FrameStack({self.shape[0]} frames of {self.shape[1]} x {self.shape[2]})"

    def __array__(self, *args: Any, **kwargs: Any) -> NDArray[Any]:
        raise InputError(
            f"{self!r}: a whole run is not loaded into memory; take single frames by stack[i]"
        )

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        first, rest = self._split_key(key)
        if isinstance(first, (int, np.integer)):
            return self.image(int(first))[rest]
        if isinstance(first, slice):
            indices: list[int] = list(range(*first.indices(len(self))))
        else:
            asked = np.asarray(first)
            indices = list(np.flatnonzero(asked)) if asked.dtype == bool else list(asked.ravel())
        if len(indices) > MAX_FRAMES_PER_SLICE:
            raise InputError(
                f"{self!r}: {len(indices)} frames were asked for at once; a run is shown frame by "
                "frame (press the 2-D/3-D button of the viewer to leave the 3-D view)"
            )
        if not indices:
            return np.empty((0, *self.shape[1:]), np.float32)[(slice(None), *rest)]
        if len(indices) == 1:  # a view: no copy of the frame for the usual slice(i, i + 1)
            return self.image(int(indices[0]))[None][(slice(None), *rest)]
        return np.stack([self.image(int(i)) for i in indices])[(slice(None), *rest)]

    def use_source(self, source: Any) -> None:
        """Read from another source of the same shape from now on (a changed mask)."""
        with self._lock:
            self.source = source
            self._cache.clear()

    def frame(self, index: int) -> Frame:
        """Return one frame with raw counts, from the cache where possible."""
        return self._entry(index)[0]

    def cached(self, index: int) -> Frame | None:
        """Return one frame if it is in the cache, without waiting for anything."""
        entry = self._cache.get(index)
        return None if entry is None else entry[0]

    def image(self, index: int) -> NDArray[np.float32]:
        """Return what is drawn of one frame and read the next one in the direction of travel."""
        index = self._in_range(index)
        frame, image = self._entry(index)
        if not frame.ok and index not in self._told and self._on_broken is not None:
            self._told.add(index)
            self._on_broken(broken_text(frame, index))
        step = index - self._last
        self._last = index
        if abs(step) == 1 and 0 <= index + step < len(self):
            self._prefetch(index + step)
        return image

    def _split_key(self, key: Any) -> tuple[Any, tuple[Any, ...]]:
        parts = key if isinstance(key, tuple) else (key,)
        if any(p is Ellipsis for p in parts):
            at = next(i for i, p in enumerate(parts) if p is Ellipsis)
            fill = (slice(None),) * (self.ndim - len(parts) + 1)
            parts = parts[:at] + fill + parts[at + 1 :]
        if len(parts) > self.ndim:
            raise IndexError(f"{self!r} has 3 axes, {len(parts)} were indexed")
        return parts[0], tuple(parts[1:])

    def _in_range(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of a run of {len(self)} frames")
        return index % len(self)

    def _entry(self, index: int) -> tuple[Frame, NDArray[np.float32]]:
        index = self._in_range(index)
        with self._lock:
            if index in self._cache:
                self._cache.move_to_end(index)
                return self._cache[index]
            frame = self.source.frame(index)
            entry = frame, display_image(frame)
            self._cache[index] = entry
            while len(self._cache) > CACHED_FRAMES:
                self._cache.popitem(last=False)
            return entry

    def _prefetch(self, index: int) -> None:
        if index in self._cache or (self._ahead is not None and not self._ahead.done()):
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="xtal-prefetch")
        self._ahead = self._pool.submit(self._entry, index)  # type: ignore[arg-type]


def broken_text(frame: Frame, index: int) -> str:
    """Return one line that says which frame cannot be shown and why."""
    reason = frame.meta.get("reason", "")
    return f"Frame {index} ({frame.id}): {frame.status}" + (f": {reason}" if reason else "")


def display_limits(
    stack: FrameStack, probes: int = 3
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return contrast limits and the range of their slider from unmasked pixels.

    Parameters
    ----------
    stack : FrameStack
        The run; its first frame, or when that is unusable frames spread over the run.
    probes : int
        Most frames that are read.

    Returns
    -------
    limits, limits_range : (float, float)
        Percentile limits, wider where a bright background fills them, and a range that reaches `RANGE_FACTOR` times as far: a slider up to
        the saturation value could not be used for weak spots.
    """
    for index in dict.fromkeys(np.linspace(0, len(stack) - 1, probes).astype(int).tolist()):
        frame = stack.frame(index)
        if frame.ok and frame.good.any():
            low, high = contrast_limits(frame.image, frame.good, percentiles=PERCENTILES)
            top = highest_background(frame.image, frame.good)
            if low + ABOVE_BACKGROUND * (top - low) > high:  # not where it is unknown (NaN)
                high = low + ABOVE_BACKGROUND * (top - low)
            return (low, high), (min(low, 0.0), low + RANGE_FACTOR * (high - low))
    return (0.0, 1.0), (0.0, RANGE_FACTOR)
