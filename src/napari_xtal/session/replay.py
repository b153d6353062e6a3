"""Restoring a session: journal and saved machine peaks become one state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_xtal.errors import SessionError
from napari_xtal.session.actions import Action, from_record
from napari_xtal.session.auto_peaks import adopt
from napari_xtal.session.derived import Derived, read_derived
from napari_xtal.session.frames import FrameIndex, unpack_ids
from napari_xtal.session.journal import History, read_history
from napari_xtal.session.peaks import PeakStore

if TYPE_CHECKING:
    from napari_xtal.detector.frame import FrameId


@dataclass
class Replayed:
    """State of a session.

    Attributes
    ----------
    peaks, frames
        All peaks, and what their frames are.
    history : History
        What the journal holds.
    done, undone : list of (int, Action)
        Edits that can be undone and redone, with their sequence numbers.
    searches : list of dict
        ``parameters``, ``version`` and ``time`` of the searches in use.
    search_of : dict of int to int
        Searched frame -> index into `searches`.
    notices : list of str
        What was not as it should be.
    n_actions : int
        Number of edits in the journal.
    """

    peaks: PeakStore
    frames: FrameIndex
    history: History
    done: list[tuple[int, Action]] = field(default_factory=list)
    undone: list[tuple[int, Action]] = field(default_factory=list)
    searches: list[dict[str, Any]] = field(default_factory=list)
    search_of: dict[int, int] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    n_actions: int = 0

    def note_search(self, search: dict[str, Any], frames: Sequence[int]) -> None:
        """Remember how frames were searched."""
        last = self.searches[-1] if self.searches else {}
        if any(last.get(k) != search[k] for k in ("parameters", "version")):
            self.searches.append(search)
        self.search_of.update(dict.fromkeys(frames, len(self.searches) - 1))

    def prune_searches(self) -> None:
        """Forget searches whose results were all replaced: a moving slider makes hundreds."""
        used = sorted(set(self.search_of.values()))
        if len(used) < len(self.searches):
            renumbered = {old: new for new, old in enumerate(used)}
            self.searches = [self.searches[k] for k in used]
            self.search_of = {f: renumbered[k] for f, k in self.search_of.items()}


def replay(folder: Path, ids: Sequence[FrameId] | None, packed: list[list[Any]]) -> Replayed:
    """Read the files of a session folder into a state.

    Parameters
    ----------
    folder : Path
        The session folder.
    ids : sequence of FrameId or None
        Identities of the frames of the open run.
    packed : list
        Identities of the last time, used where `ids` is None.

    Raises
    ------
    SessionError
        When the journal cannot be read, or a later version wrote it.
    """
    history = read_history(folder / "journal.jsonl")
    moved: dict[str, str] = {}
    for record in history.records:
        if record["action"] == "relocate" and isinstance(record.get("new"), dict):
            # A file may come back to a former place: the last word counts.
            moved.pop(next(iter(record["new"].values()), ""), None)
            moved.update(record["new"])
    if ids is None and packed:
        ids = unpack_ids(packed)
    state = Replayed(PeakStore(), FrameIndex(ids, moved), history)
    derived = _derived(folder / "derived.h5", state)
    unusable = 0
    for record in history.records:
        if derived is not None and record["seq"] > derived.seq:
            _adopt(state, derived)
            derived = None
        try:
            _apply(record, state)
        except (KeyError, TypeError, ValueError, IndexError, SessionError):
            unusable += 1
    if derived is not None:
        _adopt(state, derived)
    if history.unreported:
        lines = ", ".join(map(str, history.unreported[:5]))
        state.notices.append(
            f"line {lines} of {folder / 'journal.jsonl'} cannot be read and was left out "
            "(it is still in the file)"
        )
    if unusable:
        state.notices.append(f"{unusable} records of the journal cannot be applied")
    if absent := state.frames.absent:
        files = sorted({i.file for i in absent})
        state.notices.append(
            f"{len(absent)} frames that the session knows are not open (of {files[0]}"
            f"{' and others' if len(files) > 1 else ''}): their peaks are kept, not shown"
        )
    return state


def _derived(path: Path, state: Replayed) -> Derived | None:
    if not path.exists():
        return None
    try:
        return read_derived(path, state.peaks, state.frames)
    except SessionError as error:
        # The finder can find them again; the user's edits are in the journal.
        state.notices.append(str(error))
        return None


def _adopt(state: Replayed, derived: Derived) -> None:
    verdicts = state.peaks.verdicts
    for frame, name in derived.verifiers.items():
        verdicts.use([frame], verdicts.code(name))
    for rows in (derived.rows, derived.judged):
        verdicts.note(rows.data, verdicts.codes(rows.frames))
    adopt(state.peaks, derived.rows)
    state.peaks.next_id = max(state.peaks.next_id, derived.next_id)
    state.searches, state.search_of = derived.searches, derived.search_of


def _apply(record: dict[str, Any], state: Replayed) -> None:
    name = record["action"]
    if name in ("undo", "redo"):
        source, to = (state.done, state.undone) if name == "undo" else (state.undone, state.done)
        seq = record["target"]["seq"]
        at = next(k for k in reversed(range(len(source))) if source[k][0] == seq)
        action = source[at][1]
        (action.inverse() if name == "undo" else action).apply(state.peaks)
        to.append(source.pop(at))
        return
    action_or_none = from_record(record, state.peaks, state.frames)
    if action_or_none is not None:
        action_or_none.apply(state.peaks)
        state.done.append((record["seq"], action_or_none))
        state.undone.clear()
        state.n_actions += 1
