"""Controls of the review tab: what is shown in which order, labels, and how it looks."""

from __future__ import annotations

import html
from typing import Any

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QSlider,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_xtal.widgets import styles
from napari_xtal.widgets.finder_controls import button, enable
from napari_xtal.widgets.gallery_rows import KEPT, RANGES, SORTS, Arrangement

#: Range that is offered first for each quantity.
_FIRST_RANGES = {
    "probability": (0.0, 1.0, 0.05, 2),
    "SNR": (0.0, 1000.0, 1.0, 1),
    "1/d": (0.0, 100.0, 0.1, 2),
    "intensity": (-1e9, 1e9, 10.0, 0),
}
#: What selecting a thumbnail does to the viewer.
FOLLOW = ("stay", "frame", "centre", "zoom")


class ArrangeBar(QWidget):
    """Which peaks the gallery shows, and in which order.

    Signals
    -------
    changed()
        Another choice was made, or the order is wanted anew.
    """

    changed = Signal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.scope = _combo("scope", "Peaks of the whole run, or of the shown frame.", self)
        self.scope.addItems(["All frames", "This frame"])
        self.kept = _combo(
            "kept", "Show only peaks with this label, or those placed by hand.", self
        )
        self.kept.addItems([k if k != "all" else "All labels" for k in KEPT])
        self.sort = _combo(
            "sort", "Order. By uncertainty the peaks come first whose probability is nearest 0.5.",
            self,
        )  # fmt: skip
        self.sort.addItems([f"By {name}" for name in SORTS])
        self.sort.setMinimumContentsLength(len("By uncertainty"))
        self.reverse = QToolButton(self)
        self.reverse.setObjectName("reverse")
        self.reverse.setText("⇅")
        self.reverse.setCheckable(True)
        self.reverse.setToolTip("Turn the order round.")
        self.resort = button("Re-sort", "resort", "", self)
        self.quantity = _combo("range", "Show only peaks within a range.", self)
        self.quantity.addItems(["Any value", *RANGES])
        self.low, self.high = (_box(name, self) for name in ("range_low", "range_high"))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(_row(self.scope, self.kept, self.resort))
        layout.addLayout(_row(self.sort, self.reverse, self.quantity))
        self._limits = QWidget(self)
        limits = _row(QLabel("from", self), self.low, QLabel("to", self), self.high)
        limits.setContentsMargins(0, 0, 0, 0)
        limits.addStretch(1)
        self._limits.setLayout(limits)
        layout.addWidget(self._limits)
        for combo in (self.scope, self.kept, self.sort):
            combo.currentIndexChanged.connect(self._on_changed)
        self.quantity.currentIndexChanged.connect(self._on_quantity)
        self.reverse.toggled.connect(self._on_changed)
        self.resort.clicked.connect(self._on_changed)
        self.low.valueChanged.connect(self._on_changed)
        self.high.valueChanged.connect(self._on_changed)
        self._show_range()
        self.set_stale(False)

    @property
    def this_frame(self) -> bool:
        """Whether only peaks of the shown frame are wanted."""
        return self.scope.currentIndex() == 1

    def arrangement(self, frame: int) -> Arrangement:
        """Return the choice; `frame` is the shown one."""
        at = self.quantity.currentIndex()
        return Arrangement(
            frame if self.this_frame else None,
            KEPT[self.kept.currentIndex()],
            list(SORTS)[self.sort.currentIndex()],
            self.reverse.isChecked(),
            list(RANGES)[at - 1] if at else None,
            self.low.value(),
            self.high.value(),
        )

    def show_all(self) -> None:
        """Lift every restriction."""
        blockers = [QSignalBlocker(c) for c in (self.scope, self.kept, self.quantity)]
        for combo in (self.scope, self.kept, self.quantity):
            combo.setCurrentIndex(0)
        del blockers
        self._show_range()
        self.changed.emit()

    def set_stale(self, stale: bool) -> None:
        """Offer to sort anew when labels or peaks changed since."""
        enable(
            self.resort, None if stale else "nothing changed since",
            "Sort and filter anew; what you label keeps its place until then.",
        )  # fmt: skip

    def _on_quantity(self) -> None:
        self._show_range()
        self._on_changed()

    def _show_range(self) -> None:
        at = self.quantity.currentIndex()
        self._limits.setVisible(at > 0)
        if at:
            least, most, step, digits = _FIRST_RANGES[list(RANGES)[at - 1]]
            for box, value in ((self.low, least), (self.high, most)):
                with QSignalBlocker(box):
                    box.setDecimals(digits)
                    box.setRange(least, most)
                    box.setSingleStep(step)
                    box.setValue(value)

    def _on_changed(self, *_: Any) -> None:
        self.changed.emit()


