"""What a user can do to peaks: each action can be applied, and has an inverse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from napari_xtal.session.auto_peaks import drop_twins
from napari_xtal.session.peaks import (
    AUTO,
    Difference,
    PeakStore,
    Rows,
    json_floats,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_xtal.session.frames import FrameIndex


class Action(Protocol):
    """One undoable change of the peaks."""

    name: ClassVar[str]

    @property
    def text(self) -> str:
        """What it does, for a menu."""

    def apply(self, store: PeakStore) -> Difference:
        """Do it."""

    def inverse(self) -> Action:
        """Return the action that takes it back."""


@dataclass(frozen=True)
class AddPeaks:
    """Add peaks, or bring removed ones back."""

    rows: Rows
    name: ClassVar[str] = "add_peaks"

    @property
    def text(self) -> str:
        """What it does, for a menu."""
        return f"Add {_count(self.rows)}"

    def apply(self, store: PeakStore) -> Difference:
        """Put the peaks in, with the ids they have."""
        store.verdicts.note_first(self.rows.data)
        difference = store.insert(self.rows)
        store.unbury(_auto(self.rows))
        return difference

    def inverse(self) -> RemovePeaks:
        """Return the action that removes them."""
        return RemovePeaks(self.rows)


@dataclass(frozen=True)
class RemovePeaks:
    """Remove peaks; machine peaks among them do not come back with the next search."""

    rows: Rows
    name: ClassVar[str] = "remove_peaks"

    @property
    def text(self) -> str:
        """What it does, for a menu."""
        return f"Remove {_count(self.rows)}"

    def apply(self, store: PeakStore) -> Difference:
        """Take the peaks out, under whatever id they are there."""
        absent = _auto(self.rows.where(~store.has(self.rows.ids)))
        twins = drop_twins(store, absent)
        difference = _joined(store.remove(self.rows.ids), twins)
        store.bury(_auto(self.rows))
        return difference

    def inverse(self) -> AddPeaks:
        """Return the action that brings them back."""
        return AddPeaks(self.rows)


@dataclass(frozen=True)
class _ChangePeaks:
    """Give some columns of peaks new values.

    Attributes
    ----------
    before : Rows
        The whole rows as they were: enough to make them anew where a machine result
        was lost.
    changes : dict of str to ndarray
        New values by column, labels and sources as codes.
    """

    before: Rows
    changes: Mapping[str, NDArray[Any]]

    def apply(self, store: PeakStore) -> Difference:
        """Set the new values; rows that are not there are made from what they were."""
        absent = ~store.has(self.before.ids)
        lost = self.before.where(absent)
        difference = Difference()
        if len(lost):
            difference = _joined(store.insert(lost), drop_twins(store, lost))
        now = store.rows(self.before.ids)
        data = now.data.copy()
        for column, values in self.changes.items():
            data[column] = values
        after = Rows(now.frames, data)
        changed = store.update(after)
        was_auto = self.before.data["source"] == AUTO
        is_auto = data["source"] == AUTO
        # A machine peak that moved must not come back where it was.
        store.bury(self.before.where(was_auto & ~is_auto))
        store.unbury(after.where(is_auto & ~was_auto))
        return _joined(changed, difference)

    def _turned(self) -> tuple[Rows, dict[str, NDArray[Any]]]:
        data = self.before.data.copy()
        for column, values in self.changes.items():
            data[column] = values
        former = {column: self.before.data[column] for column in self.changes}
        return Rows(self.before.frames, data), former


@dataclass(frozen=True)
class MovePeaks(_ChangePeaks):
    """Put peaks elsewhere; they are the user's from then on."""

    name: ClassVar[str] = "move_peaks"

    @property
    def text(self) -> str:
        """What it does, for a menu."""
        return f"Move {_count(self.before)}"

    def inverse(self) -> MovePeaks:
        """Return the action that puts them back."""
        return MovePeaks(*self._turned())


