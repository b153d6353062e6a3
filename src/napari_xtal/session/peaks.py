"""Peaks in memory: one block of rows per frame, user edits laid over machine results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_xtal.errors import InputError, SessionError
from napari_xtal.session.verdicts import Verdicts

#: Columns of the peak table with dtype and the value of a row that lacks them. A test
#: holds them equal to the schema in ``peaks.table``, which this room may not import.
COLUMNS: dict[str, tuple[str, Any]] = {
    "frame": ("int64", 0),
    "row": ("float64", math.nan),
    "col": ("float64", math.nan),
    "panel": ("int64", 0),
    "intensity": ("float64", math.nan),
    "background": ("float64", math.nan),
    "sigma": ("float64", math.nan),
    "snr": ("float64", math.nan),
    "n_pixels": ("int64", 0),
    "max_value": ("float64", math.nan),
    "inv_d": ("float64", math.nan),
    "probability": ("float64", math.nan),
    "label": ("str", "unlabelled"),
    "source": ("str", "auto"),
}
UNLABELLED, AUTO, MANUAL, IMPORT = range(4)
_FIRST_WORDS = ("unlabelled", "auto", "manual", "import")
_NOWHERE = np.iinfo(np.int64).min

Block = NDArray[np.void]
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Rows of several frames.

    Attributes
    ----------
    frames : (n,) ndarray of int64
        Frame of each row.
    data : (n,) structured ndarray
        ``peak_id`` and the columns of the peak table.
    """

    frames: Ids
    data: Block

    def __len__(self) -> int:
        return len(self.data)

    @property
    def ids(self) -> Ids:
        """Peak ids."""
        return self.data["peak_id"]

    def where(self, keep: NDArray[np.bool_]) -> Rows:
        """Return the rows of a mask."""
        return Rows(self.frames[keep], self.data[keep])

    def by_frame(self) -> Iterator[tuple[int, Block]]:
        """Yield (frame, its rows)."""
        for frame, at in groups(self.frames):
            yield frame, self.data[at]


@dataclass(frozen=True)
class Difference:
    """What a change did: ids by kind, and the frames it touched."""

    frames: frozenset[int] = frozenset()
    added: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    changed: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


