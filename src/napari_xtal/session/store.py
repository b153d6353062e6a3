"""`Session`: the one owner of what a user did to a run.

Edits go through actions that can be undone; each is written to the journal before the
call returns. What a machine found lies below the edits and can be computed again.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import getpass
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from napari_xtal.errors import SessionError, XtalError
from napari_xtal.session.derived import Snapshot, write_derived
from napari_xtal.session.editing import ID_PORTION, PeakEditor
from napari_xtal.session.events import PeakChange
from napari_xtal.session.files import explain
from napari_xtal.session.frames import pack_ids
from napari_xtal.session.journal import Journal
from napari_xtal.session.lock import FolderLock
from napari_xtal.session.manifest import Manifest, plain_json, read_manifest
from napari_xtal.session.models import ModelStore
from napari_xtal.session.options import SessionOptions
from napari_xtal.session.reading import is_session
from napari_xtal.session.replay import replay
from napari_xtal.session.sources import Places, changed_sources, planned_moves
from napari_xtal.session.storage import Storage

if TYPE_CHECKING:
    from napari_xtal.detector.frame import FrameId

_OPEN: weakref.WeakSet[Session] = weakref.WeakSet()
Files = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class Session(PeakEditor):
    """User's peaks, labels, parameters and view of a run; kept in a folder.

    Make one with `create`, `open` or `open_or_create`; close it, or use it in a ``with``
    statement. Methods may be called from any thread; events are emitted in the calling
    thread, after the change.

    Attributes
    ----------
    folder : Path
        The session folder, ``<name>.xtal``.
    recovered : str or None
        What was recovered when the session was opened.
    events : SessionEvents
        ``peaks_changed``, ``parameters_changed``, ``undo_changed``.
    """

    def __init__(
        self, folder: Path, owner: FolderLock, manifest: Manifest, options: SessionOptions
    ) -> None:
        self.folder = folder
        self.recovered: str | None = None
        self._owner, self._manifest, self._ids = owner, manifest, options.ids
        if options.ids is not None:
            manifest.frames = pack_ids(options.ids)
        if options.geometry_hash is not None:
            manifest.geometry_hash = options.geometry_hash
        lock = threading.RLock()
        super().__init__(replay(folder, options.ids, manifest.frames), lock)
        peaks, history = self._state.peaks, self._state.history
        peaks.next_id = max(peaks.next_id, manifest.id_ceiling)
        manifest.id_ceiling = peaks.next_id + ID_PORTION
        manifest.save(folder / "session.json")
        journal = Journal(
            folder / "journal.jsonl",
            owner.user,
            last_seq=history.last_seq,
            torn=history.torn,
            may_write=self._not_mine,
        )
        if history.unreported:
            # Told once; the lines themselves stay as they are.
            journal.append("repair", {"lines": history.unreported}, source="program")
        self._storage = Storage(folder, owner, manifest, journal, lock, self._take_state)
        self._storage.write_journal()
        _OPEN.add(self)

    # making and opening ------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        files: Files,
        *,
        user: str | None = None,
        ids: Sequence[FrameId] | None = None,
        options: SessionOptions | Mapping[str, Any] | None = None,
    ) -> Session:
        """Make a session in a new or empty folder.

        Parameters
        ----------
        folder : path-like
            The session folder, by custom ``<name>.xtal``.
        files : path-like or list of these
            Source files.
        user : str, optional
            Written into each record; default the login name.
        ids : sequence of FrameId, optional
            Identities of the frames, see `SessionOptions`.
        options : SessionOptions or dict, optional
            Further options.

        Raises
        ------
        SessionError
            When the folder holds something, is in use, or cannot be written.
        """
        place = Path(folder).absolute()
        try:
            place.mkdir(parents=True, exist_ok=True)
            if is_session(place):
                raise SessionError(f"{place}: holds a session already; open it instead")
            if any(place.iterdir()):
                raise SessionError(f"{place}: is not empty; choose a new folder")
        except FileExistsError as error:
            raise SessionError(f"{place}: is a file; choose another folder name") from error
        except OSError as error:
            raise SessionError(explain(place / "session.json", error)) from error
        manifest = Manifest()
        manifest.use_files(_as_list(files))
        return cls._start(place, manifest, None, user, SessionOptions.of(options, ids=ids), False)

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        user: str | None = None,
        take_over: bool = False,
        ids: Sequence[FrameId] | None = None,
        options: SessionOptions | Mapping[str, Any] | None = None,
    ) -> Session:
        """Open a session and restore all of it; see `create` for the parameters.

        Parameters
        ----------
        folder : path-like
            The session folder.
        user, ids, options
            See `create`.
        take_over : bool
            Take the session from another process that holds it; that one cannot write
            any more.

        Raises
        ------
        SessionError
            When there is no session, another process holds it, or a later version of
            the program wrote it.
        """
        place = Path(folder).absolute()
        if not is_session(place):
            raise SessionError(f"{place}: holds no session; create one, or choose its folder")
        manifest, notice = read_manifest(place / "session.json")
        return cls._start(
            place, manifest, notice, user, SessionOptions.of(options, ids=ids), take_over
        )

    @classmethod
    def open_or_create(
        cls,
        folder: str | os.PathLike[str],
        files: Files,
        *,
        user: str | None = None,
        take_over: bool = False,
        ids: Sequence[FrameId] | None = None,
        options: SessionOptions | Mapping[str, Any] | None = None,
    ) -> Session:
        """Open the session of a folder, or make it; see `create` and `open`."""
        if not is_session(Path(folder)):
            return cls.create(folder, files, user=user, ids=ids, options=options)
        session = cls.open(folder, user=user, take_over=take_over, ids=ids, options=options)
        with session._lock:
            session._manifest.use_files(_as_list(files))
            session._storage.manifest_changed()
        return session

    @classmethod
    def _start(
        cls,
        folder: Path,
        manifest: Manifest,
        notice: str | None,
        user: str | None,
        options: SessionOptions,
        take_over: bool,
    ) -> Session:
        user = user or _login_name()
        lock = FolderLock(folder, user, take_over=take_over)
        try:
            session = cls(folder, lock, manifest, options)
        except BaseException as error:
            lock.release()
            if isinstance(error, XtalError) and not isinstance(error, SessionError):
                raise SessionError(str(error)) from error
            raise
        notices = [n for n in (lock.notice, notice, *session._state.notices) if n]
        if lock.notice:
            notices.append(f"{session._state.n_actions} edits were restored from the journal")
        session.recovered = "; ".join(notices) or None
        return session

    # parameters and view ------------------------------------------------------------------

    @property
    def parameters(self) -> dict[str, dict[str, Any]]:
        """Parameters by step; a copy."""
        with self._lock:
            return copy.deepcopy(self._manifest.parameters)

    def set_parameters(self, step: str, values: Mapping[str, Any]) -> None:
        """Set the parameters of a step, e.g. ``peak_finder``; saved a moment later.

        Raises
        ------
        ParameterError
            When a value cannot be stored.
        """
        plain = plain_json(values, step)
        with self._lock:
            self._storage.check_open()
            if self._manifest.parameters.get(step) == plain:
                return
            self._manifest.parameters[step] = plain
            self._storage.manifest_changed()
        self.events.parameters_changed.emit(step)

    @property
    def view(self) -> dict[str, Any]:
        """What the window showed; a copy."""
        with self._lock:
            return copy.deepcopy(self._manifest.view)

    def set_view(self, values: Mapping[str, Any]) -> None:
        """Remember what the window shows; saved a moment later.

        Raises
        ------
        ParameterError
            When a value cannot be stored.
        """
        plain = plain_json(values, "view")
        with self._lock:
            self._storage.check_open()
            if self._manifest.view != plain:
                self._manifest.view = plain
                self._storage.manifest_changed()

    @property
    def models(self) -> ModelStore:
        """Trained models, in the folder ``models``; parameters ``verifier`` name the one in use.

        These are ``{"model": hash or "default", "min_probability": p}``.
        """
        return ModelStore(self.folder / "models", may_write=self._may_write)

    def _may_write(self) -> str | None:
        return (
            f"{self.folder}: the session is closed; open it again"
            if self.closed
            else (self._not_mine())
        )

    # sources -----------------------------------------------------------------------------

    @property
    def files(self) -> list[str]:
        """Absolute paths of the source files."""
        with self._lock:
            return list(self._manifest.sources)

    def check_sources(self) -> dict[str, str]:
        """Return the sources that are ``missing``, or ``changed`` since they were first used."""
        with self._lock:
            known = dict(self._manifest.sources)
        return changed_sources(known)

    def relocate(self, where: Places, *, force: bool = False) -> dict[str, str]:
        """Tell where source files are now; edits follow them.

        Parameters
        ----------
        where : path-like or dict
            The folder they were moved to, or new path by former path.
        force : bool
            Whether files of other content are accepted.

        Returns
        -------
        dict of str to str
            New path by former path.

        Raises
        ------
        SessionError
            When a file is not there, is no source of this session, or has other content.
        """
        with self._storage.exclusive():
            self._storage.check_open()
            sources = self._manifest.sources
            moves = planned_moves(sources, where, force=force)
            if not moves:
                return {}
            self._storage.journal.append("relocate", None, list(moves), moves)
            self._manifest.sources = {moves.get(p, p): f for p, f in sources.items()}
            self._storage.manifest_changed()
            self._storage.save()
            # What is known of absent frames may now belong to present ones: read all anew.
            former = self._state.peaks
            self._state = replay(self.folder, self._ids, self._manifest.frames)
            peaks = self._state.peaks
            peaks.next_id = max(peaks.next_id, former.next_id)
            peaks.version += former.version + 1
        self.events.peaks_changed.emit(PeakChange(None, reason="relocate"))
        self.events.undo_changed.emit()
        return moves

    # saving ------------------------------------------------------------------------------

    @property
    def problem(self) -> str | None:
        """Why edits could not be written to disk yet; None when all is well."""
        problem = self._storage.problem
        return None if problem is None else str(problem)

    @property
    def closed(self) -> bool:
        """Whether the session was closed."""
        return self._storage.closed

    def flush(self) -> None:
        """Write all that is not written yet, and wait for the disk.

        Raises
        ------
        OutputError, SessionError
            When something cannot be written; it stays in memory and is tried again.
        """
        self._storage.check_open()
        self._storage.save()

    def close(self) -> None:
        """Write all, and give the folder free. A second call does nothing.

        Raises
        ------
        OutputError
            When something cannot be written; the session stays open, so that it can be
            tried again.
        SessionError
            When another process took the session over and edits could not be written.
        """
        if not self.closed:
            with self._lock:
                self._manifest.id_ceiling = self._state.peaks.next_id
                self._storage.manifest_changed()
            self._storage.close()
            _OPEN.discard(self)

    def _take_state(self) -> Callable[[Path], None]:
        """Return what writes ``derived.h5`` as the peaks are now."""
        state = self._state
        state.prune_searches()
        snapshot = Snapshot(
            self._storage.journal.last_seq,
            state.peaks.next_id,
            dict(state.peaks.blocks),
            state.peaks.dtype,
            list(state.searches),
            dict(state.search_of),
            state.peaks.verdicts.names(),
        )
        return lambda path: write_derived(path, snapshot, state.peaks, state.frames)

    def _not_mine(self) -> str | None:
        if self._owner.is_mine():
            return None
        return (
            f"{self.folder}: the session was taken over by {self._owner.owner_text()}; edits made "
            "here since are not saved. Open it again"
        )

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_storage"):
            with contextlib.suppress(Exception):
                self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self.n_peaks} peaks"
        return f"<Session {self.folder} ({state})>"


def _as_list(files: Files) -> list[str | os.PathLike[str]]:
    return [files] if isinstance(files, (str, os.PathLike)) else list(files)


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container without an entry for the user
        return "unknown"


@atexit.register
def _close_all() -> None:
    for session in list(_OPEN):
        with contextlib.suppress(Exception):
            session.close()
