"""The *Peak finder* dock: tune on the shown frame, search the run, correct, save."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_warning
from qtpy.QtCore import QSignalBlocker, QTimer
from qtpy.QtWidgets import QFileDialog

from napari_xtal.errors import ParameterError, XtalError
from napari_xtal.peaks.parameters import PeakFinderParams
from napari_xtal.widgets import peak_rows
from napari_xtal.widgets.finder_engine import FinderEngine
from napari_xtal.widgets.finder_panel import FinderPanel
from napari_xtal.widgets.rejected_view import RejectedView
from napari_xtal.widgets.run_link import LINK_KEY, RunLink, link_of
from napari_xtal.widgets.writer import ask_and_save

if TYPE_CHECKING:
    from collections.abc import Sequence

    import napari
    import pandas as pd

    from napari_xtal.widgets.frame_search import FrameResult

#: Smaller expected numbers of false peaks are not worth their digits.
LEAST_EXPECTED = 0.001


class PeakFinderWidget(FinderPanel):
    """Find Bragg peaks on the frames of an image layer.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer, given by napari.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self.viewer = napari_viewer
        self.link: RunLink | None = None
        self.engine: FinderEngine | None = None
        self.rejected: RejectedView | None = None
        self._hot: Sequence[tuple[int, int]] = ()
        self._unavailable: str | None = None
        self._last: FrameResult | None = None
        self._opening = QTimer(self)
        self._opening.setSingleShot(True)
        self._opening.setInterval(0)
        self._connect()
        self._fill_layers()

    def _connect(self) -> None:
        # Bound methods only: napari, psygnal and Qt hold them weakly, a lambda would keep the
        # widget alive after its dock was closed.
        self._opening.timeout.connect(self._open_chosen_if_new)
        events = self.viewer.layers.events
        events.inserted.connect(self._fill_layers)
        events.removed.connect(self._fill_layers)
        self.viewer.dims.events.current_step.connect(self._on_step)
        self.layers.currentIndexChanged.connect(self._on_layer_chosen)
        self.choose_folder.clicked.connect(self._on_choose_folder)
        self.take_over.clicked.connect(self._on_take_over)
        self.settings.chosen.connect(self._on_settings)
        self.form.changed.connect(self._on_params)
        self.histogram.threshold_dragged.connect(self._on_threshold)
        self.live.toggled.connect(self._on_live)
        self.show_rejected.toggled.connect(self._on_rejected)
        self.colour.currentIndexChanged.connect(self._on_colour)
        self.verify.toggled.connect(self._on_verify)
        self.verify.progressed.connect(self.run.show_progress)
        self.verify.run_done.connect(self._on_run_verified)
        self.verify.failed.connect(self._on_verify_failed)
        self.run.this_frame.clicked.connect(self.search_frame)
        self.run.all_frames.clicked.connect(self.search_all)
        self.run.cancel.clicked.connect(self._on_cancel)
        self.hot.add.clicked.connect(self._on_add_to_mask)
        self.edits.undo.clicked.connect(self._on_undo)
        self.edits.redo.clicked.connect(self._on_redo)
        self.edits.save.clicked.connect(self._on_save)

    # layers and sessions ------------------------------------------------------------------

    def _image_layers(self) -> list[Any]:
        return [
            layer
            for layer in self.viewer.layers
            if layer.ndim in (2, 3) and hasattr(layer, "contrast_limits") and not layer.rgb
        ]

    def _fill_layers(self, _event: Any = None) -> None:
        names = [layer.name for layer in self._image_layers()]
        current = self.layers.currentText()
        with QSignalBlocker(self.layers):
            self.layers.clear()
            self.layers.addItems(names)
            if current in names:
                self.layers.setCurrentText(current)
        chosen = self._chosen_layer()
        if self.link is None or self.link.closed or chosen is None or chosen != self.link.layer:
            # Not now: the layer is still being inserted, and its reader sets it up first.
            self._opening.start()

    def _open_chosen_if_new(self) -> None:
        chosen = self._chosen_layer()
        if self.link is None or self.link.closed or chosen is None or chosen != self.link.layer:
            self._open_run()

    def _chosen_layer(self) -> Any:
        layers, at = self._image_layers(), self.layers.currentIndex()
        return layers[at] if 0 <= at < len(layers) else None

    def _on_layer_chosen(self) -> None:
        self._open_run()

    def _on_take_over(self) -> None:
        self._open_run(take_over=True)

    def _open_run(self, **options: Any) -> None:
        """Connect the dock to the chosen layer's run, its session opened or made."""
        self._leave_run()
        layer = self._chosen_layer()
        if layer is None:
            self._show_state("open a run or choose an image layer")
            return
        try:
            self.link = link_of(self.viewer, layer, **options)
        except XtalError as error:
            show_error(str(error))
            self.take_over.setVisible("in use by" in str(error))
            self._show_state(str(error))
            return
        self.take_over.hide()
        self.engine = FinderEngine(self.link, self)
        self.engine.frame_done.connect(self._on_frame_done)
        self.engine.progressed.connect(self.run.show_progress)
        self.engine.run_done.connect(self._on_run_done)
        self.engine.failed.connect(self._on_failed)
        self.rejected = RejectedView(self.viewer, layer)
        self.link.session.events.peaks_changed.connect(self._on_peaks_changed)
        self.link.session.events.undo_changed.connect(self._on_undo_changed)
        self.readout.set_link(self.link)
        self.verify.set_link(self.link)
        self.engine.keep_probabilities = self.verify.on
        self._restore_params()
        self._show_state(None)
        if self.live.isChecked() and not self.link.session.n_peaks:
            self.search_frame()

    def _leave_run(self) -> None:
        self.verify.set_link(None)
        if self.engine is not None:
            self.engine.close()
            self.engine.deleteLater()
        if self.rejected is not None:
            self.rejected.remove()
        if self.link is not None and not self.link.closed:
            self.link.session.events.peaks_changed.disconnect(self._on_peaks_changed)
            self.link.session.events.undo_changed.disconnect(self._on_undo_changed)
        self.link = self.engine = self.rejected = self._last = None
        self._offer_hot(())
        self.readout.set_link(None)

    def _restore_params(self) -> None:
        saved = self.link.session.parameters.get("peak_finder") if self.link else None
        if not saved:
            params = self.form.params
        else:
            try:
                params = PeakFinderParams.from_dict(dict(saved))
            except ParameterError as error:
                show_warning(f"Saved settings were not taken over: {error}")
                params = PeakFinderParams()
        self.form.set_params(params)
        self.settings.show_params(params)

    def _on_choose_folder(self) -> None:
        folder = QFileDialog.getSaveFileName(self, "Session folder", "", "Session (*.xtal)")[0]
        layer = self._chosen_layer()
        if folder and layer is not None:
            self.change_folder(folder)

    def change_folder(self, folder: str) -> None:
        """Go on in another session folder: an existing session, or a new empty one."""
        layer, old = self._chosen_layer(), self.link
        self._leave_run()
        if old is not None:
            old.close()
            if old.view.layer in self.viewer.layers:
                self.viewer.layers.remove(old.view.layer)
            layer.metadata.pop(LINK_KEY, None)
        self._open_run(folder=folder)

    def _show_state(self, unavailable: str | None) -> None:
        self._unavailable = unavailable
        session = self.link.session if self.link else None
        n_peaks = session.n_peaks if session is not None else 0
        running = self.engine is not None and (self.engine.running or self.verify.running)
        self.run.set_state(unavailable if self.link is None else None, running=running)
        self.edits.show_session(session, n_peaks)
        if session is None:
            self.session_label.setText("No run is open.")
            self.status.setText(unavailable or "")
        else:
            self.session_label.setText(f"Session: {session.folder.name}")
            self.session_label.setToolTip(f"Edits are kept in {session.folder}")

    @property
    def busy(self) -> bool:
        """Whether a search is going on, or a run is about to be opened."""
        chosen = self._chosen_layer()
        waiting = chosen is not None and self.link is None and self._unavailable is None
        return waiting or (self.engine is not None and (self.engine.busy or self.verify.busy))

    def show_table(self, table: pd.DataFrame) -> None:
        """Show peaks that were found before, as the machine's result for their frames."""
        self._open_chosen_if_new()
        if self.engine is not None:
            self.engine.take(table)
            self._offer_hot([place[:2] for place in table.attrs.get("hot_pixels", ())])

    # searching ----------------------------------------------------------------------------

    def search_frame(self) -> None:
        """Search the shown frame."""
        if self.engine is not None and self.link is not None:
            frame = self.link.shown_frame()
            self.engine.find(frame, self.form.params)
            if self.engine.busy and self._last is None:
                # The first search of a machine compiles for some seconds.
                self.status.setText(f"Searching frame {frame} …")

    def search_all(self) -> None:
        """Search every frame of the run."""
        if self.engine is not None and self.link is not None and not self.engine.running:
            self.verify.cancel()  # it judges peaks that are about to be replaced
            self.engine.find_all(self.form.params)
            self.run.show_progress(0, len(self.link.stack))
            self._show_state(None)

    def _on_params(self, params: PeakFinderParams) -> None:
        self.settings.show_params(params)
        if self.live.isChecked():
            self.search_frame()

    def _on_settings(self, params: PeakFinderParams) -> None:
        self.form.set_params(params)
        self._on_params(params)

    def _on_threshold(self, snr: float) -> None:
        self._on_settings(self.form.params.replace(min_snr=round(snr, 2)))

    def _on_step(self, _event: Any = None) -> None:
        if self.engine is None or self.link is None:
            return
        frame = self.link.shown_frame()
        if self._last is not None and self._last.frame == frame:
            return
        self.status.setText(
            f"<b>{len(self.link.session.peaks_of(frame))} peaks</b> on frame {frame}"
        )
        if self.live.isChecked():
            self.search_frame()
        else:
            self.verify.apply(frame)

    def _on_live(self, on: bool) -> None:
        if on:
            self.search_frame()

    def _on_cancel(self) -> None:
        if self.engine is not None:
            self.engine.cancel()
            self.verify.cancel()

    def _on_frame_done(self, result: FrameResult) -> None:
        if self.link is None or result.frame != self.link.shown_frame():
            return  # the user went on; the peaks are in the session all the same
        self._last = result
        if not result.note:
            self.verify.apply(result.frame)  # the peaks are shown; their probabilities follow
        self.histogram.show_values(
            [*result.table["snr"], *result.rejected["snr"]], result.table["snr"], result.threshold
        )
        if result.note:
            self.status.setText(result.note)
        else:
            parts = [f"<b>{len(result.table)} peaks</b> on frame {result.frame}"]
            if result.expected_false is not None:
                expected = result.expected_false
                number = f"{expected:.2g}" if expected >= LEAST_EXPECTED else f"< {LEAST_EXPECTED}"
                parts.append(f"{number} expected from noise")
            took = result.seconds * 1e3
            parts.append(f"{took:.0f} ms" if took >= 10 else f"{took:.1f} ms")
            self.status.setText(" · ".join(parts))
        if self.show_rejected.isChecked() and self.rejected is not None:
            self.rejected.show(result.rejected)
        self._show_state(None)

    def _on_run_done(self, frames: list[int], cancelled: bool, hot: Any) -> None:
        if self.link is None or self.engine is None:
            return
        self._offer_hot(hot)
        n = self.link.session.n_peaks
        word = "Cancelled: " if cancelled else ""
        self.status.setText(
            f"{word}<b>{n} peaks</b> · {len(frames)} of {len(self.link.stack)} frames searched · "
            f"{self.engine.run_seconds:.1f} s"
        )
        if not cancelled:
            self.verify.apply_all()
        self._show_state(None)

    def _on_verify(self, on: bool) -> None:
        if self.engine is None or self.link is None:
            return
        self.engine.keep_probabilities = on
        self.verify.apply(self.link.shown_frame())

    def _on_run_verified(self, n_judged: int, _n_peaks: int, cancelled: bool) -> None:
        word = "verification cancelled, " if cancelled else ""
        self.status.setText(f"{self.status.text()} · {word}{n_judged} peaks judged")
        self._show_state(None)

    def _on_verify_failed(self, error: Exception) -> None:
        show_error(str(error) or type(error).__name__)
        self._show_state(None)

    def _offer_hot(self, pixels: Sequence[tuple[int, int]]) -> None:
        self._hot = pixels
        self.hot.offer(len(pixels))

    def _on_failed(self, error: Exception) -> None:
        show_error(str(error) or type(error).__name__)
        self._show_state(None)
        self.status.setText(f"Search failed: {error}")

    # views and edits ----------------------------------------------------------------------

    def _on_rejected(self, on: bool) -> None:
        if self.rejected is None:
            return
        if not on:
            self.rejected.hide()
        elif self._last is not None:
            self.rejected.show(self._last.rejected)
        else:
            self.search_frame()

    def _on_colour(self) -> None:
        if self.link is not None:
            mode = list(peak_rows.COLOUR_MODES)[self.colour.currentIndex()]
            self.link.ensure_view().set_colour_mode(mode)

    def _on_add_to_mask(self) -> None:
        if self.link is None or not len(self._hot):
            return
        n_pixels, n_peaks = len(self._hot), self.link.add_to_mask(self._hot)
        self._offer_hot(())
        self.status.setText(f"{n_pixels} pixels masked, {n_peaks} peaks on them deleted.")

    def _on_undo(self) -> None:
        if self.link is not None:
            self.link.ensure_view().undo()

    def _on_redo(self) -> None:
        if self.link is not None:
            self.link.ensure_view().redo()

    def _on_save(self) -> None:
        if self.link is None:
            return
        try:
            ask_and_save(self.link, self)
        except XtalError as error:
            show_error(str(error))

    def _on_peaks_changed(self, _change: Any) -> None:
        self._show_state(None)

    def _on_undo_changed(self) -> None:
        self._show_state(None)