class LabelBar(QWidget):
    """Buttons that label what is selected; the keys do the same.

    Signals
    -------
    acted(str)
        Action of `shortcuts`.
    """

    acted = Signal(str)
    _LABELS = {
        "label_peak": ("✓ Peak", "Y"),
        "label_not_peak": ("✗ Not a peak", "N"),
        "label_unsure": ("? Unsure", "U"),
        "label_clear": ("Clear", "0"),
    }

    def __init__(self, parent: QWidget, prefix: str = "") -> None:
        super().__init__(parent)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        self.buttons: dict[str, Any] = {}
        for action, (text, _) in self._LABELS.items():
            made = button(text, prefix + action, "", self)
            made.setProperty("action", action)
            # The gallery keeps the keyboard.
            made.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            made.clicked.connect(self._on_clicked)
            self.buttons[action] = made
            row.addWidget(made)
        self.set_count(0)

    def set_count(self, n: int) -> None:
        """Say how many peaks the buttons label."""
        for action, made in self.buttons.items():
            text = f"Label {n} peak{'s' * (n != 1)} (key {self._LABELS[action][1]})"
            enable(made, None if n else "select peaks in the gallery or in the image first", text)

    def _on_clicked(self) -> None:
        self.acted.emit(self.sender().property("action"))


