"""Search single frames of a run and keep their candidates, so that sliders only filter."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from napari_xtal.peaks.parameters import PeakFinderParams

#: Candidates are kept down to this significance, or `MARGIN` below the cut where that is lower:
#: sliders can go down without a search, at a third of the time that 3.5 would take.
PERMISSIVE_SNR, MARGIN = 4.5, 0.5
#: What `min_snr` 0 means for peakfinder8.
DEFAULT_PEAKFINDER8_SNR = 5.0


@dataclass(frozen=True)
class FrameResult:
    """What a search of one frame gave.

    Attributes
    ----------
    frame : int
        Frame index.
    params : PeakFinderParams
        Settings of this result.
    table : DataFrame
        Peak table, `frame` filled.
    rejected : DataFrame
        Candidates that were not taken, with the column `reason`.
    threshold : float or None
        SNR from which on peaks are taken; None for a method without one.
    expected_false : float or None
        Expected number of peaks from noise alone, None where the method cannot tell.
    seconds : float
        Time the search took.
    reused : bool
        Whether only kept candidates were filtered.
    note : str
        Why nothing was searched (a broken or fully masked frame), or empty.
    """

    frame: int
    params: PeakFinderParams
    table: pd.DataFrame
    rejected: pd.DataFrame
    threshold: float | None
    expected_false: float | None
    seconds: float
    reused: bool
    note: str = ""


class FrameSearch:
    """Peak search on the frames of one run, one at a time.

    Parameters
    ----------
    stack : FrameStack
        Frames; its cache spares a second reading of the shown frame.
    """

    def __init__(self, stack: Any) -> None:
        self._stack = stack
        self._lock = threading.Lock()
        self._finder: Any = None
        self._good: Any = None
        self._candidates: Any = None
        self._key: tuple[Any, ...] | None = None
        self._lowest = PERMISSIVE_SNR  # significance down to which candidates are kept

    def can_filter(self, frame: int, params: PeakFinderParams) -> bool:
        """Whether kept candidates answer this search, that is at once."""
        return (
            params.method == "significance"
            and self._key == self._key_of(frame, params)
            and self._candidates.cut(params) >= self._lowest
        )

    def find(self, frame: int, params: PeakFinderParams) -> FrameResult:
        """Search one frame.

        Parameters
        ----------
        frame : int
            Frame index.
        params : PeakFinderParams
            Settings.

        Returns
        -------
        FrameResult
            A broken or fully masked frame gives an empty table and a `note`.
        """
        from napari_xtal.peaks.table import empty_table
        from napari_xtal.widgets.frame_stack import broken_text

        with self._lock:
            start = time.perf_counter()
            shown = self._stack.frame(frame)
            note = ""
            if not shown.ok:
                note = broken_text(shown, frame)
            elif not shown.good.any():
                note = f"Frame {frame}: every pixel is masked; nothing to search"
            if note:
                nothing = empty_table()
                return FrameResult(
                    frame, params, nothing, nothing.assign(reason=""), None, None, 0.0, False, note
                )
            if params.method != "significance":
                found = self._finder_of(shown.good).find(shown.image, params, frame)
                seconds = time.perf_counter() - start
                nothing = empty_table().assign(reason="")
                return FrameResult(
                    frame, params, found, nothing, _classic_threshold(params), None, seconds, False
                )
            reused = self.can_filter(frame, params)
            if not reused:
                self._measure(frame, shown, params)
            found = self._candidates.filter(params, frame)
            seconds = time.perf_counter() - start
            return FrameResult(
                frame,
                params,
                found,
                self._candidates.rejected(params, frame),
                self._candidates.cut(params),
                self._candidates.expected_false(params),
                seconds,
                reused,
            )

    def _key_of(self, frame: int, params: PeakFinderParams) -> tuple[Any, ...]:
        """Return what candidates depend on; the other settings only filter them."""
        good = self._stack.frame(frame).good
        return (
            frame, id(good), params.local_bg_radius, params.beam_stop_radius, params.background,
        )  # fmt: skip

    def _finder_of(self, good: Any) -> Any:
        from napari_xtal.peaks.find import PeakFinder

        if self._finder is None or self._good is not good:
            source = self._stack.source
            self._finder = PeakFinder(
                good, radius=source.radius(), panels=source.panels(), inv_d=source.inv_d()
            )
            self._good = good
        return self._finder

    def _measure(self, frame: int, shown: Any, params: PeakFinderParams) -> None:
        from napari_xtal.peaks.calibration import snr_cut

        finder = self._finder_of(shown.good)
        cut = params.min_snr or snr_cut(
            params.false_peaks_per_frame, int(np.count_nonzero(shown.good))
        )
        self._key = None
        self._lowest = max(min(PERMISSIVE_SNR, cut - MARGIN), 0.0)
        self._candidates = finder.candidates(shown.image, params, snr_min=self._lowest)
        self._key = self._key_of(frame, params)


def _classic_threshold(params: PeakFinderParams) -> float | None:
    """Return the SNR cut of the methods without candidates."""
    if params.method != "peakfinder8":
        return None
    return params.min_snr or DEFAULT_PEAKFINDER8_SNR
