"""The verifier in the *Peak finder* dock: judge what is found, filter by probability."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_xtal.widgets import model_choice, styles
from napari_xtal.widgets.probability_filter import ProbabilityFilter
from napari_xtal.widgets.verify_engine import VerifyEngine

if TYPE_CHECKING:
    from napari_xtal.widgets.judging import Judged
    from napari_xtal.widgets.run_link import RunLink

_HELP = (
    "Give each found peak the probability that it is one, by the model chosen in the Peak review "
    "dock. It follows the search of the shown frame, and of all frames."
)


class VerifyBar(QWidget):
    """Check box *Verify* with the probability filter below.

    Signals
    -------
    toggled(bool)
        The user switched verification on or off.
    progressed(int, int)
        Frames judged and in total.
    run_done(int, int, bool)
        Peaks judged, peaks asked for, whether it was cancelled.
    failed(object)
        An exception, to be shown.
    """

    toggled = Signal(bool)
    progressed = Signal(int, int)
    run_done = Signal(int, int, bool)
    failed = Signal(object)

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("verify_bar")
        self.link: RunLink | None = None
        self.engine: VerifyEngine | None = None
        self.check = QCheckBox("Verify (CNN)", self)
        self.check.setObjectName("verify")
        self.check.setToolTip(_HELP)
        self.hint = QLabel(self)
        self.hint.setObjectName("verify_hint")
        self.hint.setStyleSheet(styles.HINT_TEXT)
        self.hint.setWordWrap(True)
        self.filter = ProbabilityFilter(self)
        row = QHBoxLayout()
        row.addWidget(self.check)
        row.addWidget(self.hint, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addLayout(row)
        layout.addWidget(self.filter)
        self.check.toggled.connect(self._on_toggled)
        self.filter.changed.connect(self._show_filter)
        self._show_filter()

    @property
    def on(self) -> bool:
        """Whether found peaks are to be judged."""
        return self.check.isChecked()

    @property
    def running(self) -> bool:
        """Whether the whole run is being judged."""
        return self.engine is not None and self.engine.running

    @property
    def busy(self) -> bool:
        """Whether anything is being judged."""
        return self.engine is not None and self.engine.busy

    def set_link(self, link: RunLink | None) -> None:
        """Work on another run, or on none; whether to verify is remembered with the run."""
        if self.engine is not None:
            self.engine.close()
            self.engine.deleteLater()
        self.link, self.engine = link, None
        self.filter.set_link(link)
        known: dict[str, Any] = {}
        if link is not None:
            self.engine = VerifyEngine(link, self)
            self.engine.frame_done.connect(self._on_frame_done)
            self.engine.progressed.connect(self.progressed)
            self.engine.run_done.connect(self._on_run_done)
            self.engine.failed.connect(self._on_failed)
            self.engine.model_changed.connect(self._on_model_changed)
            known = link.session.parameters.get("verifier") or {}
        with QSignalBlocker(self.check):
            self.check.setChecked(bool(known.get("live")))
        self.check.setEnabled(link is not None)
        self._show_model()
        self._show_filter()

    def apply(self, frame: int) -> None:
        """Judge the peaks of a frame, if verification is on."""
        if self.on and self.engine is not None:
            if self.engine.model is None:
                self.hint.setText("loading the model …")
            self.engine.apply(frame)

    def apply_all(self) -> None:
        """Judge the peaks of the run, if verification is on."""
        if self.on and self.engine is not None and not self.engine.running:
            self.engine.apply_all()

    def cancel(self) -> None:
        """Stop judging the run; what is done is kept."""
        if self.engine is not None:
            self.engine.cancel()

    def _on_toggled(self, on: bool) -> None:
        if self.link is not None and not self.link.closed:
            model_choice.remember(self.link.session, live=on)
        self._show_filter()
        if not on:
            self.hint.setText("")
        self.toggled.emit(on)

    def _on_frame_done(self, judged: Judged) -> None:
        self.hint.setText(judged.note)

    def _on_run_done(self, n_judged: int, n_peaks: int, cancelled: bool) -> None:
        self.hint.setText("")
        self.run_done.emit(n_judged, n_peaks, cancelled)

    def _on_failed(self, error: Exception) -> None:
        self.check.setChecked(False)  # else every move of a slider would bring the message again
        self.hint.setText("switched off after an error")
        self.failed.emit(error)

    def _on_model_changed(self, _name: str) -> None:
        self._show_model()
        if self.engine is not None and self.engine.model is None:  # chosen in another dock
            self.apply(self.link.shown_frame())

    def _show_model(self) -> None:
        engine = self.engine
        model = engine.model if engine is not None else None
        if model is not None:
            kind = model_choice.KINDS[model.verifier.kind]
        else:
            kind = model_choice.kind_of(self.link.session, engine.active) if engine else "CNN"
        self.check.setText(f"Verify ({kind})")
        self.filter.show_threshold(None if model is None else model.threshold)

    def _show_filter(self, _limit: float = 0.0) -> None:
        # The dock is high already; peaks hidden by an earlier session must be explained.
        self.filter.setVisible(self.on or self.filter.limit > 0)
