"""Candidates of one frame: measured once at a permissive cut, then only filtered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.peaks import spots as m
from napari_xtal.peaks.calibration import false_peaks_per_mpx, snr_cut
from napari_xtal.peaks.candidate_kernels import thin
from napari_xtal.peaks.significance import scan_cut
from napari_xtal.peaks.table import peak_frame

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from napari_xtal.peaks.parameters import PeakFinderParams
    from napari_xtal.peaks.significance import FrameNoise

#: Why a candidate is no peak, in the order in which the tests are made.
REASONS = (
    "",
    "mask",
    "hot pixel",
    "part of a stronger peak",
    "size",
    "resolution",
    "below threshold",
    "too weak",
    "too close to a stronger peak",
    "more than max_peaks",
)
_HOT_PIXEL = REASONS.index("hot pixel")
#: Number of peaks that tell how strong a frame's diffraction is.
N_STRONG = 100
#: Share of the spot's weight that may lie on masked pixels.
MAX_MISSING = 0.5
#: Neighbours of the brightest pixel must carry this significance; a high pixel more,
#: in proportion to its height in sigma, up to a limit.
MIN_NEIGHBOURS, NEIGHBOURS_PER_HEIGHT, ENOUGH_NEIGHBOURS = 2.7, 0.03, 6.0
#: Share of a strong signal that even the sharpest point spread (sigma 0.25 px: 9 %) leaves to
#: the neighbours; below the second, significant neighbours do not help.
MIN_SPILL, NO_SPILL = 0.05, 0.01
CERTAIN_NEIGHBOURS = 20.0


@dataclass(frozen=True)
class Candidates:
    """Everything on a frame that could be a peak, with its measurements.

    Attributes
    ----------
    values : (n, N_COLUMNS) ndarray of float32
        Columns of `napari_xtal.peaks.spots`.
    radius, inv_d : (n,) ndarray
        Distance from the beam centre [px] and 1/d [1/nm]; NaN when unknown.
    panel : (n,) ndarray of int
        Panel number.
    n_pixels : int
        Live pixels of the frame.
    noise : FrameNoise
        Background and noise of the frame.
    """

    values: NDArray[np.float32]
    radius: NDArray[np.float64]
    inv_d: NDArray[np.float64]
    panel: NDArray[np.int64]
    n_pixels: int
    noise: FrameNoise | None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def snr(self) -> NDArray[np.float32]:
        """Significance of each candidate."""
        return self.values[:, m.SNR]

    def cut(self, params: PeakFinderParams) -> float:
        """Return the significance cut that `params` mean on this frame."""
        cut = self._noise_cut(params)
        if params.min_snr:
            return cut
        share = params.relative_snr / max(params.false_peaks_per_frame, 1.0) ** 0.5
        if share and len(self) >= N_STRONG:
            strongest = np.sort(self.snr[self._passes_shape(params)])[-N_STRONG:]
            if strongest.size == N_STRONG:
                cut = max(cut, share * float(np.median(strongest)))
        return cut

    def _noise_cut(self, params: PeakFinderParams) -> float:
        return params.min_snr or snr_cut(params.false_peaks_per_frame, self.n_pixels)

    def _in_wing(self, params: PeakFinderParams) -> NDArray[np.bool_]:
        """Parts of a stronger peak that a search with `params` would see."""
        parent = self.values[:, m.PARENT].astype(int)
        seen = self.values[:, m.SCAN] >= scan_cut(self._noise_cut(params))
        return (parent >= 0) & seen[parent]

    def _passes_shape(self, params: PeakFinderParams) -> NDArray[np.bool_]:
        """Candidates that are no hot pixels, wings or mask artefacts."""
        v = self.values
        ok = (v[:, m.PARENT] < 0) & (v[:, m.MISSING] <= MAX_MISSING)
        return ok & ~self._hot() if params.reject_single_pixels else ok

    def _hot(self) -> NDArray[np.bool_]:
        """Single pixels whose neighbours do not share the signal."""
        v = self.values.astype(np.float64)
        height = v[:, m.HEIGHT] / np.maximum(v[:, m.SIGMA], 1e-6)
        needed = np.clip(NEIGHBOURS_PER_HEIGHT * height, MIN_NEIGHBOURS, ENOUGH_NEIGHBOURS)
        neighbours, spill = v[:, m.NEIGHBOURS], v[:, m.SPILL]
        least = np.where(neighbours < CERTAIN_NEIGHBOURS, MIN_SPILL, NO_SPILL)
        return (neighbours < needed) | ((spill < least) & (v[:, m.SNR] > 10))

    def expected_false(self, params: PeakFinderParams) -> float:
        """Return the number of false peaks to be expected on this frame."""
        return float(false_peaks_per_mpx(self.cut(params)) * self.n_pixels * 1e-6)

    def reasons(self, params: PeakFinderParams) -> NDArray[np.uint8]:
        """Return for each candidate the index into `REASONS`; 0 = it is a peak."""
        v = self.values
        out = np.zeros(len(v), np.uint8)
        if not len(v):
            return out
        snr, size = v[:, m.SNR], v[:, m.N_PIXELS]
        resolution = np.zeros(len(v), bool)
        if params.min_res or params.max_res:
            resolution = ~(self.radius >= params.min_res)
            if params.max_res:
                resolution |= ~(self.radius <= params.max_res)
        too_low = v[:, m.MAXIMUM] < params.threshold if params.threshold else np.zeros(len(v), bool)
        wrong_size = (size < params.min_pix_count) | (size > params.max_pix_count)
        tests = (
            (v[:, m.MISSING] > MAX_MISSING, 1),
            (self._hot() & params.reject_single_pixels, 2),
            (self._in_wing(params), 3),
            (wrong_size, 4),
            (resolution, 5),
            (too_low, 6),
            (snr < self.cut(params), 7),
            # As a search at this cut would have it: filtering and searching agree.
            (v[:, m.SCAN] < scan_cut(self._noise_cut(params)), 7),
        )
        for failed, code in reversed(tests):
            out[failed] = code
        left = np.flatnonzero(out == 0)
        if params.min_distance > 0 and left.size > 1:
            order = left[np.argsort(-snr[left], kind="stable")]
            by_row = np.argsort(v[order, m.ROW], kind="stable")
            near = thin(v, order, by_row, np.float32(params.min_distance))
            out[order[near]] = 8
            left = np.flatnonzero(out == 0)
        if left.size > params.max_peaks:
            order = left[np.argsort(-snr[left], kind="stable")]
            out[order[params.max_peaks :]] = 9
        return out

    def filter(self, params: PeakFinderParams, frame: int = 0) -> pd.DataFrame:
        """Return the peak table that `params` select, in no particular order.

        ``attrs["hot_pixels"]`` lists (row, col) of the pixels that were left out as hot and
        would have been peaks else. It is a list, not an array: pandas compares attributes
        when it joins tables.
        """
        reasons = self.reasons(params)
        table = self._table(np.flatnonzero(reasons == 0), frame)
        hot = self.values[(reasons == _HOT_PIXEL) & (self.snr >= self.cut(params))]
        places = np.rint(hot[:, [m.ROW, m.COL]]).astype(np.int64)
        table.attrs["hot_pixels"] = [tuple(place) for place in places.tolist()]
        return table

    def rejected(self, params: PeakFinderParams, frame: int = 0) -> pd.DataFrame:
        """Return the candidates that `params` reject, with a column ``reason``."""
        reasons = self.reasons(params)
        rows = np.flatnonzero(reasons)
        table = self._table(rows, frame)
        table["reason"] = np.array(REASONS, dtype=object)[reasons[rows]]
        return table

    def _table(self, rows: NDArray[Any], frame: int) -> pd.DataFrame:
        return peak_frame(self.values[rows], frame, self.panel[rows], self.inv_d[rows])
