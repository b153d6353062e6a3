"""Panel of the *Peak review* dock: found peaks against a reference list, in three layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error
from qtpy.QtCore import QSignalBlocker, QTimer
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from napari_xtal.errors import XtalError
from napari_xtal.widgets import compare_lists, peak_rows, styles
from napari_xtal.widgets.compare_layers import CompareLayers, legend_html, scores_row
from napari_xtal.widgets.finder_controls import button, enable
from napari_xtal.widgets.jobs import LatestJob
from napari_xtal.widgets.points_view import PEAKS_KEY

if TYPE_CHECKING:
    import pandas as pd

    from napari_xtal.widgets.run_link import RunLink

#: A comparison follows edits after this pause [ms].
REFRESH_MS = 250
#: Pairs within this distance are one peak [px].
TOLERANCE_PX = 2.0
MINE = "My peaks (placed or labelled “peak”)"
_COMPARE = "Show which peaks are in both lists, and which only in one; follows every edit."
_REMOVE = "Take the three layers away; peaks and labels stay."


@dataclass(frozen=True)
class Reference:
    """Where a reference list comes from: the user's peaks, a file (table), or a layer."""

    kind: str
    table: Any = None
    layer: Any = None


class ComparePanel(QWidget):
    """Compare the found peaks with a reference list.

    Attributes
    ----------
    active : bool
        Whether a comparison is shown and follows edits.
    match : PeakMatch or None
        What is shown.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("compare_panel")
        self.link: RunLink | None = None
        self.layers: CompareLayers | None = None
        self.match: Any = None
        self._file: tuple[str, pd.DataFrame] | None = None
        self._heard: Any = None
        self.active = False
        self._round = 0
        self._create_controls()
        self._job = LatestJob(self)
        self._job.done.connect(self._on_matched)
        self._job.failed.connect(self._on_failed)
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(REFRESH_MS)
        self._later.timeout.connect(self._refresh)
        self.reference.activated.connect(self._on_reference)
        self.open.clicked.connect(self._on_open)
        self.tolerance.valueChanged.connect(self._on_changed)
        self.compare.clicked.connect(self.start)
        self.remove.clicked.connect(self.stop)
        self.set_link(None)

    def _create_controls(self) -> None:
        self.reference = QComboBox(self)
        self.reference.setObjectName("reference")
        self.reference.setToolTip("The list that the found peaks are compared with.")
        self.reference.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.reference.setMinimumContentsLength(8)
        self.open = button("File…", "reference_file", "Read a list: CXI, HDF5 or CSV.", self)
        self.tolerance = QDoubleSpinBox(self)
        self.tolerance.setObjectName("tolerance")
        self.tolerance.setRange(0.1, 50)
        self.tolerance.setDecimals(1)
        self.tolerance.setSingleStep(0.5)
        self.tolerance.setValue(TOLERANCE_PX)
        self.tolerance.setSuffix(" px")
        self.tolerance.setToolTip("Peaks up to this far apart are the same; each has one partner.")
        self.compare = button("Compare", "compare", _COMPARE, self)
        self.remove = button("Remove layers", "remove_comparison", _REMOVE, self)
        self.legend = QLabel(self)
        self.legend.setObjectName("comparison_legend")
        self.scores = QLabel(self)
        self.scores.setObjectName("comparison_scores")
        self.note = QLabel(self)
        self.note.setObjectName("comparison_note")
        self.note.setStyleSheet(styles.HINT_TEXT)
        for label in (self.legend, self.scores, self.note):
            label.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(6)
        layout.addWidget(QLabel("<b>Compare with</b>", self))
        for parts in (
            ((self.reference, 1), (self.open, 0)),
            ((QLabel("Tolerance", self), 0), (self.tolerance, 1)),
            ((self.compare, 1), (self.remove, 1)),
        ):
            row = QHBoxLayout()
            for part, stretch in parts:
                row.addWidget(part, stretch)
            layout.addLayout(row)
        for label in (self.legend, self.scores, self.note):
            layout.addWidget(label)
        layout.addStretch(1)

    # the run -----------------------------------------------------------------------------

    def set_link(self, link: RunLink | None) -> None:
        """Work on another run, or on none."""
        self.stop()
        old = self.link
        if old is not None:
            old.viewer.layers.events.inserted.disconnect(self._fill_references)
            old.viewer.layers.events.removed.disconnect(self._fill_references)
            old.viewer.dims.events.current_step.disconnect(self._on_step)
            if not old.closed:
                old.session.events.peaks_changed.disconnect(self._on_changed)
                old.session.events.parameters_changed.disconnect(self._on_parameters)
        self.link, self._file = link, None
        self.layers = None if link is None else CompareLayers(link.viewer, link.layer)
        if link is not None:
            link.viewer.layers.events.inserted.connect(self._fill_references)
            link.viewer.layers.events.removed.connect(self._fill_references)
            link.viewer.dims.events.current_step.connect(self._on_step)
            link.session.events.peaks_changed.connect(self._on_changed)
            link.session.events.parameters_changed.connect(self._on_parameters)
        self._fill_references()

    @property
    def busy(self) -> bool:
        """Whether a comparison is going on or waits."""
        return self._job.busy or self._later.isActive()

    def _references(self) -> dict[str, Reference]:
        """Return what can be compared with, by title."""
        found = {MINE: Reference("mine")}
        if self._file is not None:
            path, table = self._file
            found[f"File {Path(path).name}"] = Reference("file", table=table)
        if self.link is not None and self.layers is not None:
            own = [*self.layers.layers.values(), self.link.view.layer]
            for layer in self.link.viewer.layers:
                is_points = hasattr(layer, "symbol") and hasattr(layer, "selected_data")
                if is_points and layer not in own and PEAKS_KEY not in layer.metadata:
                    found[f"Layer {layer.name}"] = Reference("layer", layer=layer)
        return found

    def _fill_references(self, _event: Any = None) -> None:
        current = self.reference.currentText()
        titles = list(self._references())
        with QSignalBlocker(self.reference):
            self.reference.clear()
            self.reference.addItems(titles)
            self.reference.setCurrentText(current if current in titles else MINE)
        if self.active and current not in titles:
            self.stop()
        self._enable()

    def _enable(self) -> None:
        why = "no run is open" if self.link is None or self.link.closed else None
        enable(self.compare, why, _COMPARE)
        enable(self.open, why, "Read a list: CXI, HDF5 or CSV.")
        enable(self.remove, None if self.active else "there is no comparison", _REMOVE)

    # asking ------------------------------------------------------------------------------

    def _on_open(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Reference list", "", "Peak lists (*.cxi *.h5 *.hdf5 *.csv *.txt *.tsv)"
        )
        if path:
            self.open_file(path)

    def open_file(self, path: str) -> None:
        """Read a reference list and choose it; a wrong file gives one message."""
        if self.link is None:
            return
        try:
            table = compare_lists.from_file(path, self.link.source)
        except XtalError as error:
            show_error(str(error))
            return
        self._file = path, table
        self._fill_references()
        self.reference.setCurrentText(f"File {Path(path).name}")
        self.start()

    def _on_reference(self, _at: int) -> None:
        if self.active:
            self.start()

    def start(self) -> None:
        """Compare with the chosen reference from now on."""
        if self.link is None or self.link.closed:
            return
        self.active = True
        self._round += 1
        self._listen(self._references()[self.reference.currentText()].layer)
        self._refresh()
        self._enable()

    def stop(self) -> None:
        """End the comparison and take its layers away."""
        self.active, self.match = False, None
        self._round += 1
        self._later.stop()
        self._listen(None)
        if self.layers is not None:
            self.layers.remove()
        for label in (self.legend, self.scores, self.note):
            label.setText("")
        self._enable()

    def _listen(self, layer: Any) -> None:
        """Follow the points of a reference layer."""
        if self._heard is not None:
            self._heard.events.data.disconnect(self._on_changed)
        self._heard = layer
        if layer is not None:
            layer.events.data.connect(self._on_changed)

    def _refresh(self) -> None:
        if not self.active or self.link is None or self.link.closed:
            return
        chosen = self._references().get(self.reference.currentText())
        if chosen is None:
            self.stop()
            return
        peaks = self.link.session.peaks
        limit = peak_rows.probability_limit(self.link.session.parameters)
        found = compare_lists.found(peaks, limit)
        try:
            if chosen.kind == "mine":
                reference = compare_lists.mine(peaks)
                found = compare_lists.found_by_machine(peaks, limit)
            elif chosen.kind == "layer":
                reference = compare_lists.from_layer(chosen.layer, self.link)
                if chosen.layer.ndim != self.link.layer.ndim:
                    found = found[found["frame"] == self.link.shown_frame()]
            else:
                reference = chosen.table
        except XtalError as error:
            self._on_failed(error)
            return
        self._submit(found[compare_lists.PLACE], reference[compare_lists.PLACE])

    def _submit(self, found: pd.DataFrame, reference: pd.DataFrame) -> None:
        tolerance, this = self.tolerance.value(), self._round

        def work() -> Any:
            from napari_xtal.peaks.match import match_peaks

            return this, match_peaks(found, reference, tolerance)

        self._job.submit(work)

    # showing -----------------------------------------------------------------------------

    def _on_matched(self, result: tuple[int, Any]) -> None:
        this, match = result
        if this != self._round or self.layers is None or self.link is None or self.link.closed:
            return  # removed, or another reference was chosen meanwhile
        self.match = match
        sets = {name: getattr(match, name) for name in styles.COMPARISON}
        self.layers.show(sets)
        self._show_numbers()

    def _show_numbers(self) -> None:
        if self.match is None or self.link is None:
            return
        shown = self.link.shown_frame()
        sets = {name: getattr(self.match, name) for name in styles.COMPARISON}
        here = {n: int((s["frame"] == shown).sum()) for n, s in sets.items()}
        self.legend.setText(legend_html(here, {n: len(s) for n, s in sets.items()}))
        frames = self.match.per_frame
        row = frames[frames["frame"] == shown]
        texts = [scores_row("All frames", self.match.precision, self.match.recall, self.match.f1)]
        if len(row):
            one = row.iloc[0]
            texts.insert(0, scores_row("This frame", one["precision"], one["recall"], one["f1"]))
        self.scores.setText(
            "<table><tr><td></td><th>&nbsp;precision</th><th>&nbsp;recall</th><th>&nbsp;F1</th>"
            f"</tr>{''.join(texts)}</table>"
        )
        mine = self.reference.currentText() == MINE
        self.note.setText(
            "Machine peaks on the frames with your peaks; an unlabelled one that you did not mark "
            "counts as “only found”." if mine else
            "Found: the peaks that are shown and would be saved."
        )  # fmt: skip

    def _on_failed(self, error: Exception) -> None:
        show_error(str(error) or type(error).__name__)
        self.note.setText(str(error))

    def _on_changed(self, _event: Any = None) -> None:
        if self.active:
            self._later.start()

    def _on_parameters(self, step: str) -> None:
        if step == "verifier":
            self._on_changed()

    def _on_step(self, _event: Any = None) -> None:
        of_frame = self._heard is not None and self._heard.ndim != self.link.layer.ndim
        if of_frame:
            self._on_changed()
        self._show_numbers()
