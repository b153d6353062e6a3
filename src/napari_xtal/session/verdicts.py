"""What verifiers said of peaks: probabilities by peak id, each true of one position only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What `Verdicts.note` needs of a row.
SAID = np.dtype([("peak_id", "i8"), ("row", "f8"), ("col", "f8"), ("probability", "f8")])
#: Code of the verifier of probabilities that came with a table which did not name one.
UNKNOWN = 1
_RECORD = np.dtype([("row", "f8"), ("col", "f8"), ("value", "f8"), ("verifier", "i4")])


class Verdicts:
    """Probabilities by peak id, with the position and the verifier they belong to.

    A probability counts only where the peak still is where it was judged, and only while
    its verifier is that of the frame: a frame never shows numbers of two verifiers. So a
    peak that is moved loses its probability, and gets it back when the move is undone.
    """

    def __init__(self) -> None:
        self._names = ["", ""]  # code 0 stands for "never judged"
        self._of_frame: dict[int, int] = {}
        self._records = np.zeros(0, _RECORD)

    def code(self, name: str) -> int:
        """Return the number that stands for a verifier; an empty name is an unknown one."""
        if not name:
            return UNKNOWN
        if name not in self._names:
            self._names.append(name)
        return self._names.index(name)

    def name_of(self, frame: int) -> str | None:
        """Return the verifier of a frame, None when there is none or it is unknown."""
        return self._names[self._of_frame.get(frame, UNKNOWN)] or None

    def names(self) -> dict[int, str]:
        """Return the verifier by frame, where it is known."""
        return {f: self._names[code] for f, code in self._of_frame.items() if code > UNKNOWN}

    def use(self, frames: Iterable[int], code: int) -> None:
        """Make a verifier that of frames: what others said of their peaks counts no more."""
        self._of_frame.update(dict.fromkeys(frames, code))

    def codes(self, frames: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the code of the verifier of each frame."""
        distinct, of = np.unique(frames, return_inverse=True)
        codes = [self._of_frame.get(f, UNKNOWN) for f in distinct.tolist()]
        return np.array(codes, dtype=np.int64)[of]

    def note(self, data: Any, codes: Any) -> None:
        """Take over the probabilities of rows, true of the positions of these rows.

        Parameters
        ----------
        data : (n,) structured ndarray
            ``peak_id``, ``row``, ``col`` and ``probability``.
        codes : int or (n,) ndarray of int
            Code of the verifier.
        """
        # NaN need not be noted where nothing was.
        keep = ~np.isnan(data["probability"])
        if len(self._records):
            keep |= data["peak_id"] < len(self._records)
        if not keep.any():
            return
        ids = data["peak_id"][keep]
        top = int(ids.max()) + 1
        if top >= len(self._records):
            grown = np.zeros(max(top + 1, 2 * len(self._records)), _RECORD)
            grown[: len(self._records)] = self._records
            self._records = grown
        records = np.zeros(len(ids), _RECORD)
        for column, name in (("row", "row"), ("col", "col"), ("probability", "value")):
            records[name] = data[column][keep]
        records["verifier"] = np.broadcast_to(codes, keep.shape)[keep]
        self._records[ids] = records

    def note_first(self, data: Any) -> None:
        """Take over probabilities of peaks that were never judged, of an unknown verifier."""
        ids = data["peak_id"]
        known = np.zeros(len(ids), bool)
        within = ids < len(self._records)
        known[within] = self._records["verifier"][ids[within]] > 0
        self.note(data[~known], UNKNOWN)

    def of(self, data: Any, codes: Any) -> NDArray[np.float64]:
        """Return the probabilities of rows; NaN where none is true of the row.

        Parameters
        ----------
        data : (n,) structured ndarray
            ``peak_id``, ``row`` and ``col``.
        codes : int or (n,) ndarray of int
            Code of the verifier of the frame.
        """
        ids = data["peak_id"]
        if not len(self._records):
            return np.full(len(ids), np.nan)
        # Behind the last record is one that holds for nothing.
        records = self._records[np.minimum(ids, len(self._records) - 1)]
        holds = records["verifier"] == codes
        holds &= records["row"] == data["row"]
        holds &= records["col"] == data["col"]
        return np.where(holds, records["value"], np.nan)

    def of_frame(self, frame: int, data: Any) -> NDArray[np.float64]:
        """Return the probabilities of rows of one frame; see `of`."""
        return self.of(data, self._of_frame.get(frame, UNKNOWN))