class PeakStore:
    """All peaks of a run, by frame; blocks are replaced, never changed in place.

    So a reader that took the blocks may go on using them while edits go on. Rows of a
    block are sorted by id. Not thread-safe by itself: the session locks.
    """

    def __init__(self) -> None:
        self.blocks: dict[int, Block] = {}
        #: Frame -> {id: (row, col)} of machine peaks that the user removed or moved away.
        self.buried: dict[int, dict[int, tuple[float, float]]] = {}
        #: Where column ``probability`` of all blocks comes from.
        self.verdicts = Verdicts()
        self.next_id = 1
        self.version = 0
        self._words = list(_FIRST_WORDS)
        self._codes = {word: code for code, word in enumerate(self._words)}
        self._texts = {"label", "source"}
        self.dtype = np.dtype(
            [("peak_id", "i8")]
            + [(n, "i4" if t == "str" else t) for n, (t, _) in COLUMNS.items() if n != "frame"]
        )
        self._frame_of = np.full(1024, _NOWHERE)

    # words and tables --------------------------------------------------------------------

    def code(self, word: str) -> int:
        """Return the number that stands for a word."""
        if word not in self._codes:
            self._codes[word] = len(self._words)
            self._words.append(word)
        return self._codes[word]

    def words(self, codes: NDArray[Any]) -> NDArray[np.object_]:
        """Return the words of codes."""
        return np.array(self._words, dtype=object)[codes]

    def from_columns(self, columns: Mapping[str, Any], n: int) -> Block:
        """Return rows with the given columns; missing ones take their defaults, ids are 0."""
        for name, values in columns.items():
            if name not in ("frame", "peak_id") and name not in (self.dtype.names or ()):
                self._add_column(str(name), values)
        data = np.zeros(n, self.dtype)
        for name in (self.dtype.names or ())[1:]:
            if name not in columns:
                data[name] = self._default(name)
            elif name in self._texts:
                data[name] = self._encode(columns[name])
            else:
                data[name] = np.asarray(columns[name])
        return data

    def to_table(self, frames: Ids, data: Block) -> pd.DataFrame:
        """Return rows as a peak table with a column ``peak_id``, which is the index too."""
        ids = np.ascontiguousarray(data["peak_id"])
        words: Any = pd.array(self._words, dtype="str")  # type: ignore[call-overload]
        columns: dict[str, Any] = {"frame": frames}
        for name in self.dtype.names or ():
            if name == "peak_id":
                continue
            values = data[name]
            columns[name] = (
                words.take(values) if name in self._texts else np.ascontiguousarray(values)
            )
        columns["peak_id"] = ids
        return pd.DataFrame(columns, index=pd.Index(ids), copy=False)

    def to_columns(self, data: Block) -> dict[str, list[Any]]:
        """Return rows as lists for JSON; NaN becomes None, infinity a word."""
        columns: dict[str, list[Any]] = {}
        for name in data.dtype.names or ():
            values = data[name]
            if name in self._texts:
                columns[name] = self.words(values).tolist()
            elif values.dtype.kind == "f":
                columns[name] = json_floats(values)
            else:
                columns[name] = values.tolist()
        return columns

    def is_text(self, name: str) -> bool:
        """Whether a column holds words."""
        return name in self._texts

    def _encode(self, values: Any) -> NDArray[np.int64]:
        numbers, distinct = pd.factorize(np.asarray(values, dtype=object), use_na_sentinel=False)
        codes = [self.code("" if w is None or w != w else str(w)) for w in distinct]
        return np.asarray(codes, dtype=np.int64)[numbers]

    def _default(self, name: str) -> Any:
        if name in COLUMNS:
            kind, value = COLUMNS[name]
            return self.code(value) if kind == "str" else value
        return self.code("") if name in self._texts else math.nan

    def _add_column(self, name: str, values: Any) -> None:
        is_text = np.asarray(values).dtype.kind in "OUSTM"
        if is_text:
            with_numbers = pd.to_numeric(pd.Series(values, dtype=object), errors="coerce")
            is_text = not (with_numbers.notna() | pd.isna(values)).all()
        if is_text:
            self._texts.add(name)
        self.dtype = np.dtype([*self.dtype.descr, (name, "i4" if is_text else "f8")])
        self.blocks = {frame: self._cast(block) for frame, block in self.blocks.items()}

    def _cast(self, block: Block) -> Block:
        if block.dtype == self.dtype:
            return block
        cast = np.zeros(len(block), self.dtype)
        for name in self.dtype.names or ():
            has = name in (block.dtype.names or ())
            cast[name] = block[name] if has else self._default(name)
        return cast

    # reading -----------------------------------------------------------------------------

    def __len__(self) -> int:
        return sum(len(b) for b in self.blocks.values())

    def block(self, frame: int) -> Block:
        """Return the rows of a frame, sorted by id."""
        found = self.blocks.get(frame)
        return np.zeros(0, self.dtype) if found is None else found

    def rows(self, ids: Iterable[int]) -> Rows:
        """Return rows by id, in the order given.

        Raises
        ------
        SessionError
            When an id is not in the session.
        """
        wanted = as_ids(ids)
        frames = self.frames_of(wanted)
        if (absent := wanted[frames == _NOWHERE]).size:
            shown = ", ".join(map(str, absent[:5].tolist())) + (" …" if absent.size > 5 else "")
            raise SessionError(
                f"peak {shown}: not in the session (removed, or found anew); select again"
            )
        data = np.zeros(len(wanted), self.dtype)
        for frame, at in groups(frames):
            block = self.blocks[frame]
            data[at] = block[np.searchsorted(block["peak_id"], wanted[at])]
        return Rows(frames, data)

    def table(self) -> pd.DataFrame:
        """Return the peaks of all frames that are open, sorted by frame, see `to_table`."""
        shown = sorted(f for f in self.blocks if f >= 0)
        blocks = [self.blocks[f] for f in shown]
        frames = np.repeat(np.array(shown, dtype=np.int64), [len(b) for b in blocks])
        return self.to_table(frames, join(blocks, self.dtype))

    def frames_of(self, ids: Ids) -> Ids:
        """Return the frame of each id; a very negative number for ids that are not there."""
        known = (ids >= 0) & (ids < len(self._frame_of))
        return np.where(known, self._frame_of[np.where(known, ids, 0)], _NOWHERE)

    def has(self, ids: Ids) -> NDArray[np.bool_]:
        """Return whether each id is there."""
        return self.frames_of(ids) != _NOWHERE

    def new_ids(self, n: int) -> Ids:
        """Return ids that no peak had before."""
        first, self.next_id = self.next_id, self.next_id + n
        return np.arange(first, first + n, dtype=np.int64)

    # changing ----------------------------------------------------------------------------

    def insert(self, rows: Rows) -> Difference:
        """Put rows in; one whose id is there already is replaced."""
        here = self.has(rows.ids)
        for frame, data in rows.by_frame():
            block = self.block(frame)
            kept = block[~np.isin(block["peak_id"], data["peak_id"])]
            self.set_block(frame, join([kept, self._cast(data)], self.dtype))
        return Difference(
            _frames(rows.frames), as_tuple(rows.ids[~here]), (), as_tuple(rows.ids[here])
        )

    def remove(self, ids: Iterable[int]) -> Difference:
        """Take peaks out; ids that are not there are passed over."""
        wanted = as_ids(ids)
        wanted = wanted[self.has(wanted)]
        frames = self.frames_of(wanted)
        for frame, at in groups(frames):
            block = self.blocks[frame]
            self.set_block(frame, block[~np.isin(block["peak_id"], wanted[at])])
        return Difference(_frames(frames), (), as_tuple(wanted), ())

    def update(self, rows: Rows) -> Difference:
        """Replace rows of the same ids, each staying in its frame."""
        for frame, data in rows.by_frame():
            block = self.block(frame).copy()
            block[np.searchsorted(block["peak_id"], data["peak_id"])] = self._cast(data)
            self.set_block(frame, block)
        return Difference(_frames(rows.frames), (), (), as_tuple(rows.ids))

    def bury(self, rows: Rows) -> None:
        """Remember machine peaks that must not come back."""
        places = zip(
            rows.frames.tolist(),
            rows.ids.tolist(),
            rows.data["row"].tolist(),
            rows.data["col"].tolist(),
            strict=True,
        )
        for frame, peak, row, col in places:
            self.buried.setdefault(frame, {})[peak] = (row, col)

    def unbury(self, rows: Rows) -> None:
        """Let machine peaks come back."""
        for frame, peak in zip(rows.frames.tolist(), rows.ids.tolist(), strict=True):
            if frame in self.buried:
                self.buried[frame].pop(peak, None)
                if not self.buried[frame]:
                    del self.buried[frame]

    def set_block(self, frame: int, block: Block) -> None:
        """Put rows in the place of all that a frame had; their probabilities are set."""
        self.version += 1
        former = self.blocks.get(frame)
        if former is not None:
            self._frame_of[former["peak_id"]] = _NOWHERE
        if not len(block):
            self.blocks.pop(frame, None)
            return
        ids = block["peak_id"]
        if (ids[1:] < ids[:-1]).any():
            block = block[np.argsort(ids, kind="stable")]
            ids = block["peak_id"]
        block["probability"] = self.verdicts.of_frame(frame, block)
        self.blocks[frame] = block
        self._note(ids, frame)

    def _note(self, ids: Ids, frames: Any) -> None:
        top = int(ids.max(initial=0)) + 1
        if top > len(self._frame_of):
            grown = np.full(max(top, 2 * len(self._frame_of)), _NOWHERE)
            grown[: len(self._frame_of)] = self._frame_of
            self._frame_of = grown
        self._frame_of[ids] = frames
        self.next_id = max(self.next_id, top)

    def put_new(self, frames: Ids, data: Block, starts: NDArray[np.intp]) -> None:
        """Put in rows of frames that have none yet, sorted by frame and by id.

        Parameters
        ----------
        frames : (n,) ndarray of int64
            Frame of each row, ascending.
        data : (n,) structured ndarray
            The rows.
        starts : (n_frames,) ndarray of int
            Where the rows of each frame begin.
        """
        self.version += 1
        for frame, block in zip(frames[starts].tolist(), np.split(data, starts[1:]), strict=True):
            self.blocks[frame] = block
        self._note(data["peak_id"], frames)

    def put_judged(self, frames: Ids, blocks: Iterable[Block]) -> None:
        """Put rows in the place of those of the same ids that frames had."""
        self.version += 1
        self.blocks.update(zip(frames.tolist(), blocks, strict=True))


