"""Draws pixel values as a table of shaded cells."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPen
from qtpy.QtWidgets import QApplication, QMenu, QToolTip, QWidget

from napari_xtal.widgets import styles

if TYPE_CHECKING:
    from napari_xtal.widgets.cutouts import Cutout

#: Size of the text as parts of the window's font: as large as the values allow.
FONT_FACTORS = (0.9, 0.8, 0.7, 0.62)


class NeighbourhoodGrid(QWidget):
    """Values of a window, darker where higher; ss at the left, fs at the top.

    Attributes
    ----------
    cutout : Cutout or None
        What is shown.
    """

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.setObjectName("neighbourhood_grid")
        self.setMouseTracking(True)
        self.cutout: Cutout | None = None
        self._side = 7

    def show_cutout(self, cutout: Cutout | None, half: int) -> None:
        """Show a window of (2 * half + 1)^2 values, or nothing in its place."""
        self.cutout = cutout
        if self._side != 2 * half + 1:
            self._side = 2 * half + 1
            self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return the room that the values need."""
        return QSize(styles.NEIGHBOURHOOD_CELL * (self._side + 1), self._height())

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return a narrow width; long values are then rounded."""
        return QSize(16 * (self._side + 1), self._height())

    def _height(self) -> int:
        factor, room = (FONT_FACTORS[0], 4) if self._side < 10 else (FONT_FACTORS[1], 0)
        height = QFontMetricsF(_smaller(self.font(), factor)).height() + room
        return round((self._side + 1) * height)

    def _fitting(self) -> QFont:
        """Return the largest font in which the values fit into their cells."""
        width, n = self._cell(0, 0).width() - 1, range(self._side)
        texts = [self.text(i, j) for i in n for j in n]
        for factor in FONT_FACTORS:
            font = _smaller(self.font(), factor)
            metrics = QFontMetricsF(font)
            if max(metrics.horizontalAdvance(t) for t in texts) <= width:
                break
        return font

    def text(self, i: int, j: int, metrics: QFontMetricsF | None = None, room: float = 0) -> str:
        """Return the value of a cell.

        Parameters
        ----------
        i, j : int
            Cell.
        metrics : QFontMetricsF, optional
            Font; without it the value is exact, else rounded to fit.
        room : float
            Width on the screen [px].

        Returns
        -------
        str
            Empty beyond the border of the frame.
        """
        if self.cutout is None or not self.cutout.inside[i, j]:
            return ""
        value = self.cutout.values[i, j]
        exact = str(value) if value.dtype.kind in "iub" else f"{value:.6g}"
        if metrics is None:
            return exact
        number = float(value)
        shorter = (f"{number:.0f}", f"{number / 1e3:.0f}k", f"{number / 1e6:.0f}M", "…")
        return next(
            t for t in (exact, *shorter) if t == "…" or metrics.horizontalAdvance(t) <= room
        )

    def tsv(self) -> str:
        """Return the values as tab-separated text; cells beyond the border are empty."""
        n = range(self._side)
        return "\n".join("\t".join(self.text(i, j) for j in n) for i in n)

    def paintEvent(self, _event: Any) -> None:  # noqa: N802 - Qt's name
        """Draw the table."""
        painter = QPainter(self)
        if self.cutout is None:
            return
        painter.setFont(self._fitting())
        n, shades = self._side, _shades(self.cutout)
        self._draw_heads(painter)
        for i in range(n):
            for j in range(n):
                self._draw_cell(painter, i, j, shades[i, j])
        painter.setPen(QPen(QColor(styles.LABEL_COLOURS["unsure"]), 2))
        painter.drawRect(self._cell(n // 2, n // 2))

    def mouseMoveEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Tell the exact value under the cursor."""
        at = self._cell_at(event.position())
        QToolTip.showText(event.globalPosition().toPoint(), self._tip(*at) if at else "", self)

    def contextMenuEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Offer to copy the values."""
        if self.cutout is not None:
            menu = QMenu(self)
            menu.addAction("Copy values", self._copy)
            menu.exec(event.globalPos())

    def _copy(self) -> None:
        QApplication.clipboard().setText(self.tsv())

    @property
    def _head(self) -> float:
        """Width of the row numbers."""
        longest = 0 if self.cutout is None else self.cutout.row + self._side // 2
        font = _smaller(self.font(), FONT_FACTORS[0])
        return QFontMetricsF(font).horizontalAdvance(f"{longest}") + 6

    def _cell(self, i: int, j: int) -> QRectF:
        width, height = (self.width() - self._head) / self._side, self.height() / (self._side + 1)
        return QRectF(self._head + j * width, (i + 1) * height, width, height)

    def _cell_at(self, point: QPointF) -> tuple[int, int] | None:
        cell = self._cell(0, 0)
        i = math.floor((point.y() - cell.top()) / cell.height())
        j = math.floor((point.x() - cell.left()) / cell.width())
        known = self.cutout is not None and 0 <= i < self._side and 0 <= j < self._side
        return (i, j) if known else None

    def _tip(self, i: int, j: int) -> str:
        cutout, half = self.cutout, self._side // 2
        if not cutout.inside[i, j]:
            return "beyond the border of the frame"
        masked = "" if cutout.good[i, j] else ", masked"
        return (
            f"ss {cutout.row - half + i}, fs {cutout.col - half + j}: {self.text(i, j)} ADU{masked}"
        )

    def _draw_heads(self, painter: QPainter) -> None:
        """Write ss beside each row, and fs above as many columns as have room for it."""
        painter.setPen(QColor(styles.PLACEHOLDER_TEXT))
        half, cutout = self._side // 2, self.cutout
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        width = self._cell(0, 0).width()
        needed = QFontMetricsF(painter.font()).horizontalAdvance(f"{cutout.col + half} ")
        step = math.ceil(needed / width)
        for k in range(-half, half + 1):
            row = self._cell(k + half, 0)
            place = QRectF(0, row.top(), self._head - 4, row.height())
            painter.drawText(place, right, str(cutout.row + k))
            if k % step == 0:
                place = self._cell(-1, k + half).adjusted(-needed, 0, needed, 0)
                painter.drawText(place, Qt.AlignmentFlag.AlignCenter, str(cutout.col + k))

    def _draw_cell(self, painter: QPainter, i: int, j: int, shade: int) -> None:
        cell, cutout = self._cell(i, j), self.cutout
        if not cutout.inside[i, j]:
            painter.fillRect(cell, QColor(styles.OUTSIDE_COLOUR))
            return
        good = bool(cutout.good[i, j])
        painter.fillRect(
            cell, QColor(shade, shade, shade) if good else QColor(styles.MASKED_COLOUR)
        )
        painter.setPen(QColor("white" if good and shade < 128 else "black"))
        text = self.text(i, j, QFontMetricsF(painter.font()), cell.width())
        painter.drawText(cell, Qt.AlignmentFlag.AlignCenter, text)


def _shades(cutout: Cutout) -> Any:
    """Return the grey value of each cell, white for the lowest usable pixel."""
    values = cutout.values.astype(np.float64)
    usable = values[cutout.good & np.isfinite(values)]
    if not len(usable):
        return np.full(values.shape, 255)
    low, high = usable.min(), usable.max()
    share = np.nan_to_num((values - low) / max(high - low, 1e-9)).clip(0, 1)
    return np.rint(255 - 235 * share).astype(int)


def _smaller(font: QFont, factor: float) -> QFont:
    """Return a font scaled; a style sheet may have set its size in pixels."""
    font = QFont(font)
    if font.pixelSize() > 0:
        font.setPixelSize(max(round(font.pixelSize() * factor), 6))
    else:
        font.setPointSizeF(font.pointSizeF() * factor)
    return font
