"""Panel of the *Peak review* dock: apply, train and evaluate verifiers, filter by probability."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QSignalBlocker, QTimer
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_xtal.widgets import model_choice
from napari_xtal.widgets.finder_controls import enable
from napari_xtal.widgets.model_choice import Labels
from napari_xtal.widgets.report_view import ReportView, summary_html
from napari_xtal.widgets.train_form import TOOLTIPS, TrainForm
from napari_xtal.widgets.verify_engine import VerifyEngine

if TYPE_CHECKING:
    from napari_xtal.widgets.judging import Judged
    from napari_xtal.widgets.run_link import RunLink

#: Counts of labels follow edits after this pause [ms].
REFRESH_MS = 150
_JUDGING = "Judging the peaks of this frame …"
_LOADING = "Loading the model …"
_DOING = {"verify": "Judging peaks", "train": "Training", "evaluate": "Evaluating"}


class TrainPanel(TrainForm):
    """Choose a model, apply it, train it on the labels of this session, and see its scores."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.link: RunLink | None = None
        self.engine: VerifyEngine | None = None
        self.report: Any = None
        self._report_title = ""
        self._points: Any = None
        self._labels: Labels | None = None
        self._refresh = QTimer(self)
        self._refresh.setSingleShot(True)
        self._refresh.setInterval(REFRESH_MS)
        self._refresh.timeout.connect(self._count_labels)
        self._connect()
        self.set_link(None)

    def _connect(self) -> None:
        self.models.activated.connect(self._on_model)
        self.file.clicked.connect(self._on_file)
        self.this_frame.clicked.connect(self._on_this_frame)
        self.all_frames.clicked.connect(self._on_all_frames)
        self.train.clicked.connect(self._on_train)
        self.evaluate.clicked.connect(self._on_evaluate)
        self.cancel.clicked.connect(self._on_cancel)
        self.details.clicked.connect(self._on_details)

    # the run -----------------------------------------------------------------------------

    def set_link(self, link: RunLink | None) -> None:
        """Work on another run, or on none."""
        if self.link is not None and not self.link.closed:
            self.link.session.events.peaks_changed.disconnect(self._on_peaks)
        if self.engine is not None:
            self.engine.close()
            self.engine.deleteLater()
        self.link, self.engine = link, None
        self._show_report(None, "")
        self.status.setText("")
        if link is not None:
            self.engine = engine = VerifyEngine(link, self)
            engine.frame_done.connect(self._on_frame_done)
            engine.progressed.connect(self._on_progress)
            engine.run_done.connect(self._on_run_done)
            engine.trained.connect(self._on_trained)
            engine.evaluated.connect(self._on_evaluated)
            engine.cancelled.connect(self._on_cancelled)
            engine.model_changed.connect(self._on_model_changed)
            engine.failed.connect(self._on_failed)
            link.session.events.peaks_changed.connect(self._on_peaks)
        self.filter.set_link(link)
        self._fill_models()
        self._count_labels()

    @property
    def busy(self) -> bool:
        """Whether anything is going on."""
        return self.engine is not None and self.engine.busy

    def _fill_models(self) -> None:
        with QSignalBlocker(self.models):
            self.models.clear()
            if self.link is None or self.engine is None or self.link.closed:
                return
            for name, title in model_choice.choices(self.link.session).items():
                self.models.addItem(title, name)
            at = self.models.findData(self.engine.active)
            if at < 0:  # the file is gone; the user must see which one
                self.models.addItem(f"{self.engine.active} (missing)", self.engine.active)
                at = self.models.count() - 1
            self.models.setCurrentIndex(at)

    def _count_labels(self) -> None:
        if self.link is not None and not self.link.closed:
            self._labels = Labels.of(self.link.session.peaks)
            self.counts.setText(f"Labels: <b>{self._labels}</b>")
        else:
            self._labels = None
            self.counts.setText("")
        self._enable()

    def _enable(self) -> None:
        labels, engine = self._labels, self.engine
        none = "no run is open" if labels is None else None
        busy = none
        if engine is not None and engine.running:
            busy = "work is going on; cancel it first"
        no_peaks = None
        if none is None and self.link is not None and not self.link.session.n_peaks:
            no_peaks = "there are no peaks yet; find some first"
        enable(self.this_frame, none or no_peaks, TOOLTIPS["this_frame"])
        enable(self.all_frames, busy or no_peaks, TOOLTIPS["all_frames"])
        why = busy or (labels.why_not_train() if labels is not None else None)
        enable(self.train, why, TOOLTIPS["train"])
        why = busy or (labels.why_not_evaluate() if labels is not None else None)
        enable(self.evaluate, why, TOOLTIPS["evaluate"])
        running = engine is not None and engine.running
        enable(self.cancel, None if running else "nothing is going on", TOOLTIPS["cancel"])
        for control in (self.models, self.file):
            control.setEnabled(none is None and not running)
        if not running:
            self.progress.hide()

    # what the user asks for --------------------------------------------------------------

    def _on_model(self, at: int) -> None:
        name = self.models.itemData(at)
        if self.engine is not None and name != self.engine.active:
            self.status.setText(_LOADING)
            self.engine.use(name)

    def _on_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Open a verifier", "", "Verifier (*.safetensors *.skops)"
        )
        if path and self.engine is not None:
            self.status.setText(_LOADING)
            self.engine.use_file(path)

    def _on_this_frame(self) -> None:
        if self.engine is not None and self.link is not None:
            self.status.setText(_JUDGING)
            self.engine.apply(self.link.shown_frame())

    def _on_all_frames(self) -> None:
        if self.engine is not None:
            self.engine.apply_all()
            self._started()

    def _on_train(self) -> None:
        if self.engine is not None:
            self.engine.train(self.kind.currentData(), seed=self.seed.value())
            self._started()

    def _on_evaluate(self) -> None:
        if self.engine is not None:
            self.engine.evaluate()
            self._started()

    def _on_cancel(self) -> None:
        if self.engine is not None:
            self.engine.cancel()

    def _started(self) -> None:
        self.status.setText(f"{_DOING[self.engine.task]} …")
        self.progress.setRange(0, 0)
        self.progress.show()
        self._enable()

    # what the engine tells ---------------------------------------------------------------

    def _on_progress(self, done: int, total: int) -> None:
        if total:
            self.progress.setRange(0, total)
            self.progress.setValue(done)

    def _on_frame_done(self, judged: Judged) -> None:
        if judged.note or self.status.text() == _JUDGING:  # else it tells of the training
            done = f"{len(judged.ids)} peaks of frame {judged.frame} have a probability."
            self.status.setText(judged.note or done)
        self._enable()

    def _on_run_done(self, n_judged: int, n_peaks: int, cancelled: bool) -> None:
        word = "Cancelled: " if cancelled else ""
        text = f"{word}{n_judged} of {n_peaks} peaks judged in {self.engine.seconds:.1f} s."
        if not cancelled and n_judged < n_peaks:
            text += f" {n_peaks - n_judged} lie on frames that cannot be read."
        self.status.setText(text)
        self._enable()

    def _on_trained(self, trained: Any) -> None:
        name = model_choice.choices(self.link.session)[trained.model.name]
        if trained.kept:
            text = f"No model trained on these labels was better than: {name}."
        else:
            text = f"{name}: trained in {self.engine.seconds:.0f} s."
        if trained.in_use:
            text += " It is in use."
            self.engine.apply(self.link.shown_frame())
        else:
            text += (
                f" Its average precision on these labels is {trained.report.ap.value:.3f}, that of "
                f"the model in use {trained.start_ap:.3f}: the latter stays in use."
            )
            show_info(text)
        self.status.setText(text)
        self._fill_models()
        title = f"{name}: my labels, each held out"
        self._show_report(trained.report, title, trained.map)
        self._enable()

    def _on_evaluated(self, evaluated: Any) -> None:
        self.status.setText(f"Evaluated in {self.engine.seconds:.1f} s.")
        title = f"{self.models.currentText()}: my labels"
        self._show_report(evaluated.report, title, evaluated.map)
        self._enable()

    def _on_cancelled(self) -> None:
        self.status.setText("Cancelled; the model in use is the same as before.")
        self._enable()

    def _on_model_changed(self, _name: str) -> None:
        if self.engine is None:
            return
        model = self.engine.model
        self.filter.show_threshold(None if model is None else model.threshold)
        self._fill_models()
        if model is not None and self.status.text() == _LOADING:
            self.status.setText(f"In use: {self.models.currentText()}.")
        if model is not None and model.verifier.report is not None:
            title = f"{self.models.currentText()}: as trained"
            self._show_report(model.verifier.report, title)

    def _on_failed(self, error: Exception) -> None:
        show_error(str(error) or type(error).__name__)
        self.status.setText(str(error))
        self._fill_models()  # the model that could not be loaded is not in use
        self._enable()

    def _on_peaks(self, _change: Any) -> None:
        self._refresh.start()

    # report ------------------------------------------------------------------------------

    def _show_report(self, report: Any, title: str, points: Any = None) -> None:
        self.report, self._report_title, self._points = report, title, points
        self.title.setText(f"<b>{title}</b>")
        self.summary.setText("" if report is None else summary_html(report))
        for part in (self.title, self.summary, self.details):
            part.setVisible(report is not None)

    def _on_details(self) -> None:
        if self.report is not None:
            self.open_details().show()

    def open_details(self) -> ReportView:
        """Return a new window with the plots of the report."""
        details = ReportView(self.report, self._report_title, self._points, self)
        details.peak_clicked.connect(self.show_peak)
        return details

    def show_peak(self, peak: int) -> None:
        """Go to the frame of a peak and select it; one that was deleted is passed over."""
        if self.link is None or self.link.closed:
            return
        found = self.link.session.peaks
        found = found[found["peak_id"] == peak]
        if found.empty:
            show_info("This peak was deleted.")
            return
        frame = int(found["frame"].iloc[0])
        if self.link.layer.ndim == 3 and frame != self.link.shown_frame():
            dims = self.link.viewer.dims
            dims.set_point(dims.ndim - 3, self.link.layer.data_to_world((frame, 0, 0))[0])
        self.link.ensure_view().select_ids([peak])
