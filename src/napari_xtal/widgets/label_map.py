"""Scatter of labelled peaks over two principal components of their features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyqtgraph as pg
from qtpy.QtCore import Signal

from napari_xtal.widgets import styles

if TYPE_CHECKING:
    import pandas as pd


class LabelMap(pg.PlotWidget):
    """Labelled peaks, coloured by label; peaks that look alike lie together.

    Parameters
    ----------
    points : DataFrame
        Columns x, y (components), peak_id, label.

    Signals
    -------
    peak_clicked(int)
        Id of the peak under the mouse.
    """

    peak_clicked = Signal(int)

    def __init__(self, points: pd.DataFrame, parent: Any = None) -> None:
        super().__init__(parent, background=None)
        self.setObjectName("label_map")
        self.setToolTip("Click a point to see its peak: a label among the others may be wrong.")
        item = set_up(self, "first principal component of the features", "second")
        self.addLegend(offset=(-5, 5))
        self.scatters: dict[str, Any] = {}
        for label, part in points.groupby("label"):
            colour = styles.LABEL_COLOURS.get(str(label), styles.OTHER_LABEL)
            scatter = pg.ScatterPlotItem(
                x=part["x"].to_numpy(),
                y=part["y"].to_numpy(),
                data=part["peak_id"].to_list(),
                size=9,
                pen=pg.mkPen(colour, width=1.5),
                brush=None,
                name=str(label),
                hoverable=True,
                hoverSize=13,
                tip=None,
            )
            scatter.sigClicked.connect(self._on_clicked)
            item.addItem(scatter)
            self.scatters[str(label)] = scatter

    def _on_clicked(self, _item: Any, clicked: Any, _event: Any = None) -> None:
        if len(clicked):
            self.peak_clicked.emit(int(clicked[0].data()))


def set_up(plot: pg.PlotWidget, x: str, y: str) -> Any:
    """Give a plot its axes, without pyqtgraph's menu; return its plot item."""
    item = plot.getPlotItem()
    item.setMenuEnabled(False)
    item.hideButtons()
    for side, text in (("bottom", x), ("left", y)):
        item.setLabel(side, text)
        item.getAxis(side).enableAutoSIPrefix(False)
    # The style of the window makes labels higher than pyqtgraph reckons with.
    item.layout.setContentsMargins(0, 0, 0, 8)
    return item


def map_labels(verifier: Any, source: Any, table: pd.DataFrame, cancel: Any) -> Any:
    """Return the points of a `LabelMap`, None where a model has no principal components.

    Parameters
    ----------
    verifier : Verifier
        Whose components; fitted to its training labels only.
    source : FrameSource
        Frames, with handles of the calling thread.
    table : DataFrame
        Labelled peaks with ``peak_id``.
    cancel : callable
        True stops.
    """
    if not hasattr(verifier, "pca_map"):
        return None
    import pandas as pd

    from napari_xtal.peaks.verify.features import candidate_features
    from napari_xtal.peaks.verify.patches import patches_in

    patches = patches_in(source, table, half=verifier.half, cancel=cancel)
    usable = patches.has_signal
    places = verifier.pca_map(candidate_features(patches.take(usable)))
    kept = table[usable]
    return pd.DataFrame(
        {
            "x": places[:, 0],
            "y": places[:, 1],
            "peak_id": kept["peak_id"].to_numpy(),
            "label": kept["label"].astype(str).to_numpy(),
        }
    )
