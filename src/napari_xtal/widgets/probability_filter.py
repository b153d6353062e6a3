"""Slider and histogram of the verifier's probability; they filter the peaks layer at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QSignalBlocker, Qt, QTimer, Signal
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QLabel, QSlider, QVBoxLayout, QWidget

from napari_xtal.widgets import model_choice, peak_rows, styles
from napari_xtal.widgets.finder_controls import button, enable

if TYPE_CHECKING:
    from napari_xtal.widgets.run_link import RunLink

N_BINS = 50
#: Steps of the slider.
STEPS = 100
#: Histogram and counts follow edits after this pause [ms]; the layer itself does not wait.
REFRESH_MS = 120
_HELP = (
    "Hide machine-made peaks without a label whose probability is lower. Peaks that a person "
    "placed or labelled, and those that no verifier has judged, stay. Hidden peaks are not saved."
)


class ProbabilityHistogram(pg.PlotWidget):
    """Counts of all peaks (grey) and of the shown ones (blue) over probability.

    Signals
    -------
    limit_dragged(float)
        Probability under the line while the user drags it.
    """

    limit_dragged = Signal(float)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent, background=None)
        self.setObjectName("probability_histogram")
        self.setFixedHeight(styles.PROBABILITY_HISTOGRAM_HEIGHT)
        self.setToolTip(
            "Probabilities of all peaks of the run (grey) and of the shown ones (blue). Drag the "
            "line to hide improbable ones. Dotted: where the model itself draws the line."
        )
        item = self.getPlotItem()
        item.setMenuEnabled(False)
        item.hideButtons()
        item.setMouseEnabled(x=False, y=False)
        # Counts are drawn as log10(1 + n): few doubtful peaks stand between many clear ones.
        item.getAxis("left").setTicks(
            [[(np.log10(1 + n), str(n)) for n in (0, 10, 100, 1000, 10_000, 100_000)]]
        )
        self.edges = np.linspace(0, 1, N_BINS + 1)
        self.counts = np.zeros(N_BINS, np.int64)
        nothing = np.zeros(N_BINS)
        self._all, self._shown = (
            pg.PlotCurveItem(
                self.edges, nothing, stepMode="center", fillLevel=0, brush=colour, pen=None
            )
            for colour in (styles.HISTOGRAM_CANDIDATES, styles.HISTOGRAM_ACCEPTED)
        )
        self._model_line = pg.InfiniteLine(
            angle=90, pen=pg.mkPen(styles.HISTOGRAM_LINE, style=Qt.PenStyle.DotLine)
        )
        self._model_line.hide()
        self.line = pg.InfiniteLine(
            pos=0, angle=90, movable=True, bounds=(0, 1),
            pen=pg.mkPen(styles.HISTOGRAM_LINE, width=2),
            hoverPen=pg.mkPen(styles.HISTOGRAM_LINE, width=4),
        )  # fmt: skip
        self.line.setCursor(Qt.CursorShape.SizeHorCursor)
        for part in (self._all, self._shown, self._model_line, self.line):
            item.addItem(part)
        self.line.sigDragged.connect(self._on_dragged)
        self.show_values(np.zeros(0), np.zeros(0, bool))

    def show_values(self, probability: Any, shown: Any) -> None:
        """Draw probabilities; NaN are left out.

        Parameters
        ----------
        probability : (n,) ndarray of float
            Of every peak.
        shown : (n,) ndarray of bool
            Which peaks the filter leaves.
        """
        known = np.isfinite(probability)
        self.counts = np.histogram(probability[known], self.edges)[0]
        left = np.histogram(probability[known & shown], self.edges)[0]
        self._all.setData(self.edges, np.log10(1 + self.counts))
        self._shown.setData(self.edges, np.log10(1 + left))
        top = float(np.log10(1 + max(self.counts.max(), 9)))
        self.getPlotItem().setRange(xRange=(0, 1), yRange=(0, 1.1 * top), padding=0.01)

    def show_threshold(self, threshold: float | None) -> None:
        """Mark where the model itself draws the line; None takes the mark away."""
        self._model_line.setVisible(threshold is not None)
        if threshold is not None:
            self._model_line.setValue(threshold)

    def _on_dragged(self) -> None:
        self.limit_dragged.emit(float(self.line.value()))


class ProbabilityFilter(QWidget):
    """Least probability of the peaks that are shown and saved; kept in the session.

    Signals
    -------
    changed(float)
        The session has another limit now.
    """

    changed = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("probability_filter")
        self.link: RunLink | None = None
        self._threshold: float | None = None
        self._kept = 0.0
        self._create_controls()
        self._write = self._timer(0, self._write_limit)
        self._refresh = self._timer(REFRESH_MS, self.refresh)
        self.set_link(None)

    def _timer(self, wait: int, slot: Any) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(wait)
        timer.timeout.connect(slot)
        return timer

    def _create_controls(self) -> None:
        self.histogram = ProbabilityHistogram(self)
        self.slider = QSlider(Qt.Orientation.Horizontal, self)
        self.slider.setObjectName("min_probability")
        self.slider.setRange(0, STEPS)
        self.slider.setMinimumWidth(80)
        self.box = QDoubleSpinBox(self)
        self.box.setObjectName("min_probability_box")
        self.box.setRange(0, 1)
        self.box.setDecimals(3)
        self.box.setSingleStep(1 / STEPS)
        self.box.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
        self.box.setKeyboardTracking(False)
        self.box.setFixedWidth(styles.NUMBER_WIDTH)
        self.to_threshold = button("Model's", "use_model_threshold", "", self)
        self.count = QLabel(self)
        self.count.setObjectName("n_shown")
        self.count.setWordWrap(True)
        self.count.setStyleSheet(styles.HINT_TEXT)
        row = QHBoxLayout()
        row.addWidget(QLabel("Min. probability", self))
        row.addWidget(self.slider, 1)
        row.addWidget(self.box)
        row.addWidget(self.to_threshold)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        for part in (self.histogram, row, self.count):
            layout.addLayout(part) if part is row else layout.addWidget(part)
        self.slider.valueChanged.connect(self._on_slider)
        self.box.valueChanged.connect(self.set_limit)
        self.histogram.limit_dragged.connect(self.set_limit)
        self.to_threshold.clicked.connect(self._on_to_threshold)

    @property
    def limit(self) -> float:
        """The least probability."""
        return float(self.box.value())

    def set_link(self, link: RunLink | None) -> None:
        """Filter the peaks of another run, or of none."""
        old = self.link
        if old is not None and not old.closed:
            events = old.session.events
            events.peaks_changed.disconnect(self._on_peaks)
            events.parameters_changed.disconnect(self._on_parameters)
            old.viewer.dims.events.current_step.disconnect(self._on_peaks)
        self.link = link
        self._threshold = None
        if link is not None:
            # Bound methods only: they are held weakly, a lambda would keep the widget alive.
            link.session.events.peaks_changed.connect(self._on_peaks)
            link.session.events.parameters_changed.connect(self._on_parameters)
            link.viewer.dims.events.current_step.connect(self._on_peaks)
        self._show_limit()
        self.refresh()

    def set_limit(self, limit: float) -> None:
        """Show peaks from this probability on."""
        self._show(round(min(max(limit, 0.0), 1.0), 3))
        self._write.start()

    def show_threshold(self, threshold: float | None) -> None:
        """Offer the threshold of the model in use; None when it is not known."""
        self._threshold = threshold
        self.histogram.show_threshold(threshold)
        self._enable()

    def refresh(self) -> None:
        """Draw histogram and counts anew."""
        if self.link is None or self.link.closed:
            self.histogram.show_values(np.zeros(0), np.zeros(0, bool))
            self.count.setText("")
            self._enable()
            return
        peaks = self.link.session.peaks
        shown = peak_rows.is_shown(peaks, self.limit)
        probability = peaks["probability"].to_numpy()
        self.histogram.show_values(probability, shown)
        here = peaks["frame"].to_numpy() == self.link.shown_frame()
        n_unjudged = int(np.isnan(probability).sum())
        parts = [
            f"<b>{int(shown.sum())} of {len(peaks)}</b> peaks shown",
            f"{int((shown & here).sum())} of {int(here.sum())} on this frame",
        ]
        if n_unjudged:
            parts.append(f"{n_unjudged} not judged")
        self.count.setText(" · ".join(parts))
        self._enable(n_judged=len(peaks) - n_unjudged)

    def _enable(self, n_judged: int | None = None) -> None:
        if n_judged is None:
            n_judged = int(self.histogram.counts.sum())
        why = None if n_judged else "no peak has a probability yet; verify first"
        if self.link is None:
            why = "no run is open"
        for control in (self.slider, self.box):
            enable(control, why, _HELP)
        at = "" if self._threshold is None else f" ({self._threshold:.2f})"
        unknown = "no model has been used yet" if self._threshold is None else None
        enable(self.to_threshold, why or unknown, f"Draw the line where the model does{at}.")

    def _on_slider(self, step: int) -> None:
        self.set_limit(step / STEPS)

    def _on_to_threshold(self) -> None:
        if self._threshold is not None:
            self.set_limit(self._threshold)

    def _on_peaks(self, _event: Any = None) -> None:
        self._refresh.start()

    def _on_parameters(self, step: str) -> None:
        if step == "verifier":
            before = self._kept
            self._show_limit()
            if self._kept != before:
                self._refresh.start()
                self.changed.emit(self._kept)

    def _show_limit(self) -> None:
        """Show what the session has."""
        known = self.link is not None and not self.link.closed
        self._kept = peak_rows.probability_limit(self.link.session.parameters) if known else 0.0
        self._show(self._kept)

    def _show(self, limit: float) -> None:
        with QSignalBlocker(self.slider), QSignalBlocker(self.box):
            self.slider.setValue(round(limit * STEPS))
            self.box.setValue(limit)
        if not self.histogram.line.moving:
            self.histogram.line.setValue(limit)

    def _write_limit(self) -> None:
        if self.link is not None and not self.link.closed:
            model_choice.remember(self.link.session, min_probability=self.limit)
