"""Common, only reference, only found: the three Points layers of a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtGui import QColor

from napari_xtal.widgets import styles
from napari_xtal.widgets.peak_rows import positions
from napari_xtal.widgets.zoom_size import ZoomSize, camera_of

if TYPE_CHECKING:
    import pandas as pd

#: Signs of the symbols in the legend.
_SIGNS = {"disc": "●", "square": "■", "triangle_up": "▲"}


class CompareLayers:
    """Three read-only layers beside the frames; they know nothing of the session.

    Parameters
    ----------
    viewer : napari.Viewer
        Gets the layers.
    image_layer : napari.layers.Image
        The frames; name and transform are taken over.

    Attributes
    ----------
    layers : dict of str to napari.layers.Points
        By set: ``common``, ``only_reference``, ``only_found``.
    """

    def __init__(self, viewer: Any, image_layer: Any) -> None:
        self._viewer, self._image = viewer, image_layer
        self.layers: dict[str, Any] = {}
        self._sizes: dict[str, ZoomSize] = {}

    def show(self, sets: dict[str, pd.DataFrame]) -> None:
        """Draw the sets, each a table with frame, row and col."""
        active = self._viewer.layers.selection.active
        for name in styles.COMPARISON:
            points = positions(sets[name])
            if self._image.ndim == 2:
                points = points[:, 1:]
            layer = self.layers.get(name)
            if layer is None or layer not in self._viewer.layers:
                self._add(name, points)
            elif not np.array_equal(layer.data, points):
                layer.data = points
        if active is not None and active in self._viewer.layers:
            # napari selects what is added; the keys belong to the peaks layer.
            self._viewer.layers.selection.active = active

    def remove(self) -> None:
        """Take the layers away."""
        for size in self._sizes.values():
            size.stop()
        for layer in self.layers.values():
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self.layers, self._sizes = {}, {}

    @property
    def complete(self) -> bool:
        """Whether all three layers are still in the viewer."""
        return bool(self.layers) and all(
            layer in self._viewer.layers for layer in self.layers.values()
        )

    def _add(self, name: str, points: Any) -> None:
        title, symbol, colour = styles.COMPARISON[name]
        if name in self._sizes:
            self._sizes.pop(name).stop()
        face = QColor(colour)
        face.setAlphaF(styles.COMPARISON_FACE_ALPHA)
        layer = self._viewer.add_points(
            points,
            ndim=self._image.ndim,
            name=f"{title} · {self._image.name}",
            symbol=symbol,
            size=styles.COMPARISON_SIZE_PX,
            border_width=styles.COMPARISON_BORDER,
            border_color=colour,
            face_color=np.array(face.getRgbF(), np.float32),
            projection_mode="none",
            scale=self._image.scale,
            translate=self._image.translate,
            axis_labels=self._image.axis_labels,
        )
        layer.editable = False
        self.layers[name] = layer
        self._sizes[name] = ZoomSize(
            camera_of(self._viewer), layer,
            styles.COMPARISON_SIZE_PX, styles.COMPARISON_LEAST_SCREEN_PX,
        )  # fmt: skip


def legend_html(here: dict[str, int], everywhere: dict[str, int]) -> str:
    """Return the legend with the numbers of points, as HTML.

    Parameters
    ----------
    here, everywhere : dict of str to int
        Points of each set on the shown frame, and of the run.
    """
    rows = "".join(
        f"<tr><td><span style='color:{colour}'>{_SIGNS[symbol]}</span>&nbsp;{title}&nbsp;</td>"
        f"<td align=right>&nbsp;{here[name]}&nbsp;</td><td align=right>{everywhere[name]}</td></tr>"
        for name, (title, symbol, colour) in styles.COMPARISON.items()
    )
    return (
        f"<table><tr><td></td><th>&nbsp;this frame</th><th>&nbsp;all frames</th></tr>{rows}</table>"
    )


def scores_row(title: str, precision: float, recall: float, f1: float) -> str:
    """Return a row of the table of scores, as HTML; NaN is a dash."""
    cells = "".join(
        f"<td align=right>&nbsp;{'–' if np.isnan(v) else f'{v:.3f}'}</td>"
        for v in (precision, recall, f1)
    )
    return f"<tr><td>{title}</td>{cells}</tr>"
