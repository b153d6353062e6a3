"""Keep markers visible when a whole detector is on the screen.

napari's own `canvas_size_limits` would do it, but a marker at its lower limit gets a border
of half that limit: rings become blots.
"""

from __future__ import annotations

import math
from typing import Any

from qtpy.QtCore import QTimer

#: Sizes change in steps of this factor, so that few zoom events cost a redraw of the layer.
STEP = 1.4
DELAY_MS = 60


class ZoomSize:
    """Set the size of a Points layer from the zoom of the camera.

    Parameters
    ----------
    camera : napari.components.Camera
        Its zoom is screen pixels per world unit.
    layer : napari.layers.Points
        The layer.
    size : float
        Diameter in detector pixels when zoomed in.
    least : float
        Smallest diameter on the screen [px].
    """

    def __init__(self, camera: Any, layer: Any, size: float, least: float) -> None:
        self._camera, self._layer, self._size, self._least = camera, layer, size, least
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(DELAY_MS)
        self._timer.timeout.connect(self._apply)
        self._shown = size
        camera.events.zoom.connect(self._on_zoom)
        self._apply()

    @property
    def diameter(self) -> float:
        """Diameter that fits the present zoom [detector pixels]."""
        needed = self._least / max(self._camera.zoom * abs(float(self._layer.scale[-1])), 1e-6)
        if needed <= self._size:
            return self._size
        return float(self._size * STEP ** math.ceil(math.log(needed / self._size, STEP)))

    def stop(self) -> None:
        """Leave the layer as it is from now on."""
        self._timer.stop()
        self._camera.events.zoom.disconnect(self._on_zoom)

    def _on_zoom(self, _event: Any = None) -> None:
        if self.diameter != self._shown:
            self._timer.start()

    def _apply(self) -> None:
        self._shown = self.diameter
        self._layer.size = self._shown
        self._layer.current_size = self._shown


def camera_of(viewer: Any) -> Any:
    """Return the camera of a viewer; napari 0.9 moved it, asking at the old place warns."""
    scene = getattr(viewer, "scene", None)
    return scene.camera if scene is not None else viewer.camera
