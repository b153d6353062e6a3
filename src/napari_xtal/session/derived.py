"""``derived.h5``: the machine's peaks of a session, which can always be computed again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from napari_xtal.detector.frame import FrameId
from napari_xtal.errors import SessionError
from napari_xtal.session.files import write_whole
from napari_xtal.session.frames import FrameIndex, pack_ids, unpack_ids
from napari_xtal.session.peaks import AUTO, UNLABELLED, Block, Ids, PeakStore, Rows, join

#: Version of the file's layout.
VERSION = 1


@dataclass
class Derived:
    """Machine peaks and how they were found.

    Attributes
    ----------
    seq : int
        Last journal record that the peaks take into account.
    rows : Rows
        Peaks with source ``auto``.
    next_id : int
        First id that no peak had.
    searches : list of dict
        ``parameters``, ``version`` and ``time`` of each search.
    search_of : dict of int to int
        Searched frame -> index into `searches`.
    """

    seq: int
    rows: Rows
    next_id: int
    searches: list[dict[str, Any]]
    search_of: dict[int, int]


@dataclass(frozen=True)
class Snapshot:
    """The state to write, taken in a moment; its blocks never change."""

    seq: int
    next_id: int
    blocks: dict[int, Block]
    dtype: np.dtype[np.void]
    searches: list[dict[str, Any]]
    search_of: dict[int, int]


def write_derived(path: Path, state: Snapshot, peaks: PeakStore, frames: FrameIndex) -> None:
    """Write the file as a whole.

    Raises
    ------
    OutputError
        When it cannot be written; the former file is still there.
    """
    auto = {f: b[b["source"] == AUTO] for f, b in state.blocks.items()}
    known = sorted({*state.search_of, *(f for f, b in auto.items() if len(b))})
    none = np.zeros(0, state.dtype)
    parts = [auto.get(f, none) for f in known]
    data = join(parts, state.dtype)
    # Only what is referred to: a slider that moves makes hundreds of searches.
    used = sorted(set(state.search_of.values()))
    renumbered = {old: new for new, old in enumerate(used)}
    identities = [frames.identity(f) for f in known]

    def write(temporary: Path) -> None:
        with h5py.File(temporary, "w") as file:
            file.attrs.update(format=VERSION, seq=state.seq, next_id=state.next_id)
            file["searches"] = json.dumps([state.searches[k] for k in used])
            file["frames/identities"] = json.dumps(pack_ids(FrameId(*i[:3]) for i in identities))
            file["frames/index"] = np.array(
                [-1 if i[3] is None else i[3] for i in identities], dtype=np.int64
            )
            file["frames/n_peaks"] = np.array([len(p) for p in parts], dtype=np.int64)
            file["frames/search"] = np.array(
                [renumbered[state.search_of[f]] if f in state.search_of else -1 for f in known],
                dtype=np.int64,
            )
            for name in data.dtype.names or ():
                # One column after the other: reading of frames goes on in between.
                if peaks.is_text(name):
                    codes, numbers = np.unique(data[name], return_inverse=True)
                    file[f"peaks/{name}"] = numbers.astype(np.int32)
                    file[f"peaks/{name}"].attrs["words"] = json.dumps(peaks.words(codes).tolist())
                else:
                    file[f"peaks/{name}"] = np.ascontiguousarray(data[name])

    write_whole(path, write)


def read_derived(path: Path, peaks: PeakStore, frames: FrameIndex) -> Derived:
    """Read the file.

    Raises
    ------
    SessionError
        When it cannot be read; the machine's peaks must be computed again.
    """
    try:
        with h5py.File(path, "r") as file:
            if file.attrs["format"] > VERSION:
                raise SessionError(f"{path}: written by a later napari-xtal; update napari-xtal")
            ids = unpack_ids(json.loads(file["frames/identities"][()]))
            hints = file["frames/index"][()].tolist()
            counts = file["frames/n_peaks"][()]
            search = file["frames/search"][()].tolist()
            indices = np.array(
                [frames.index([*i, None if h < 0 else h]) for i, h in zip(ids, hints, strict=True)],
                dtype=np.int64,
            )
            n = int(counts.sum())
            columns: dict[str, Any] = {}
            for name, dataset in file["peaks"].items():
                columns[name] = dataset[()]
                if "words" in dataset.attrs:
                    words = np.array(json.loads(dataset.attrs["words"]), dtype=object)
                    columns[name] = words[columns[name]]
            data = peaks.from_columns(columns, n)
            data["peak_id"] = columns["peak_id"]
            data["label"], data["source"] = UNLABELLED, AUTO
            of: Ids = np.repeat(indices, counts)
            return Derived(
                int(file.attrs["seq"]),
                Rows(of, data),
                int(file.attrs["next_id"]),
                json.loads(file["searches"][()]),
                {int(f): s for f, s in zip(indices, search, strict=True) if s >= 0},
            )
    except (OSError, KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
        raise SessionError(
            f"{path}: the found peaks cannot be read ({error}); search again"
        ) from error
