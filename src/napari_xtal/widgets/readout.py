"""Raw counts and resolution under the cursor.

napari's status bar shows the drawn value: NaN where masked, and rounded above 2**24.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QLabel, QWidget

from napari_xtal.widgets import styles

if TYPE_CHECKING:
    from napari_xtal.widgets.run_link import RunLink


class Readout(QLabel):
    """One line: position, raw counts, mask, 1/d and d of the pixel under the cursor."""

    def __init__(self, viewer: Any, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("readout")
        self.setStyleSheet(styles.HINT_TEXT)
        self.setWordWrap(True)
        self.setMinimumHeight(self.fontMetrics().height() * 2)
        self._viewer = viewer
        self._link: RunLink | None = None
        viewer.cursor.events.position.connect(self._on_position)

    def set_link(self, link: RunLink | None) -> None:
        """Read from another run, or from none."""
        self._link = link
        self.setText("")

    def _on_position(self, _event: Any = None) -> None:
        link = self._link
        if link is None or link.closed or not self.isVisible():
            return
        row, col = link.layer.world_to_data(self._viewer.cursor.position)[-2:]
        self.setText(pixel_text(link.stack, link.shown_frame(), round(row), round(col)))


def pixel_text(stack: Any, frame: int, row: int, col: int) -> str:
    """Describe one pixel.

    Parameters
    ----------
    stack : FrameStack
        The run.
    frame, row, col : int
        Frame and pixel.

    Returns
    -------
    str
        Empty outside the frame.
    """
    n_ss, n_fs = stack.shape[-2:]
    if not (0 <= row < n_ss and 0 <= col < n_fs):
        return ""
    shown, source = stack.frame(frame), stack.source
    parts = [f"ss {row}, fs {col}", f"{shown.image[row, col]} ADU"]
    if not shown.good[row, col]:
        parts.append("masked")
    elif shown.saturated is not None and shown.saturated[row, col]:
        parts.append("saturated")
    inv_d = source.inv_d()
    if inv_d is not None and np.isfinite(inv_d[row, col]) and inv_d[row, col] > 0:
        q = float(inv_d[row, col])
        parts.append(f"1/d {q:.3f} nm⁻¹ (d {10 / q:.2f} Å)")
    return " · ".join(parts)
