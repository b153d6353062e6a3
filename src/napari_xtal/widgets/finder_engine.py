"""Searches for the dock: live on the shown frame, and over the run, into the session."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_xtal.errors import XtalError
from napari_xtal.widgets.frame_search import FrameResult, FrameSearch
from napari_xtal.widgets.jobs import LatestJob, LongJob
from napari_xtal.widgets.sources import ArraySource

if TYPE_CHECKING:
    import pandas as pd

    from napari_xtal.peaks.parameters import PeakFinderParams
    from napari_xtal.widgets.run_link import RunLink

#: Settings are written to the session this long after the last change of a slider.
SAVE_PARAMS_MS = 400


class FinderEngine(QObject):
    """Search frames of one run and hand the peaks to its session.

    Parameters
    ----------
    link : RunLink
        The run.
    parent : QObject, optional
        Qt parent.

    Signals
    -------
    frame_done(FrameResult)
        A frame was searched and its peaks are in the session.
    progressed(int, int)
        Frames done and in total.
    run_done(object, bool, object)
        Frames that were searched (list), whether it was cancelled, and (row, col) of
        hot pixels (list).
    failed(object)
        An exception, to be shown.
    """

    frame_done = Signal(object)
    progressed = Signal(int, int)
    run_done = Signal(object, bool, object)
    failed = Signal(object)

    def __init__(self, link: RunLink, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.link = link
        self.search = FrameSearch(link.stack)
        #: Whether peaks that are found again where they were keep their probability.
        self.keep_probabilities = False
        self._run_params: PeakFinderParams | None = None
        self.run_seconds = 0.0
        self._live = LatestJob(self)
        self._live.done.connect(self._on_frame)
        self._live.failed.connect(self.failed)
        self._run = LongJob(self)
        self._run.progressed.connect(self.progressed)
        self._run.done.connect(self._on_run)
        self._run.failed.connect(self.failed)
        self._unsaved: PeakFinderParams | None = None
        self._save_timer = QTimer(self)
        self._save_timer.setSingleShot(True)
        self._save_timer.setInterval(SAVE_PARAMS_MS)
        self._save_timer.timeout.connect(self.save_params)

    @property
    def running(self) -> bool:
        """Whether a search over the run is going on."""
        return self._run.running

    @property
    def busy(self) -> bool:
        """Whether any search is going on."""
        return self._run.running or self._live.busy

    def is_current(self, frame: int, params: PeakFinderParams) -> bool:
        """Whether the session holds the peaks of a frame for these settings."""
        search = self.link.session.search_of(frame)
        return search is not None and search["parameters"] == params.to_dict()

    def find(self, frame: int, params: PeakFinderParams) -> None:
        """Search one frame: at once where kept candidates allow, else in a worker."""
        self._unsaved = params
        self._save_timer.start()
        if not self._live.busy and self.search.can_filter(frame, params):
            try:
                result = self.search.find(frame, params)
            except Exception as error:  # noqa: BLE001 - shown as a message, the window goes on
                self.failed.emit(error)
                return
            self._on_frame(result)
        else:
            self._live.submit(lambda: self.search.find(frame, params))

    def find_all(self, params: PeakFinderParams) -> None:
        """Search every frame of the run in a worker."""
        self._unsaved = self._run_params = params
        self.save_params()
        shown = self.link.source

        def work(progress: Any, cancel: Any) -> pd.DataFrame:
            from napari_xtal.peaks.find import find_peaks_in

            # Own file handles: the window goes on reading frames from the run meanwhile.
            source = shown if isinstance(shown, ArraySource) else shown.reopen()
            return find_peaks_in(source, params, progress=progress, cancel=cancel)

        self._run.start(work)

    def take(self, table: pd.DataFrame) -> None:
        """Show a table of the whole run that was found elsewhere.

        Parameters
        ----------
        table : DataFrame
            Peak table; ``attrs`` name its settings and frames where `find_peaks_in` made it.
        """
        from napari_xtal.peaks.parameters import PeakFinderParams

        params = PeakFinderParams.from_dict(table.attrs.get("parameters", {}))
        frames = [int(f) for f in table.attrs.get("frames", range(len(self.link.stack)))]
        self._commit(table, frames, params)
        self._unsaved = params
        self.save_params()

    def cancel(self) -> None:
        """Stop the search over the run; what was found is kept."""
        self._run.cancel()

    def save_params(self) -> None:
        """Write the settings to the session now."""
        if self._unsaved is not None and not self.link.closed:
            self.link.session.set_parameters("peak_finder", self._unsaved.to_dict())
            self._unsaved = None

    def close(self) -> None:
        """Stop all searches; results that come later are dropped."""
        self.save_params()
        self._save_timer.stop()
        self._live.close()
        self._run.cancel()

    def _on_frame(self, result: FrameResult) -> None:
        if self.link.closed:
            return
        # A search that is repeated for histogram and candidates brings nothing new.
        if not result.note and not self.is_current(result.frame, result.params):
            self._commit(result.table, [result.frame], result.params)
        self.frame_done.emit(result)

    def _on_run(self, table: pd.DataFrame, cancelled: bool) -> None:
        self.run_seconds = time.perf_counter() - self._run.started_at
        if self.link.closed or self._run_params is None:
            return
        frames = [int(f) for f in table.attrs["frames"]]
        self._commit(table, frames, self._run_params)
        hot = [place[:2] for place in table.attrs["hot_pixels"]]
        self.run_done.emit(frames, cancelled, hot)

    def _commit(self, table: pd.DataFrame, frames: list[int], params: PeakFinderParams) -> None:
        verifier = ""
        if self.keep_probabilities and len(frames) == 1:
            table, verifier = self._with_known(table, frames[0])
        try:
            self.link.session.set_auto_peaks(table, frames, params.to_dict(), verifier)
        except XtalError as error:
            self.failed.emit(error)

    def _with_known(self, table: pd.DataFrame, frame: int) -> tuple[pd.DataFrame, str]:
        """Return the table with the probabilities that are known, and their verifier.

        A slider only filters candidates: without this, every peak would lose its probability
        for a moment, and those hidden by it would flash up.
        """
        session = self.link.session
        verifier = session.verifier_of(frame)
        if verifier is None:
            return table, ""
        known = session.peaks_of(frame)
        values = dict(
            zip(
                zip(known["row"].tolist(), known["col"].tolist(), strict=True),
                known["probability"].tolist(),
                strict=True,
            )
        )
        places = zip(table["row"].tolist(), table["col"].tolist(), strict=True)
        return table.assign(probability=[values.get(p, float("nan")) for p in places]), verifier
