"""The peaks of a run as columns for the gallery: which are shown, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from napari_xtal.peaks.table import LABELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNLABELLED = LABELS.index("unlabelled")
#: What the gallery may be restricted to: any label, or peaks that a person placed.
KEPT = ("all", *LABELS, "manual")
#: Name -> (column, smallest first). "uncertainty" is |p - 0.5|.
SORTS: dict[str, tuple[str, bool]] = {
    "uncertainty": ("uncertainty", True),
    "probability": ("probability", False),
    "SNR": ("snr", False),
    "frame": ("frame", True),
    "1/d": ("inv_d", False),
    "intensity": ("intensity", False),
}
#: Name -> column of the quantities that a range can be given for.
RANGES = {"probability": "probability", "SNR": "snr", "1/d": "inv_d", "intensity": "intensity"}
_NUMBERS = ("row", "col", "snr", "probability", "intensity", "inv_d")


@dataclass(frozen=True)
class Arrangement:
    """What the gallery shows.

    Attributes
    ----------
    frame : int or None
        Only peaks of this frame; None for the whole run.
    kept : str
        One of `KEPT`.
    sort : str
        Key of `SORTS`.
    reverse : bool
        Whether the order is turned round; peaks without a value stay at the end.
    quantity : str or None
        Key of `RANGES`, None for no range.
    low, high : float
        The range, ends included.
    """

    frame: int | None = None
    kept: str = "all"
    sort: str = "uncertainty"
    reverse: bool = False
    quantity: str | None = None
    low: float = -np.inf
    high: float = np.inf


class PeakColumns:
    """Peaks of a run as plain arrays, sorted by frame.

    Parameters
    ----------
    table : DataFrame
        ``session.peaks``: a peak table with `peak_id`, sorted by frame.

    Attributes
    ----------
    ids, frame : (n,) ndarray of int64
    row, col, snr, probability, intensity, inv_d : (n,) ndarray of float64
    label : (n,) ndarray of int
        Index into `words`, whose first entries are `LABELS`.
    manual : (n,) ndarray of bool
        Whether a person placed the peak.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self.ids = table["peak_id"].to_numpy()
        self.frame = table["frame"].to_numpy()
        for name in _NUMBERS:
            setattr(self, name, table[name].to_numpy(dtype=np.float64, copy=True))
        self.words = list(LABELS)
        self.label = self._codes(table["label"])
        self.manual = table["source"].to_numpy() == "manual"
        self._by_id = np.argsort(self.ids)
        self._sorted_ids = self.ids[self._by_id]

    row: NDArray[np.float64]
    col: NDArray[np.float64]
    snr: NDArray[np.float64]
    probability: NDArray[np.float64]
    intensity: NDArray[np.float64]
    inv_d: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def uncertainty(self) -> NDArray[np.float64]:
        """|p - 0.5|: small where the verifier does not know."""
        return np.abs(self.probability - 0.5)

    @property
    def has_probability(self) -> bool:
        """Whether the verifier was applied to any peak."""
        return bool(np.isfinite(self.probability).any())

    def positions(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where each id stands, -1 for ids that are not there."""
        ids = np.asarray(ids, dtype=np.int64)
        if not len(self):
            return np.full(len(ids), -1)
        at = np.searchsorted(self._sorted_ids, ids).clip(max=len(self) - 1)
        return np.where(self._sorted_ids[at] == ids, self._by_id[at], -1)

    def of_frame(self, frame: int) -> slice:
        """Return where the peaks of one frame stand."""
        return slice(*np.searchsorted(self.frame, [frame, frame + 1]).tolist())

    def update(self, fresh: pd.DataFrame) -> None:
        """Take over changed peaks; those that are not here are passed over.

        Parameters
        ----------
        fresh : DataFrame
            Peak table of some of the peaks.
        """
        at = self.positions(fresh["peak_id"].to_numpy())
        fresh, at = fresh[at >= 0], at[at >= 0]
        for name in _NUMBERS:
            getattr(self, name)[at] = fresh[name].to_numpy(dtype=np.float64)
        self.label[at] = self._codes(fresh["label"])
        self.manual[at] = fresh["source"].to_numpy() == "manual"

    def counts(self) -> dict[str, int]:
        """Return the number of peaks of each label, and of manual ones."""
        found = np.bincount(self.label, minlength=len(self.words)).tolist()
        return {**dict(zip(self.words, found, strict=True)), "manual": int(self.manual.sum())}

    def _codes(self, labels: pd.Series) -> NDArray[np.int64]:
        codes, names = pd.factorize(labels)
        for name in names:
            if name not in self.words:
                self.words.append(str(name))
        return np.array([self.words.index(str(n)) for n in names], dtype=np.int64)[codes]


def arrange(columns: PeakColumns, how: Arrangement) -> NDArray[np.int64]:
    """Return the positions of the peaks to show, in order.

    Peaks without a value to sort by (no verifier, no geometry) come last, in the order of
    their SNR; weak ones first where the doubtful ones are looked for.

    Parameters
    ----------
    columns : PeakColumns
        The peaks.
    how : Arrangement
        Restriction and order.

    Returns
    -------
    (n_shown,) ndarray of int64
    """
    at = _kept(columns, how)
    column, ascending = SORTS[how.sort]
    sign = 1.0 if ascending != how.reverse else -1.0
    key = sign * getattr(columns, column)[at]
    order = np.argsort(key, kind="stable")  # NaN comes last
    n_known = len(key) - int(np.isnan(key).sum())
    rest = order[n_known:]
    order[n_known:] = rest[np.argsort(sign * columns.snr[at[rest]], kind="stable")]
    return at[order]


def _kept(columns: PeakColumns, how: Arrangement) -> NDArray[np.int64]:
    part = slice(0, len(columns)) if how.frame is None else columns.of_frame(how.frame)
    keep = np.ones(part.stop - part.start, dtype=bool)
    if how.kept == "manual":
        keep &= columns.manual[part]
    elif how.kept != "all":
        keep &= columns.label[part] == columns.words.index(how.kept)
    if how.quantity is not None:
        values = getattr(columns, RANGES[how.quantity])[part]
        keep &= (values >= how.low) & (values <= how.high)
    return np.flatnonzero(keep) + part.start


def merged(
    old: NDArray[np.int64], columns: PeakColumns, fresh: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return an order in which what was shown keeps its place and new peaks come last.

    Parameters
    ----------
    old : (n,) ndarray of int64
        Ids in the order they were shown in.
    columns : PeakColumns
        The peaks as they are now.
    fresh : (m,) ndarray of int64
        Positions that `arrange` gives now.
    """
    kept = columns.positions(old)
    kept = kept[kept >= 0]
    return np.concatenate([kept, fresh[~np.isin(fresh, kept)]])
