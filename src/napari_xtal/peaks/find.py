"""Find Bragg peaks on one frame or over a run: the public functions."""

from __future__ import annotations

import os
import threading
import zlib
from collections import OrderedDict
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_xtal.errors import InputError, XtalError
from napari_xtal.peaks.finder import PeakFinder
from napari_xtal.peaks.parameters import PeakFinderParams
from napari_xtal.peaks.table import concat, empty_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pandas as pd
    from numpy.typing import NDArray

    from napari_xtal.detector.frame import Frame


class FrameSourceLike(Protocol):
    """What `find_peaks_in` needs of a frame source."""

    good: NDArray[np.bool_]

    def __len__(self) -> int: ...

    def frame(self, index: int) -> Frame:
        """Read a frame; never raises for a broken one."""

    def radius(self) -> NDArray[np.float32] | None:
        """Return the distance from the beam centre [px]."""

    def inv_d(self) -> NDArray[np.float32] | None:
        """Return 1/d of each pixel [1/nm]."""

    def panels(self) -> NDArray[np.int16] | None:
        """Return the panel number of each pixel."""


class VerifierLike(Protocol):
    """What `find_peaks_in` needs of a verifier."""

    hash: str

    def predict(
        self, image: NDArray[Any], table: pd.DataFrame, good: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Return the probability of each peak of a frame."""


#: A single pixel that fires in more than this share of the frames is no Bragg spot.
HOT_SHARE = 0.05
#: Fewest such frames: in a run of 20 frames 5 % is a single one.
HOT_FRAMES = 3

_finders: OrderedDict[tuple[Any, ...], PeakFinder] = OrderedDict()
_finders_lock = threading.Lock()


#: Every how many rows and columns the content of a float map is looked at.
_MAP_STEP = 13


def _fingerprint(array: Any) -> tuple[Any, ...]:
    """Identify a geometry map by address, shape and a sample of its content."""
    if array is None:
        return ()
    array = np.asarray(array)
    sample = np.ascontiguousarray(array[::_MAP_STEP, ::_MAP_STEP])
    return array.ctypes.data, array.shape, array.dtype.str, zlib.crc32(sample.tobytes())


def _cached_finder(good: NDArray[np.bool_], radius: Any, panels: Any, inv_d: Any) -> PeakFinder:
    """Return the finder of a mask and geometry; the mask is compared by its whole content."""
    from napari_xtal.peaks.kernels import checksum

    content = np.ascontiguousarray(good).view(np.uint8).ravel()
    whole = content.size // 8 * 8
    key = (
        good.shape, int(checksum(content[:whole].view(np.uint64))), content[whole:].tobytes(),
        _fingerprint(radius), _fingerprint(panels), _fingerprint(inv_d),
    )  # fmt: skip
    with _finders_lock:
        if key in _finders:
            _finders.move_to_end(key)
            return _finders[key]
    finder = PeakFinder(good.copy(), radius, panels, inv_d)
    with _finders_lock:
        _finders[key] = finder
        while len(_finders) > 4:
            _finders.popitem(last=False)
    return finder


def default_mask(image: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the mask of a frame that came without one.

    Unsigned detectors mark gaps and bad pixels by the largest value of their type,
    floats by NaN.
    """
    if image.dtype.kind == "u":
        return np.asarray(image != np.iinfo(image.dtype).max)
    if image.dtype.kind == "f":
        return np.isfinite(image)
    return np.ones(image.shape, bool)


def find_peaks(
    image: NDArray[Any],
    good: NDArray[np.bool_] | None = None,
    *,
    radius: NDArray[Any] | None = None,
    params: PeakFinderParams | None = None,
    panels: NDArray[Any] | None = None,
    inv_d: NDArray[Any] | None = None,
) -> pd.DataFrame:
    """Find the Bragg peaks of one frame.

    Parameters
    ----------
    image : (ss, fs) ndarray
        Frame, integers or floats, in data units [ADU].
    good : (ss, fs) ndarray of bool, optional
        True where a pixel may be used. Without it all pixels count but the largest
        value of an unsigned type and NaN.
    radius : (ss, fs) ndarray, optional
        Distance from the beam centre [px]. Without it the background is local.
    params : PeakFinderParams, optional
        Parameters; the default asks for one false peak per frame.
    panels : (ss, fs) ndarray of int, optional
        Panel number per pixel; peaks do not cross panel borders.
    inv_d : (ss, fs) ndarray, optional
        1/d of each pixel [1/nm], for the column of that name.

    Returns
    -------
    DataFrame
        Peak table (`napari_xtal.peaks.table`), column ``frame`` 0; the parameters
        stand in ``table.attrs["parameters"]``.

    Raises
    ------
    InputError
        When shapes differ or the type is not numeric.

    Examples
    --------
    >>> import numpy as np
    >>> frame = np.random.default_rng(0).poisson(5.0, (256, 256)).astype(np.uint16)
    >>> frame[100:102, 50:52] += 40
    >>> len(find_peaks(frame))
    1
    """
    image = np.asarray(image)
    if image.ndim != 2 or image.size == 0:
        raise InputError(f"a frame must be 2-D (ss, fs), not empty; got shape {image.shape}")
    if image.dtype.kind not in "iufb":
        raise InputError(f"the frame has type {image.dtype}; give integers or floats")
    if good is None:
        good = default_mask(image)
    good = np.asarray(good)
    if good.shape != image.shape:
        raise InputError(
            f"the frame has shape {image.shape}, the mask {good.shape}; they must agree"
        )
    return _cached_finder(good.astype(bool, copy=False), radius, panels, inv_d).find(image, params)


def find_peaks_in(
    src: FrameSourceLike,
    params: PeakFinderParams | None = None,
    frames: Iterable[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    workers: int | None = None,
    on_frame: Callable[[int, pd.DataFrame], None] | None = None,
    verifier: VerifierLike | None = None,
) -> pd.DataFrame:
    """Find the peaks of many frames, one frame per thread.

    Parameters
    ----------
    src : FrameSource
        Frames.
    params : PeakFinderParams, optional
        Parameters.
    frames : iterable of int, optional
        Which frames; all by default.
    progress : callable, optional
        Called with (done, total) after each frame, from this thread.
    cancel : callable, optional
        Asked after each frame; True stops and returns what is there.
    workers : int, optional
        Threads; default: the processors this process may use.
    on_frame : callable, optional
        Called with (frame, table) as soon as a frame is done, from this thread.
    verifier : Verifier, optional
        Fills column ``probability``; each frame is read only once for both.

    Returns
    -------
    DataFrame
        Peak table in order of frames. ``attrs["parameters"]`` holds the parameters,
        ``attrs["verifier"]`` the verifier's hash, ``attrs["failed"]`` maps unreadable frames to the reason,
        ``attrs["frames"]`` lists the frames that were searched, and
        ``attrs["hot_pixels"]`` lists (row, col, n_frames) of the single pixels that
        fire in more than `HOT_SHARE` of them, as peaks or rejected.

    Raises
    ------
    InputError
        When a frame index does not exist.
    """
    params = params or PeakFinderParams()
    wanted = list(range(len(src)) if frames is None else frames)
    if wanted and not (min(wanted) >= 0 and max(wanted) < len(src)):
        raise InputError(
            f"frames {min(wanted)}..{max(wanted)} do not fit a run of {len(src)} frames"
        )
    shared = PeakFinder(src.good, src.radius(), src.panels(), src.inv_d())
    n_workers = workers or n_processors()
    tables: dict[int, pd.DataFrame] = {}
    failed: dict[int, str] = {}
    fired: list[NDArray[np.int64]] = []

    def work(index: int) -> tuple[int, pd.DataFrame | str]:
        frame = src.frame(index)
        if not frame.ok:
            return index, str(frame.meta.get("reason", frame.status))
        try:
            table = _find_on_frame(shared, frame, params, index)
            if verifier is not None:
                said = verifier.predict(frame.image, table, frame.good)
                table["probability"] = said.astype(np.float64)
            return index, table
        except XtalError as error:
            return index, str(error)

    for done, (index, result) in enumerate(in_threads(work, wanted, n_workers, cancel), 1):
        if isinstance(result, str):
            failed[index] = result
        else:
            tables[index] = result
            fired.append(_single_pixels(result, shared.good.shape))
            if on_frame is not None:
                on_frame(index, result)
        if progress is not None:
            progress(done, len(wanted))
    table = concat(tables[i] for i in sorted(tables)) if tables else empty_table()
    table.attrs.update(
        parameters=params.to_dict(),
        failed=failed,
        frames=sorted([*tables, *failed]),
        hot_pixels=_hot_pixels(fired),
    )
    if verifier is not None:
        table.attrs["verifier"] = verifier.hash
    return table


def _single_pixels(table: pd.DataFrame, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return (n, 2) places where one frame has a single bright pixel, as a peak or rejected.

    Takes the rejected ones out of the table's attributes, in which pandas would have to
    compare them when tables are joined.
    """
    rejected = table.attrs.pop("hot_pixels", [])
    peaks = table.loc[table["n_pixels"] == 1, ["row", "col"]].to_numpy()
    places = np.rint(np.concatenate([np.reshape(rejected, (-1, 2)), peaks])).astype(np.int64)
    # The centre of noise on the rim may lie outside the frame.
    return np.unique(np.clip(places, 0, np.subtract(shape, 1)), axis=0)


def _hot_pixels(fired: list[NDArray[np.int64]]) -> list[tuple[int, int, int]]:
    """Return (row, col, n_frames) of pixels that fire too often to be hit by Bragg peaks.

    Parameters
    ----------
    fired : list of (n, 2) ndarray
        The pixels of each frame.
    """
    if not fired:
        return []
    places, counts = np.unique(np.concatenate(fired), axis=0, return_counts=True)
    often = (counts >= HOT_FRAMES) & (counts > HOT_SHARE * len(fired))
    return [(r, c, n) for r, c, n in np.column_stack([places, counts])[often].tolist()]


def _find_on_frame(
    shared: PeakFinder, frame: Frame, params: PeakFinderParams, index: int
) -> pd.DataFrame:
    """Use the run's plan unless many pixels of this frame are bad on their own."""
    image = frame.image
    if image.shape != shared.good.shape:
        raise InputError(
            f"the frame has shape {image.shape}, the run {shared.good.shape}; it is left out"
        )
    extra = shared.good & ~frame.good
    if extra.any():
        if np.count_nonzero(extra) > 0.01 * extra.size:
            return PeakFinder(frame.good, shared.radius, shared.panels, shared.inv_d).find(
                image, params, index
            )
        # A handful of pixels: NaN keeps the shared lookup tables valid.
        image = image.astype(np.float32)
        image[extra] = np.nan
    return shared.find(image, params, index)


def in_threads(
    work: Callable[[int], Any], items: list[int], n: int, cancel: Callable[[], bool] | None
) -> Iterator[Any]:
    """Run `work` over items with at most 2 n in flight; stop handing out when cancelled."""
    queue = iter(items)
    pending: set[Future[Any]] = set()
    with ThreadPoolExecutor(n, thread_name_prefix="find-peaks") as pool:
        try:
            while True:
                while len(pending) < 2 * n:
                    item = next(queue, None)
                    if item is None:
                        break
                    pending.add(pool.submit(work, item))
                if not pending:
                    return
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
                if cancel is not None and cancel():
                    queue = iter(())
                    for future in list(pending):
                        if future.cancel():
                            pending.discard(future)
        finally:
            for future in pending:
                future.cancel()


def n_processors() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(len(os.sched_getaffinity(0)), 1)
    return os.cpu_count() or 1
