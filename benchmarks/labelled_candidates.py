"""Candidates of our finder on real frames, labelled by a truth that no finder made.

* **Peak**: within 2.5 px of the observed or 2 px of the predicted position of a truth
  row with a box-summed SNR above 4.
* **Other**: off the lattice by the strict rule of `benchmarks.real_frames`. Left out for
  training: candidates near a reference peak off the lattice (a minor lattice, perhaps),
  and those where the same crystal's other frames have a significant signal as well.
* **Neither**, left out: everything between.

On frames without a crystal every candidate is an *other*; on blank frames of a crystal's
scan those within 1 px of the lattice of its other frames are left out.

Examples
--------
>>> from benchmarks.labelled_candidates import labelled
>>> candidates = labelled("rayonix")
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from benchmarks.real_data import SETS, RealFrame, load
from benchmarks.real_frames import NEAR_OBSERVED, FrameTruth
from napari_xtal.peaks import spots as m
from napari_xtal.peaks.candidates import Candidates
from napari_xtal.peaks.finder import PeakFinder
from napari_xtal.peaks.parameters import PeakFinderParams
from napari_xtal.peaks.training.candidates import LabelledCandidates
from napari_xtal.peaks.verify.patches import extract_patches

#: Every report of a permissive search is a candidate.
PERMISSIVE = PeakFinderParams(false_peaks_per_frame=100, relative_snr=0, max_peaks=1_000_000)
NEAR_PREDICTED, MIN_SNR = 2.0, 4.0
#: Candidates this near to the lattice of a scan's other frames may be faint reflections.
SAME_LATTICE = 1.0
#: Sets whose frames show the same reflections at the same places, and how many frames apart.
SAME_PLACES = {"thaumatin": 13, "jungfrau": 1, "lcysteine": 1}
#: A 3x3 sum this far above its ring, in units of the ring's noise, is a signal (by chance at
#: 1 to 2 % of the places on a neighbouring frame); seen in this share of the frames without
#: the reflection, or of all, it is a fixture.
AGAIN, ALWAYS = 4.0, 0.65
PEAK, OTHER, NEITHER = 1, 0, -1
#: Sets whose licences let the shipped weights learn from them; the others are for judging.
TRAINING_SETS = ("thaumatin", "rayonix", "lcysteine", "cspad", "powder")
#: Of these sets only some frames: that of magnetite is under the GPL.
TRAINING_FRAMES = {"powder": (0,)}


@dataclass(frozen=True)
class FrameCandidates:
    """The candidates of one frame.

    Attributes
    ----------
    frame : RealFrame
    table : DataFrame
        row, col, snr, ``reported`` (by a permissive search; the others were rejected by
        their shape), ``default`` (by a search at defaults), ``label`` (1, 0, -1) and
        ``doubtful`` (an *other* that is left out of training).
    """

    frame: RealFrame
    table: pd.DataFrame


@cache
def frames_of(set_name: str) -> tuple[FrameCandidates, ...]:
    """Search all frames of a set and label the candidates; kept in memory."""
    frames = load(set_name)
    finders: dict[bytes, PeakFinder] = {}
    out = []
    for frame in frames:
        key = frame.good.tobytes()
        if key not in finders:
            finders[key] = PeakFinder(frame.good, frame.radius)
        found = finders[key].candidates(frame.image, PERMISSIVE, snr_min=4.25)
        table = _table(found)
        table["label"] = _labels(frame, frames, table[["row", "col"]].to_numpy())
        table["doubtful"] = (table["label"] == OTHER) & _doubtful(frame, frames, table)
        out.append(FrameCandidates(frame, table))
    return tuple(out)


def _table(found: Candidates) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "row": found.values[:, m.ROW].astype(float),
            "col": found.values[:, m.COL].astype(float),
            "snr": found.snr.astype(float),
            "reported": found.reasons(PERMISSIVE) == 0,
            "default": found.reasons(PeakFinderParams()) == 0,
        }
    )


def _near(where: NDArray[Any], targets: NDArray[Any], limit: float) -> NDArray[np.bool_]:
    if not len(where) or not len(targets):
        return np.zeros(len(where), bool)
    return np.isfinite(cKDTree(targets).query(where, distance_upper_bound=limit)[0])


def _labels(
    frame: RealFrame, frames: tuple[RealFrame, ...], where: NDArray[Any]
) -> NDArray[np.int8]:
    if frame.blank:
        known = [f.known for f in frames if not f.blank and len(f.known)]
        near = _near(where, np.vstack(known), SAME_LATTICE) if known else np.zeros(len(where), bool)
        return np.where(near, NEITHER, OTHER).astype(np.int8)
    labels = np.where(FrameTruth(frame).is_off(where), OTHER, NEITHER).astype(np.int8)
    truth = frame.truth[frame.truth["snr"] > MIN_SNR]
    peak = _near(where, truth[["row_obs", "col_obs"]].to_numpy(float), NEAR_OBSERVED)
    peak |= _near(where, truth[["row", "col"]].to_numpy(float), NEAR_PREDICTED)
    labels[peak] = PEAK
    return labels


def _doubtful(
    frame: RealFrame, frames: tuple[RealFrame, ...], table: pd.DataFrame
) -> NDArray[np.bool_]:
    """Candidates without a truth that may be real: known to another finder, or there again.

    What is there on blank frames too, or on every frame of a moving crystal, is a fixture of
    the detector (a hot pixel, an edge) and no doubt arises.
    """
    where = table[["row", "col"]].to_numpy()
    if frame.blank:
        return np.zeros(len(where), bool)
    doubtful = _near(where, frame.unsure, NEAR_OBSERVED)
    if frame.set not in SAME_PLACES:
        return doubtful
    reach = SAME_PLACES[frame.set]
    others = [f for f in frames if f is not frame]
    there = {f.index: excess(f, where) > AGAIN for f in others}
    crystal = [f.index for f in others if not f.blank and abs(f.index - frame.index) <= reach]
    fixed = [f.index for f in others if f.blank] or [f.index for f in others]
    again = np.any([there[i] for i in crystal], axis=0)
    return doubtful | (again & (np.mean([there[i] for i in fixed], axis=0) < ALWAYS))


def excess(frame: RealFrame, where: NDArray[Any]) -> NDArray[np.float64]:
    """Return the highest 3x3 sum near each position, in units of its noise.

    Background and noise come from a ring of 4 to 8 px. Nothing but the pixel values of the
    frame matters, so an excess at the same place is independent evidence.
    """
    windows = extract_patches(frame.image, where[:, 0], where[:, 1], frame.good, half=8)
    offsets = np.mgrid[-8:9, -8:9]
    distance = np.hypot(*offsets)
    values = np.where(windows.usable, windows.values, np.nan)
    ring = values[:, (distance >= 4) & (distance <= 8)]
    background = np.nanmean(ring, axis=1) if len(ring) else np.zeros(0)
    noise = np.maximum(np.nanstd(ring, axis=1), 0.25) if len(ring) else np.ones(0)
    best = np.full(len(where), -np.inf)
    for dr in (-1, 0, 1):
        for dc in (-1, 0, 1):
            box = values[:, 7 + dr : 10 + dr, 7 + dc : 10 + dc] - background[:, None, None]
            best = np.fmax(best, np.nansum(box, axis=(1, 2)) / (3 * noise))
    return best


def labelled(set_name: str, *, training: bool = True) -> LabelledCandidates:
    """Return the labelled candidates of a set.

    Parameters
    ----------
    set_name : str
        A key of `benchmarks.real_data.SETS`.
    training : bool
        Leave out the doubtful ones and `TRAINING_FRAMES`' other frames, and add what the
        finder rejected by shape at a quarter of the weight.

    Returns
    -------
    LabelledCandidates
        ``group`` is the frame's index, ``source`` the name of the set.
    """
    parts = []
    for found in frames_of(set_name):
        table, frame = found.table, found.frame
        if training and frame.index not in TRAINING_FRAMES.get(set_name, (frame.index,)):
            continue
        keep = table["label"] != NEITHER
        keep &= ~table["doubtful"] if training else table["reported"]
        table = table[keep]
        n = len(table)
        parts.append(
            LabelledCandidates(
                patches=extract_patches(frame.image, table["row"], table["col"], frame.good),
                is_peak=table["label"].to_numpy() == PEAK,
                snr=table["snr"].to_numpy("f4"),
                source=np.full(n, set_name, dtype="U32"),
                group=np.full(n, frame.index, np.int64),
                weight=np.where(table["reported"], 1.0, 0.25).astype("f4"),
            )
        )
    return LabelledCandidates.concat(parts)


def summary(set_name: str) -> dict[str, float]:
    """Count the candidates of a set."""
    table = pd.concat([found.table for found in frames_of(set_name)])
    reported = table[table["reported"]]
    return {
        "frames": len(frames_of(set_name)),
        "candidates": len(table),
        "reported": len(reported),
        "peaks": int((reported["label"] == PEAK).sum()),
        "others": int((reported["label"] == OTHER).sum()),
        "doubtful": int(reported["doubtful"].sum()),
        "neither": int((reported["label"] == NEITHER).sum()),
        "rejected peaks": int(((table["label"] == PEAK) & ~table["reported"]).sum()),
        "rejected others": int(((table["label"] == OTHER) & ~table["reported"]).sum()),
    }


def main(arguments: list[str] | None = None) -> None:
    """Print what there is, and write it."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.labelled_candidates", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--sets", nargs="+", choices=list(SETS),
                        help="default: all; with --out those the shipped weights learn from")  # fmt: skip
    parser.add_argument("--out", type=Path, help="write the candidates for training here (.npz)")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    sets = options.sets or (TRAINING_SETS if options.out else list(SETS))
    rows = {name: summary(name) for name in sets}
    print(pd.DataFrame.from_dict(rows, orient="index").to_string())
    if options.out:
        joined = LabelledCandidates.concat([labelled(name) for name in sets])
        joined.save(options.out)
        print(f"{options.out}: {len(joined)} candidates, {joined.is_peak.sum()} peaks")
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
