"""``derived.h5``: peaks and probabilities of the machine, which can be computed again."""

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
#: What is kept of the user's peaks, of which all else is in the journal.
_JUDGED = ("peak_id", "row", "col", "probability")


@dataclass
class Derived:
    """Machine peaks, how they were found, and what verifiers said of all peaks.

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
    judged : Rows
        ``peak_id``, ``row``, ``col`` and ``probability`` of the user's peaks that a verifier
        judged; all else is in the journal.
    verifiers : dict of int to str
        Frame -> the verifier of its probabilities, where it is known.
    """

    seq: int
    rows: Rows
    next_id: int
    searches: list[dict[str, Any]]
    search_of: dict[int, int]
    judged: Rows
    verifiers: dict[int, str]


@dataclass(frozen=True)
class Snapshot:
    """The state to write, taken in a moment; its blocks never change."""

    seq: int
    next_id: int
    blocks: dict[int, Block]
    dtype: np.dtype[np.void]
    searches: list[dict[str, Any]]
    search_of: dict[int, int]
    verifiers: dict[int, str]


def write_derived(path: Path, state: Snapshot, peaks: PeakStore, frames: FrameIndex) -> None:
    """Write the file as a whole.

    Raises
    ------
    OutputError
        When it cannot be written; the former file is still there.
    """
    auto = {f: b[b["source"] == AUTO] for f, b in state.blocks.items()}
    judged = {f: b for f, b in state.blocks.items() if not np.isnan(b["probability"]).all()}
    judged = {f: b[(b["source"] != AUTO) & ~np.isnan(b["probability"])] for f, b in judged.items()}
    used_frames = (f for some in (auto, judged) for f, b in some.items() if len(b))
    known = sorted({*state.search_of, *state.verifiers, *used_frames})
    none = np.zeros(0, state.dtype)
    parts = [auto.get(f, none) for f in known]
    said = [judged.get(f, none) for f in known]
    data = join(parts, state.dtype)
    # Only what is referred to: a slider that moves makes hundreds of searches.
    used = sorted(set(state.search_of.values()))
    renumbered = {old: new for new, old in enumerate(used)}
    identities = [frames.identity(f) for f in known]
    names = sorted(set(state.verifiers.values()))

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
            file["verifiers"] = json.dumps(names)
            file["frames/verifier"] = np.array(
                [names.index(v) if (v := state.verifiers.get(f)) else -1 for f in known],
                dtype=np.int64,
            )
            file["frames/n_judged"] = np.array([len(p) for p in said], dtype=np.int64)
            for name in _JUDGED:
                file[f"judged/{name}"] = np.ascontiguousarray(join(said, state.dtype)[name])
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
            judged, verifiers = _read_verdicts(file, peaks, indices)
            return Derived(
                int(file.attrs["seq"]),
                Rows(of, data),
                int(file.attrs["next_id"]),
                json.loads(file["searches"][()]),
                {int(f): s for f, s in zip(indices, search, strict=True) if s >= 0},
                judged,
                verifiers,
            )
    except (OSError, KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
        raise SessionError(
            f"{path}: the found peaks cannot be read ({error}); search again"
        ) from error


def _read_verdicts(file: h5py.File, peaks: PeakStore, indices: Ids) -> tuple[Rows, dict[int, str]]:
    """Return what a file says of the user's peaks, and the verifiers; old files have neither."""
    if "judged" not in file:
        return Rows(indices[:0], np.zeros(0, peaks.dtype)), {}
    columns = {name: file[f"judged/{name}"][()] for name in _JUDGED}
    data = peaks.from_columns(columns, len(columns["peak_id"]))
    data["peak_id"] = columns["peak_id"]
    names = json.loads(file["verifiers"][()])
    used = file["frames/verifier"][()].tolist()
    verifiers = {int(f): names[k] for f, k in zip(indices, used, strict=True) if k >= 0}
    return Rows(np.repeat(indices, file["frames/n_judged"][()]), data), verifiers
