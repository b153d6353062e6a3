"""What a session tells its views."""

from __future__ import annotations

from dataclasses import dataclass

from psygnal import Signal


@dataclass(frozen=True)
class PeakChange:
    """Which peaks changed.

    Attributes
    ----------
    frames : frozenset of int or None
        Frames with a change; None when everything may have changed.
    added, removed, changed : tuple of int
        Ids of the peaks.
    reason : str
        ``add``, ``remove``, ``move``, ``label``, ``undo``, ``redo``, ``auto``, ``probability`` or
        ``relocate``.
    """

    frames: frozenset[int] | None
    added: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    changed: tuple[int, ...] = ()
    reason: str = ""


class SessionEvents:
    """Signals of a session; they are emitted in the thread that made the change.

    Attributes
    ----------
    peaks_changed : Signal(PeakChange)
        Peaks were edited, or found by the machine.
    parameters_changed : Signal(str)
        The parameters of a step were set.
    undo_changed : Signal()
        What can be undone or redone changed.
    """

    peaks_changed = Signal(PeakChange)
    parameters_changed = Signal(str)
    undo_changed = Signal()
