"""What a user's 50 or 200 labels on an unseen detector do to a verifier.

The labels come from four frames of one half of the frames; the model that never saw the
detector is fine-tuned on them (`napari_xtal.peaks.verify.train.train_verifier`) and
judged, before and after, on all labelled candidates of the other half.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.labelled_candidates import OTHER, PEAK, frames_of
from napari_xtal.detector.frame import Frame, FrameId, FrameStatus
from napari_xtal.peaks.table import make_table
from napari_xtal.peaks.verify.metrics import evaluate
from napari_xtal.peaks.verify.train import train_verifier
from napari_xtal.peaks.verify.verifier import Verifier

#: Sets with frames enough to label some and to judge by others.
SETS = ("thaumatin", "jungfrau", "lcysteine")
N_LABELS = (50, 200)
#: Frames that a user labels, and fewest labels of each class (training asks for ten).
N_FRAMES, FEWEST = 4, 12


class Run:
    """The frames of a real set as a frame source."""

    def __init__(self, set_name: str) -> None:
        self.frames = [found.frame for found in frames_of(set_name)]
        self.good: NDArray[np.bool_] = self.frames[0].good

    def __len__(self) -> int:
        return len(self.frames)

    def frame(self, index: int) -> Frame:
        """Return a frame."""
        frame = self.frames[index]
        identity = FrameId(frame.set, "", f"//{index}")
        return Frame(frame.image, frame.good, FrameStatus.OK, identity)

    def radius(self) -> NDArray[np.float32] | None:
        """Return the distance from the beam centre [px]."""
        return self.frames[0].radius

    def inv_d(self) -> None:
        """Return nothing: no geometry is needed."""

    def panels(self) -> None:
        """Return nothing: no geometry is needed."""


def labelled_table(set_name: str) -> pd.DataFrame:
    """Return all labelled candidates of a set's crystal frames as a peak table."""
    parts = []
    for position, found in enumerate(frames_of(set_name)):
        table = found.table
        keep = table["reported"] & table["label"].isin([PEAK, OTHER]) & ~table["doubtful"]
        if found.frame.blank or not keep.any():
            continue
        table = table[keep]
        label = np.where(table["label"] == PEAK, "peak", "not-peak")
        where = {name: table[name].to_numpy() for name in ("row", "col", "snr")}
        parts.append(make_table(frame=np.full(len(table), position), label=label, **where))
    return pd.concat(parts, ignore_index=True)


def _user_labels(table: pd.DataFrame, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw labels in their natural shares, but of each class as many as training needs."""
    is_peak = (table["label"] == "peak").to_numpy()
    n_peaks = int(np.clip(round(n * is_peak.mean()), FEWEST, n - FEWEST))
    rows = [
        rng.choice(np.flatnonzero(which), min(count, int(which.sum())), replace=False)
        for which, count in ((is_peak, n_peaks), (~is_peak, n - n_peaks))
    ]
    return table.iloc[np.sort(np.concatenate(rows))]


def _scores(verifier: Verifier, run: Run, table: pd.DataFrame) -> dict[str, float]:
    report = evaluate(
        (table["label"] == "peak").to_numpy(),
        verifier.predict_in(run, table),
        threshold=verifier.threshold,
        n_resamples=1,
    )
    return {"ap": report.ap.value, "f1": report.f1.value}


def study(set_name: str, start: Verifier, n_seeds: int) -> pd.DataFrame:
    """Fine-tune on labels of some frames, judge on the other half of the frames.

    Parameters
    ----------
    set_name : str
        One of `SETS`.
    start : Verifier
        A model that never saw the set.
    n_seeds : int
        Repetitions, each with other frames and labels.

    Returns
    -------
    DataFrame
        One row per repetition and number of labels: AP and F1 before and after.
    """
    run, table = Run(set_name), labelled_table(set_name)
    frames = table["frame"].unique()
    rows: list[dict[str, Any]] = []
    for seed in range(n_seeds):
        rng = np.random.default_rng(seed)
        order = rng.permutation(frames)
        held_out = table[table["frame"].isin(order[len(order) // 2 :])]
        user = table[table["frame"].isin(order[:N_FRAMES])]
        before = _scores(start, run, held_out)
        for n in N_LABELS:
            labels = _user_labels(user, n, rng)
            tuned = train_verifier(run, labels, start.kind, start=start, seed=seed)
            after = _scores(tuned, run, held_out)
            row = {"source": set_name, "kind": start.kind, "seed": seed, "labels": len(labels)}
            row |= {f"{key} before": value for key, value in before.items()}
            row |= {f"{key} after": value for key, value in after.items()}
            rows.append(row)
    return pd.DataFrame(rows)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return means over repetitions, their change, and in how many it was for the worse."""
    for key in ("ap", "f1"):
        rows[f"{key} change"] = rows[f"{key} after"] - rows[f"{key} before"]
    columns = [c for c in rows if c.startswith(("ap ", "f1 "))]
    groups = rows.groupby(["source", "kind", "labels"])
    worse = groups["ap change"].apply(lambda change: int((change < -0.002).sum()))
    return groups[columns].mean().assign(**{"ap worse by > .002": worse})
