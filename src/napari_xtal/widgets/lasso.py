"""Draw a lasso on the image; what lies inside is told, the drawing vanishes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_xtal.widgets import styles
from napari_xtal.widgets.zoom_size import camera_of

if TYPE_CHECKING:
    import pandas as pd

    from napari_xtal.widgets.run_link import RunLink

#: Width of the line on the screen at zoom 1 [detector px].
LINE_WIDTH = 1.5


class Lasso(QObject):
    """A temporary Shapes layer with napari's lasso tool.

    Parameters
    ----------
    viewer : napari.Viewer
        Gets the layer while the user draws.
    parent : QObject, optional
        Qt parent.

    Signals
    -------
    drawn(object)
        (n, 2) corners, (row, col) [px].
    ended()
        The tool is put away, also when nothing was drawn.
    """

    drawn = Signal(object)
    ended = Signal()

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layer: Any = None
        self._before: Any = None
        self._finish = QTimer(self)
        self._finish.setSingleShot(True)
        self._finish.setInterval(0)
        self._finish.timeout.connect(self._on_finish)

    @property
    def active(self) -> bool:
        """Whether the user may draw."""
        return self._layer is not None

    def start(self, link: RunLink) -> None:
        """Let the user draw on the frames of a run."""
        self.cancel()
        image, layers = link.layer, self._viewer.layers
        self._before = layers.selection.active
        self._layer = self._viewer.add_shapes(
            ndim=2,
            name="Lasso",
            scale=image.scale[-2:],
            translate=image.translate[-2:],
            edge_color=styles.LASSO_COLOUR,
            edge_width=max(LINE_WIDTH / max(float(camera_of(self._viewer).zoom), 1e-3), 0.2),
            face_color=styles.FACE_COLOUR,
        )
        layers.selection.active = self._layer
        self._layer.mode = "add_polygon_lasso"
        self._layer.events.data.connect(self._on_data)
        layers.events.removed.connect(self._on_removed)

    def cancel(self) -> None:
        """Put the tool away."""
        layer, self._layer = self._layer, None
        if layer is None:
            return
        layers = self._viewer.layers
        layers.events.removed.disconnect(self._on_removed)
        layer.events.data.disconnect(self._on_data)
        if layer in layers:
            layers.remove(layer)
        if self._before is not None and self._before in layers:
            layers.selection.active = self._before
        self._before = None
        self.ended.emit()

    def _on_data(self, event: Any) -> None:
        if str(event.action) == "added" and event.data_indices == (-1,):
            # Not now: napari is still inside its drawing.
            self._finish.start()

    def _on_removed(self, event: Any) -> None:
        if self._layer is not None and event.value == self._layer:
            self.cancel()

    def _on_finish(self) -> None:
        if self._layer is None:
            return
        polygons = [
            np.asarray(data)[:, -2:]
            for data, kind in zip(self._layer.data, self._layer.shape_type, strict=True)
            if kind == "polygon"
        ]
        self.cancel()
        if polygons:
            self.drawn.emit(polygons[-1])


def inside(table: pd.DataFrame, corners: Any) -> list[int]:
    """Return the ids of the peaks inside a polygon.

    Parameters
    ----------
    table : DataFrame
        Peaks of one frame.
    corners : (n, 2) array_like of float
        (row, col) [px].
    """
    from skimage.measure import points_in_poly

    if table.empty:
        return []
    within = points_in_poly(table[["row", "col"]].to_numpy(dtype=float), np.asarray(corners))
    return [int(i) for i in table["peak_id"].to_numpy()[within]]
