"""The lock of a session folder: one process writes, and a dead owner blocks nobody."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from napari_xtal.errors import SessionError
from napari_xtal.session.files import explain

#: A process that recovers a lock needs milliseconds; its mark is void after this [s].
_RECOVERY_S = 10.0


class FolderLock:
    """Ownership of a session folder, kept in its file ``lock``.

    Parameters
    ----------
    folder : Path
        The session folder.
    user : str
        Name shown to others who find the folder in use.
    take_over : bool
        Take the folder from an owner that seems alive.

    Raises
    ------
    SessionError
        When a living process owns the folder, or the lock cannot be written.

    Attributes
    ----------
    user : str
        Name of this owner.
    notice : str or None
        What was recovered or taken over.
    """

    def __init__(self, folder: Path, user: str, *, take_over: bool = False) -> None:
        self.path = folder / "lock"
        self.notice: str | None = None
        self.user = user
        self._token = uuid.uuid4().hex
        self._pid = os.getpid()
        self._content = json.dumps(
            {
                "pid": self._pid,
                "host": socket.gethostname(),
                "start": process_start(self._pid),
                "user": user,
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "token": self._token,
            }
        )
        try:
            if not self._claim():
                self._recover(take_over)
        except OSError as error:
            raise SessionError(explain(self.path, error)) from error

    def is_mine(self) -> bool:
        """Whether nobody took the folder over since."""
        if os.getpid() != self._pid:  # a child process has a copy of the session
            return False
        owner = _read(self.path)
        return owner is not None and owner.get("token") == self._token

    def owner_text(self) -> str:
        """Return who holds the folder now."""
        return _describe(_read(self.path))

    def release(self) -> None:
        """Give the folder free; another owner's lock, or a parent process's, is left alone."""
        if self.is_mine():
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _claim(self) -> bool:
        """Create the lock file with its content in one step; False when there is one."""
        own = self.path.with_name(f".lock.{self._token}")
        own.write_text(self._content)
        try:
            os.link(own, self.path)
        except FileExistsError:
            return False
        except OSError:
            # File systems without hard links: exclusive creation, content a moment later.
            try:
                with open(self.path, "x") as file:
                    file.write(self._content)
            except FileExistsError:
                return False
        finally:
            own.unlink(missing_ok=True)
        return True

    def _recover(self, take_over: bool) -> None:
        # Two processes may find the same stale lock: only the one that makes the mark goes on.
        mark = self.path.with_name("lock.recovering")
        with contextlib.suppress(OSError):
            if time.time() - mark.stat().st_mtime > _RECOVERY_S:
                mark.unlink()
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            raise SessionError(
                f"{self.path.parent}: another process is opening this session; try again"
            ) from None
        try:
            owner = _read(self.path)
            if is_alive(owner) and not take_over:
                raise SessionError(
                    f"{self.path.parent}: the session is in use by {_describe(owner)}; close it "
                    "there, or open it here with take_over=True"
                )
            self.notice = (
                f"the session was taken over from {_describe(owner)}"
                if is_alive(owner)
                else f"the session was not closed by {_describe(owner)}"
            )
            self.path.unlink(missing_ok=True)
            if not self._claim():
                raise SessionError(f"{self.path.parent}: the session is in use; try again")
        finally:
            mark.unlink(missing_ok=True)


def is_alive(owner: dict[str, Any] | None) -> bool:
    """Whether the process that a lock names may still run.

    A process on another host cannot be asked and counts as alive; an unreadable
    lock is the remains of a crash.
    """
    if not owner:
        return False
    if owner.get("host") != socket.gethostname():
        return True
    try:
        pid = int(owner["pid"])
        os.kill(pid, 0)
    except (ProcessLookupError, KeyError, ValueError, TypeError, OverflowError):
        return False
    except OSError:  # it runs under another user
        pass
    start = process_start(pid)
    # The number may have been given to another process since.
    return start is None or owner.get("start") in (None, start)


def process_start(pid: int) -> str | None:
    """Return what tells a process from a later one with its number; None where unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # The command name, in brackets, may hold blanks: count fields behind it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else f"{boot}:{fields[19]}"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _describe(owner: dict[str, Any] | None) -> str:
    if not owner:
        return "an unknown process"
    return (
        f"{owner.get('user', 'unknown')} (process {owner.get('pid')} on {owner.get('host')}, "
        f"since {owner.get('time')})"
    )