@dataclass(frozen=True)
class LabelPeaks(_ChangePeaks):
    """Label peaks, all alike."""

    label: str = ""
    name: ClassVar[str] = "label_peaks"

    @property
    def text(self) -> str:
        """What it does, for a menu."""
        return f"Label {_count(self.before)} “{self.label}”"

    def inverse(self) -> LabelPeaks:
        """Return the action that gives them their former labels."""
        return LabelPeaks(*self._turned(), label=self.label)


def to_record(action: Action, store: PeakStore, frames: FrameIndex) -> dict[str, Any]:
    """Return ``target``, ``old`` and ``new`` of the journal record of an action."""
    if isinstance(action, AddPeaks):
        rows, old = action.rows, None
        new: dict[str, Any] | None = _without_ids(store.to_columns(rows.data))
    elif isinstance(action, RemovePeaks):
        rows, new = action.rows, None
        old = _without_ids(store.to_columns(rows.data))
    elif isinstance(action, LabelPeaks):
        rows, new = action.before, {"label": action.label}
        old = _without_ids(store.to_columns(rows.data))
    else:
        assert isinstance(action, MovePeaks)
        rows = action.before
        old = _without_ids(store.to_columns(rows.data))
        new = {
            name: store.words(values).tolist()
            if store.is_text(name)
            else json_floats(values)
            if values.dtype.kind == "f"
            else values.tolist()
            for name, values in action.changes.items()
        }
    distinct, of = np.unique(rows.frames, return_inverse=True)
    target = {
        "frames": [frames.identity(int(frame)) for frame in distinct],
        "frame": of.tolist(),
        "peak_id": rows.ids.tolist(),
    }
    return {"target": target, "old": old, "new": new}


def from_record(record: Mapping[str, Any], store: PeakStore, frames: FrameIndex) -> Action | None:
    """Return the action of a journal record; None when it is of another kind.

    Raises
    ------
    KeyError, TypeError, ValueError
        When the record lacks what its action needs.
    """
    name = record["action"]
    if name not in ("add_peaks", "remove_peaks", "move_peaks", "label_peaks"):
        return None
    target = record["target"]
    of = np.asarray(target["frame"], dtype=np.intp)
    distinct = np.array([frames.index(i) for i in target["frames"]], dtype=np.int64)
    content = record["new"] if name == "add_peaks" else record["old"]
    data = store.from_columns(_numbers(content), len(of))
    data["peak_id"] = target["peak_id"]
    rows = Rows(distinct[of], data)
    if name == "add_peaks":
        return AddPeaks(rows)
    if name == "remove_peaks":
        return RemovePeaks(rows)
    if name == "label_peaks":
        label = str(record["new"]["label"])
        return LabelPeaks(rows, {"label": np.full(len(of), store.code(label))}, label=label)
    new = _numbers(record["new"])
    changed = store.from_columns(new, len(of))
    return MovePeaks(rows, {column: changed[column] for column in new})


def _numbers(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `json_floats`: None is NaN in columns of numbers."""
    found: dict[str, Any] = {}
    for name, values in columns.items():
        is_text = any(isinstance(v, str) and v not in ("inf", "-inf") for v in values)
        found[name] = values if is_text else _floats(values)
    return found


def _floats(values: list[Any]) -> Any:
    if all(isinstance(v, int) for v in values):
        return values
    return [float("nan") if v is None else float(v) for v in values]


def _without_ids(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: values for name, values in columns.items() if name != "peak_id"}


def _auto(rows: Rows) -> Rows:
    return rows.where(rows.data["source"] == AUTO)


def _joined(one: Difference, other: Difference) -> Difference:
    if not other:
        return one
    added = one.added + other.added
    return Difference(
        one.frames | other.frames,
        added,
        one.removed + other.removed,
        tuple(i for i in one.changed + other.changed if i not in set(added)),
    )


def _count(rows: Rows) -> str:
    return f"{len(rows)} peak" + ("" if len(rows) == 1 else "s")