def groups(frames: Ids) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Yield (frame, positions where it stands), frames ascending."""
    order = np.argsort(frames, kind="stable")
    distinct, first = np.unique(frames[order], return_index=True)
    if len(distinct):
        yield from zip(distinct.tolist(), np.split(order, first[1:]), strict=True)


def join(blocks: Iterable[Block], dtype: np.dtype[np.void]) -> Block:
    """Return blocks of one dtype one after the other.

    As raw bytes: numpy else compares all columns of each block, which costs 20 us.
    """
    raw = np.dtype((np.void, dtype.itemsize))
    parts = [np.zeros(0, raw), *(block.view(raw) for block in blocks)]
    return np.concatenate(parts).view(dtype)


def is_plain(block: Block) -> NDArray[np.bool_]:
    """Return which rows are machine peaks that no user labelled."""
    return (block["source"] == AUTO) & (block["label"] == UNLABELLED)


def as_ids(ids: Iterable[int] | int) -> Ids:
    """Return distinct ids, in the order given, as an array."""
    found = np.atleast_1d(
        np.asarray(ids if isinstance(ids, (int, np.ndarray)) else list(ids), dtype=np.int64)
    )
    _, first = np.unique(found, return_index=True)
    return found[np.sort(first)]


def as_tuple(ids: NDArray[Any]) -> tuple[int, ...]:
    """Return ids as Python numbers."""
    return tuple(ids.tolist())


def json_floats(values: NDArray[np.float64]) -> list[Any]:
    """Return floats for JSON, which has no NaN (None) and no infinity (a word)."""
    found: list[Any] = values.tolist()
    for k in np.flatnonzero(~np.isfinite(values)):
        found[k] = None if math.isnan(values[k]) else str(values[k])
    return found


def check_places(table: pd.DataFrame, what: str) -> None:
    """Refuse a peak table without usable frame, row and col.

    Raises
    ------
    InputError
        When one of them is missing, or holds NaN or infinity.
    """
    if not isinstance(table, pd.DataFrame):
        raise InputError(f"{what}: expected a peak table, got {type(table).__name__}")
    for name in ("frame", "row", "col"):
        if name not in table:
            raise InputError(f"{what}: column '{name}' is missing; give frame, row and col")
        if len(table) and not np.isfinite(table[name].to_numpy(dtype=float)).all():
            raise InputError(f"{what}: column '{name}' holds NaN or infinite values")


def _frames(frames: Ids) -> frozenset[int]:
    return frozenset(np.unique(frames).tolist())