class LassoBar(QWidget):
    """What the lasso caught, with buttons to label it.

    Signals
    -------
    acted(str)
        Action of `shortcuts`.
    closed()
        The user is done with it.
    """

    acted = Signal(str)
    closed = Signal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.text = QLabel(self)
        self.text.setObjectName("lasso_text")
        self.labels = LabelBar(self, "lasso_")
        self.labels.acted.connect(self.acted)
        self.close_button = QToolButton(self)
        self.close_button.setObjectName("lasso_close")
        self.close_button.setText("×")
        self.close_button.setToolTip("Leave these peaks as they are.")
        self.close_button.clicked.connect(self.closed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        head = QHBoxLayout()
        head.addWidget(self.text, 1)
        head.addWidget(self.close_button)
        layout.addLayout(head)
        layout.addWidget(self.labels)
        self.hide()

    def offer(self, n: int, n_hidden: int) -> None:
        """Show how many peaks were caught; some may be hidden in the gallery."""
        hidden = f", {n_hidden} of them not in the gallery" if n_hidden else ""
        self.text.setText(f"<b>{n} peak{'s' * (n != 1)}</b> in the lasso{hidden}:")
        self.labels.set_count(n)
        self.show()


class ToolBar(QWidget):
    """Lasso, undo and redo, and what happens after a label."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.lasso = button("Lasso", "lasso", "", self)
        self.lasso.setCheckable(True)
        self.undo = button("Undo", "review_undo", "", self)
        self.redo = button("Redo", "review_redo", "", self)
        self.advance = QCheckBox("Advance", self)
        self.advance.setObjectName("advance")
        self.advance.setToolTip("After a label, go on to the next unlabelled peak.")
        self.advance.setChecked(True)
        self.follow = _combo(
            "follow",
            "What the image does when a thumbnail is selected: stay, go to its frame, put the peak "
            "in the centre, and zoom in.", self,
        )  # fmt: skip
        self.follow.addItems([f"Image: {name}" for name in FOLLOW])
        self.follow.setCurrentIndex(FOLLOW.index("zoom"))
        for control in (self.lasso, self.undo, self.redo):
            control.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        row = _row(self.lasso, self.undo, self.redo, self.advance, self.follow)
        row.setContentsMargins(0, 0, 0, 0)
        self.setLayout(row)
        self.show_session(None)

    def show_session(self, session: Any) -> None:
        """Enable what the session can do."""
        none = "no run is open"
        for control, can, text, word in (
            (self.undo, "can_undo", "undo_text", "Undo"),
            (self.redo, "can_redo", "redo_text", "Redo"),
        ):
            able = session is not None and getattr(session, can)
            why = none if session is None else f"nothing to {word.lower()}"
            what = f"{word}: {getattr(session, text)}" if able else f"{word} the last edit"
            enable(control, None if able else why, what)
        enable(
            self.lasso, none if session is None else None,
            "Draw round peaks of the shown frame to select them; press again to stop.",
        )  # fmt: skip


class LookBar(QWidget):
    """Size and contrast of the thumbnails."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.zoom = QSlider(Qt.Orientation.Horizontal, self)
        self.zoom.setObjectName("thumbnail_zoom")
        least, first, most = styles.THUMBNAIL_ZOOMS
        self.zoom.setRange(least, most)
        self.zoom.setPageStep(1)
        self.zoom.setValue(first)
        self.zoom.setToolTip("Size of the thumbnails: screen pixels per detector pixel.")
        self.contrast = _combo(
            "thumbnail_contrast",
            "Stretch each thumbnail by itself, or draw all with the contrast of the image.", self,
        )  # fmt: skip
        self.contrast.addItems(["Contrast: own", "Contrast: image"])
        self.values = QCheckBox("Pixel values", self)
        self.values.setObjectName("show_values")
        self.values.setChecked(True)
        self.values.setToolTip("Show the pixel values around the cursor or the selected peak.")
        row = _row(self.zoom, self.contrast, self.values)
        row.setContentsMargins(0, 0, 0, 0)
        self.setLayout(row)


def counts_html(counts: dict[str, int], n_shown: int) -> str:
    """Return the number of peaks of each label in its colour, and of those shown.

    Parameters
    ----------
    counts : dict of str to int
        Of `PeakColumns.counts`.
    n_shown : int
        Peaks in the gallery.
    """
    labels = {k: n for k, n in counts.items() if k != "manual"}
    order = [*(k for k in labels if k != "unlabelled"), "unlabelled"]
    parts = [
        f"<span style='color:{styles.LABEL_COLOURS.get(k, styles.OTHER_LABEL)}'>■</span>"
        f"&nbsp;{html.escape(k)}&nbsp;<b>{labels[k]:,}</b>"
        for k in order
    ]
    return (
        f"{'&nbsp; '.join(parts[:-1])}<br>{parts[-1]}&nbsp; <span style='{styles.HINT_TEXT}'>"
        f"{n_shown:,} shown · {counts['manual']:,} by hand</span>"
    )


def _combo(name: str, tooltip: str, parent: QWidget) -> QComboBox:
    made = QComboBox(parent)
    made.setObjectName(name)
    made.setToolTip(tooltip)
    return made


def _box(name: str, parent: QWidget) -> QDoubleSpinBox:
    made = QDoubleSpinBox(parent)
    made.setObjectName(name)
    made.setToolTip("Ends of the range, included.")
    made.setKeyboardTracking(False)
    made.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
    made.setFixedWidth(styles.NUMBER_WIDTH)
    return made


def _row(*controls: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(4)
    for control in controls:
        row.addWidget(control)
    return row
