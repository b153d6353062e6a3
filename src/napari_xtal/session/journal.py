"""The journal: user actions, one JSON object per line, only ever appended to."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from napari_xtal.errors import OutputError, SessionError
from napari_xtal.session.files import explain, sync_folder

#: Version of the record format; written into every record.
VERSION = 1


@dataclass
class History:
    """What a journal holds.

    Attributes
    ----------
    records : list of dict
        Readable records in their order.
    damaged : list of int
        Line numbers (from 1) that cannot be read; they stay in the file.
    unreported : list of int
        Those of them that no ``repair`` record names yet.
    torn : bool
        Whether the last line lacks its end.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    unreported: list[int] = field(default_factory=list)
    torn: bool = False

    @property
    def last_seq(self) -> int:
        """Highest sequence number, 0 for an empty journal."""
        return max((r["seq"] for r in self.records), default=0)


def read_history(path: Path) -> History:
    """Read a journal; damaged lines are told, never removed.

    Parameters
    ----------
    path : Path
        The file; one that does not exist is an empty journal.

    Raises
    ------
    SessionError
        When the file cannot be read, or was written by a later version.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return History()
    except OSError as error:
        raise SessionError(f"{path}: the journal cannot be read ({error.strerror})") from error
    history = History(torn=bool(content) and not content.endswith(b"\n"))
    known: set[int] = set()
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        record = _parse(line)
        if record is None:
            history.damaged.append(number)
            continue
        if record["version"] > VERSION:
            raise SessionError(
                f"{path}: line {number} was written by a later napari-xtal (format "
                f"{record['version']}, this one knows {VERSION}); update napari-xtal"
            )
        if record["action"] == "repair":
            known.update((record.get("target") or {}).get("lines", ()))
        history.records.append(record)
    history.unreported = [n for n in history.damaged if n not in known]
    return history


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict):
        return None
    fits = isinstance(record.get("seq"), int) and isinstance(record.get("action"), str)
    return record if fits and isinstance(record.get("version"), int) else None


class Journal:
    """Appends records; each is handed to the system at once, so a killed process loses none.

    Parameters
    ----------
    path : Path
        The file.
    user : str
        Written into each record.
    last_seq : int
        Sequence numbers go on behind this one.
    torn : bool
        Whether the file ends inside a line; the next record then starts a new one.
    may_write : callable, optional
        Asked before each write; returns None, or the reason why not.
    """

    def __init__(
        self,
        path: Path,
        user: str,
        *,
        last_seq: int = 0,
        torn: bool = False,
        may_write: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.path, self.user, self.last_seq = path, user, last_seq
        self._torn = torn
        self._may_write = may_write
        self._waiting: list[bytes] = []
        self._unsynced = False
        self._lock = threading.RLock()
        is_new = not path.exists()
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise SessionError(explain(path, error)) from error
        if is_new:
            sync_folder(path.parent)

    @property
    def waiting(self) -> int:
        """Number of records that could not be written yet."""
        return len(self._waiting)

    def append(
        self,
        action: str,
        target: dict[str, Any] | None = None,
        old: Any = None,
        new: Any = None,
        *,
        source: str = "user",
        confidence: float | None = None,
    ) -> int:
        """Add a record and return its sequence number; `write_out` puts it into the file."""
        with self._lock:
            self.last_seq += 1
            record = {
                "seq": self.last_seq,
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "user": self.user,
                "action": action,
                "target": target,
                "old": old,
                "new": new,
                "source": source,
                "confidence": confidence,
                "version": VERSION,
            }
            line = json.dumps(record, allow_nan=False, separators=(",", ":")) + "\n"
            self._waiting.append(line.encode())
            return self.last_seq

    def write_out(self) -> None:
        """Write the records that wait; after a failure they wait on, in order.

        Raises
        ------
        OutputError
            When the file cannot be written; nothing that was in it is lost.
        SessionError
            When another process took the session over.
        """
        with self._lock:
            if not self._waiting:
                return
            if reason := self._may_write():
                raise SessionError(reason)
            while self._waiting:
                line = (b"\n" if self._torn else b"") + self._waiting[0]
                self._write_line(line)
                self._torn = False
                self._unsynced = True
                del self._waiting[0]

    def sync(self) -> None:
        """Wait until the disk has what was written.

        Raises
        ------
        OutputError
            When the disk reports a failure.
        """
        with self._lock:
            if not self._unsynced:
                return
            # The flag goes first: a record written during the sync needs the next one.
            self._unsynced = False
            handle = self._file
        try:
            os.fsync(handle)
        except OSError as error:
            self._unsynced = True
            raise OutputError(explain(self.path, error)) from error

    def close(self) -> None:
        """Close the file; call `write_out` and `sync` before."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def _write_line(self, line: bytes) -> None:
        size = -1
        try:
            size = os.fstat(self._file).st_size
            done = 0
            while done < len(line):
                done += os.write(self._file, line[done:])
        except OSError as error:
            # A full disk may take half a line: take our own bytes back, or start anew behind.
            self._torn = True
            with contextlib.suppress(OSError):
                if size >= 0:
                    os.ftruncate(self._file, size)
                    self._torn = line.startswith(b"\n")
            raise OutputError(explain(self.path, error)) from error
