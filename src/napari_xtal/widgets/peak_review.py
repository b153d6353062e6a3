"""The *Peak review* dock: look at the peaks one by one, train the verifier, compare lists."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QDockWidget, QLabel, QMainWindow, QTabWidget, QVBoxLayout, QWidget

from napari_xtal.widgets import styles
from napari_xtal.widgets.review_panel import ReviewPanel
from napari_xtal.widgets.run_chooser import RunChooser

if TYPE_CHECKING:
    import napari

    from napari_xtal.widgets.run_link import RunLink

#: Tabs that are made when they are first shown: title, module, class.
LATER = (
    ("Train", "napari_xtal.widgets.train_panel", "TrainPanel"),
    ("Compare", "napari_xtal.widgets.compare_panel", "ComparePanel"),
)


class PeakReviewWidget(QWidget):
    """Review the peaks of a run, train and apply a verifier, compare with a reference list.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer, given by napari.

    Attributes
    ----------
    review : ReviewPanel
        The gallery and its controls.
    tabs : QTabWidget
        Review, Train, Compare.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.setObjectName("peak_review")
        self.viewer = napari_viewer
        self.chooser = RunChooser(napari_viewer, self)
        self.session_label = QLabel(self)
        self.session_label.setObjectName("review_session")
        self.session_label.setStyleSheet(styles.HINT_TEXT)
        self.review = ReviewPanel(napari_viewer, self)
        self.tabs = QTabWidget(self)
        self.tabs.setObjectName("review_tabs")
        self.tabs.addTab(self.review, "Review")
        for title, _, _ in LATER:
            self.tabs.addTab(QWidget(self.tabs), title)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(4)
        layout.addWidget(self.chooser)
        layout.addWidget(self.session_label)
        layout.addWidget(self.tabs, 1)
        self.setMinimumWidth(styles.DOCK_MIN_WIDTH)
        self._beside = QTimer(self)
        self._beside.setSingleShot(True)
        self._beside.setInterval(0)
        self._beside.timeout.connect(self._share_place)
        self.tabs.currentChanged.connect(self._on_tab)
        self.chooser.linked.connect(self._on_linked)
        self.review.train_wanted.connect(self.show_train)
        self._on_linked(None)

    @property
    def link(self) -> RunLink | None:
        """The run, or None."""
        return self.chooser.link

    @property
    def busy(self) -> bool:
        """Whether a run is about to be opened, or thumbnails are on their way."""
        return self.chooser.pending or self.review.busy

    def show_train(self) -> QWidget:
        """Show the tab where a verifier is trained and applied; return its panel."""
        self.tabs.setCurrentIndex(1)
        return self.tabs.widget(1)

    def showEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Share the place of the peak finder dock: one below the other both are too low."""
        super().showEvent(event)
        if not event.spontaneous():
            self._beside.start()

    def _share_place(self) -> None:
        window, mine = self.window(), _dock_of(self)
        if not isinstance(window, QMainWindow) or mine is None or mine.isFloating():
            return
        other = next((_dock_of(w) for w in window.findChildren(QWidget, "peak_finder")), None)
        alone = not window.tabifiedDockWidgets(mine)
        if other is not None and alone and not other.isFloating() and other.isVisible():
            if window.dockWidgetArea(other) == window.dockWidgetArea(mine):
                window.tabifyDockWidget(other, mine)
            mine.raise_()

    def _on_linked(self, link: RunLink | None) -> None:
        if link is None:
            self.session_label.setText("No run is open.")
        else:
            self.session_label.setText(f"Session: {link.session.folder.name}")
            self.session_label.setToolTip(f"Edits are kept in {link.session.folder}")
        self.review.problem = self.chooser.problem
        for at in range(self.tabs.count()):
            panel = self.tabs.widget(at)
            if hasattr(panel, "set_link"):
                panel.set_link(link)

    def _on_tab(self, at: int) -> None:
        """Make a tab when it is first shown: what it needs takes its time to import."""
        if at == 0 or hasattr(self.tabs.widget(at), "set_link"):
            return
        title, module, name = LATER[at - 1]
        panel = getattr(import_module(module), name)(self.tabs)
        former = self.tabs.widget(at)
        self.tabs.blockSignals(True)
        self.tabs.removeTab(at)
        self.tabs.insertTab(at, panel, title)
        self.tabs.setCurrentIndex(at)
        self.tabs.blockSignals(False)
        former.deleteLater()
        panel.set_link(self.link)


def _dock_of(widget: QWidget) -> QDockWidget | None:
    at: Any = widget
    while at is not None and not isinstance(at, QDockWidget):
        at = at.parentWidget()
    return at


def open_peak_review_dock(viewer: Any) -> PeakReviewWidget:
    """Open (or show) the peak review dock of a viewer and return its widget."""
    return viewer.window.add_plugin_dock_widget("napari-xtal", "Peak review")[1]
