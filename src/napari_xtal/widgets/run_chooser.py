"""Choose the image layer whose run a dock works on; its session is opened with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error
from qtpy.QtCore import QSignalBlocker, QTimer, Signal
from qtpy.QtWidgets import QComboBox

from napari_xtal.errors import XtalError
from napari_xtal.widgets.run_link import RunLink, link_of

if TYPE_CHECKING:
    import napari


class RunChooser(QComboBox):
    """The image layers of a viewer; the chosen one's run is linked.

    Parameters
    ----------
    viewer : napari.Viewer
        Its layers are offered.
    parent : QWidget, optional
        Qt parent.

    Signals
    -------
    linked(object)
        The `RunLink` of another run, or None.

    Attributes
    ----------
    link : RunLink or None
    problem : str
        Why there is no run.
    """

    linked = Signal(object)

    def __init__(self, viewer: napari.viewer.Viewer, parent: Any = None) -> None:
        super().__init__(parent)
        self.setObjectName("review_layer")
        self.setToolTip("Image layer with the frames.")
        self._viewer = viewer
        self.link: RunLink | None = None
        self.problem = "Open a run (File ▸ Open), or choose an image layer."
        self._opening = QTimer(self)
        self._opening.setSingleShot(True)
        self._opening.setInterval(0)
        self._opening.timeout.connect(self._open_if_new)
        # Bound methods only: napari and Qt hold them weakly.
        viewer.layers.events.inserted.connect(self._fill)
        viewer.layers.events.removed.connect(self._fill)
        self.currentIndexChanged.connect(self._open_if_new)
        self._fill()

    @property
    def pending(self) -> bool:
        """Whether a run is about to be opened."""
        return self._opening.isActive()

    def _layers(self) -> list[Any]:
        return [
            layer
            for layer in self._viewer.layers
            if layer.ndim in (2, 3) and hasattr(layer, "contrast_limits") and not layer.rgb
        ]

    def _fill(self, _event: Any = None) -> None:
        names = [layer.name for layer in self._layers()]
        current = self.currentText()
        with QSignalBlocker(self):
            self.clear()
            self.addItems(names)
            if current in names:
                self.setCurrentText(current)
        # Not now: the layer is still being inserted, and its reader sets it up first.
        self._opening.start()

    def _open_if_new(self, _index: int = 0) -> None:
        layers, at = self._layers(), self.currentIndex()
        layer = layers[at] if 0 <= at < len(layers) else None
        if self.link is not None and not self.link.closed and layer == self.link.layer:
            return
        self.link = None
        if layer is None:
            self.problem = "Open a run (File ▸ Open), or choose an image layer."
        else:
            try:
                self.link = link_of(self._viewer, layer)
            except XtalError as error:
                self.problem = str(error)
                show_error(self.problem)
        self.linked.emit(self.link)
