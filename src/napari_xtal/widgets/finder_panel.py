"""The controls of the peak finder dock, laid out; what they do is in `peak_finder`."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_xtal.widgets import peak_rows, styles
from napari_xtal.widgets.finder_controls import EditBar, HotPixelBar, RunBar, SettingsBar, button
from napari_xtal.widgets.params_form import ParamsForm
from napari_xtal.widgets.readout import Readout
from napari_xtal.widgets.snr_histogram import SnrHistogram
from napari_xtal.widgets.verify_bar import VerifyBar


class FinderPanel(QWidget):
    """Layout of the dock, in a scroll area for small screens.

    Parameters
    ----------
    viewer : napari.Viewer
        For the readout under the cursor.
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.setObjectName("peak_finder")
        self._create_controls(viewer)

    def _create_controls(self, viewer: Any) -> None:
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        scroll = QScrollArea(self)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        body = QWidget(scroll)
        scroll.setWidget(body)
        outer.addWidget(scroll)
        layout = QVBoxLayout(body)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(6)

        self.layers = QComboBox(body)
        self.layers.setObjectName("image_layer")
        self.layers.setToolTip("Image layer with the frames to search.")
        self.session_label = QLabel(body)
        self.session_label.setObjectName("session_folder")
        self.session_label.setStyleSheet(styles.HINT_TEXT)
        self.session_label.setWordWrap(True)
        self.choose_folder = button(
            "Folder…", "choose_session", "Keep the edits of this run in another folder.", body
        )
        self.take_over = button(
            "Take over", "take_over",
            "Use the session although another napari seems to have it open. Its edits from now on "
            "would be lost.", body,
        )  # fmt: skip
        self.take_over.hide()
        self.settings = SettingsBar(body)
        self.form = ParamsForm(body)
        self.histogram = SnrHistogram(body)
        self.status = QLabel(body)
        self.status.setObjectName("status")
        self.status.setWordWrap(True)
        self.live = QCheckBox("Live", body)
        self.live.setObjectName("live")
        self.live.setToolTip(
            "Search the shown frame again whenever a setting or the frame changes."
        )
        self.live.setChecked(True)
        self.show_rejected = QCheckBox("Rejected", body)
        self.show_rejected.setObjectName("show_rejected")
        self.show_rejected.setToolTip(
            "Show the candidates that were not taken as grey diamonds; select their layer and hover "
            "over one to see why."
        )
        self.colour = QComboBox(body)
        self.colour.setObjectName("colour_mode")
        self.colour.setToolTip("What the colour of the rings tells.")
        self.colour.addItems([f"Colour: {mode}" for mode in peak_rows.COLOUR_MODES])
        self.verify = VerifyBar(body)
        self.run = RunBar(body)
        self.hot = HotPixelBar(body)
        self.edits = EditBar(body)
        self.readout = Readout(viewer, body)

        layout.addWidget(self.layers)
        layout.addLayout(
            _row((self.session_label, 1), (self.take_over, 0), (self.choose_folder, 0))
        )
        layout.addWidget(self.settings)
        layout.addWidget(self.form)
        layout.addWidget(self.histogram)
        layout.addWidget(self.status)
        layout.addLayout(_row((self.live, 0), (self.show_rejected, 0), (self.colour, 1)))
        for part in (self.verify, self.run, self.hot, self.edits, self.readout):
            layout.addWidget(part)
        layout.addStretch(1)
        self._scroll = scroll

    def showEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Make the dock wide enough that nothing is cut off (styled sizes are known now)."""
        super().showEvent(event)
        bar, body = self._scroll.verticalScrollBar(), self._scroll.widget()
        room = 0 if bar is None else bar.sizeHint().width()
        needed = 0 if body is None else body.minimumSizeHint().width()
        self.setMinimumWidth(max(styles.DOCK_MIN_WIDTH, needed + room))


def _row(*parts: tuple[QWidget | QPushButton, int]) -> QHBoxLayout:
    row = QHBoxLayout()
    for part, stretch in parts:
        row.addWidget(part, stretch)
    return row
