"""The controls of the training panel, laid out; what they do is in `train_panel`."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
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

from napari_xtal.widgets import styles
from napari_xtal.widgets.finder_controls import button
from napari_xtal.widgets.probability_filter import ProbabilityFilter

#: What the kinds of training are called.
KINDS = {"cnn": "CNN, fine-tuned", "svm": "SVM"}
TOOLTIPS = {
    "this_frame": "Give the peaks of the shown frame a probability.",
    "all_frames": "Give the peaks of every frame a probability.",
    "train": "Train a model on the peaks you labelled; a part of the frames is held out and "
    "scores it. The model is stored in the session.",
    "evaluate": "Compare the model in use with your labels.",
    "cancel": "Stop; what is done is kept.",
}


class TrainForm(QWidget):
    """Layout of the panel, in a scroll area for small screens."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("train_panel")
        self._create_controls()

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
        self.this_frame = button("This frame", "apply_frame", TOOLTIPS["this_frame"], body)
        self.all_frames = button("All frames", "apply_all", TOOLTIPS["all_frames"], body)
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
        self.train = button("Train on my labels", "train", TOOLTIPS["train"], body)
        self.evaluate = button("Evaluate", "evaluate", TOOLTIPS["evaluate"], body)
        self.cancel = button("Cancel", "cancel_verify", TOOLTIPS["cancel"], body)
        self.progress = QProgressBar(body)
        self.progress.setObjectName("verify_progress")
        self.progress.hide()
        self.status = _text("verify_status", body)
        self.title = _text("report_title", body)
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
        layout.addLayout(_row((self.title, 1), (self.details, 0)))
        layout.addWidget(self.summary)
        layout.addStretch(1)


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
