"""A view of thousands of thumbnails: a grid whose cost does not grow with their number.

Qt's own list view lays out every item: with 100 000 peaks each resize, and in its list mode
each change of one label, took 0.2 s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import (
    QEvent,
    QItemSelection,
    QItemSelectionModel,
    QModelIndex,
    QPoint,
    QRect,
    QSize,
    Qt,
    QTimer,
    Signal,
)
from qtpy.QtGui import QKeySequence, QPainter, QRegion
from qtpy.QtWidgets import (
    QAbstractItemView,
    QStyle,
    QStyleOptionRubberBand,
    QStyleOptionViewItem,
)

from napari_xtal.widgets import shortcuts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_xtal.widgets.thumbnail_delegate import ThumbnailDelegate

#: Thumbnails are asked for when the view was at rest this long.
LOOK_MS = 30
_Move = QAbstractItemView.CursorAction
_Select = QItemSelectionModel.SelectionFlag


class GalleryView(QAbstractItemView):
    """Grid of equal tiles, filled row by row.

    Parameters
    ----------
    delegate : ThumbnailDelegate
        Draws the tiles.
    parent : QWidget, optional
        Qt parent.

    Signals
    -------
    acted(str)
        Action of `shortcuts` whose key was pressed.
    chosen()
        Other tiles are selected.
    looked(object)
        Range of rows on the screen, and those of the next page.
    """

    acted = Signal(str)
    chosen = Signal()
    looked = Signal(object)

    def __init__(self, delegate: ThumbnailDelegate, parent: Any = None) -> None:
        super().__init__(parent)
        self.setObjectName("gallery")
        self._delegate = delegate
        self._keys = shortcuts.gallery_keys()
        self._band: QRect | None = None
        self._look = QTimer(self)
        self._look.setSingleShot(True)
        self._look.setInterval(LOOK_MS)
        self._look.timeout.connect(self._on_look)
        self.setItemDelegate(delegate)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)

    # what the panel calls ----------------------------------------------------------------

    def selected_rows(self) -> NDArray[np.int64]:
        """Return the selected rows, ascending."""
        model = self.selectionModel()
        parts = [] if model is None else model.selection()
        spans = [np.arange(s.top(), s.bottom() + 1) for s in parts]
        return np.unique(np.concatenate(spans)) if spans else np.zeros(0, dtype=np.int64)

    def select_rows(self, rows: NDArray[np.int64], *, reveal: bool) -> None:
        """Select rows (ascending), the first of them as the current one.

        Parameters
        ----------
        rows : (n,) ndarray of int64
            The rows.
        reveal : bool
            Whether to scroll to the first of them.
        """
        model, selection, bar = self.model(), QItemSelection(), self.verticalScrollBar()
        before = bar.value()
        if len(rows):
            cuts = np.flatnonzero(np.diff(rows) > 1) + 1
            for run in np.split(rows, cuts):
                selection.append(_range(model, int(run[0]), int(run[-1])))
            first = model.index(int(rows[0]))
            self.selectionModel().setCurrentIndex(first, _Select.NoUpdate)  # scrolls there
            if not reveal:
                bar.setValue(before)
        self.selectionModel().select(selection, _Select.ClearAndSelect)

    def go_to(self, row: int) -> None:
        """Select one row only and bring it into view."""
        index = self.model().index(row)
        self.selectionModel().setCurrentIndex(index, _Select.ClearAndSelect)
        self.scrollTo(index)

    def set_zoom(self, zoom: int) -> None:
        """Draw tiles with so many screen pixels per detector pixel; the current one stays."""
        self._delegate.zoom = zoom
        self.updateGeometries()
        if self.currentIndex().isValid():
            self.scrollTo(self.currentIndex())
        self.viewport().update()

    def visible_rows(self) -> range:
        """Return the rows on the screen."""
        return self._rows_between(0, self.viewport().height())

    # geometry ----------------------------------------------------------------------------

    @property
    def tile(self) -> QSize:
        """Size of a tile on the screen."""
        return self._delegate.tile(self.font())

    @property
    def n_columns(self) -> int:
        """Tiles beside each other."""
        return max(self.viewport().width() // self.tile.width(), 1)

    @property
    def _pitch(self) -> float:
        """Distance of the columns: the tiles fill the width evenly."""
        return max(self.viewport().width() / self.n_columns, 1.0)

    def _n(self) -> int:
        model = self.model()
        return 0 if model is None else model.rowCount()

    def _rows_between(self, top: int, bottom: int) -> range:
        """Return the rows between two heights of the viewport."""
        height, n = self.tile.height(), self.n_columns
        first = (top + self.verticalOffset()) // height
        last = (bottom + self.verticalOffset()) // height
        return range(min(max(first * n, 0), self._n()), min((last + 1) * n, self._n()))

    def visualRect(self, index: QModelIndex) -> QRect:  # noqa: N802 - Qt's names, to the end
        """Return where a row is drawn."""
        if not index.isValid():
            return QRect()
        tile = self.tile
        line, place = divmod(index.row(), self.n_columns)
        top = line * tile.height() - self.verticalOffset()
        return QRect(QPoint(round((place + 0.5) * self._pitch - tile.width() / 2), top), tile)

    def indexAt(self, point: QPoint) -> QModelIndex:
        """Return the row at a position; invalid beside the tiles."""
        row = self._row_at(point)
        return QModelIndex() if row is None else self.model().index(row)

    def _row_at(self, point: QPoint) -> int | None:
        place = int(point.x() // self._pitch)
        line = (point.y() + self.verticalOffset()) // self.tile.height()
        row = line * self.n_columns + place
        inside = 0 <= place < self.n_columns and 0 <= row < self._n()
        return row if inside else None

    def scrollTo(
        self,
        index: QModelIndex,
        hint: Any = QAbstractItemView.ScrollHint.EnsureVisible,
    ) -> None:
        """Bring a row into view."""
        area, rect, bar = self.viewport().rect(), self.visualRect(index), self.verticalScrollBar()
        if rect.isEmpty():
            return
        if hint == QAbstractItemView.ScrollHint.PositionAtCenter:
            bar.setValue(bar.value() + rect.center().y() - area.center().y())
        elif rect.top() < area.top() or rect.height() > area.height():
            bar.setValue(bar.value() + rect.top())
        elif rect.bottom() > area.bottom():
            bar.setValue(bar.value() + rect.bottom() - area.bottom())

    def moveCursor(self, action: Any, _modifiers: Any) -> QModelIndex:
        """Return the row that a key leads to."""
        if not self._n():
            return QModelIndex()
        n, page = self.n_columns, max(self.viewport().height() // self.tile.height(), 1)
        steps = {
            _Move.MoveLeft: -1, _Move.MovePrevious: -1, _Move.MoveRight: 1, _Move.MoveNext: 1,
            _Move.MoveUp: -n, _Move.MoveDown: n, _Move.MovePageUp: -page * n,
            _Move.MovePageDown: page * n, _Move.MoveHome: -self._n(), _Move.MoveEnd: self._n(),
        }  # fmt: skip
        current = self.currentIndex()
        if not current.isValid():
            return self.model().index(0)
        row = current.row() + steps[action]
        if action in (_Move.MoveUp, _Move.MoveDown) and not 0 <= row < self._n():
            return current
        return self.model().index(min(max(row, 0), self._n() - 1))

    def horizontalOffset(self) -> int:
        """Return 0: the tiles fill the width."""
        return 0

    def verticalOffset(self) -> int:
        """Return how far the tiles are scrolled."""
        return self.verticalScrollBar().value()

    def isIndexHidden(self, _index: QModelIndex) -> bool:
        """Return False: no row is hidden."""
        return False

    def updateGeometries(self) -> None:
        """Adapt the scroll bar to number and size of the tiles."""
        tile, area = self.tile, self.viewport().size()
        lines = -(-self._n() // self.n_columns)
        bar = self.verticalScrollBar()
        bar.setRange(0, max(lines * tile.height() - area.height(), 0))
        bar.setPageStep(area.height())
        bar.setSingleStep(tile.height() // 3)
        super().updateGeometries()
        self._look.start()

    def resizeEvent(self, event: Any) -> None:
        """Keep the current tile in view when the columns change."""
        super().resizeEvent(event)
        self.updateGeometries()
        if self.currentIndex().isValid():
            self.scrollTo(self.currentIndex())

    def scrollContentsBy(self, _dx: int, _dy: int) -> None:
        """Draw what is in view now."""
        self.viewport().update()
        self._look.start()

    def dataChanged(self, *_: Any) -> None:
        """Draw again: there is never more than a screen full."""
        self.viewport().update()

    def reset(self) -> None:
        """Take other rows."""
        super().reset()
        self.updateGeometries()
        self.viewport().update()

    # selection ---------------------------------------------------------------------------

    def setSelection(self, rect: QRect, command: Any) -> None:
        """Select what a rubber band touches, or, with shift, all from one tile to another."""
        model, selection = self.model(), QItemSelection()
        if self.state() == QAbstractItemView.State.DragSelectingState:
            area, pitch = rect.normalized(), self._pitch
            left = max(int(area.left() // pitch), 0)
            right = min(int(area.right() // pitch), self.n_columns - 1)
            rows, n = self._rows_between(area.top(), area.bottom()), self.n_columns
            for start in range(rows.start, rows.stop, n):
                last = min(start + right, self._n() - 1)
                if start + left <= last:
                    selection.append(_range(model, start + left, last))
        else:
            ends = [self._row_at(p) for p in (rect.topLeft(), rect.bottomRight())]
            found = sorted(e for e in ends if e is not None)
            if found:
                selection.append(_range(model, found[0], found[-1]))
        self.selectionModel().select(selection, command)

    def visualRegionForSelection(self, _selection: QItemSelection) -> QRegion:
        """Return the whole view: cheaper than the union of many tiles."""
        return QRegion(self.viewport().rect())

    def selectionChanged(self, selected: QItemSelection, deselected: QItemSelection) -> None:
        """Tell that other tiles are selected."""
        super().selectionChanged(selected, deselected)
        self.chosen.emit()

    def mouseMoveEvent(self, event: Any) -> None:
        """Draw the rubber band."""
        super().mouseMoveEvent(event)
        if self.state() == QAbstractItemView.State.DragSelectingState:
            here = event.position().toPoint()
            start = self._band.topLeft() if self._band else here + QPoint(0, self.verticalOffset())
            self._band = QRect(start, here + QPoint(0, self.verticalOffset()))
            self.viewport().update()

    def mouseReleaseEvent(self, event: Any) -> None:
        """Take the rubber band away."""
        super().mouseReleaseEvent(event)
        self._band = None
        self.viewport().update()

    # keys --------------------------------------------------------------------------------

    def event(self, event: Any) -> bool:
        """Claim our keys before napari's menus do."""
        if event.type() == QEvent.Type.ShortcutOverride and self._action(event) is not None:
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: Any) -> None:
        """Act on a key of the table of keys; arrows and the like are Qt's."""
        action = self._action(event)
        if action is None:
            super().keyPressEvent(event)
        else:
            self.acted.emit(action)

    def keyboardSearch(self, _text: str) -> None:
        """Do nothing: letters are labels here."""

    def _action(self, event: Any) -> str | None:
        return self._keys.get(QKeySequence(event.keyCombination()).toString())

    # drawing -----------------------------------------------------------------------------

    def paintEvent(self, _event: Any) -> None:
        """Draw the tiles in view."""
        painter = QPainter(self.viewport())
        option = QStyleOptionViewItem()
        self.initViewItemOption(option)
        selection, current = self.selectionModel(), self.currentIndex()
        for row in self.visible_rows():
            index = self.model().index(row)
            option.rect = self.visualRect(index)
            option.state = QStyle.StateFlag.State_Enabled | QStyle.StateFlag.State_Active
            if selection.isSelected(index):
                option.state |= QStyle.StateFlag.State_Selected
            if index == current:
                option.state |= QStyle.StateFlag.State_HasFocus
            self._delegate.paint(painter, option, index)
        if self._band is not None:
            band = QStyleOptionRubberBand()
            band.initFrom(self)
            band.rect = self._band.normalized().translated(0, -self.verticalOffset())
            self.style().drawControl(QStyle.ControlElement.CE_RubberBand, band, painter, self)

    def _on_look(self) -> None:
        rows = self.visible_rows()
        following = range(rows.stop, min(rows.stop + len(rows), self._n()))
        self.looked.emit((rows, following))


def _range(model: Any, first: int, last: int) -> Any:
    """Return a selection range of rows."""
    selection = QItemSelection(model.index(first), model.index(last))
    return selection[0]
