"""Run the peak finder on simulated scenes and label its candidates by the truth."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from napari_xtal.errors import ParameterError
from napari_xtal.peaks import spots as m
from napari_xtal.peaks.find import n_processors
from napari_xtal.peaks.finder import PeakFinder
from napari_xtal.peaks.training.candidates import LabelledCandidates
from napari_xtal.peaks.training.scenes import TrainingScene, training_scene
from napari_xtal.peaks.verify.patches import extract_patches

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray

#: Lowest significance of the candidates; well below any cut that is used.
SNR_MIN = 4.0
#: A candidate within this distance of a true spot hits it [px], wide spots more [sigma].
HIT, HIT_SIGMA = 2.0, 0.7
#: Candidates up to this distance of a true spot are neither [px], [sigma].
NEAR, NEAR_SIGMA = 6.0, 4.0
#: Spots fainter than this are no truth to be learnt, and no error to be punished.
FAINT = 4.0
#: Parts of a spot that is as strong as this, and that far away [sigma], are wrong reports.
STRONG, WING_SIGMA = 10.0, 2.5
#: Missed spots of at least this true significance are added if a search down to the second
#: one sees them, at up to the third distance [px].
UNSEEN, LOWEST_SNR, JITTER = 5.0, 1.0, 0.7
#: Most candidates of a scene: peaks, and others.
MOST_PEAKS, MOST_OTHERS = 80, 120
#: Share of the wrong candidates of odd shape and low significance that is kept.
ODD_SHARE = 0.3

PEAK, OTHER, NEITHER = 1, 0, -1


def label_candidates(
    values: NDArray[np.float32], scene: TrainingScene
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Label candidates by the truth of a scene.

    Parameters
    ----------
    values : (n, N_COLUMNS) ndarray
        Candidates, columns of `napari_xtal.peaks.spots`.
    scene : TrainingScene

    Returns
    -------
    labels : (n,) ndarray of int8
        1: hits a spot; 0: no spot is near, or a piece of the wing of a strong one that
        another candidate hits; -1: neither, to be left out.
    seen : (n_spots,) ndarray of bool
        Spots near which there is any candidate.
    """
    truth = scene.peaks
    labels = np.full(len(values), OTHER, np.int8)
    seen = np.zeros(len(truth), bool)
    if not len(truth) or not len(values):
        return labels, seen
    snr, length = truth["snr"].to_numpy(float), truth["length"].to_numpy(float)
    reach = np.maximum(NEAR, NEAR_SIGMA * length)
    where = values[:, [m.ROW, m.COL]].astype(np.float64)
    spots = truth[["row", "col"]].to_numpy(float)
    best = np.full(len(truth), -1)
    for k, near in enumerate(cKDTree(where).query_ball_point(spots, reach)):
        if not near:
            continue
        rows = np.array(near)
        distance = np.hypot(*(where[rows] - spots[k]).T)
        hits = rows[distance <= max(HIT, HIT_SIGMA * length[k])]
        seen[k] = len(hits) > 0
        labels[rows] = np.where(labels[rows] == PEAK, PEAK, NEITHER)
        if len(hits) and snr[k] >= FAINT:
            best[k] = hits[np.argmax(values[hits, m.SNR])]
            labels[best[k]] = PEAK
    _wings_are_wrong(labels, values, best, np.where(snr >= STRONG, length, np.inf))
    return labels, seen


def _wings_are_wrong(
    labels: NDArray[np.int8],
    values: NDArray[np.float32],
    best: NDArray[np.intp],
    length: NDArray[np.float64],
) -> None:
    """Label parts of a strong spot that another candidate hits, in place."""
    parent = values[:, m.PARENT].astype(int)
    width = np.full(len(values), np.inf)
    width[best[best >= 0]] = length[best >= 0]
    parts = np.flatnonzero((labels == NEITHER) & (parent >= 0))
    step = values[parts][:, [m.ROW, m.COL]] - values[parent[parts]][:, [m.ROW, m.COL]]
    far = np.hypot(*step.T) > np.maximum(HIT + 1, WING_SIGMA * width[parent[parts]])
    labels[parts[far]] = OTHER


