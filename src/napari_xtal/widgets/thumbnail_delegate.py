"""Draws one thumbnail: the pixels, a frame in the colour of the label, the numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QPoint, QRect, QSize, Qt
from qtpy.QtGui import QColor, QFont, QFontMetrics, QImage, QPainter, QPen
from qtpy.QtWidgets import QStyle, QStyledItemDelegate

from napari_xtal.widgets import styles
from napari_xtal.widgets.thumbnails import HALF

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_xtal.widgets.cutouts import Cutout
    from napari_xtal.widgets.gallery_model import GalleryModel
    from napari_xtal.widgets.thumbnails import ThumbnailStore

#: White of a thumbnail with a contrast of its own, and the least that is black [percentiles].
OWN_PERCENTILES = (5.0, 98.0)
#: Half side of the middle whose brightest pixel is black: a bright neighbour hides no weak spot.
MIDDLE = 2
_EDGE = styles.THUMBNAIL_BORDER + styles.THUMBNAIL_MARGIN


class ThumbnailDelegate(QStyledItemDelegate):
    """Paint the rows of a gallery.

    Parameters
    ----------
    model : GalleryModel
        The peaks.
    store : ThumbnailStore
        Their pixels.
    parent : QObject, optional
        Qt parent.

    Attributes
    ----------
    zoom : int
        Screen pixels per detector pixel.
    shared : (float, float) or None
        One contrast for all; None stretches each thumbnail by itself.
    colours : (256, 3) ndarray of uint8
        RGB from the lowest to the highest value.
    n_made : int
        Pictures drawn so far.
    """

    def __init__(self, model: GalleryModel, store: ThumbnailStore, parent: Any = None) -> None:
        super().__init__(parent)
        self._model, self._store = model, store
        self.zoom = styles.THUMBNAIL_ZOOMS[1]
        self.shared: tuple[float, float] | None = None
        self.colours = np.repeat(np.arange(255, -1, -1, dtype=np.uint8)[:, None], 3, axis=1)
        self.n_made = 0

    def tile(self, font: QFont) -> QSize:
        """Return the size of one thumbnail with its text in a font."""
        lines = 2 * QFontMetrics(font).height()
        return QSize(self._side + 2 * _EDGE, self._side + 2 * _EDGE + lines)

    def show_as(self, layer: Any, *, shared: bool) -> None:
        """Take the colours, and with `shared` the contrast, of an image layer."""
        rgba = layer.colormap.map(np.linspace(0, 1, 256))
        self.colours = np.rint(np.asarray(rgba)[:, :3] * 255).astype(np.uint8)
        low, high = layer.contrast_limits
        self.shared = (float(low), float(high)) if shared else None

    @property
    def _side(self) -> int:
        return (2 * HALF + 1) * self.zoom

    def sizeHint(self, option: Any, _index: Any) -> QSize:  # noqa: N802 - Qt's name
        """Return the size of every row."""
        return self.tile(option.font)

    def paint(self, painter: QPainter, option: Any, index: Any) -> None:
        """Draw one row."""
        row, columns = index.row(), self._model.columns
        at = self._model.position(row)
        patch = self._store.get(int(columns.ids[at]), int(columns.frame[at]))
        painter.save()
        selected = bool(option.state & QStyle.StateFlag.State_Selected)
        if selected:
            painter.fillRect(option.rect, QColor(styles.SELECTED_COLOUR))
        area = QRect(option.rect.topLeft() + QPoint(_EDGE, _EDGE), QSize(self._side, self._side))
        if patch is None or isinstance(patch, str):
            self._draw_missing(painter, area, patch)
        else:
            painter.drawImage(area, self.picture(patch))
            self.n_made += 1
        label = self._model.label(row)
        self._draw_label(painter, area, label)
        colour = QColor(styles.SELECTED_TEXT) if selected else option.palette.text().color()
        painter.setPen(colour)
        self._draw_captions(painter, option, area, row)
        painter.restore()

    def picture(self, patch: Cutout) -> QImage:
        """Return a patch as an image, one pixel each."""
        values = patch.values.astype(np.float32)
        low, high = self.shared or own_contrast(values, patch.good)
        scaled = np.nan_to_num((values - low) * (255.0 / max(high - low, 1e-6)))
        rgb = self.colours[scaled.clip(0, 255).astype(np.uint8)]
        rgb[~patch.good] = _rgb(styles.MASKED_COLOUR)
        rgb[~patch.inside] = _rgb(styles.OUTSIDE_COLOUR)
        rgb = np.ascontiguousarray(rgb)
        side = rgb.shape[0]
        image = QImage(rgb.tobytes(), side, side, 3 * side, QImage.Format.Format_RGB888)
        return image.copy()  # Qt does not keep the bytes

    def _draw_missing(self, painter: QPainter, area: QRect, reason: str | None) -> None:
        painter.fillRect(area, QColor(styles.PLACEHOLDER_COLOUR))
        painter.setPen(QColor(styles.PLACEHOLDER_TEXT))
        painter.drawText(
            area, Qt.AlignmentFlag.AlignCenter, "…" if reason is None else "unreadable"
        )

    def _draw_label(self, painter: QPainter, area: QRect, label: str) -> None:
        colour = QColor(styles.LABEL_COLOURS.get(label, styles.OTHER_LABEL))
        width = styles.THUMBNAIL_BORDER
        pen = QPen(colour, width)
        pen.setJoinStyle(Qt.PenJoinStyle.MiterJoin)
        painter.setPen(pen)
        out = (width + 1) // 2
        painter.drawRect(area.adjusted(-out, -out, out - 1, out - 1))
        mark = styles.LABEL_MARKS.get(label)
        if mark:
            side = QFontMetrics(painter.font()).height()
            corner = QRect(area.right() - side + 1, area.top(), side, side)
            painter.fillRect(corner, colour)
            painter.setPen(QColor("white"))
            painter.drawText(corner, Qt.AlignmentFlag.AlignCenter, mark)

    def _draw_captions(self, painter: QPainter, option: Any, area: QRect, row: int) -> None:
        probability, snr, frame = self._model.captions(row)
        metrics = option.fontMetrics
        line = QRect(area.left(), area.bottom() + _EDGE - 1, area.width(), metrics.height())
        first, second = (probability or snr, snr if probability else "")
        painter.setFont(option.font)
        left = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        hand = " ✎" if self._model.is_manual(row) else ""
        painter.drawText(line, left, first + hand)
        below = line.translated(0, metrics.height())
        painter.drawText(below, left, second)
        # The number of the frame stands where there is room for it.
        place, beside = (line, first + hand) if second else (below, "")
        room = area.width() - metrics.horizontalAdvance(beside + "  ")
        for text in (frame, frame.replace("frame ", "#")):
            if metrics.horizontalAdvance(text) <= room:
                painter.drawText(place, right if beside else left, text)
                break


def own_contrast(values: NDArray[np.float32], good: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the values of one patch to be drawn white and black, from its usable pixels."""
    use = good & np.isfinite(values)
    usable = np.sort(values[use])
    if not len(usable):
        return 0.0, 1.0
    low, high = (float(usable[int(q / 100 * (len(usable) - 1))]) for q in OWN_PERCENTILES)
    half = values.shape[0] // 2
    core = (slice(half - MIDDLE, half + MIDDLE + 1),) * 2
    high = float(values[core][use[core]].max(initial=high))
    return (low, high) if high > low else (low, max(float(usable[-1]), low + 1.0))


def _rgb(colour: str) -> tuple[int, int, int]:
    found = QColor(colour)
    return found.red(), found.green(), found.blue()
