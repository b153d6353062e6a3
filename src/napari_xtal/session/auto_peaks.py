"""Laying machine results (found peaks, probabilities) under the user's edits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_xtal.session.peaks import (
    AUTO,
    UNLABELLED,
    Block,
    Difference,
    Ids,
    PeakStore,
    Rows,
    as_tuple,
    is_plain,
    join,
)
from napari_xtal.session.verdicts import SAID

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

#: Two positions closer than this are one peak [px].
SAME_PEAK_PX = 2.0


def replace_auto(
    peaks: PeakStore, table: pd.DataFrame, frames: Ids, verifier: str = ""
) -> Difference:
    """Replace the machine peaks of frames; what the user did to them stands.

    A labelled peak keeps its label and id, with the new measurement when it is found
    again within `SAME_PEAK_PX`, else unchanged. A candidate that near to a peak the user
    removed, moved away or placed is left out. Other candidates keep the id of the machine
    peak they replace.

    Parameters
    ----------
    peaks : PeakStore
        Gets the peaks.
    table : DataFrame
        Peak table of a finder; rows of other frames are left out.
    frames : (n_frames,) ndarray of int64
        The frames that were searched.
    verifier : str
        The verifier of the probabilities in the table; empty when not known.

    Returns
    -------
    Difference
        What changed.
    """
    where = table["frame"].to_numpy(dtype=np.int64)
    order = np.flatnonzero(np.isin(where, frames))
    order = order[np.argsort(where[order], kind="stable")]
    where = where[order]
    columns = {name: table[name].to_numpy()[order] for name in table.columns}
    data = peaks.from_columns(columns, len(order))
    data["label"], data["source"] = UNLABELLED, AUTO
    judged = np.unique(where[~np.isnan(data["probability"])])
    peaks.verdicts.use(judged.tolist(), peaks.verdicts.code(verifier))

    # Frames of which nothing is known take their rows as they are: a search over 10^5
    # frames is put in at once.
    found, starts = np.unique(where, return_index=True)
    touched = np.array([f in peaks.blocks or f in peaks.buried for f in found.tolist()], bool)
    is_new = np.isin(where, found[~touched])
    data["peak_id"][is_new] = new = peaks.new_ids(int(is_new.sum()))
    if len(new):
        fresh = where[is_new]
        peaks.verdicts.note(data[is_new], peaks.verdicts.codes(fresh))
        peaks.put_new(fresh, data[is_new], np.unique(fresh, return_index=True)[1])
    ends = np.append(starts, len(where))[1:]
    parts = {
        int(f): data[a:b] for f, a, b, t in zip(found, starts, ends, touched, strict=True) if t
    }
    added, removed, changed = list(as_tuple(new)), list[int](), list[int]()
    changed_frames = set(found[~touched].tolist())
    for frame in frames.tolist():
        if frame in parts or (frame in peaks.blocks and frame not in changed_frames):
            difference = _replace_frame(peaks, frame, parts.get(frame, data[:0]))
            if difference:
                changed_frames.add(frame)
                added += difference.added
                removed += difference.removed
                changed += difference.changed
    return Difference(frozenset(changed_frames), tuple(added), tuple(removed), tuple(changed))


def _replace_frame(peaks: PeakStore, frame: int, found: Block) -> Difference:
    old = peaks.block(frame)
    found = found.copy()
    found["peak_id"] = -1
    labelled = old[(old["source"] == AUTO) & (old["label"] != UNLABELLED)]
    plain = old[is_plain(old)]
    kept = old[old["source"] != AUTO]

    at, to = pair(_places(labelled), _places(found))
    found["peak_id"][to], found["label"][to] = labelled["peak_id"][at], labelled["label"][at]
    lost = np.ones(len(labelled), bool)
    lost[at] = False

    taken = _places(kept)
    if frame in peaks.buried:
        taken = np.concatenate([taken, np.array(list(peaks.buried[frame].values()))])
    wanted = ~near(_places(found), taken) | (found["peak_id"] >= 0)
    found = found[wanted]

    free = np.flatnonzero(found["peak_id"] < 0)
    at, to = pair(_places(plain), _places(found[free]))
    found["peak_id"][free[to]] = plain["peak_id"][at]
    free = np.flatnonzero(found["peak_id"] < 0)
    found["peak_id"][free] = peaks.new_ids(len(free))

    peaks.verdicts.note(found, peaks.verdicts.codes(np.array([frame])))
    block = join([kept, labelled[lost], found], peaks.dtype)
    block = block[np.argsort(block["peak_id"], kind="stable")]
    block["probability"] = peaks.verdicts.of_frame(frame, block)
    difference = compare(frame, old, block)
    if difference:
        peaks.set_block(frame, block)
    return difference


def judge(
    peaks: PeakStore,
    ids: Ids,
    values: NDArray[np.float64],
    verifier: str,
    places: NDArray[np.float64] | None = None,
) -> Difference:
    """Give peaks probabilities; those of the same frames by other verifiers count no more.

    Parameters
    ----------
    peaks : PeakStore
        Gets the probabilities.
    ids : (n,) ndarray of int64
        Distinct ids; those that are not there are passed over.
    values : (n,) ndarray of float
        Probabilities, NaN where there is none.
    verifier : str
        Its hash or name.
    places : (n, 2) ndarray of float, optional
        (row, col) [px] that were judged; default: where the peaks are.

    Returns
    -------
    Difference
        The peaks whose probability is another one now.
    """
    code = peaks.verdicts.code(verifier)
    here = peaks.has(ids)
    # Sorting is quicker than the hashing of `unique`.
    frames = np.sort(peaks.frames_of(ids[here]))
    frames = frames[np.diff(frames, prepend=frames[:1] - 1) != 0]
    data = join([peaks.blocks[f] for f in frames.tolist()], peaks.dtype)
    counts = np.array([len(peaks.blocks[f]) for f in frames.tolist()], dtype=np.intp)
    if places is None:
        ids, values = ids[here], values[here]
        order = np.argsort(data["peak_id"])
        at = order[np.searchsorted(data["peak_id"], ids, sorter=order)]
        places = np.column_stack([data["row"][at], data["col"][at]])
    said = np.zeros(len(ids), SAID)
    said["peak_id"], said["probability"] = ids, values
    said["row"], said["col"] = places.T
    peaks.verdicts.note(said, code)
    peaks.verdicts.use(frames.tolist(), code)
    before = data["probability"].copy()
    data["probability"] = after = peaks.verdicts.of(data, code)
    differs = (before != after) & ~(np.isnan(before) & np.isnan(after))
    if not differs.any():
        return Difference()
    peaks.put_judged(frames, np.split(data, np.cumsum(counts)[:-1]))
    changed_frames = np.repeat(frames, counts)[differs]
    return Difference(
        frozenset(np.unique(changed_frames).tolist()), (), (), as_tuple(data["peak_id"][differs])
    )


def adopt(peaks: PeakStore, rows: Rows) -> None:
    """Take over the machine peaks of a former run of the program.

    What the journal told about a peak goes first: labels, removed peaks, peaks that a
    user placed. Unlabelled machine peaks that only the journal knew are dropped, since
    the saved state was complete when it was written.
    """
    told = list(peaks.blocks)
    # Frames that the journal says nothing of take their rows as they are.
    untold = ~np.isin(rows.frames, [*peaks.blocks, *peaks.buried])
    untold &= ~np.isin(rows.frames, rows.frames[peaks.has(rows.ids)])
    if untold.any():
        at = np.flatnonzero(untold)
        at = at[np.lexsort((rows.ids[at], rows.frames[at]))]
        _, starts = np.unique(rows.frames[at], return_index=True)
        peaks.put_new(rows.frames[at], rows.data[at], starts)
    saved_rows = dict(rows.where(~untold).by_frame())
    for frame in {*saved_rows, *told}:
        here = peaks.block(frame)
        known = here[~is_plain(here)]
        saved = saved_rows.get(frame, rows.data[:0])
        saved = saved[~np.isin(saved["peak_id"], list(peaks.buried.get(frame, ())))].copy()
        # A peak the journal knows as the user's, or in another frame, is not the machine's.
        elsewhere = peaks.has(saved["peak_id"]) & (peaks.frames_of(saved["peak_id"]) != frame)
        placed = np.isin(saved["peak_id"], known["peak_id"][known["source"] != AUTO])
        saved = saved[~(elsewhere | placed)]
        both, at, to = np.intersect1d(
            known["peak_id"], saved["peak_id"], assume_unique=True, return_indices=True
        )
        saved["label"][to] = known["label"][at]
        rest = known[~np.isin(known["peak_id"], both)]
        block = join([rest, saved], peaks.dtype)
        peaks.set_block(frame, block[np.argsort(block["peak_id"], kind="stable")])


def drop_twins(peaks: PeakStore, rows: Rows) -> Difference:
    """Remove unlabelled machine peaks that are the given ones under another id.

    Needed where the journal refers to a peak whose machine result was lost or found anew.
    """
    twins: list[int] = []
    for frame, data in rows.by_frame():
        block = peaks.block(frame)
        block = block[is_plain(block) & ~np.isin(block["peak_id"], data["peak_id"])]
        _, to = pair(_places(data), _places(block))
        twins += block["peak_id"][to].tolist()
    return peaks.remove(twins)


def compare(frame: int, old: Block, new: Block) -> Difference:
    """Return the difference of two states of one frame, both sorted by id."""
    both, at, to = np.intersect1d(
        old["peak_id"], new["peak_id"], assume_unique=True, return_indices=True
    )
    # Bytes compare NaN as equal to itself, and all columns at once.
    raw = np.dtype((np.void, old.dtype.itemsize))
    differs = np.ascontiguousarray(old[at]).view(raw) != np.ascontiguousarray(new[to]).view(raw)
    return Difference(
        frozenset([frame]),
        as_tuple(np.setdiff1d(new["peak_id"], both, assume_unique=True)),
        as_tuple(np.setdiff1d(old["peak_id"], both, assume_unique=True)),
        as_tuple(both[differs]),
    )


def pair(
    one: NDArray[np.float64], other: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pair positions one to one, nearest pairs first, up to `SAME_PEAK_PX` apart.

    Parameters
    ----------
    one, other : (n, 2), (m, 2) ndarray of float
        (row, col) [px].

    Returns
    -------
    tuple of ndarray of int
        Indices into `one` and into `other`, equally long.
    """
    at, to, distance = _close_pairs(one, other)
    order = np.argsort(distance, kind="stable")
    free_one, free_other = np.ones(len(one), bool), np.ones(len(other), bool)
    pairs: list[tuple[int, int]] = []
    for a, b in zip(at[order].tolist(), to[order].tolist(), strict=True):
        if free_one[a] and free_other[b]:
            free_one[a] = free_other[b] = False
            pairs.append((a, b))
    found = np.array(pairs, dtype=np.intp).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def near(places: NDArray[np.float64], taken: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which places lie within `SAME_PEAK_PX` of any of the taken ones."""
    found = np.zeros(len(places), bool)
    found[_close_pairs(places, taken)[0]] = True
    return found


def _close_pairs(
    one: NDArray[np.float64], other: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return all pairs up to `SAME_PEAK_PX` apart: indices and distances.

    Positions sorted by row leave few candidates for each: O(n log n) on a detector, and
    cheaper than a tree for the hundreds of peaks of a frame.
    """
    if not len(one) or not len(other):
        return np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0)
    order = np.argsort(other[:, 0], kind="stable")
    rows = other[order, 0]
    first = np.searchsorted(rows, one[:, 0] - SAME_PEAK_PX, side="left")
    count = np.searchsorted(rows, one[:, 0] + SAME_PEAK_PX, side="right") - first
    at = np.repeat(np.arange(len(one)), count)
    within = np.arange(len(at)) - np.repeat(np.cumsum(count) - count, count)
    to = order[np.repeat(first, count) + within]
    distance = np.hypot(one[at, 0] - other[to, 0], one[at, 1] - other[to, 1])
    close = distance <= SAME_PEAK_PX
    return at[close], to[close], distance[close]


def _places(block: Block) -> NDArray[np.float64]:
    return np.column_stack([block["row"], block["col"]])
