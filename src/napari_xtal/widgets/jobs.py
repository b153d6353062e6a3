"""Work off the GUI thread: one job with progress and cancel, and the latest of many."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, QTimer, Signal

if TYPE_CHECKING:
    from collections.abc import Callable

#: Interval of progress updates in milliseconds: fluent to the eye, free of cost.
PROGRESS_INTERVAL_MS = 100


class LatestJob(QObject):
    """Run only the newest of a stream of requests, at most one at a time.

    While a request runs, newer ones replace each other; so what is shown is never more
    than one request behind.

    Signals
    -------
    done(object)
        Result of a request, in the GUI thread.
    failed(object)
        Exception of a request, in the GUI thread.
    """

    done = Signal(object)
    failed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._worker: Any = None
        self._next: Callable[[], Any] | None = None
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether a request runs or waits."""
        return self._worker is not None

    def submit(self, work: Callable[[], Any]) -> None:
        """Run `work` as soon as the running request is through; drop older waiting ones."""
        if self._closed:
            return
        if self._worker is not None:
            self._next = work
            return
        self._worker = create_worker(_outcome, work, _start_thread=False)
        self._worker.returned.connect(self._on_returned)
        self._worker.start()

    def close(self) -> None:
        """Drop what waits; the running request ends unheard."""
        self._closed, self._next = True, None

    def _on_returned(self, outcome: tuple[Any, Exception | None]) -> None:
        self._worker = None
        result, error = outcome
        waiting, self._next = self._next, None
        if self._closed:
            return
        if waiting is not None:
            self.submit(waiting)
        if error is not None:
            self.failed.emit(error)
        else:
            self.done.emit(result)


class LongJob(QObject):
    """One long piece of work that reports progress and can be cancelled.

    Signals
    -------
    progressed(int, int)
        Items done and in total, at most ten times a second.
    done(object, bool)
        Result and whether it was cancelled (then the result is a part).
    failed(object)
        The exception.
    """

    progressed = Signal(int, int)
    done = Signal(object, bool)
    failed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._worker: Any = None
        self._count = (0, 0)
        self._cancelled = False
        self.started_at = 0.0
        self._timer = QTimer(self)
        self._timer.setInterval(PROGRESS_INTERVAL_MS)
        self._timer.timeout.connect(self._report)

    @property
    def running(self) -> bool:
        """Whether the work is going on."""
        return self._worker is not None

    def start(self, work: Callable[..., Any]) -> None:
        """Call ``work(progress=..., cancel=...)`` in a worker thread.

        Parameters
        ----------
        work : callable
            Takes ``progress(done, total)`` and ``cancel() -> bool``; returns what it has when
            told to cancel.
        """
        if self._worker is not None:
            raise RuntimeError("the previous work is still running")
        self._cancelled, self._count, self.started_at = False, (0, 0), time.perf_counter()
        worker = create_worker(
            _outcome,
            lambda: work(progress=self._note, cancel=self._wants_stop),
            _start_thread=False,
        )
        worker.returned.connect(self._on_returned)
        self._worker = worker
        self._timer.start()
        worker.start()

    def cancel(self) -> None:
        """Ask the work to stop; `done` follows with what was reached."""
        self._cancelled = True

    def _wants_stop(self) -> bool:
        worker = self._worker
        # napari asks the worker to quit when its window is closed while we are busy.
        return self._cancelled or (worker is not None and worker.abort_requested)

    def _note(self, done: int, total: int) -> None:
        self._count = (done, total)  # from the worker thread; the timer reads it

    def _report(self) -> None:
        self.progressed.emit(*self._count)

    def _on_returned(self, outcome: tuple[Any, Exception | None]) -> None:
        self._worker = None
        self._timer.stop()
        self._report()
        result, error = outcome
        if error is not None:
            self.failed.emit(error)
        else:
            self.done.emit(result, self._cancelled)


def _outcome(work: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """Return result and exception of `work`; exceptions are ours to show, not the worker's."""
    try:
        return work(), None
    except Exception as error:  # noqa: BLE001 - every failure must reach the window as a message
        return None, error
