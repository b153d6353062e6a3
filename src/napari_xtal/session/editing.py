"""Editing the peaks of a run: views, undoable actions, and machine results below them."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.errors import ParameterError, XtalError
from napari_xtal.session.actions import (
    Action,
    AddPeaks,
    LabelPeaks,
    MovePeaks,
    RemovePeaks,
    to_record,
)
from napari_xtal.session.auto_peaks import judge, replace_auto
from napari_xtal.session.events import PeakChange, SessionEvents
from napari_xtal.session.manifest import plain_json
from napari_xtal.session.peaks import IMPORT, MANUAL, Difference, Rows, as_ids, check_places

if TYPE_CHECKING:
    import pandas as pd

    from napari_xtal.session.replay import Replayed
    from napari_xtal.session.storage import Storage

#: Ids are set aside in such portions, so that none is given twice after a crash.
ID_PORTION = 1 << 20


class PeakEditor:
    """The part of a session that holds the peaks; made by `Session` only.

    Parameters
    ----------
    state : Replayed
        The peaks and what can be undone.
    lock : RLock
        Guards `state`; never held while events are emitted.
    """

    _storage: Storage

    def __init__(self, state: Replayed, lock: threading.RLock) -> None:
        self.events = SessionEvents()
        self._state, self._lock = state, lock
        self._table: tuple[int, pd.DataFrame] | None = None

    # peaks -------------------------------------------------------------------------------

    @property
    def peaks(self) -> pd.DataFrame:
        """All peaks, sorted by frame: the peak table with `peak_id` as column and index.

        The table is a view of a moment: changing it changes nothing here.
        """
        with self._lock:
            peaks = self._state.peaks
            if self._table is None or self._table[0] != peaks.version:
                self._table = peaks.version, peaks.table()
            return self._table[1].copy(deep=False)

    @property
    def n_peaks(self) -> int:
        """Number of peaks."""
        with self._lock:
            return sum(len(b) for f, b in self._state.peaks.blocks.items() if f >= 0)

    def peaks_of(self, frame: int) -> pd.DataFrame:
        """Return the peaks of one frame, as `peaks` has them."""
        with self._lock:
            # Negative numbers stand for frames that are not open.
            block = self._state.peaks.block(max(int(frame), 0))[: None if frame >= 0 else 0]
            return self._state.peaks.to_table(np.full(len(block), int(frame)), block)

    def get_peaks(self, ids: Iterable[int]) -> pd.DataFrame:
        """Return peaks by id, in the order given.

        Raises
        ------
        SessionError
            When an id is not in the session.
        """
        with self._lock:
            rows = self._state.peaks.rows(ids)
            return self._state.peaks.to_table(rows.frames, rows.data)

    # edits -------------------------------------------------------------------------------

    def add_peaks(self, table: pd.DataFrame) -> list[int]:
        """Add peaks by hand (or from a list: source ``import``) and return their ids.

        Parameters
        ----------
        table : DataFrame
            Peak table; `frame`, `row` and `col` are needed. A source other than
            ``import`` becomes ``manual``.

        Raises
        ------
        InputError, ParameterError
            When positions are missing or not finite, or a frame does not exist.
        OutputError, SessionError
            When the journal cannot be written; the edit stands and is written later.
        """
        check_places(table, "added peaks")
        with self._lock:
            frames = table["frame"].to_numpy(dtype=np.int64)
            self._state.frames.check(np.unique(frames).tolist())
            columns = {str(n): table[n].to_numpy() for n in table.columns}
            data = self._state.peaks.from_columns(columns, len(table))
            data["source"][data["source"] != IMPORT] = MANUAL
            data["peak_id"] = ids = self._state.peaks.new_ids(len(table))
            outcome = self._do(AddPeaks(Rows(frames, data))) if len(ids) else None
        return self._tell(outcome, "add", ids)

    def remove_peaks(self, ids: Iterable[int]) -> list[int]:
        """Remove peaks and return their ids; machine peaks do not come back when found again.

        Raises
        ------
        SessionError
            When an id is not in the session, or see `add_peaks`.
        """
        with self._lock:
            rows = self._state.peaks.rows(ids)
            outcome = self._do(RemovePeaks(rows)) if len(rows) else None
        return self._tell(outcome, "remove", rows.ids)

    def move_peaks(
        self,
        ids: Iterable[int],
        rows: Sequence[float] | np.ndarray[Any, Any],
        cols: Sequence[float] | np.ndarray[Any, Any],
        values: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Put peaks elsewhere in their frames and return their ids; source becomes ``manual``.

        Parameters
        ----------
        ids : sequence of int
            Which peaks.
        rows, cols : (n,) sequence of float
            New positions [px].
        values : dict, optional
            Further columns measured anew, e.g. ``intensity``: (n,) each.

        Raises
        ------
        ParameterError
            When the lengths differ, or a position is not finite.
        SessionError
            When an id is not in the session, or see `add_peaks`.
        """
        wanted = [int(i) for i in ids]
        places = np.array([rows, cols], dtype=float).reshape(2, -1)
        if len(set(wanted)) != len(wanted) or places.shape[1] != len(wanted):
            raise ParameterError(
                f"move peaks: {len(wanted)} ids and {places.shape[1]} positions; give one each"
            )
        if not np.isfinite(places).all():
            raise ParameterError("move peaks: positions hold NaN or infinite values")
        with self._lock:
            before = self._state.peaks.rows(wanted)
            columns = {**(values or {}), "row": places[0], "col": places[1]}
            for fixed in ("frame", "label", "source", "peak_id"):
                if fixed in columns:
                    raise ParameterError(f"move peaks: column '{fixed}' cannot be given")
            data = self._state.peaks.from_columns(columns, len(wanted))
            changes = {name: data[name] for name in columns}
            changes["source"] = np.full(len(wanted), MANUAL, dtype=data["source"].dtype)
            outcome = self._do(MovePeaks(before, changes)) if wanted else None
        return self._tell(outcome, "move", before.ids)

    def label_peaks(
        self, ids: Iterable[int], label: str, *, confidence: float | None = None
    ) -> list[int]:
        """Label peaks and return their ids; those that have the label stay as they are.

        Parameters
        ----------
        ids : sequence of int
            Which peaks.
        label : str
            ``peak``, ``not-peak``, ``unsure``, ``unlabelled``, or a name of your own.
        confidence : float, optional
            How sure the user is, 0..1; kept in the journal.

        Raises
        ------
        ParameterError
            When the label is empty.
        SessionError
            When an id is not in the session, or see `add_peaks`.
        """
        if not label:
            raise ParameterError(f"label {label!r}: give a name, or 'unlabelled'")
        with self._lock:
            rows = self._state.peaks.rows(ids)
            code = self._state.peaks.code(label)
            other = rows.where(rows.data["label"] != code)
            changes = {"label": np.full(len(other), code, dtype=other.data["label"].dtype)}
            action = LabelPeaks(other, changes, label=label)
            outcome = self._do(action, confidence) if len(other) else None
        return self._tell(outcome, "label", rows.ids)

    def set_auto_peaks(
        self,
        table: pd.DataFrame,
        frames: Iterable[int],
        parameters: Mapping[str, Any] | None = None,
        verifier: str = "",
    ) -> None:
        """Take over what a finder found: replaces the machine peaks of `frames` only.

        User edits stand: added, imported and moved peaks stay; labelled ones keep their
        label and id, with the new measurement when found again within 2 px; candidates
        within 2 px of a peak the user removed, moved away or placed are left out. Not part
        of the journal, nor of undo. Labels in `table` are ignored: they are the user's.

        Parameters
        ----------
        table : DataFrame
            Peak table; rows of other frames are left out.
        frames : sequence of int
            The frames that were searched, also those without a peak.
        parameters : dict
            Parameters of the search; stored with the result.
        verifier : str
            Hash of the verifier of the probabilities in `table`, see `set_probabilities`.

        Raises
        ------
        InputError, ParameterError
            When positions are missing or not finite, or a frame does not exist.
        """
        check_places(table, "found peaks")
        searched = as_ids(frames)
        search = {
            "parameters": plain_json(parameters or {}, "parameters"),
            "version": _version(),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with self._lock:
            self._storage.check_open()
            self._state.frames.check(searched.tolist())
            difference = replace_auto(self._state.peaks, table, searched, verifier)
            self._state.note_search(search, searched.tolist())
            self._set_ids_aside()
            self._storage.derived_changed()
        # Nothing new is no event: a view that answers each with a search would not end.
        self._tell((difference, None) if difference else None, "auto")

    def set_probabilities(
        self,
        ids: Iterable[int],
        values: Sequence[float] | np.ndarray[Any, Any],
        verifier: str,
        places: np.ndarray[Any, Any] | None = None,
    ) -> None:
        """Take over what a verifier said of peaks of any source.

        Not part of the journal, nor of undo. A probability is true of one position: a peak
        that is moved shows NaN, until it is judged anew or the move is undone. A frame shows
        the probabilities of one verifier: those by another one become NaN.

        Parameters
        ----------
        ids : sequence of int
            Which peaks. Those that were removed meanwhile are passed over.
        values : (n,) sequence of float
            Probabilities, 0 to 1; NaN where there is none.
        verifier : str
            Its hash; `verifier_of` returns it.
        places : (n, 2) ndarray of float, optional
            (row, col) [px] that were judged, for a verifier that works while the user
            edits; default: where the peaks are now.

        Raises
        ------
        ParameterError
            When lengths differ, an id comes twice, a value is out of range, or no verifier
            is named.
        SessionError
            When an id was never given to a peak.
        """
        wanted = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids), dtype=np.int64)
        said = np.asarray(values, dtype=np.float64)
        where = None if places is None else np.asarray(places, dtype=np.float64)
        _check_verdicts(wanted, said, where, verifier)
        with self._lock:
            self._storage.check_open()
            if len(wanted) and not 0 < wanted.min() <= wanted.max() < self._state.peaks.next_id:
                # Raises: an id that no peak ever had.
                self._state.peaks.rows(wanted)
            difference = judge(self._state.peaks, wanted, said, verifier, where)
            self._storage.derived_changed()
        self._tell((difference, None) if difference else None, "probability")

    def verifier_of(self, frame: int) -> str | None:
        """Return which verifier gave the probabilities of a frame; None when none is known."""
        with self._lock:
            return self._state.peaks.verdicts.name_of(int(frame))

    @property
    def searched_frames(self) -> list[int]:
        """Frames that have a machine result, also those in which nothing was found."""
        with self._lock:
            return sorted(f for f in self._state.search_of if f >= 0)

    def search_of(self, frame: int) -> dict[str, Any] | None:
        """Return ``parameters``, ``version`` and ``time`` of the search of a frame, or None."""
        with self._lock:
            found = self._state.search_of.get(int(frame))
            return None if found is None else copy.deepcopy(self._state.searches[found])

    # undo --------------------------------------------------------------------------------

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to undo."""
        return bool(self._state.done)

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone edit."""
        return bool(self._state.undone)

    @property
    def undo_text(self) -> str:
        """What `undo` would take back; empty when there is nothing."""
        done = self._state.done
        return done[-1][1].text if done else ""

    @property
    def redo_text(self) -> str:
        """What `redo` would do again; empty when there is nothing."""
        undone = self._state.undone
        return undone[-1][1].text if undone else ""

    def undo(self) -> bool:
        """Take the last edit back; False when there is none.

        Raises
        ------
        OutputError, SessionError
            See `add_peaks`.
        """
        return self._step("undo")

    def redo(self) -> bool:
        """Do the edit again that was undone last; False when there is none.

        Raises
        ------
        OutputError, SessionError
            See `add_peaks`.
        """
        return self._step("redo")

    def _step(self, name: str) -> bool:
        with self._lock:
            self._storage.check_open()
            source, to = self._state.done, self._state.undone
            if name == "redo":
                source, to = to, source
            if not source:
                return False
            seq, action = source.pop()
            to.append((seq, action))
            step = action.inverse() if name == "undo" else action
            difference = step.apply(self._state.peaks)
            self._storage.journal.append(name, {"seq": seq})
            problem = self._storage.write_journal()
            self._storage.derived_changed()
        self._tell((difference, problem), name)
        return True

    def _do(
        self, action: Action, confidence: float | None = None
    ) -> tuple[Difference, XtalError | None]:
        """Apply, note and journal an action; to be called with the lock held."""
        self._storage.check_open()
        record = to_record(action, self._state.peaks, self._state.frames)
        difference = action.apply(self._state.peaks)
        seq = self._storage.journal.append(action.name, **record, confidence=confidence)
        self._state.done.append((seq, action))
        self._state.undone.clear()
        self._set_ids_aside()
        self._storage.derived_changed()
        return difference, self._storage.write_journal()

    def _tell(
        self,
        outcome: tuple[Difference, XtalError | None] | None,
        reason: str,
        ids: Iterable[int] = (),
    ) -> list[int]:
        """Emit the events of a change, then raise what kept it from the disk."""
        if outcome is not None:
            found, problem = outcome
            shown = frozenset(f for f in found.frames if f >= 0)
            change = PeakChange(shown, found.added, found.removed, found.changed, reason)
            try:
                self.events.peaks_changed.emit(change)
                if reason not in ("auto", "probability"):
                    self.events.undo_changed.emit()
            finally:
                if problem is not None:
                    raise problem
        return [int(i) for i in ids]

    def _set_ids_aside(self) -> None:
        manifest = self._storage.manifest
        if self._state.peaks.next_id > manifest.id_ceiling - ID_PORTION // 2:
            manifest.id_ceiling = self._state.peaks.next_id + ID_PORTION
            self._storage.manifest_changed()


def _version() -> str:
    from napari_xtal import __version__

    return __version__


def _check_verdicts(
    ids: np.ndarray[Any, Any],
    values: np.ndarray[Any, Any],
    places: np.ndarray[Any, Any] | None,
    verifier: str,
) -> None:
    if ids.ndim != 1 or values.shape != ids.shape or (np.diff(np.sort(ids)) == 0).any():
        raise ParameterError(
            f"probabilities: {ids.size} ids and {values.size} values; give one each"
        )
    if places is not None and places.shape != (len(ids), 2):
        raise ParameterError(
            f"probabilities: places have shape {places.shape}; give ({len(ids)}, 2)"
        )
    if ((values < 0) | (values > 1)).any():
        raise ParameterError("probabilities: a value is not from 0 to 1")
    if not verifier:
        raise ParameterError("probabilities: no verifier is named; give its hash")
