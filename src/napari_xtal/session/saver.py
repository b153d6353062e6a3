"""The thread that saves what changed, a moment after it changed."""

from __future__ import annotations

import threading
import weakref
from typing import Protocol

#: How often it looks after a change [s]. With the delays of the session's files this
#: keeps everything on disk at most 2 s after it happened.
TICK_S = 0.4


class Savable(Protocol):
    """What has something to save."""

    def save_due(self) -> bool:
        """Save what is due; return whether something is left for later."""


class Saver:
    """Calls ``owner.save_due()`` in a daemon thread while there is something to save.

    Holds the owner weakly: a session that is let go without `close` ends its thread.
    """

    def __init__(self, owner: Savable) -> None:
        self._wake, self._stop = threading.Event(), threading.Event()
        reference = weakref.ref(owner, lambda _: self._end())
        self._thread = threading.Thread(
            target=_run,
            args=(reference, self._wake, self._stop),
            name="napari-xtal session",
            daemon=True,
        )
        self._thread.start()

    def wake(self) -> None:
        """Tell that something changed."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._end()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _end(self) -> None:
        self._stop.set()
        self._wake.set()


def _run(reference: weakref.ref[Savable], wake: threading.Event, stop: threading.Event) -> None:
    while True:
        wake.wait()
        wake.clear()
        if stop.wait(TICK_S):
            return
        owner = reference()
        if owner is None:
            return
        if owner.save_due():
            wake.set()
        del owner
