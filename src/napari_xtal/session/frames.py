"""Which frame is which: indices of the open run against identities in the records."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from napari_xtal.detector.frame import FrameId
from napari_xtal.errors import ParameterError

_STACK_EVENT = re.compile(r"^(.*//)(\d+)$")


class FrameIndex:
    """Translate frame indices to identities and back.

    Frames that records name but that the open run lacks get negative numbers, so that
    what is known about them is kept, though not shown.

    Parameters
    ----------
    ids : sequence of FrameId, optional
        Identities of the open run's frames, in their order. Without them frames are
        only numbers.
    moved : dict of str to str, optional
        Former path of a file -> where it is now.
    """

    def __init__(
        self, ids: Sequence[FrameId] | None = None, moved: dict[str, str] | None = None
    ) -> None:
        self.ids = ids
        self._moved = dict(moved or {})
        self._absolute: dict[str, str] = {}
        self._by_id: dict[FrameId, int] | None = None
        self._by_name: dict[FrameId, list[int]] | None = None
        self._absent: dict[FrameId, int] = {}
        self._absent_ids: list[FrameId] = []

    def __len__(self) -> int:
        return 0 if self.ids is None else len(self.ids)

    @property
    def absent(self) -> list[FrameId]:
        """Identities that records name and the open run lacks."""
        return list(self._absent_ids)

    def check(self, frames: Iterable[int]) -> None:
        """Refuse frame indices that the run does not have.

        Raises
        ------
        ParameterError
            When an index is negative or beyond the last frame.
        """
        for frame in frames:
            if frame < 0 or (self.ids is not None and frame >= len(self.ids)):
                have = "frames start at 0" if self.ids is None else f"the run has {len(self)}"
                raise ParameterError(f"frame {frame}: no such frame; {have}")

    def identity(self, frame: int) -> list[Any]:
        """Return [file, dataset, event, index] of a frame, as records store it."""
        if frame < 0:
            return [*self._absent_ids[-frame - 1], None]
        if self.ids is None:
            return ["", "", f"//{frame}", frame]
        found = self.ids[frame]
        return [self._path(found.file), found.dataset, found.event, frame]

    def index(self, identity: Sequence[Any]) -> int:
        """Return the index of a stored identity; negative when the run lacks that frame."""
        file, dataset, event, hint = (*identity, None)[:4]
        if self.ids is None or not file:
            # One side knows only numbers.
            if hint is not None and (self.ids is None or hint < len(self.ids)):
                return int(hint)
            return self._absent_index(FrameId(file, dataset, event))
        path = self._path(file)
        known = FrameId(path, dataset, event)
        if (found := self._identities().get(known)) is not None:
            return found
        # A file that was moved together with the session: the name decides if it is unique.
        alike = self._names().get(_named(known), [])
        return alike[0] if len(alike) == 1 else self._absent_index(known)

    def _absent_index(self, identity: FrameId) -> int:
        if identity not in self._absent:
            self._absent_ids.append(identity)
            self._absent[identity] = -len(self._absent_ids)
        return self._absent[identity]

    def _identities(self) -> dict[FrameId, int]:
        if self._by_id is None:
            self._by_id = {}
            for frame, (file, dataset, event) in enumerate(self.ids or ()):
                # A frame that a run holds twice is labelled where it comes first.
                self._by_id.setdefault(FrameId(self._path(file), dataset, event), frame)
        return self._by_id

    def _names(self) -> dict[FrameId, list[int]]:
        """Return the frames by identity without folders; made only once a file is not found."""
        if self._by_name is None:
            self._by_name = {}
            for known, frame in self._identities().items():
                self._by_name.setdefault(_named(known), []).append(frame)
        return self._by_name

    def _path(self, file: str) -> str:
        if file not in self._absolute:
            path = os.path.abspath(file) if file else ""
            seen = {path}
            while (new := self._moved.get(path)) is not None and new not in seen:
                path = new
                seen.add(path)
            self._absolute[file] = path
        return self._absolute[file]


def _named(identity: FrameId) -> FrameId:
    return identity._replace(file=os.path.basename(identity.file))


def pack_ids(ids: Iterable[FrameId]) -> list[list[Any]]:
    """Shorten identities to runs [file, dataset, prefix, first, count] of stack events.

    A run of one frame with another event string is [file, dataset, event, None, 1].
    """
    packed: list[list[Any]] = []
    absolute = {"": ""}
    expected: FrameId | None = None  # what would lengthen the last run
    for found in ids:
        file, dataset, event = found
        if found == expected:
            packed[-1][4] += 1
            expected = FrameId(file, dataset, f"{packed[-1][2]}{packed[-1][3] + packed[-1][4]}")
            continue
        if file not in absolute:
            absolute[file] = os.path.abspath(file)
        match = _STACK_EVENT.match(event)
        # A number that prints otherwise ("007") must come back as it was.
        if match is None or str(int(match[2])) != match[2]:
            packed.append([absolute[file], dataset, event, None, 1])
            expected = None
        else:
            prefix, number = match[1], int(match[2])
            packed.append([absolute[file], dataset, prefix, number, 1])
            expected = FrameId(file, dataset, f"{prefix}{number + 1}")
    return packed


def unpack_ids(packed: Iterable[Sequence[Any]]) -> list[FrameId]:
    """Return the identities that `pack_ids` shortened."""

    def run(entry: Sequence[Any]) -> Iterator[FrameId]:
        file, dataset, prefix, first, count = entry
        if first is None:
            yield FrameId(file, dataset, prefix)
            return
        for number in range(first, first + count):
            yield FrameId(file, dataset, f"{prefix}{number}")

    return list(itertools.chain.from_iterable(run(entry) for entry in packed))
