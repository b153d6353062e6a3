"""Pixel values around a peak or the cursor, with what was measured there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtGui import QCursor
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_xtal.peaks.manual import measure_at
from napari_xtal.widgets import peak_rows, styles
from napari_xtal.widgets.cutouts import Cutout, cut
from napari_xtal.widgets.jobs import LatestJob
from napari_xtal.widgets.neighbourhood_grid import NeighbourhoodGrid
from napari_xtal.widgets.thumbnails import HALF, ThumbnailStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_xtal.widgets.run_link import RunLink

#: Half sides s that can be chosen; the window is (2s + 1)^2.
HALVES = (2, 3, 4, 5, 6, 7)
#: The values follow the cursor at most this often.
HOVER_MS = 40
_MEASURED = ("snr", "intensity", "n_pixels", "background", "sigma")


@dataclass(frozen=True)
class Neighbourhood:
    """A window and what is known of its middle.

    Attributes
    ----------
    cutout : Cutout
        The pixels.
    frame : int
        Frame index.
    row, col : float
        Position [px].
    values : dict
        Columns of the peak table, by the finder at a peak, else measured in 5 x 5 pixels.
    peak : int or None
        Id of the peak, None for a pixel without.
    """

    cutout: Cutout
    frame: int
    row: float
    col: float
    values: Mapping[str, Any]
    peak: int | None = None

    def text(self) -> str:
        """Return three lines: what and where, the signal, resolution and verdict."""
        v = self.values
        what = f"<b>Peak {self.peak}</b>" if self.peak is not None else "<b>Pixel</b>"
        panel = f" · panel {v['panel']:.0f}" if v.get("panel") else ""
        where = f"frame {self.frame} · ss {self.row:.2f}, fs {self.col:.2f}{panel}"
        signal = (
            f"SNR {_number(v['snr'], 1)} · intensity {_number(v['intensity'], 1)} ADU in "
            f"{v['n_pixels']:.0f} px · background {_number(v['background'], 2)} ± "
            f"{_number(v['sigma'], 2)} ADU"
        )
        q = v.get("inv_d", np.nan)
        more = [f"1/d {q:.3f} nm⁻¹ (d {10 / q:.2f} Å)" if q > 0 else "1/d unknown"]
        if self.peak is not None:
            more += [f"probability {_number(v['probability'], 3)}", str(v["label"])]
        return f"{what} · {where}<br>{signal}<br>{' · '.join(more)}"


def at_pixel(cutout: Cutout, frame: int, source: Any) -> Neighbourhood:
    """Return what can be measured around a pixel.

    Parameters
    ----------
    cutout : Cutout
        Window with at least 11 x 11 pixels.
    frame : int
        Frame index.
    source : FrameSource
        For resolution and panel.
    """
    half = cutout.half
    values: dict[str, Any] = measure_at(cutout.values, cutout.good, half, half)
    inv_d, panels = source.inv_d(), source.panels()
    at = (cutout.row, cutout.col)
    values["inv_d"] = np.nan if inv_d is None else float(inv_d[at])
    values["panel"] = 0 if panels is None else int(panels[at])
    return Neighbourhood(cutout, frame, float(cutout.row), float(cutout.col), values)


def at_peak(cutout: Cutout, peak: Mapping[str, Any]) -> Neighbourhood:
    """Return a peak's row of the table with its window.

    What a list from elsewhere does not tell is measured in 5 x 5 pixels.

    Parameters
    ----------
    cutout : Cutout
        Window with at least 11 x 11 pixels.
    peak : mapping
        Columns of the peak table.
    """
    values = dict(peak)
    if np.isnan(values["snr"]):
        half = cutout.half
        measured = measure_at(
            cutout.values, cutout.good,
            half + values["row"] - cutout.row, half + values["col"] - cutout.col,
        )  # fmt: skip
        values |= {name: measured[name] for name in _MEASURED}
    return Neighbourhood(
        cutout, int(peak["frame"]), float(peak["row"]), float(peak["col"]), values,
        int(peak["peak_id"]),
    )  # fmt: skip


class NeighbourhoodPanel(QWidget):
    """Table of pixel values at the cursor, or at the peak selected in the gallery.

    Parameters
    ----------
    viewer : napari.Viewer
        Its cursor is followed.
    thumbnails : ThumbnailStore
        Pixels of peaks on frames that are not shown.
    parent : QWidget, optional
        Qt parent.
    """

    def __init__(self, viewer: Any, thumbnails: ThumbnailStore, parent: Any = None) -> None:
        super().__init__(parent)
        self.setObjectName("neighbourhood")
        self._viewer, self._thumbnails = viewer, thumbnails
        self._link: RunLink | None = None
        self._waiting: dict[str, Any] | None = None
        self._mouse = QCursor.pos()
        self.shown: Neighbourhood | None = None
        self.half = QComboBox(self)
        self.half.setObjectName("neighbourhood_half")
        self.half.setToolTip("Side of the window of pixel values.")
        self.half.addItems([f"{2 * s + 1} × {2 * s + 1}" for s in HALVES])
        self.half.setCurrentIndex(HALVES.index(3))
        self.text = QLabel(self)
        self.text.setObjectName("neighbourhood_text")
        self.text.setWordWrap(True)
        self.grid = NeighbourhoodGrid(self)
        title = QLabel("Pixel values [ADU]", self)
        head = QHBoxLayout()
        head.addWidget(title, 1)
        head.addWidget(self.half)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addLayout(head)
        layout.addWidget(self.grid)
        layout.addWidget(self.text)
        layout.addStretch(1)
        self._hover = QTimer(self)
        self._hover.setSingleShot(True)
        self._hover.setInterval(HOVER_MS)
        self._hover.timeout.connect(self._on_hover)
        self._reader = LatestJob(self)
        self._reader.done.connect(self._on_hover)
        self.half.currentIndexChanged.connect(self._repaint)
        thumbnails.arrived.connect(self._on_arrived)
        viewer.cursor.events.position.connect(self._on_cursor)
        self.set_link(None)

    def set_link(self, link: RunLink | None) -> None:
        """Show pixels of another run, or of none."""
        self._link, self._waiting = link, None
        self._show(None)

    def show_peak(self, peak: dict[str, Any]) -> None:
        """Show the surroundings of a peak, once its pixels are there.

        Parameters
        ----------
        peak : dict
            Row of the peak table.
        """
        frame = int(peak["frame"])
        shown = self._link.stack.cached(frame)
        if shown is not None and shown.ok:
            found = cut(shown.image, shown.good, [peak["row"]], [peak["col"]], HALF)[0]
        else:
            found = self._thumbnails.get(int(peak["peak_id"]), frame)
        self._waiting = peak if found is None else None
        if isinstance(found, Cutout):
            self._show(at_peak(found, peak))
        else:
            self._show(None)
            self.text.setText(found or f"Reading frame {frame} …")

    def _on_arrived(self, frame: int) -> None:
        if self._waiting is not None and self._waiting["frame"] == frame:
            self.show_peak(self._waiting)

    def _on_cursor(self, _event: Any = None) -> None:
        # The position changes too when frame or camera follow a selected peak, which then stays.
        mouse, before = QCursor.pos(), self._mouse
        self._mouse = mouse
        if self._link is None or not self.isVisible() or mouse == before:
            return
        if not self._hover.isActive():
            self._hover.start()

    def _on_hover(self, _result: Any = None) -> None:
        link = self._link
        if link is None or link.closed:
            return
        row, col = (float(x) for x in link.layer.world_to_data(self._viewer.cursor.position)[-2:])
        n_ss, n_fs = link.stack.shape[-2:]
        if not (-0.5 <= row < n_ss - 0.5 and -0.5 <= col < n_fs - 0.5):
            return  # the selected peak stays
        frame = link.shown_frame()
        shown = link.stack.cached(frame)
        if shown is None:  # pushed out of the cache by a search; not read in this thread
            self._reader.submit(partial(_read, link.stack, frame))
            return
        self._waiting = None
        if not shown.ok:
            return
        peak = self._peak_at(frame, row, col)
        at = (row, col) if peak is None else (peak["row"], peak["col"])
        window = cut(shown.image, shown.good, [at[0]], [at[1]], HALF)[0]
        self._show(at_pixel(window, frame, link.source) if peak is None else at_peak(window, peak))

    def _peak_at(self, frame: int, row: float, col: float) -> dict[str, Any] | None:
        reach = styles.PEAK_SIZE_PX / 2
        rows = self._link.view.rows
        found = peak_rows.nearest(rows, frame, row, col, reach)
        if found is None:
            return None
        return rows.iloc[int(np.flatnonzero(rows["peak_id"].to_numpy() == found)[0])].to_dict()

    def _show(self, what: Neighbourhood | None) -> None:
        self.shown = what
        self.text.setText("Point at the image, or select a peak." if what is None else what.text())
        self._repaint()

    def _repaint(self, _index: int = 0) -> None:
        half = HALVES[self.half.currentIndex()]
        self.grid.show_cutout(None if self.shown is None else self.shown.cutout.shrunk(half), half)


def _read(stack: Any, frame: int) -> int:
    stack.frame(frame)
    return frame


def _number(value: float, digits: int) -> str:
    return "–" if np.isnan(value) else f"{value:.{digits}f}"
