"""Rejected candidates of the shown frame as small grey diamonds, each with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_xtal.widgets import peak_rows, styles
from napari_xtal.widgets.zoom_size import ZoomSize, camera_of

if TYPE_CHECKING:
    import pandas as pd

#: Most markers drawn: the strongest ones; noise gives thousands of weak candidates.
MAX_SHOWN = 3000


class RejectedView:
    """A read-only Points layer beside the peaks layer; hovering one tells the reason.

    Parameters
    ----------
    viewer : napari.Viewer
        Gets the layer when it is first needed.
    image_layer : napari.layers.Image
        The frames; its transform is taken over.
    """

    def __init__(self, viewer: Any, image_layer: Any) -> None:
        self._viewer, self._image = viewer, image_layer
        self.layer: Any = None
        self._zoom_size: ZoomSize | None = None

    def show(self, rejected: pd.DataFrame) -> None:
        """Draw the rejected candidates of one frame.

        Parameters
        ----------
        rejected : DataFrame
            Peak table with the column `reason`.
        """
        rows = rejected.nlargest(MAX_SHOWN, "snr") if len(rejected) > MAX_SHOWN else rejected
        points = peak_rows.positions(rows)
        if self._image.ndim == 2:
            points = points[:, 1:]
        features = rows[["reason", "snr", "n_pixels", "max_value"]].reset_index(drop=True).round(2)
        if self.layer is None or self.layer not in self._viewer.layers:
            active = self._viewer.layers.selection.active
            self.layer = self._viewer.add_points(
                points,
                ndim=self._image.ndim,
                name=f"Rejected in {self._image.name}",
                features=features,
                symbol=styles.REJECTED_SYMBOL,
                size=styles.REJECTED_SIZE_PX,
                border_width=styles.REJECTED_BORDER,
                border_color=styles.REJECTED_COLOUR,
                face_color=styles.FACE_COLOUR,
                projection_mode="none",
                scale=self._image.scale,
                translate=self._image.translate,
                axis_labels=self._image.axis_labels,
            )
            self.layer.editable = False
            self._zoom_size = ZoomSize(
                camera_of(self._viewer), self.layer,
                styles.REJECTED_SIZE_PX, styles.REJECTED_LEAST_SCREEN_PX,
            )  # fmt: skip
            # napari selects what is added; the keys belong to the peaks layer.
            self._viewer.layers.selection.active = active
            return
        self.layer.data = points
        self.layer.features = features
        self.layer.visible = True

    def hide(self) -> None:
        """Hide the markers."""
        if self.layer is not None and self.layer in self._viewer.layers:
            self.layer.visible = False

    def remove(self) -> None:
        """Take the layer away."""
        if self.layer is not None and self.layer in self._viewer.layers:
            self._viewer.layers.remove(self.layer)
        if self._zoom_size is not None:
            self._zoom_size.stop()
        self.layer = self._zoom_size = None
