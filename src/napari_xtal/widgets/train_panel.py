"""Panel of the *Peak review* dock: apply, train and evaluate verifiers, filter by probability."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QSignalBlocker, Qt, QTimer
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLayout,
    QProgressBar,
    QScrollArea,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_xtal.widgets import model_choice, styles
from napari_xtal.widgets.finder_controls import button, enable
from napari_xtal.widgets.model_choice import Labels
from napari_xtal.widgets.probability_filter import ProbabilityFilter
from napari_xtal.widgets.report_view import ReportView, summary_html
from napari_xtal.widgets.verify_engine import VerifyEngine

if TYPE_CHECKING:
    from napari_xtal.widgets.run_link import RunLink
    from napari_xtal.widgets.verify_engine import Judged

#: Counts of labels follow edits after this pause [ms].
REFRESH_MS = 150
#: What the kinds of training are called.
KINDS = {"cnn": "Network (CNN), fine-tuned", "svm": "Support vector machine (SVM)"}
_TOOLTIPS = {
    "this_frame": "Give the peaks of the shown frame a probability.",
    "all_frames": "Give the peaks of every frame a probability.",
    "train": "Train a model on the peaks you labelled; a part of the frames is held out and "
    "scores it. The model is stored in the session.",
    "evaluate": "Compare the model in use with your labels.",
    "cancel": "Stop; what is done is kept.",
}
_DOING = {"verify": "Judging peaks", "train": "Training", "evaluate": "Evaluating"}


class TrainPanel(QWidget):
    """Choose a model, apply it, train it on the labels of this session, and see its scores."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("train_panel")
        self.link: RunLink | None = None
        self.engine: VerifyEngine | None = None
        self.report: Any = None
        self._report_title = ""
        self._labels: Labels | None = None
        self._create_controls()
        self._refresh = QTimer(self)
        self._refresh.setSingleShot(True)
        self._refresh.setInterval(REFRESH_MS)
        self._refresh.timeout.connect(self._count_labels)
        self._connect()
        self.set_link(None)

    # layout ------------------------------------------------------------------------------

    def _create_controls(self) -> None:
        body = QWidget(self)
        scroll = QScrollArea(self)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(body)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        layout = QVBoxLayout(body)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(6)

        self.models = _combo("model", "Model that judges the peaks.", body)
        self.file = button("File…", "model_file", "Take a model from a file.", body)
        self.this_frame = button("This frame", "apply_frame", _TOOLTIPS["this_frame"], body)
        self.all_frames = button("All frames", "apply_all", _TOOLTIPS["all_frames"], body)
        self.filter = ProbabilityFilter(body)
        self.counts = _text("label_counts", body)
        self.kind = _combo("kind", "What is trained.", body)
        for kind, title in KINDS.items():
            self.kind.addItem(title, kind)
        self.seed = QSpinBox(body)
        self.seed.setObjectName("seed")
        self.seed.setRange(0, 2**31 - 1)
        self.seed.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)
        self.seed.setFixedWidth(styles.NUMBER_WIDTH)
        self.seed.setToolTip("The same labels and the same seed give the same model.")
        self.train = button("Train on my labels", "train", _TOOLTIPS["train"], body)
        self.evaluate = button("Evaluate", "evaluate", _TOOLTIPS["evaluate"], body)
        self.cancel = button("Cancel", "cancel_verify", _TOOLTIPS["cancel"], body)
        self.progress = QProgressBar(body)
        self.progress.setObjectName("verify_progress")
        self.progress.hide()
        self.status = _text("verify_status", body)
        self.summary = _text("report_summary", body)
        self.summary.setTextFormat(Qt.TextFormat.RichText)
        self.details = button("Details…", "report_details", "Show curves and tables.", body)

        layout.addWidget(_heading("Model", body))
        layout.addLayout(_row((self.models, 1), (self.file, 0)))
        layout.addLayout(_row((self.this_frame, 1), (self.all_frames, 1), (self.cancel, 1)))
        layout.addWidget(self.progress)
        layout.addWidget(self.status)
        layout.addWidget(self.filter)
        layout.addWidget(_heading("Learn from my labels", body))
        layout.addWidget(self.counts)
        form = QGridLayout()
        form.addWidget(self.kind, 0, 0)
        form.addWidget(QLabel("Seed", body), 0, 1)
        form.addWidget(self.seed, 0, 2)
        form.setColumnStretch(0, 1)
        layout.addLayout(form)
        layout.addLayout(_row((self.train, 2), (self.evaluate, 1)))
        layout.addWidget(self.summary)
        layout.addLayout(_row((self.details, 0), (QWidget(body), 1)))
        layout.addStretch(1)

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
        enable(self.this_frame, none or no_peaks, _TOOLTIPS["this_frame"])
        enable(self.all_frames, busy or no_peaks, _TOOLTIPS["all_frames"])
        why = busy or (labels.why_not_train() if labels is not None else None)
        enable(self.train, why, _TOOLTIPS["train"])
        why = busy or (labels.why_not_evaluate() if labels is not None else None)
        enable(self.evaluate, why, _TOOLTIPS["evaluate"])
        running = engine is not None and engine.running
        enable(self.cancel, None if running else "nothing is going on", _TOOLTIPS["cancel"])
        for control in (self.models, self.file):
            control.setEnabled(none is None and not running)
        if not running:
            self.progress.hide()

    # what the user asks for --------------------------------------------------------------

    def _on_model(self, at: int) -> None:
        name = self.models.itemData(at)
        if self.engine is not None and name != self.engine.active:
            self.status.setText("Loading the model …")
            self.engine.use(name)

    def _on_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Open a verifier", "", "Verifier (*.safetensors *.skops)"
        )
        if path and self.engine is not None:
            self.status.setText("Loading the model …")
            self.engine.use_file(path)

    def _on_this_frame(self) -> None:
        if self.engine is not None and self.link is not None:
            self.status.setText("Judging the peaks of this frame …")
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
        self.status.setText(
            judged.note or f"{len(judged.ids)} peaks of frame {judged.frame} have a probability."
        )
        self._enable()

    def _on_run_done(self, n_judged: int, n_peaks: int, cancelled: bool) -> None:
        word = "Cancelled: " if cancelled else ""
        text = f"{word}{n_judged} of {n_peaks} peaks judged in {self.engine.seconds:.1f} s."
        if not cancelled and n_judged < n_peaks:
            text += f" {n_peaks - n_judged} lie on frames that cannot be read."
        self.status.setText(text)
        self._enable()

    def _on_trained(self, trained: Any) -> None:
        kind = model_choice.KINDS[trained.model.verifier.kind]
        text = f"{kind} {trained.model.name[:6]} trained in {self.engine.seconds:.0f} s"
        if not trained.in_use:
            text += (
                f". It is worse than the model in use (average precision {trained.report.ap.value:.3f}, "
                f"before {trained.start_ap:.3f} on the same labels), which stays in use; choose the "
                "new one above if you want it all the same."
            )
            show_info(text)
        else:
            text += " and in use."
            self.engine.apply(self.link.shown_frame())
        self.status.setText(text)
        self._fill_models()
        self._show_report(trained.report, f"{kind} {trained.model.name[:6]}: frames held out")
        self._enable()

    def _on_evaluated(self, report: Any) -> None:
        self.status.setText(f"Evaluated in {self.engine.seconds:.1f} s.")
        self._show_report(report, f"{self.models.currentText()}: my labels")
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
        if model is not None and self.status.text().startswith("Loading"):
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

    def _show_report(self, report: Any, title: str) -> None:
        self.report, self._report_title = report, title
        self.summary.setText("" if report is None else f"<b>{title}</b>{summary_html(report)}")
        self.summary.setVisible(report is not None)
        self.details.setVisible(report is not None)

    def _on_details(self) -> None:
        if self.report is not None:
            self.open_details().show()

    def open_details(self) -> ReportView:
        """Return a new window with the plots of the report."""
        return ReportView(self.report, self._report_title, self)


def _combo(name: str, tooltip: str, parent: QWidget) -> QComboBox:
    combo = QComboBox(parent)
    combo.setObjectName(name)
    combo.setToolTip(tooltip)
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(8)
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return combo


def _text(name: str, parent: QWidget) -> QLabel:
    label = QLabel(parent)
    label.setObjectName(name)
    label.setWordWrap(True)
    return label


def _heading(text: str, parent: QWidget) -> QLabel:
    return QLabel(f"<b>{text}</b>", parent)


def _row(*parts: tuple[QWidget, int]) -> QLayout:
    row = QHBoxLayout()
    for part, stretch in parts:
        row.addWidget(part, stretch)
    return row
