"""Histogram of candidate SNR with a threshold line that can be dragged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import Qt, Signal

from napari_xtal.widgets import styles

#: Bins between the smallest and the largest SNR, equal in log SNR.
N_BINS = 60
#: Weaker candidates are not drawn; all of them are noise.
LOWEST_SNR = 3.0
#: Candidates above are counted in the last bin.
MAX_SNR = 1000.0


class SnrHistogram(pg.PlotWidget):
    """Counts of candidates (grey) and accepted peaks (blue) over SNR, both axes logarithmic.

    Signals
    -------
    threshold_dragged(float)
        SNR under the line while the user drags it.
    """

    threshold_dragged = Signal(float)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent, background=None)
        self.setObjectName("snr_histogram")
        self.setFixedHeight(styles.HISTOGRAM_HEIGHT)
        self.setToolTip(
            "Signal-to-noise ratio of the candidates of the shown frame (grey) and of the peaks "
            "(blue). Drag the line to set the minimum SNR."
        )
        item = self.getPlotItem()
        # Curves are given in log10 already; only the axis has to know.
        item.getAxis("bottom").setLogMode(True)
        item.setMenuEnabled(False)
        item.hideButtons()
        item.setMouseEnabled(x=False, y=False)
        item.setLabel("bottom", "SNR")
        # Candidates outnumber peaks a hundred to one; counts are drawn as log10(1 + n).
        item.getAxis("left").setTicks(
            [[(np.log10(1 + n), str(n)) for n in (0, 10, 100, 1000, 10_000)]]
        )
        self._all = pg.PlotCurveItem(
            [0, 1], [0], stepMode="center", fillLevel=0, brush=styles.HISTOGRAM_CANDIDATES, pen=None
        )
        self._taken = pg.PlotCurveItem(
            [0, 1], [0], stepMode="center", fillLevel=0, brush=styles.HISTOGRAM_ACCEPTED, pen=None
        )
        self._line = pg.InfiniteLine(
            pos=0.7, angle=90, movable=True,
            pen=pg.mkPen(styles.HISTOGRAM_LINE, width=2),
            hoverPen=pg.mkPen(styles.HISTOGRAM_LINE, width=4),
            label="{value:.1f}", labelOpts={"position": 0.9, "color": styles.HISTOGRAM_LINE},
        )  # fmt: skip
        self._line.label.format = ""
        self._line.hide()
        item.getAxis("bottom").setTicks(
            [[(np.log10(n), str(n)) for n in (3, 4, 5, 7, 10, 20, 50, 100, 200, 500, 1000)]]
        )
        for part in (self._all, self._taken, self._line):
            item.addItem(part)
        self._line.sigDragged.connect(self._on_dragged)
        self._line.setCursor(Qt.CursorShape.SizeHorCursor)
        self.counts = np.zeros(0)
        self.edges = np.zeros(0)

    @property
    def threshold(self) -> float:
        """SNR at which the line stands."""
        return float(10 ** self._line.value())

    def show_values(self, candidates: Any, taken: Any, threshold: float | None) -> None:
        """Draw the SNR of candidates and accepted peaks.

        Parameters
        ----------
        candidates, taken : array_like of float
            SNR values; non-finite and non-positive ones are left out.
        threshold : float or None
            Position of the line; None hides it (a method without an SNR cut).
        """
        every, chosen = _usable(candidates), _usable(taken)
        low = float(np.log10(max(every.min(), LOWEST_SNR))) if len(every) else 0.0
        high = float(np.log10(every.max())) if len(every) else 2.0
        if threshold is not None and threshold > 0:
            low, high = min(low, np.log10(threshold)), max(high, np.log10(threshold))
        self.edges = np.linspace(low, max(high, low + 0.5) + 0.05, N_BINS + 1)
        self.counts = np.histogram(np.log10(every), self.edges)[0]
        accepted = np.histogram(np.log10(chosen), self.edges)[0]
        self._all.setData(self.edges, np.log10(1 + self.counts))
        self._taken.setData(self.edges, np.log10(1 + accepted))
        top = float(np.log10(1 + max(self.counts.max(), 9)))
        self.getPlotItem().setRange(
            xRange=(self.edges[0], self.edges[-1]), yRange=(0, top * 1.1), padding=0
        )
        self._line.setVisible(threshold is not None and threshold > 0)
        if threshold is not None and threshold > 0 and not self._line.moving:
            self._line.setValue(np.log10(threshold))
            self._line.label.setText(f"{threshold:.1f}")

    def _on_dragged(self) -> None:
        self._line.label.setText(f"{self.threshold:.1f}")
        self.threshold_dragged.emit(self.threshold)


def _usable(values: Any) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    return np.minimum(values[np.isfinite(values) & (values > 0)], MAX_SNR)
