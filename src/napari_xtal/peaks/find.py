"""Find Bragg peaks on one frame or over a run: the public functions."""

from __future__ import annotations

import os
import threading
import warnings
import zlib
from collections import OrderedDict
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from napari_xtal.errors import InputError, ParameterError, XtalError
from napari_xtal.peaks.parameters import PeakFinderParams
from napari_xtal.peaks.table import concat, empty_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from napari_xtal.detector.frame import Frame
    from napari_xtal.peaks.candidates import Candidates
    from napari_xtal.peaks.peakfinder8 import Rings
    from napari_xtal.peaks.plan import DetectorPlan

#: Types the kernels are compiled for; others are converted to one of them.
_NATIVE = {np.dtype(t) for t in ("uint16", "int32", "uint32", "float32")}


class FrameSourceLike(Protocol):
    """What `find_peaks_in` needs of a frame source."""

    good: NDArray[np.bool_]

    def __len__(self) -> int: ...
    def frame(self, index: int) -> Frame: ...
    def radius(self) -> NDArray[np.float32] | None: ...
    def inv_d(self) -> NDArray[np.float32] | None: ...
    def panels(self) -> NDArray[np.int16] | None: ...


class PeakFinder:
    """A peak finder for one mask and geometry; safe to share between threads.

    Parameters
    ----------
    good : (ss, fs) ndarray of bool
        True where a pixel may be used.
    radius : (ss, fs) ndarray, optional
        Distance of each pixel from the beam centre [px].
    panels : (ss, fs) ndarray of int, optional
        Panel number per pixel; peaks do not cross panel borders.
    inv_d : (ss, fs) ndarray, optional
        1/d of each pixel [1/nm], for the table.

    Raises
    ------
    InputError
        When the shapes do not match.
    """

    def __init__(
        self,
        good: NDArray[np.bool_],
        radius: NDArray[Any] | None = None,
        panels: NDArray[Any] | None = None,
        inv_d: NDArray[Any] | None = None,
    ) -> None:
        self.good = np.ascontiguousarray(good, dtype=bool)
        if self.good.ndim != 2:
            raise InputError(f"the mask must be 2-D (ss, fs), got shape {self.good.shape}")
        for name, array in (("radius", radius), ("panels", panels), ("inv_d", inv_d)):
            if array is not None and np.shape(array) != self.good.shape:
                raise InputError(
                    f"{name} has shape {np.shape(array)}, the mask {self.good.shape}; "
                    "give arrays of the frame's shape"
                )
        self.radius, self.panels, self.inv_d = radius, panels, inv_d
        self._plans: OrderedDict[tuple[Any, ...], DetectorPlan] = OrderedDict()
        self._middle: NDArray[np.float32] | None = None
        self._last_rings: tuple[tuple[float, ...], Rings] | None = None
        self._lock = threading.Lock()

    def candidates(
        self, image: NDArray[Any], params: PeakFinderParams | None = None, snr_min: float = 3.5
    ) -> Candidates:
        """Measure everything on a frame that could be a peak (method ``significance``).

        Parameters
        ----------
        image : (ss, fs) ndarray
            Frame.
        params : PeakFinderParams, optional
            Only `local_bg_radius`, `beam_stop_radius` and `background` matter here;
            the others act in `Candidates.filter`.
        snr_min : float
            Candidates below this significance are not kept.

        Returns
        -------
        Candidates

        Raises
        ------
        InputError
            When the frame's shape or type does not fit.
        """
        from napari_xtal.peaks import measure as m
        from napari_xtal.peaks.candidates import Candidates
        from napari_xtal.peaks.significance import candidates

        params = params or PeakFinderParams()
        image = self._check(image)
        plan = self._plan(params)
        if plan.n_good == 0:
            values, noise = np.zeros((0, m.N_COLUMNS), np.float32), None
        else:
            values, noise = candidates(image, plan, params.local_bg_radius + 0.6, snr_min)
        rows = np.clip(np.rint(values[:, m.ROW]).astype(int), 0, image.shape[0] - 1)
        cols = np.clip(np.rint(values[:, m.COL]).astype(int), 0, image.shape[1] - 1)
        return Candidates(
            values, *self._geometry(rows, cols), n_pixels=plan.n_good, noise=noise
        )

    def find(
        self, image: NDArray[Any], params: PeakFinderParams | None = None, frame: int = 0
    ) -> pd.DataFrame:
        """Find the peaks of one frame; see `find_peaks`."""
        params = params or PeakFinderParams()
        if params.method == "significance":
            from napari_xtal.peaks.calibration import snr_cut

            cut = params.min_snr or snr_cut(
                params.false_peaks_per_frame, self._plan(params).n_good
            )
            table = self.candidates(image, params, snr_min=cut).filter(params, frame)
        else:
            table = self._find_classic(self._check(image), params, frame)
        table.attrs["parameters"] = params.to_dict()
        return table

    def _find_classic(
        self, image: NDArray[Any], params: PeakFinderParams, frame: int
    ) -> pd.DataFrame:
        # These methods have a background of their own; the plan is used for its mask and panels.
        plan = self._plan(params.replace(background="auto"))
        if params.method == "threshold":
            from napari_xtal.peaks import threshold

            limited = params.min_res or params.max_res or params.beam_stop_radius
            radius = self._radius() if limited else None
            return threshold.find(image, plan, radius, params, frame, self._geometry)
        from napari_xtal.peaks import peakfinder8

        return peakfinder8.find(
            image, plan, self._rings(plan, params), params, frame, self._geometry
        )

    def _radius(self) -> NDArray[Any]:
        """Distance from the beam centre, or from the middle of the frame."""
        if self.radius is not None:
            return self.radius
        with self._lock:
            if self._middle is None:
                from napari_xtal.detector.radial import radius_map

                warnings.warn(
                    "the beam centre is unknown: radii are counted from the middle of the frame; "
                    "give a geometry",
                    stacklevel=2,
                )
                ss, fs = self.good.shape
                self._middle = radius_map((ss, fs), ((ss - 1) / 2, (fs - 1) / 2))
            return self._middle

    def _rings(self, plan: DetectorPlan, params: PeakFinderParams) -> Rings:
        """Radius bins of peakfinder8; those of the last limits are kept."""
        from napari_xtal.peaks.peakfinder8 import make_rings

        radius = self._radius()
        key = (params.min_res, params.max_res, params.beam_stop_radius)
        with self._lock:
            if self._last_rings is None or self._last_rings[0] != key:
                self._last_rings = key, make_rings(plan, radius, params)
            return self._last_rings[1]

    def _geometry(
        self, rows: NDArray[Any], cols: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Radius, 1/d and panel at pixels; NaN and 0 where unknown."""
        nan = np.full(len(rows), np.nan)
        radius = nan if self.radius is None else self.radius[rows, cols].astype(np.float64)
        inv_d = nan if self.inv_d is None else self.inv_d[rows, cols].astype(np.float64)
        panel = (
            np.zeros(len(rows), np.int64)
            if self.panels is None
            else self.panels[rows, cols].astype(np.int64)
        )
        return radius, inv_d, panel

    def _plan(self, params: PeakFinderParams) -> DetectorPlan:
        from napari_xtal.peaks.plan import make_plan

        if params.background == "radial" and self.radius is None:
            raise ParameterError(
                "background = 'radial' needs the beam centre; give a geometry or choose 'local'"
            )
        local = params.background == "local" or self.radius is None
        key = (local, params.beam_stop_radius)
        with self._lock:
            if key not in self._plans:
                good = self.good
                if params.beam_stop_radius and self.radius is not None:
                    good = good & (self.radius >= params.beam_stop_radius)
                self._plans[key] = make_plan(good, None if local else self.radius, self.panels)
                while len(self._plans) > 4:
                    self._plans.popitem(last=False)
            return self._plans[key]

    def _check(self, image: NDArray[Any]) -> NDArray[Any]:
        image = np.asarray(image)
        if image.shape != self.good.shape:
            raise InputError(
                f"the frame has shape {image.shape}, the mask {self.good.shape}; they must agree"
            )
        if image.dtype.kind not in "iufb":
            raise InputError(f"the frame has type {image.dtype}; give integers or floats")
        if image.dtype not in _NATIVE or not image.dtype.isnative:
            image = _to_native_type(image)
        return np.ascontiguousarray(image)


def _to_native_type(image: NDArray[Any]) -> NDArray[Any]:
    kind, size = image.dtype.kind, image.dtype.itemsize
    if kind == "b" or (kind == "u" and size == 1):
        return image.astype(np.uint16)
    if kind == "i" and size < 4:
        return image.astype(np.int32)
    if kind in "iu" and size <= 4:
        return image.astype(image.dtype.newbyteorder("="))
    if kind in "iu":
        # Photon counts in 64-bit integers nearly always fit; float32 keeps the rest finite.
        limits = np.iinfo(np.int32)
        if image.size and limits.min <= image.min() and image.max() <= limits.max:
            return image.astype(np.int32)
    return image.astype(np.float32)


_finders: OrderedDict[tuple[Any, ...], PeakFinder] = OrderedDict()
_finders_lock = threading.Lock()


def _fingerprint(array: NDArray[Any] | None, step: int = 1) -> tuple[Any, ...]:
    """Identify an array by address, shape and content, cheaply enough for every call."""
    if array is None:
        return ()
    array = np.asarray(array)
    content = zlib.crc32(np.ascontiguousarray(array[::step, ::step] if step > 1 else array))
    return array.__array_interface__["data"][0], array.shape, array.dtype.str, content


def _cached_finder(
    good: NDArray[np.bool_], radius: Any, panels: Any, inv_d: Any
) -> PeakFinder:
    key = (
        _fingerprint(good)[1:],
        _fingerprint(radius, 37), _fingerprint(panels, 37), _fingerprint(inv_d, 37),
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
    if image.ndim != 2:
        raise InputError(f"a frame must be 2-D (ss, fs), got shape {image.shape}")
    if image.dtype.kind not in "iufb":
        raise InputError(f"the frame has type {image.dtype}; give integers or floats")
    if good is None:
        good = default_mask(image)
    good = np.asarray(good)
    if good.shape != image.shape:
        raise InputError(f"the frame has shape {image.shape}, the mask {good.shape}; they must agree")
    return _cached_finder(good.astype(bool, copy=False), radius, panels, inv_d).find(image, params)


def find_peaks_in(
    src: FrameSourceLike,
    params: PeakFinderParams | None = None,
    frames: Iterable[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    workers: int | None = None,
    on_frame: Callable[[int, pd.DataFrame], None] | None = None,
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

    Returns
    -------
    DataFrame
        Peak table in order of frames. ``attrs["parameters"]`` holds the parameters,
        ``attrs["failed"]`` maps unreadable frames to the reason, and
        ``attrs["frames"]`` lists the frames that were searched.

    Raises
    ------
    InputError
        When a frame index does not exist.
    """
    params = params or PeakFinderParams()
    wanted = list(range(len(src)) if frames is None else frames)
    if wanted and not (0 <= min(wanted) and max(wanted) < len(src)):
        raise InputError(f"frames {min(wanted)}..{max(wanted)} do not fit a run of {len(src)} frames")
    shared = PeakFinder(src.good, src.radius(), src.panels(), src.inv_d())
    n_workers = workers or _n_processors()
    tables: dict[int, pd.DataFrame] = {}
    failed: dict[int, str] = {}

    def work(index: int) -> tuple[int, pd.DataFrame | str]:
        frame = src.frame(index)
        if not frame.ok:
            return index, str(frame.meta.get("reason", frame.status))
        try:
            return index, _find_on_frame(shared, frame, params, index)
        except XtalError as error:
            return index, str(error)

    for done, (index, result) in enumerate(_in_threads(work, wanted, n_workers, cancel), 1):
        if isinstance(result, str):
            failed[index] = result
        else:
            tables[index] = result
            if on_frame is not None:
                on_frame(index, result)
        if progress is not None:
            progress(done, len(wanted))
    table = concat(tables[i] for i in sorted(tables)) if tables else empty_table()
    table.attrs.update(
        parameters=params.to_dict(), failed=failed, frames=sorted([*tables, *failed])
    )
    return table


def _find_on_frame(
    shared: PeakFinder, frame: Frame, params: PeakFinderParams, index: int
) -> pd.DataFrame:
    """Use the run's plan unless many pixels of this frame are bad on their own."""
    image = frame.image
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


def _in_threads(
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


def _n_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return max(len(os.sched_getaffinity(0)), 1)
    return os.cpu_count() or 1
