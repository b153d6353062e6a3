"""Parts of the peak finder dock: presets and settings menu, search buttons, edit buttons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QApplication,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QMenu,
    QProgressBar,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_xtal.errors import XtalError
from napari_xtal.peaks.export_settings import EXPORTS
from napari_xtal.peaks.parameters import PRESETS, PeakFinderParams
from napari_xtal.widgets import shortcuts, styles


def button(text: str, name: str, tooltip: str, parent: QWidget) -> QPushButton:
    """Return a push button with the name tests use and a tooltip."""
    made = QPushButton(text, parent)
    made.setObjectName(name)
    made.setToolTip(tooltip)
    return made


def enable(control: QWidget, reason: str | None, tooltip: str) -> None:
    """Enable a control, or disable it with the reason as its tooltip."""
    control.setEnabled(reason is None)
    control.setToolTip(tooltip if reason is None else f"{tooltip}\n\nNot available: {reason}")


class SettingsBar(QWidget):
    """Presets, reset, and the menu to load, save and copy settings.

    Signals
    -------
    chosen(PeakFinderParams)
        Settings from a preset, a file or reset.
    """

    chosen = Signal(object)
    CUSTOM = "Custom"

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._params = PeakFinderParams()
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.presets = QComboBox(self)
        self.presets.setObjectName("presets")
        self.presets.setToolTip("Named starting points; every value can be changed below.")
        self.presets.addItems([*PRESETS, self.CUSTOM])
        self.presets.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.presets.textActivated.connect(self._on_preset)
        self.reset = button("Reset", "reset", "Go back to the default settings.", self)
        self.reset.clicked.connect(lambda: self.chosen.emit(PeakFinderParams()))
        self.menu_button = QToolButton(self)
        self.menu_button.setObjectName("settings_menu")
        self.menu_button.setText("Settings")
        self.menu_button.setToolTip("Load or save the settings, or copy them for another program.")
        self.menu_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.menu_button.setMenu(self._create_menu())
        layout.addWidget(self.presets, 1)
        layout.addWidget(self.reset)
        layout.addWidget(self.menu_button)

    def show_params(self, params: PeakFinderParams) -> None:
        """Show the name of the preset these settings are, or "Custom"."""
        self._params = params
        name = next((n for n, p in PRESETS.items() if p == params), self.CUSTOM)
        self.presets.setCurrentText(name)

    def copy_as(self, target: str) -> str:
        """Copy the settings in the words of another program to the clipboard and return them."""
        text = EXPORTS[target](self._params)
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(text)
        show_info(f"Copied as {target}.")
        return text

    def _create_menu(self) -> QMenu:
        menu = QMenu(self)
        menu.addAction("Load TOML…", self._on_load)
        menu.addAction("Save TOML…", self._on_save)
        copy = menu.addMenu("Copy settings as")
        for target in EXPORTS:
            copy.addAction(target, lambda t=target: self.copy_as(t))
        return menu

    def _on_preset(self, name: str) -> None:
        if name in PRESETS:
            self.chosen.emit(PRESETS[name])

    def _on_load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Load settings", "", "TOML (*.toml)")
        if path:
            self.load(path)

    def load(self, path: str | Path) -> None:
        """Take settings from a TOML file; a wrong file gives one message and changes nothing."""
        try:
            self.chosen.emit(PeakFinderParams.load(path))
        except XtalError as error:
            show_error(str(error))

    def _on_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "Save settings", "peak_finder.toml", "TOML (*.toml)"
        )
        if path:
            try:
                self._params.save(path)
            except OSError as error:
                show_error(f"{path}: cannot be written: {error.strerror or error}")


class RunBar(QWidget):
    """Buttons to search the shown frame or the run, with progress and cancel."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        row = QHBoxLayout()
        self.this_frame = button(
            "This frame", "this_frame", "Search the shown frame with these settings.", self
        )
        self.all_frames = button(
            "All frames", "all_frames", "Search every frame of the run with these settings.", self
        )
        self.cancel = button("Cancel", "cancel", "Stop; peaks found so far are kept.", self)
        for control in (self.this_frame, self.all_frames, self.cancel):
            row.addWidget(control)
        outer.addLayout(row)
        self.progress = QProgressBar(self)
        self.progress.setObjectName("progress")
        self.progress.setFormat("%v of %m frames")
        self.progress.hide()
        outer.addWidget(self.progress)
        self.set_state(None, running=False)

    def set_state(self, unavailable: str | None, *, running: bool) -> None:
        """Enable what can be done now; `unavailable` says why nothing can."""
        busy = "a search is running; cancel it first" if running else unavailable
        enable(self.this_frame, busy, "Search the shown frame with these settings.")
        enable(self.all_frames, busy, "Search every frame of the run with these settings.")
        enable(
            self.cancel,
            None if running else "no search is running",
            "Stop; peaks found so far are kept.",
        )
        if not running:
            self.progress.hide()

    def show_progress(self, done: int, total: int) -> None:
        """Move the progress bar; before the first frame it only shows that work goes on."""
        self.progress.setRange(0, total)
        self.progress.setValue(done)
        self.progress.show()


class EditBar(QWidget):
    """Undo, redo, save and the help on keys."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self.undo = button("Undo", "undo", "Undo the last edit", self)
        self.redo = button("Redo", "redo", "Redo the edit undone last", self)
        self.save = button("Save…", "save", "Save the peaks as CXI, CSV or list of frames", self)
        self.keys = button("Keys", "keys", shortcuts.help_html(), self)
        for control in (self.undo, self.redo, self.save, self.keys):
            row.addWidget(control)
        self.keys.clicked.connect(lambda: show_info(plain_keys()))

    def show_session(self, session: Any, n_peaks: int) -> None:
        """Enable what the session can do."""
        none = "no run is open"
        can_undo = session is not None and session.can_undo
        can_redo = session is not None and session.can_redo
        undo = f"Undo: {session.undo_text}" if can_undo else "Undo the last edit"
        redo = f"Redo: {session.redo_text}" if can_redo else "Redo the edit undone last"
        enable(
            self.undo, None if can_undo else none if session is None else "nothing to undo", undo
        )
        enable(
            self.redo, None if can_redo else none if session is None else "nothing to redo", redo
        )
        enable(
            self.save,
            None if n_peaks else none if session is None else "no peaks yet",
            "Save the peaks as CXI, CSV or list of frames",
        )


class HotPixelBar(QWidget):
    """Offer to mask pixels that fire in many frames."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self.text = QLabel(self)
        self.text.setObjectName("hot_pixels")
        self.text.setWordWrap(True)
        self.text.setStyleSheet(styles.HINT_TEXT)
        self.add = button(
            "Add to mask", "add_to_mask",
            "Mask these pixels in every frame of this run, and delete the peaks on them.", self,
        )  # fmt: skip
        row.addWidget(self.text, 1)
        row.addWidget(self.add)
        self.hide()

    def offer(self, n_pixels: int) -> None:
        """Show the offer, or hide it when there is nothing to mask."""
        self.text.setText(
            f"{n_pixels} pixel{'s' * (n_pixels != 1)} fire in more than 5 % of frames."
        )
        self.setVisible(n_pixels > 0)


def plain_keys() -> str:
    """Return the table of keys as plain text."""
    return "\n".join(
        f"{s.key}: {s.description}" for s in shortcuts.SHORTCUTS + shortcuts.NAPARI_KEYS
    )
