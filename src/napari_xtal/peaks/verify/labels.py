"""What a user's labels give to train on: windows, classes, groups, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_xtal.errors import InputError, ParameterError
from napari_xtal.peaks.table import validate
from napari_xtal.peaks.verify.patches import HALF, patches_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from napari_xtal.peaks.find import FrameSourceLike
    from napari_xtal.peaks.verify.patches import Patches

#: Fewest labels of each class: below it no score means anything.
LEAST_PER_CLASS = 10
#: Labels on at least so many files are held out file by file, else frame by frame.
LEAST_FILES = 5
CANCELLED = "training was cancelled before there was a model; nothing was changed"


@dataclass(frozen=True)
class Labels:
    """Labelled positions of a run.

    Attributes
    ----------
    patches : Patches
        Their windows; each has a usable pixel in its centre.
    is_peak : (n,) ndarray of bool
        True for ``peak``, False for ``not-peak``.
    groups : (n,) ndarray of int
        Rows of one group are never on both sides of a split.
    unit : str
        What a group is.
    frames : (n,) ndarray of int64
        Frame of each row.
    snr : (n,) ndarray of float64
        The finder's SNR, NaN where there is none.
    notes : list of str
        What was left out.
    """

    patches: Patches
    is_peak: NDArray[np.bool_]
    groups: NDArray[np.int64]
    unit: str
    frames: NDArray[np.int64]
    snr: NDArray[np.float64]
    notes: list[str]

    def __len__(self) -> int:
        return len(self.is_peak)

    @property
    def counts(self) -> dict[str, int]:
        """Labels by class."""
        n_peaks = int(self.is_peak.sum())
        return {"peak": n_peaks, "not-peak": len(self) - n_peaks}


def collect_labels(
    src: FrameSourceLike,
    table: pd.DataFrame,
    groups: ArrayLike | None = None,
    *,
    half: int = HALF,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Labels:
    """Read the windows of all rows labelled ``peak`` or ``not-peak``, whatever their source.

    Parameters
    ----------
    src : FrameSource
        Frames.
    table : DataFrame
        Peak table with labels; rows with other labels are passed over.
    groups : (len(table),) array_like, optional
        What must stay together in a split. Default: the file when the labels lie on
        `LEAST_FILES` files or more (of runs with a frame per file that is the frame),
        else the frame.
    half : int
        Half side of the windows [px].
    progress, cancel : callable, optional
        As for `patches_in`.

    Returns
    -------
    Labels
        Rows with a usable centre.

    Raises
    ------
    InputError
        When there are no labels, or too few of a class (the message tells what to label),
        or when it was cancelled.
    ParameterError
        When `groups` has another length than the table.
    """
    checked, used = labelled_rows(src, table)
    if groups is not None and len(np.asarray(groups)) != len(checked):
        raise ParameterError(
            f"groups: {len(np.asarray(groups))} values for {len(checked)} rows of the table; "
            "give one per row"
        )
    label = checked["label"].to_numpy(dtype=object)
    chosen = checked.iloc[used]
    patches = patches_in(src, chosen, half=half, progress=progress, cancel=cancel)
    if cancel is not None and cancel():
        raise InputError(CANCELLED)
    usable = patches.has_signal
    notes = []
    if not usable.all():
        lost = int((~usable).sum())
        notes.append(
            f"{lost} of {len(used)} labels lie on masked pixels or on frames that cannot be "
            "read; left out"
        )
        used, chosen, patches = used[usable], chosen[usable], patches.take(usable)
        _require_enough(label[used] == "peak", notes[0])
    frames = chosen["frame"].to_numpy()
    if groups is None:
        keys, unit = _default_groups(src, frames)
    else:
        keys, unit = np.asarray(groups)[used], "group"
    codes = pd.factorize(keys, use_na_sentinel=False)[0].astype(np.int64)
    snr = chosen["snr"].to_numpy(dtype=np.float64)
    return Labels(patches, label[used] == "peak", codes, unit, frames, snr, notes)


def labelled_rows(
    src: FrameSourceLike, table: pd.DataFrame
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Return a checked peak table and its rows labelled ``peak`` or ``not-peak``.

    Raises
    ------
    InputError
        When it is no peak table of the run, or has too few labels.
    """
    checked = validate(table, len(src))
    label = checked["label"].to_numpy(dtype=object)
    used = np.flatnonzero((label == "peak") | (label == "not-peak"))
    _require_enough(label[used] == "peak")
    return checked, used


def _require_enough(is_peak: NDArray[np.bool_], note: str = "") -> None:
    counts = {"peak": int(is_peak.sum()), "not-peak": int((~is_peak).sum())}
    said = f" ({note})" if note else ""
    if not is_peak.size:
        raise InputError(
            f"no labelled peaks{said}: label at least {LEAST_PER_CLASS} positions 'peak' and "
            f"{LEAST_PER_CLASS} 'not-peak', on several frames"
        )
    lacking = [
        f"{LEAST_PER_CLASS - n} more '{name}'" for name, n in counts.items() if n < LEAST_PER_CLASS
    ]
    if lacking:
        raise InputError(
            f"too few labels: {counts['peak']} 'peak' and {counts['not-peak']} 'not-peak'{said}; "
            f"label {' and '.join(lacking)}, on several frames"
        )


def _default_groups(src: Any, frames: NDArray[np.int64]) -> tuple[NDArray[Any], str]:
    ids = getattr(src, "ids", None)
    if ids is not None:
        files = np.array([str(ids[int(f)].file) for f in frames], dtype=object)
        if len(set(files)) >= LEAST_FILES:
            return files, "file"
    return frames, "frame"
