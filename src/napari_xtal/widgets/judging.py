"""Judging peaks in a worker: of one frame, or of a run in portions."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.widgets.frame_stack import broken_text

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray

    from napari_xtal.widgets.model_choice import Model

#: Frames that are judged in one go; between two, a long job looks whether to hand over.
FRAMES_PER_STEP = 32
#: A long job hands its probabilities to the session this often [s]: drawing the peaks of a run
#: anew takes 0.1 s, and what was handed over is kept when the job is cancelled.
HAND_OVER_S = 1.0


@dataclass(frozen=True)
class Judged:
    """Probabilities of peaks, with the positions they are true of.

    Attributes
    ----------
    ids : (n,) ndarray of int64
        Peak ids.
    places : (n, 2) ndarray of float64
        (row, col) that was judged [px].
    values : (n,) ndarray of float64
        Probabilities, all finite.
    model : Model
        Whose they are.
    frame : int
        The frame; -1 for several.
    note : str
        Why nothing was judged, or empty.
    """

    ids: NDArray[np.int64]
    places: NDArray[np.float64]
    values: NDArray[np.float64]
    model: Model
    frame: int = -1
    note: str = ""

    @classmethod
    def of(
        cls, peaks: pd.DataFrame, values: Any, model: Model, frame: int = -1, note: str = ""
    ) -> Judged:
        """Keep the peaks of a table that have a probability."""
        values = np.asarray(values, dtype=np.float64)
        known = np.isfinite(values)
        ids = peaks["peak_id"].to_numpy(dtype=np.int64)[known]
        places = peaks[["row", "col"]].to_numpy(dtype=np.float64)[known]
        return cls(ids, places, values[known], model, frame, note)


def judge_frame(model: Model, shown: Any, peaks: pd.DataFrame, index: int) -> Judged:
    """Judge the peaks of one frame.

    Parameters
    ----------
    model : Model
        Whose probabilities.
    shown : Frame
        The frame; a broken one gives no probability and a note.
    peaks : DataFrame
        Its peaks, with `peak_id`.
    index : int
        Index of the frame.
    """
    from napari_xtal.peaks.verify.patches import extract_patches

    if not shown.ok:
        nothing = np.full(len(peaks), np.nan)
        return Judged.of(peaks, nothing, model, index, broken_text(shown, index))
    rows, cols = peaks["row"].to_numpy(), peaks["col"].to_numpy()
    patches = extract_patches(shown.image, rows, cols, shown.good, half=model.verifier.half)
    # `Verifier.predict` is these two steps; here peaks on masked pixels need no warning.
    return Judged.of(peaks, model.verifier.predict_patches(patches), model, index)


def judge_run(
    model: Model,
    source: Any,
    peaks: pd.DataFrame,
    hand_over: Callable[[Judged], Any],
    progress: Callable[[int, int], Any],
    cancel: Callable[[], bool],
) -> tuple[int, int]:
    """Judge the peaks of a run, and hand over what is done about every second.

    Parameters
    ----------
    model : Model
        Whose probabilities.
    source : FrameSource
        The run, with file handles of this thread.
    peaks : DataFrame
        Its peaks, sorted by frame, with `peak_id`.
    hand_over, progress, cancel : callable
        Takes `Judged`; takes frames done and in total; True stops.

    Returns
    -------
    (int, int)
        Peaks judged and peaks in all.
    """
    of = peaks["frame"].to_numpy()
    frames = np.unique(of)
    ready: list[Judged] = []
    n_judged, handed = 0, time.perf_counter()
    for first in range(0, len(frames), FRAMES_PER_STEP):
        if cancel():
            break
        some = frames[first : first + FRAMES_PER_STEP]
        part = peaks.iloc[slice(*np.searchsorted(of, [some[0], some[-1] + 1]))]

        def step(done: int, _total: int, first: int = first) -> None:
            progress(first + done, len(frames))

        values = model.verifier.predict_in(source, part, progress=step, cancel=cancel)
        ready.append(Judged.of(part, values, model))
        n_judged += len(ready[-1].ids)
        if time.perf_counter() - handed > HAND_OVER_S:
            hand_over(_joined(ready))
            ready, handed = [], time.perf_counter()
    if ready:
        hand_over(_joined(ready))
    return n_judged, len(peaks)


def _joined(parts: list[Judged]) -> Judged:
    return Judged(
        np.concatenate([p.ids for p in parts]),
        np.concatenate([p.places for p in parts]),
        np.concatenate([p.values for p in parts]),
        parts[0].model,
    )
