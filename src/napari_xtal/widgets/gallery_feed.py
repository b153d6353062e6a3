"""Fills the gallery from the session and keeps it in step with it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_xtal.widgets.gallery_rows import Arrangement, PeakColumns, arrange, merged
from napari_xtal.widgets.jobs import LatestJob

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_xtal.session.events import PeakChange
    from napari_xtal.session.store import Session
    from napari_xtal.widgets.gallery_model import GalleryModel
    from napari_xtal.widgets.run_link import RunLink
    from napari_xtal.widgets.thumbnails import ThumbnailStore

#: Runs with more peaks are sorted in a worker: 30 ms at this number, 0.5 s at 10^6.
DIRECT_LIMIT = 50_000
#: A search that follows a slider changes the peaks many times a second.
SETTLE_MS = 120


@dataclass(frozen=True)
class Arranged:
    """Peaks and their order, and of what state of the session they are true."""

    link: Any
    version: int
    columns: PeakColumns
    order: NDArray[np.int64]
    in_place: bool


class GalleryFeed(QObject):
    """Peaks of a session, in an order that stays as it is while the user labels.

    Parameters
    ----------
    model : GalleryModel
        Is filled.
    thumbnails : ThumbnailStore
        Is told which frames changed.
    parent : QObject, optional
        Qt parent.

    Signals
    -------
    arranged(bool)
        The model has other rows; True when those of before kept their places.
    counted()
        Labels or numbers of peaks changed.
    outdated()
        Sorting anew would give another order now.

    Attributes
    ----------
    columns : PeakColumns or None
        The peaks; None before they were first asked for.
    """

    arranged = Signal(bool)
    counted = Signal()
    outdated = Signal()
    _heard = Signal(object)

    def __init__(
        self, model: GalleryModel, thumbnails: ThumbnailStore, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._model, self._thumbnails = model, thumbnails
        self._link: RunLink | None = None
        self._how = Arrangement()
        self._active = False
        self._version, self._taken = 0, -1
        self.columns: PeakColumns | None = None
        self._job = LatestJob(self)
        self._job.done.connect(self._take)
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.timeout.connect(self._on_settled)
        # Through Qt: a session emits in the thread that made the change.
        self._heard.connect(self._on_change)

    @property
    def busy(self) -> bool:
        """Whether rows are about to change."""
        return self._settle.isActive() or self._job.busy

    def set_link(self, link: RunLink | None) -> None:
        """Show the peaks of another run, or none."""
        if self._link is not None:
            self._link.session.events.peaks_changed.disconnect(self._on_session)
        self._link, self.columns = link, None
        self._version += 1
        self._settle.stop()
        self._thumbnails.set_run(None if link is None else link.stack, self._places)
        self._model.show(None, np.zeros(0, dtype=np.int64))
        if link is not None:
            link.session.events.peaks_changed.connect(self._on_session)

    def set_active(self, active: bool) -> None:
        """Follow the session (while somebody looks), or catch up later."""
        self._active = active
        if active and self._taken != self._version:
            self._request(in_place=True)

    def arrange(self, how: Arrangement) -> None:
        """Sort and filter anew."""
        self._how = how
        self._request(in_place=False)

    # session -> columns ------------------------------------------------------------------

    def _on_session(self, change: PeakChange) -> None:
        self._heard.emit(change)

    def _on_change(self, change: PeakChange) -> None:
        if self._link is None or self._link.closed:
            return
        structural = change.frames is None or change.added or change.removed
        if structural or change.reason == "move":
            self._thumbnails.mark_stale(change.frames)
        if structural or self._job.busy or not self._active or len(change.changed) > DIRECT_LIMIT:
            self._version += 1
            if self._active:
                self._settle.start()
            return
        if self.columns is None:
            return
        self.columns.update(self._link.session.get_peaks(change.changed))
        self.counted.emit()
        if change.reason == "probability":
            self._request(in_place=False)
        else:
            self._model.touch()
            self.outdated.emit()

    def _on_settled(self) -> None:
        self._request(in_place=True)

    def _request(self, *, in_place: bool) -> None:
        link = self._link
        if link is None or link.closed or not self._active:
            return
        known = self.columns if self._taken == self._version else None
        # The first peaks have no order that should be kept.
        keep = self._model.ids(np.arange(len(self._model.order))) if in_place else []
        work = partial(_arranged, link, self._version, known, self._how, keep)
        if link.session.n_peaks <= DIRECT_LIMIT and not self._job.busy:
            self._take(work())
        else:
            self._job.submit(work)

    def _take(self, found: Arranged) -> None:
        if found.link is not self._link or self._link.closed:
            return
        self.columns, self._taken = found.columns, found.version
        self._model.show(found.columns, found.order)
        self.arranged.emit(found.in_place)
        self.counted.emit()
        if found.in_place:
            self.outdated.emit()
        if found.version != self._version:
            self._settle.start()

    def _places(self, frame: int) -> tuple[Any, Any, Any]:
        columns = self.columns
        if columns is None:
            return np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0)
        part = columns.of_frame(frame)
        return columns.ids[part], columns.row[part].copy(), columns.col[part].copy()


def _arranged(
    link: RunLink, version: int, known: PeakColumns | None, how: Arrangement, keep: list[int]
) -> Arranged:
    session: Session = link.session
    columns = PeakColumns(session.peaks) if known is None else known
    order = arrange(columns, how)
    if keep:
        order = merged(np.asarray(keep, dtype=np.int64), columns, order)
    return Arranged(link, version, columns, order, bool(keep))
