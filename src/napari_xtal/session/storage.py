"""When the files of a session are written: the journal at once, the rest a moment later."""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from napari_xtal.errors import SessionError, XtalError
from napari_xtal.session.saver import Saver

if TYPE_CHECKING:
    from napari_xtal.session.journal import Journal
    from napari_xtal.session.lock import FolderLock
    from napari_xtal.session.manifest import Manifest

#: A change of parameters, view or machine peaks is saved this long after it [s].
_MANIFEST_S = 0.8
_DERIVED_S = 1.2
_NEVER = float("inf")


class Storage:
    """Writes the journal, ``session.json`` and ``derived.h5`` of one session.

    Parameters
    ----------
    folder : Path
        The session folder.
    owner : FolderLock
        Says whether the folder is still ours; if not, nothing is written.
    manifest : Manifest
        Content of ``session.json``.
    journal : Journal
        The journal.
    lock : RLock
        Guards the session's state; held only while the state is copied.
    take_state : callable
        Called with `lock` held; returns the function that writes ``derived.h5``.
    """

    def __init__(
        self,
        folder: Path,
        owner: FolderLock,
        manifest: Manifest,
        journal: Journal,
        lock: threading.RLock,
        take_state: Callable[[], Callable[[Path], None]],
    ) -> None:
        self.folder, self.manifest, self.journal = folder, manifest, journal
        self.closed = False
        self.problem: XtalError | None = None
        self._owner, self._lock, self._take_state = owner, lock, take_state
        # Always taken before the lock of the state, never after.
        self._saving = threading.RLock()
        self._manifest_at = self._derived_at = _NEVER
        self._derived_wait = _DERIVED_S
        self._saver = Saver(self)

    def manifest_changed(self) -> None:
        """Have ``session.json`` saved a moment later."""
        self._manifest_at = min(self._manifest_at, time.monotonic() + _MANIFEST_S)
        self._saver.wake()

    def derived_changed(self) -> None:
        """Have ``derived.h5`` saved a moment later."""
        self._derived_at = min(self._derived_at, time.monotonic() + self._derived_wait)
        self._saver.wake()

    def write_journal(self) -> XtalError | None:
        """Hand the journal to the system; return the problem, the edit being kept for later."""
        self._saver.wake()
        try:
            self.journal.write_out()
        except XtalError as error:
            self.problem = error
            return error
        self.problem = None
        return None

    def check_open(self) -> None:
        """Refuse to work on a closed session.

        Raises
        ------
        SessionError
            When the session was closed.
        """
        if self.closed:
            raise SessionError(f"{self.folder}: the session is closed; open it again")

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep both the state and the files as they are, but for the caller."""
        with self._saving, self._lock:
            yield

    def save(self, *, everything: bool = True) -> None:
        """Write what is due, or everything, and wait for the disk.

        Raises
        ------
        OutputError, SessionError
            When something cannot be written; it stays in memory and is tried again.
        """
        with self._saving:
            self.journal.write_out()
            self.journal.sync()
            self.problem = None
            if not self._owner.is_mine():
                return
            now = _NEVER if everything else time.monotonic()
            self._save_manifest(now)
            self._save_derived(now)

    def save_due(self) -> bool:
        """Save what is due; called by the saving thread, True when something is left."""
        try:
            self.save(everything=False)
        except XtalError as error:
            self.problem = error
        waits = min(self._manifest_at, self._derived_at) < _NEVER or self.journal.waiting
        return bool(waits) and not self.closed

    def close(self) -> None:
        """Write everything and give the folder free; a second call does nothing.

        Raises
        ------
        OutputError
            When something cannot be written; the session stays open.
        SessionError
            When another process took the session over and edits could not be written.
        """
        if self.closed:
            return
        lost = None
        try:
            self.save()
        except SessionError as error:
            lost = error
        self.closed = True
        self._saver.stop()
        self.journal.close()
        self._owner.release()
        if lost is not None:
            raise lost

    def _save_manifest(self, now: float) -> None:
        with self._lock:
            if self._manifest_at > now or self._manifest_at == _NEVER:
                return
            manifest, self._manifest_at = copy.deepcopy(self.manifest), _NEVER
        try:
            manifest.save(self.folder / "session.json")
        except XtalError:
            self.manifest_changed()
            raise

    def _save_derived(self, now: float) -> None:
        with self._lock:
            if self._derived_at > now or self._derived_at == _NEVER:
                return
            self._derived_at = _NEVER
            if self.journal.waiting:
                # The found peaks must not know of an edit that is not on disk.
                self.derived_changed()
                return
            write = self._take_state()
        start = time.monotonic()
        try:
            write(self.folder / "derived.h5")
        except XtalError:
            self.derived_changed()
            raise
        # A million peaks take a second to write: do not do it all the time.
        self._derived_wait = max(_DERIVED_S, 4 * (time.monotonic() - start))
