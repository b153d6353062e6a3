"""The peak finder of one mask and geometry."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.errors import InputError, ParameterError
from napari_xtal.peaks.parameters import PeakFinderParams

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from napari_xtal.peaks.candidates import Candidates
    from napari_xtal.peaks.peakfinder8 import Rings
    from napari_xtal.peaks.plan import DetectorPlan

#: Types the kernels are compiled for; others are converted to one of them.
_NATIVE = {np.dtype(t) for t in ("uint16", "int32", "uint32", "float32")}


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
        if self.good.ndim != 2 or self.good.size == 0:
            raise InputError(
                f"the mask must be 2-D (ss, fs) and not empty, got shape {self.good.shape}"
            )
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
        self,
        image: NDArray[Any],
        params: PeakFinderParams | None = None,
        snr_min: float | None = None,
    ) -> Candidates:
        """Measure everything on a frame that could be a peak (method ``significance``).

        Parameters
        ----------
        image : (ss, fs) ndarray
            Frame.
        params : PeakFinderParams, optional
            Only `local_bg_radius`, `beam_stop_radius` and `background` matter here;
            the others act in `Candidates.filter`.
        snr_min : float, optional
            Candidates below this significance are not kept. Default: 4.25, or half a unit
            below the cut of `params` where that is lower.

        Returns
        -------
        Candidates

        Raises
        ------
        InputError
            When the frame's shape or type does not fit.
        """
        from napari_xtal.peaks import spots as m
        from napari_xtal.peaks.calibration import snr_cut
        from napari_xtal.peaks.candidates import Candidates
        from napari_xtal.peaks.significance import PERMISSIVE_SNR, candidates, prepare

        params = params or PeakFinderParams()
        prepare()
        image = self._check(image)
        plan = self._plan(params)
        if snr_min is None:
            cut = params.min_snr or snr_cut(params.false_peaks_per_frame, plan.n_good)
            snr_min = min(PERMISSIVE_SNR, cut - 0.5)
        noise = None
        if plan.n_good == 0:
            values = np.zeros((0, m.N_COLUMNS), np.float32)
        else:
            values, noise = candidates(image, plan, params.local_bg_radius + 0.6, snr_min)
        rows = np.clip(np.rint(values[:, m.ROW]).astype(int), 0, image.shape[0] - 1)
        cols = np.clip(np.rint(values[:, m.COL]).astype(int), 0, image.shape[1] - 1)
        radius, inv_d, panel = self._geometry(rows, cols)
        if self.radius is None and (params.min_res or params.max_res):
            radius = self._radius()[rows, cols].astype(np.float64)
        return Candidates(values, radius, inv_d, panel, n_pixels=plan.n_good, noise=noise)

    def find(
        self, image: NDArray[Any], params: PeakFinderParams | None = None, frame: int = 0
    ) -> pd.DataFrame:
        """Find the peaks of one frame; see `find_peaks`.

        With method ``significance``, ``attrs["hot_pixels"]`` of the table lists (row, col) of
        the single pixels that were rejected, see `Candidates.filter`.
        """
        params = params or PeakFinderParams()
        if params.method == "significance":
            from napari_xtal.peaks.calibration import snr_cut
            from napari_xtal.peaks.significance import prepare

            prepare()
            cut = params.min_snr or snr_cut(params.false_peaks_per_frame, self._plan(params).n_good)
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
        radius = self._radius() if params.beam_stop_radius else self.radius
        with self._lock:
            if key not in self._plans:
                good = self.good
                if params.beam_stop_radius and radius is not None:
                    good = good & (radius >= params.beam_stop_radius)
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
