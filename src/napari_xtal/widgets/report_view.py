"""Window with the plots of a verifier's report, and saving it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QDialog,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QTabWidget,
    QTextEdit,
    QVBoxLayout,
    QWidget,
)

from napari_xtal.errors import XtalError
from napari_xtal.widgets import styles
from napari_xtal.widgets.finder_controls import button
from napari_xtal.widgets.label_map import LabelMap, set_up

if TYPE_CHECKING:
    import pandas as pd

    from napari_xtal.peaks.verify.report import VerifierReport

_FILTERS = "Report (*.json);;Scores (*.csv);;Plots (*.png);;Plots (*.pdf)"
#: Most bars of the importance plot.
_BARS = 12
_SCORES = (
    ("precision", "Precision"), ("recall", "Recall"), ("f1", "F1"), ("ap", "Average precision"),
)  # fmt: skip


def summary_html(report: VerifierReport) -> str:
    """Return scores with their 95 % intervals, the baselines and the notes as HTML."""
    rows = "".join(
        f"<tr><td>{title}&nbsp;</td><td align=right><b>{_digits(score.value)}</b>&nbsp;</td>"
        f"<td>{_digits(score.low)} to {_digits(score.high)}</td></tr>"
        for name, title in _SCORES
        for score in [getattr(report, name)]
    )
    header = "<tr><th align=left>Compared with</th><th>P</th><th>R</th><th>F1</th><th>AP</th></tr>"
    compared = "".join(
        f"<tr><td>{row.name}&nbsp;</td>"
        + "".join(
            f"<td align=right>&nbsp;{_digits(v)}</td>"
            for v in (row.precision, row.recall, row.f1, row.ap)
        )
        + "</tr>"
        for row in report.baselines.itertuples(index=False)
    )
    where = "" if report.n_frames is None else f" on {report.n_frames} frames"
    notes = "".join(f"<li>{note}</li>" for note in report.notes)
    return (
        f"<p>{report.n} labels{where}, {report.n_peaks} of them peaks; threshold "
        f"{report.threshold:.2f}, 95 % intervals:</p><table>{rows}</table>"
        f"<p></p><table>{header}{compared}</table>" + (f"<ul>{notes}</ul>" if notes else "")
    )


class ReportView(QDialog):
    """Loss, precision-recall and calibration curves, confusion matrix, importance, text.

    Parameters
    ----------
    report : VerifierReport
        What is shown.
    title : str
        Title of the window.
    points : DataFrame, optional
        Of a `LabelMap`.
    parent : QWidget, optional
        Qt parent.

    Signals
    -------
    peak_clicked(int)
        Id of a peak that was clicked in the map.
    """

    peak_clicked = Signal(int)

    def __init__(
        self,
        report: VerifierReport,
        title: str,
        points: pd.DataFrame | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("report_view")
        self.setWindowTitle(title)
        # A closed window is of no use: it would be kept with all its plots.
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.resize(880, 680)
        self.report = report
        self.tabs = QTabWidget(self)
        self.tabs.addTab(self._create_plots(), "Plots")
        self.map: LabelMap | None = None
        if points is not None and len(points):
            self.map = LabelMap(points, self)
            self.map.peak_clicked.connect(self.peak_clicked)
            self.tabs.addTab(self.map, "Labels")
        text = QTextEdit(self)
        text.setReadOnly(True)
        text.setObjectName("report_text")
        text.setLineWrapMode(QTextEdit.LineWrapMode.NoWrap)
        text.setFontFamily("monospace")
        text.setPlainText(report.text())
        self.tabs.addTab(text, "Text")
        self.save = button(
            "Save…", "save_report", "Save as JSON (all of it), CSV (scores) or picture.", self
        )
        self.save.clicked.connect(self._on_save)
        close = button("Close", "close_report", "Close this window.", self)
        close.clicked.connect(self.close)
        row = QHBoxLayout()
        row.addStretch(1)
        row.addWidget(self.save)
        row.addWidget(close)
        layout = QVBoxLayout(self)
        layout.addWidget(self.tabs)
        layout.addLayout(row)

    def _create_plots(self) -> QWidget:
        body = QWidget(self)
        grid = QGridLayout(body)
        report = self.report
        self.plots: dict[str, QWidget] = {}
        if report.loss and any(report.loss.values()):
            self.plots["loss"] = _loss_plot(report)
        if report.importance is not None and len(report.importance):
            self.plots["importance"] = _importance_plot(report)
        self.plots["pr"] = _pr_plot(report)
        self.plots["calibration"] = _calibration_plot(report)
        self.plots["confusion"] = _confusion_table(report)
        for k, plot in enumerate(self.plots.values()):
            plot.setMinimumHeight(styles.REPORT_PLOT_HEIGHT)
            grid.addWidget(plot, k // 2, k % 2)
        return body

    def _on_save(self) -> None:
        path, chosen = QFileDialog.getSaveFileName(self, "Save report", "report.json", _FILTERS)
        if not path:
            return
        if "." not in path.rsplit("/", 1)[-1]:
            path += chosen[chosen.rindex("*") + 1 : -1] if "*" in chosen else ".json"
        self.save_to(path)

    def save_to(self, path: str) -> None:
        """Write the report; a file that exists was chosen by the user in the dialog."""
        try:
            written = self.report.save(path, overwrite=True)
        except XtalError as error:
            show_error(str(error))
            return
        show_info(f"Report saved to {', '.join(map(str, written))}")


def _plot(title: str, x: str, y: str) -> pg.PlotWidget:
    plot = pg.PlotWidget(background=None)
    item = set_up(plot, x, y)
    item.setTitle(title)
    item.showGrid(x=True, y=True, alpha=0.15)
    return plot


def _pen(name: str, **options: Any) -> Any:
    return pg.mkPen(styles.REPORT_COLOURS[name], width=2, **options)


def _unit_square(plot: pg.PlotWidget) -> None:
    plot.getPlotItem().setRange(xRange=(0, 1), yRange=(0, 1.02), padding=0.02)


def _loss_plot(report: VerifierReport) -> pg.PlotWidget:
    plot = _plot("Training", "epoch", "loss")
    plot.addLegend(offset=(-5, 5))
    pens = [_pen("train"), _pen("validation", style=Qt.PenStyle.DashLine)]
    for k, (name, values) in enumerate((report.loss or {}).items()):
        epochs = np.arange(1, len(values) + 1)
        mark = "o" if len(values) == 1 else None
        plot.plot(epochs, values, pen=pens[k % len(pens)], name=name, symbol=mark)
    return plot


def _pr_plot(report: VerifierReport) -> pg.PlotWidget:
    plot = _plot("Precision and recall", "recall", "precision")
    plot.addLegend(offset=(10, -10))
    curve = report.pr_curve
    plot.plot(
        curve["recall"].to_numpy(),
        curve["precision"].to_numpy(),
        pen=_pen("verifier"),
        name=f"verifier, AP {_digits(report.ap.value)}",
    )
    if report.baseline_curve is not None:
        plain = report.baseline_curve
        plot.plot(
            plain["recall"].to_numpy(),
            plain["precision"].to_numpy(),
            pen=_pen("plain", style=Qt.PenStyle.DashLine),
            name="SNR alone",
        )
    at = report.recall.value, report.precision.value
    if np.isfinite(at).all():  # else nothing was accepted
        plot.plot(
            [at[0]], [at[1]], pen=None, symbol="o",
            symbolBrush=styles.REPORT_COLOURS["verifier"],
            name=f"threshold {report.threshold:.2f}",
        )  # fmt: skip
    _unit_square(plot)
    return plot


def _calibration_plot(report: VerifierReport) -> pg.PlotWidget:
    error = _digits(report.calibration_error)
    plot = _plot(f"Calibration (error {error})", "predicted probability", "share of peaks")
    plot.plot([0, 1], [0, 1], pen=_pen("guide", style=Qt.PenStyle.DotLine))
    curve = report.calibration_curve
    plot.plot(
        curve["predicted"].to_numpy(),
        curve["observed"].to_numpy(),
        pen=_pen("verifier"),
        symbol="o",
        symbolSize=7,
        symbolBrush=styles.REPORT_COLOURS["verifier"],
    )
    _unit_square(plot)
    return plot


def _importance_plot(report: VerifierReport) -> pg.PlotWidget:
    plot = _plot("Importance of features", "average precision lost when shuffled", "")
    shown = report.importance.head(_BARS).iloc[::-1]
    at = np.arange(len(shown))
    values = shown["importance"].to_numpy(dtype=float)
    bars = pg.BarGraphItem(
        x0=0, y=at, height=0.7, width=values, brush=styles.REPORT_COLOURS["verifier"], pen=None
    )
    plot.addItem(bars)
    plot.getPlotItem().getAxis("left").setTicks([list(zip(at, shown["feature"], strict=True))])
    return plot


def _confusion_table(report: VerifierReport) -> QLabel:
    (tn, fp), (fn, tp) = report.confusion
    label = QLabel(
        "<h3>Confusion matrix</h3><table cellpadding=8>"
        "<tr><td></td><th>refused</th><th>accepted</th></tr>"
        f"<tr><th align=left>not a peak</th><td>TN <b>{tn}</b></td><td>FP <b>{fp}</b></td></tr>"
        f"<tr><th align=left>peak</th><td>FN <b>{fn}</b></td><td>TP <b>{tp}</b></td></tr></table>"
        f"<p>accuracy {_digits(report.accuracy.value)} at threshold {report.threshold:.2f}</p>"
    )
    label.setObjectName("confusion_matrix")
    label.setAlignment(Qt.AlignmentFlag.AlignCenter)
    return label


def _digits(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"
