"""Verification for the docks: the model in use, probabilities, training, evaluation.

torch and scikit-learn are imported by the first job that needs them, never in the thread
of the window.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_xtal.errors import XtalError
from napari_xtal.widgets import judging, model_choice
from napari_xtal.widgets.jobs import LatestJob, LongJob
from napari_xtal.widgets.model_choice import Labels, Model
from napari_xtal.widgets.thumbnails import OwnFrames

if TYPE_CHECKING:
    from napari_xtal.widgets.judging import Judged


class VerifyEngine(QObject):
    """Judge the peaks of one run, train and evaluate verifiers on the user's labels.

    The model in use and the limit of the probability are parameters ``verifier`` of the
    session, so that all docks and the next session agree.

    Parameters
    ----------
    link : RunLink
        The run.
    parent : QObject, optional
        Qt parent.

    Signals
    -------
    frame_done(Judged)
        The peaks of a frame have their probabilities in the session.
    progressed(int, int)
        Steps of a long job done and in total.
    run_done(int, int, bool)
        Peaks judged, peaks asked for, and whether the job was cancelled.
    trained(Trained)
        A new model is in the session; it is in use when it is not worse.
    evaluated(Evaluated)
        How the model in use does on the user's labels.
    cancelled()
        Training or evaluation was cancelled without a result.
    model_changed(str)
        Another model is in use, or more is known of it.
    failed(object)
        An exception, to be shown.
    """

    frame_done = Signal(object)
    progressed = Signal(int, int)
    run_done = Signal(int, int, bool)
    trained = Signal(object)
    evaluated = Signal(object)
    cancelled = Signal()
    model_changed = Signal(str)
    failed = Signal(object)
    _handed_over = Signal(object)

    def __init__(self, link: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.link = link
        self.model: Model | None = None
        self.task = ""
        self._known_active = self.active
        self.seconds = 0.0
        self._lock = threading.Lock()
        self._loaded: Model | None = None
        self._frames = OwnFrames(link.stack)
        self._live = self._latest(self._on_frame)
        self._choice = self._latest(self._on_chosen)
        self._long = LongJob(self)
        self._long.progressed.connect(self.progressed)
        self._long.done.connect(self._on_long_done)
        self._long.failed.connect(self._on_failed)
        self._handed_over.connect(self._take)
        link.session.events.parameters_changed.connect(self._on_parameters)

    def _latest(self, done: Any) -> LatestJob:
        job = LatestJob(self)
        job.done.connect(done)
        job.failed.connect(self._on_failed)
        return job

    # what can be asked -------------------------------------------------------------------

    @property
    def active(self) -> str:
        """Name of the model in use: "default", "default-svm", or that of a session's model."""
        return model_choice.active(self.link.session.parameters)

    @property
    def running(self) -> bool:
        """Whether a long job (all frames, training, evaluation) is going on."""
        return self._long.running

    @property
    def busy(self) -> bool:
        """Whether any job is going on."""
        return self._long.running or self._live.busy or self._choice.busy

    def use(self, name: str) -> None:
        """Use another model from now on; one that cannot be loaded leaves all as it is.

        Parameters
        ----------
        name : str
            "default", "default-svm", or the name of a model of the session.
        """
        self._choice.submit(lambda: self._load(name))

    def use_file(self, path: str) -> None:
        """Take a model from a file into the session and use it."""
        session = self.link.session
        self._choice.submit(lambda: self._load(model_choice.adopt_file(session, path)))

    def apply(self, frame: int) -> None:
        """Judge the peaks of one frame; of several frames asked for, the last one counts."""
        name = self.active
        self._live.submit(lambda: self._judge(name, frame))

    def apply_all(self) -> None:
        """Judge all peaks of the run."""
        name = self.active

        def work(progress: Any, cancel: Any) -> tuple[int, int]:
            source, peaks = self._own_source(), self.link.session.peaks
            return judging.judge_run(
                self._model(name), source, peaks, self._handed_over.emit, progress, cancel
            )

        self._start("verify", work)

    def train(self, kind: str = "cnn", start: str | None = None, seed: int = 0) -> None:
        """Train on the user's labels; the new model is stored in the session.

        Parameters
        ----------
        kind : {"cnn", "svm"}
            A network, fine-tuned from `start`, or a support vector machine.
        start : str, optional
            Name of the model to start from; default the one in use, or the shipped one when
            that is of another kind.
        seed : int
            The same labels and seed give the same model.
        """
        session, labels = self.link.session, Labels.of(self.link.session.peaks)
        begin = start or self.active

        def work(progress: Any, cancel: Any) -> Any:
            source = self._own_source()
            return model_choice.train(
                session, source, labels, self._model(begin), kind, seed, progress, cancel
            )

        self._start("train", work)

    def evaluate(self) -> None:
        """Compare the model in use with the user's labels."""
        session, labels = self.link.session, Labels.of(self.link.session.peaks)
        name = self.active

        def work(progress: Any, cancel: Any) -> Any:
            source = self._own_source()
            model = self._model(name)
            return model_choice.evaluate(session, source, labels, model, progress, cancel)

        self._start("evaluate", work)

    def cancel(self) -> None:
        """Stop the long job; probabilities that are there are kept."""
        self._long.cancel()

    def close(self) -> None:
        """Stop all; results that come later are dropped."""
        self._live.close()
        self._choice.close()
        self._long.cancel()
        if not self.link.closed:
            self.link.session.events.parameters_changed.disconnect(self._on_parameters)

    # in workers --------------------------------------------------------------------------

    def _model(self, name: str) -> Model:
        with self._lock:
            if self._loaded is None or self._loaded.name != name:
                self._loaded = model_choice.load(self.link.session.models, name)
            return self._loaded

    def _load(self, name: str) -> Model:
        return self._model(name)

    def _own_source(self) -> Any:
        """Return the frames with file handles of their own; a plain array has none."""
        source = self.link.source
        return source.reopen() if hasattr(source, "reopen") else source

    def _judge(self, name: str, frame: int) -> Judged:
        model = self._model(name)
        if self._frames.source is not self.link.source:  # another mask
            self._frames = OwnFrames(self.link.stack)
        peaks = self.link.session.peaks_of(frame)
        return judging.judge_frame(model, self._frames.frame(frame), peaks, frame)

    # in the window's thread --------------------------------------------------------------

    def _start(self, task: str, work: Any) -> None:
        if not self._long.running:
            self.task = task
            self._long.start(work)

    def _take(self, judged: Judged) -> bool:
        """Put probabilities into the session; those of a model no longer in use are dropped."""
        if self.link.closed or judged.model.name != self.active:
            return False
        self._note_model(judged.model)
        try:
            self.link.session.set_probabilities(
                judged.ids, judged.values, judged.model.hash, judged.places
            )
        except XtalError as error:
            self.failed.emit(error)
            return False
        return True

    def _on_frame(self, judged: Judged) -> None:
        if self._take(judged):
            self.frame_done.emit(judged)

    def _on_chosen(self, model: Model) -> None:
        if not self.link.closed:
            model_choice.remember(self.link.session, model=model.name)
            self._note_model(model)

    def _on_long_done(self, result: Any, cancelled: bool) -> None:
        self.seconds = time.perf_counter() - self._long.started_at
        if self.link.closed:
            return
        if self.task == "verify":
            self.run_done.emit(*result, cancelled)
        elif result is None:
            self.cancelled.emit()
        elif self.task == "evaluate":
            self.evaluated.emit(result)
        else:
            with self._lock:
                self._loaded = result.model
            if result.in_use:
                self._on_chosen(result.model)
            self.trained.emit(result)

    def _on_failed(self, error: Exception) -> None:
        if not self.link.closed:
            self.failed.emit(error)

    def _on_parameters(self, step: str) -> None:
        if step == "verifier" and self.active != self._known_active:
            self._known_active = self.active
            if self.model is not None and self.model.name != self.active:
                self.model = None
            self.model_changed.emit(self.active)

    def _note_model(self, model: Model) -> None:
        if self.model != model:
            self.model = model
            self.model_changed.emit(model.name)
