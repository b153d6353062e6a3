"""The gallery's Qt model: rows are peaks in the order they are looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QAbstractListModel, QModelIndex, Qt

from napari_xtal.widgets.gallery_rows import UNLABELLED, PeakColumns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray


class GalleryModel(QAbstractListModel):
    """Peaks of a run, one per row; nothing is made for rows that nobody looks at.

    Parameters
    ----------
    parent : QObject, optional
        Qt parent.
    """

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.columns: PeakColumns | None = None
        self.order = np.zeros(0, dtype=np.int64)
        self._row_at = np.zeros(0, dtype=np.int64)
        #: Frame -> why its pixels cannot be shown, or nothing.
        self.reason_of: Callable[[int], str] | None = None

    def show(self, columns: PeakColumns | None, order: NDArray[np.int64]) -> None:
        """Show other peaks, or the same in another order.

        Parameters
        ----------
        columns : PeakColumns or None
            The peaks.
        order : (n,) ndarray of int64
            Positions in `columns`.
        """
        self.beginResetModel()
        self.columns, self.order = columns, order
        self._row_at = np.full(0 if columns is None else len(columns), -1, dtype=np.int64)
        self._row_at[order] = np.arange(len(order))
        self.endResetModel()

    def touch(self) -> None:
        """Tell the views that values of rows changed."""
        if len(self.order):
            self.dataChanged.emit(self.index(0), self.index(len(self.order) - 1))

    # what the view and the panel ask -----------------------------------------------------

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802 - Qt's name
        """Return the number of peaks shown."""
        return 0 if parent is not None and parent.isValid() else len(self.order)

    def position(self, row: int) -> int:
        """Return where the peak of a row stands in `columns`."""
        return int(self.order[row])

    def ids(self, rows: Iterable[int] | NDArray[np.int64]) -> list[int]:
        """Return the peak ids of rows."""
        at = np.fromiter(rows, dtype=np.int64) if not isinstance(rows, np.ndarray) else rows
        return [] if self.columns is None else self.columns.ids[self.order[at]].tolist()

    def rows(self, ids: Iterable[int]) -> NDArray[np.int64]:
        """Return the rows of peak ids, ascending; those that are not shown are left out."""
        if self.columns is None:
            return np.zeros(0, dtype=np.int64)
        at = self.columns.positions(np.fromiter(ids, dtype=np.int64))
        rows = self._row_at[at[at >= 0]]
        return np.sort(rows[rows >= 0])

    def next_unlabelled(self, row: int) -> int | None:
        """Return the next row without a label, from the top again after the last; or None."""
        if self.columns is None:
            return None
        free = np.flatnonzero(self.columns.label[self.order] == UNLABELLED)
        if not len(free):
            return None
        at = int(np.searchsorted(free, row, side="right"))
        return int(free[at % len(free)])

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the text of a row; pictures are made by the delegate."""
        if self.columns is None or not index.isValid() or index.row() >= len(self.order):
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return "  ".join(self.captions(index.row()))
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._tooltip(self.position(index.row()))
        return None

    def captions(self, row: int) -> tuple[str, str, str]:
        """Return probability (empty without), SNR and frame of a row, to be drawn."""
        columns, at = self.columns, self.position(row)
        probability, snr = columns.probability[at], columns.snr[at]
        return (
            "" if np.isnan(probability) else f"p {probability:.2f}",
            "SNR –" if np.isnan(snr) else f"SNR {short(snr)}",
            f"frame {columns.frame[at]}",
        )

    def label(self, row: int) -> str:
        """Return the label of a row."""
        return self.columns.words[self.columns.label[self.position(row)]]

    def is_manual(self, row: int) -> bool:
        """Whether a person placed the peak of a row."""
        return bool(self.columns.manual[self.position(row)])

    def _tooltip(self, at: int) -> str:
        columns = self.columns
        q = columns.inv_d[at]
        values = [
            f"Peak {columns.ids[at]}, frame {columns.frame[at]}",
            f"ss {columns.row[at]:.2f}, fs {columns.col[at]:.2f}",
            f"SNR {columns.snr[at]:.2f}, intensity {columns.intensity[at]:.1f} ADU",
            f"1/d {q:.3f} nm⁻¹ (d {10 / q:.2f} Å)" if q > 0 else "",
            f"probability {columns.probability[at]:.3f}"
            if np.isfinite(columns.probability[at])
            else "no probability yet",
            f"{columns.words[columns.label[at]]}{', placed by hand' if columns.manual[at] else ''}",
        ]
        if self.reason_of is not None:
            values.append(self.reason_of(int(columns.frame[at])))
        return "\n".join(v for v in values if v)


def short(value: float) -> str:
    """Return a number in at most five characters."""
    if abs(value) < 99.95:
        return f"{value:.1f}"
    return f"{value:.0f}" if abs(value) < 9999.5 else f"{value / 1000:.0f}k"