def scene_candidates(seed: int, index: int) -> LabelledCandidates:
    """Simulate one scene and return its labelled candidates (at most `MOST_PEAKS` and others)."""
    scene = training_scene(seed, index)
    rng = np.random.default_rng([seed, index, 1])
    finder = PeakFinder(scene.good, scene.radius, scene.panels)
    values = finder.candidates(scene.image, snr_min=SNR_MIN).values
    labels, seen = label_candidates(values, scene)
    peaks = _some(np.flatnonzero(labels == PEAK), MOST_PEAKS, rng)
    # Odd shapes, whose significance the finder has lowered below its cut, are rarely asked for.
    asked = (values[:, m.SNR] >= SNR_MIN) | (rng.random(len(values)) < ODD_SHARE)
    others = _some(np.flatnonzero((labels == OTHER) & asked), MOST_OTHERS, rng)
    missed = scene.peaks[~seen & (scene.peaks["snr"].to_numpy(float) >= UNSEEN)]
    missed = missed.iloc[_some(np.arange(len(missed)), MOST_PEAKS // 5, rng)]
    by_hand, faint = _below_the_cut(finder, scene, missed, rng)
    rows = np.concatenate([peaks, others])
    where = np.concatenate([values[rows][:, [m.ROW, m.COL]].astype(float), by_hand])
    where = np.clip(where, 0, np.array(scene.image.shape) - 1)
    n = len(where)
    is_peak = np.ones(n, bool)
    is_peak[len(peaks) : len(rows)] = False
    return LabelledCandidates(
        patches=extract_patches(scene.image, where[:, 0], where[:, 1], scene.good),
        is_peak=is_peak,
        snr=np.concatenate([values[rows, m.SNR], faint]).astype("f4"),
        source=np.full(n, f"simulated-{scene.family}", dtype="U32"),
        group=np.full(n, index, np.int64),
        weight=np.concatenate([np.ones(len(rows), "f4"), np.full(len(faint), 0.5, "f4")]),
    )


def _below_the_cut(
    finder: PeakFinder, scene: TrainingScene, missed: pd.DataFrame, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return positions, a little off, and SNR of spots that only a search without a cut sees.

    A person would add them by hand.
    """
    values = finder.candidates(scene.image, snr_min=LOWEST_SNR).values if len(missed) else None
    if values is None or not len(values):
        return np.zeros((0, 2)), np.zeros(0, np.float32)
    spots = missed[["row", "col"]].to_numpy(float)
    distance, nearest = cKDTree(values[:, [m.ROW, m.COL]]).query(spots)
    found = distance <= HIT
    shift = rng.uniform(-JITTER, JITTER, spots.shape)
    return (spots + shift)[found], values[nearest[found], m.SNR]


def _some(rows: NDArray[np.intp], most: int, rng: np.random.Generator) -> NDArray[np.intp]:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def simulated_candidates(
    n_scenes: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> LabelledCandidates:
    """Return labelled candidates of many small simulated scenes.

    Parameters
    ----------
    n_scenes : int
        Number of scenes, about 90 candidates each.
    seed : int
        Scene k of a seed is always the same, however many are made.
    progress : callable, optional
        Called with (done, total) after each scene, from this thread.
    cancel : callable, optional
        Asked after each scene; True stops and returns what is there.

    Returns
    -------
    LabelledCandidates
        In order of scenes; ``group`` is the number of the scene.

    Raises
    ------
    ParameterError
        When `n_scenes` is below 1 or `seed` negative.
    """
    if n_scenes < 1:
        raise ParameterError(f"n_scenes must be 1 or more, got {n_scenes}")
    if seed < 0:
        raise ParameterError(f"seed must be 0 or more, got {seed}")
    parts: list[LabelledCandidates] = []
    pool = ThreadPoolExecutor(n_processors())
    try:
        for done, part in enumerate(pool.map(scene_candidates, [seed] * n_scenes, range(n_scenes))):
            parts.append(part)
            if progress is not None:
                progress(done + 1, n_scenes)
            if cancel is not None and cancel():
                break
    finally:
        pool.shutdown(cancel_futures=True)
    joined = LabelledCandidates.concat(parts)
    group = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return LabelledCandidates(
        joined.patches, joined.is_peak, joined.snr, joined.source, group, joined.weight
    )
