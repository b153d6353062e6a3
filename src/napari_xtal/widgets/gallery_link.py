"""Keeps the selection of gallery and peaks layer the same, and the image on the peak."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_xtal.widgets.review_controls import FOLLOW
from napari_xtal.widgets.zoom_size import camera_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_xtal.widgets.gallery import GalleryView
    from napari_xtal.widgets.gallery_model import GalleryModel
    from napari_xtal.widgets.run_link import RunLink

#: The viewer follows when the selection was at rest this long: a frame is read for it.
FOLLOW_MS = 70
#: Selections in the layer come in bursts while a box is drawn.
LAYER_MS = 30
#: Zoom [screen px per detector px] that shows a spot and its neighbours.
CLOSE_ZOOM = 8.0


class GalleryLink(QObject):
    """Selection of a gallery and of the Points layer, each following the other.

    Parameters
    ----------
    view : GalleryView
        The gallery.
    model : GalleryModel
        Its rows.
    viewer : napari.Viewer
        Shows the peaks.
    parent : QObject, optional
        Qt parent.

    Signals
    -------
    current(int)
        Position (in the columns) of the peak to look at; -1 for none.

    Attributes
    ----------
    ids : list of int
        Selected peaks; also those that are not in the gallery now.
    follow : str
        One of `FOLLOW`.
    """

    current = Signal(int)

    def __init__(
        self, view: GalleryView, model: GalleryModel, viewer: Any, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._view, self._model, self._viewer = view, model, viewer
        self._link: RunLink | None = None
        self._layer: Any = None
        self._in_layer: set[int] = set()
        self._quiet = False
        self.ids: list[int] = []
        self.follow = FOLLOW[-1]
        self._to_viewer = QTimer(self)
        self._to_viewer.setSingleShot(True)
        self._to_viewer.setInterval(FOLLOW_MS)
        self._to_viewer.timeout.connect(self._on_rest)
        self._from_layer = QTimer(self)
        self._from_layer.setSingleShot(True)
        self._from_layer.setInterval(LAYER_MS)
        self._from_layer.timeout.connect(self._on_layer_rest)
        # Not at once: the layer is inserted before its view is linked.
        self._listen = QTimer(self)
        self._listen.setSingleShot(True)
        self._listen.setInterval(0)
        self._listen.timeout.connect(self._on_layers)
        view.chosen.connect(self._on_chosen)
        viewer.layers.events.inserted.connect(self._on_inserted)

    @property
    def busy(self) -> bool:
        """Whether one side is about to follow the other."""
        return self._to_viewer.isActive() or self._from_layer.isActive()

    def set_link(self, link: RunLink | None) -> None:
        """Follow the peaks layer of another run, or none."""
        self._link, self.ids = link, []
        self._to_viewer.stop()
        self._from_layer.stop()
        self._on_layers()

    def select(self, ids: Iterable[int]) -> None:
        """Select peaks on both sides without moving the image."""
        self.ids = [int(i) for i in ids]
        self._show_in_gallery()
        self._show_in_layer()

    def restore(self) -> None:
        """Select the same peaks again, without scrolling, after the gallery got other rows."""
        self._show_in_gallery(reveal=False)

    def clear(self) -> None:
        """Select nothing in the gallery."""
        self.ids = []
        self._show_in_gallery()

    def go_to(self, position: int) -> None:
        """Show a peak in the viewer, as far as `follow` says.

        Parameters
        ----------
        position : int
            Of the peak in the columns.
        """
        link, columns = self._link, self._model.columns
        if link is None or link.closed or columns is None or self.follow == "stay":
            return
        frame, place = int(columns.frame[position]), (columns.row[position], columns.col[position])
        if link.layer.ndim == 3 and frame != link.shown_frame():
            dims = self._viewer.dims
            dims.set_point(dims.ndim - 3, link.layer.data_to_world((frame, 0, 0))[0])
        if self.follow == "frame":
            return
        camera = camera_of(self._viewer)
        centre = link.layer.data_to_world((frame, *place)[-link.layer.ndim :])[-2:]
        camera.center = (camera.center[0], *(float(x) for x in centre))
        close = CLOSE_ZOOM / abs(float(link.layer.scale[-1]))
        if self.follow == "zoom" and camera.zoom < close:
            camera.zoom = close

    # gallery -> viewer -------------------------------------------------------------------

    def _on_chosen(self) -> None:
        if self._quiet:
            return
        self.ids = self._model.ids(self._view.selected_rows())
        self._tell_current()
        self._to_viewer.start()

    def _tell_current(self) -> None:
        at = self._view.currentIndex()
        self.current.emit(self._model.position(at.row()) if at.isValid() and self.ids else -1)

    def _on_rest(self) -> None:
        at = self._view.currentIndex()
        if at.isValid() and self.ids:
            self.go_to(self._model.position(at.row()))
        self._show_in_layer()

    def _show_in_layer(self) -> None:
        link = self._link
        if link is None or link.closed or self._layer is None:
            return
        self._quiet = True
        try:
            link.view.select_ids(self.ids)
        finally:
            self._quiet = False
        self._in_layer = set(self._layer.selected_data)

    # layer -> gallery --------------------------------------------------------------------

    def _on_inserted(self, _event: Any = None) -> None:
        self._listen.start()

    def _on_layers(self) -> None:
        """Listen to the peaks layer, which is made anew after it was deleted."""
        link = self._link
        layer = None if link is None or link.closed else link.view.layer
        if layer is not None and self._layer is not None and layer == self._layer:
            return
        if self._layer is not None:
            self._layer.selected_data.events.items_changed.disconnect(self._on_layer)
        self._layer, self._in_layer = layer, set()
        if layer is not None:
            layer.selected_data.events.items_changed.connect(self._on_layer)

    def _on_layer(self, *_: Any) -> None:
        if not self._quiet:
            self._from_layer.start()

    def _on_layer_rest(self) -> None:
        link = self._link
        if link is None or link.closed or self._layer is None:
            return
        chosen = set(self._layer.selected_data)
        if chosen == self._in_layer:
            return  # the layer was drawn anew, with the same peaks selected
        self._in_layer = chosen
        rows = link.view.rows
        at = sorted(i for i in chosen if i < len(rows))
        self.ids = [int(i) for i in rows["peak_id"].iloc[at]]
        self._show_in_gallery()
        self._tell_current()

    def _show_in_gallery(self, *, reveal: bool = True) -> None:
        rows = self._model.rows(np.asarray(self.ids, dtype=np.int64))
        self._quiet = True
        try:
            self._view.select_rows(rows, reveal=reveal)
        finally:
            self._quiet = False
