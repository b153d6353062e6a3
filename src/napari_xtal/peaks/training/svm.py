"""Train the support vector machine that is shipped."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from napari_xtal.peaks import spots as m
from napari_xtal.peaks.finder import PeakFinder
from napari_xtal.peaks.training.candidates import LabelledCandidates
from napari_xtal.peaks.training.labelling import OTHER, SNR_MIN, label_candidates
from napari_xtal.peaks.training.scenes import training_scene
from napari_xtal.peaks.verify.features import candidate_features
from napari_xtal.peaks.verify.patches import extract_patches

if TYPE_CHECKING:
    from napari_xtal.peaks.verify.svm import SvmVerifier

#: Most candidates of one source: none may outweigh the others.
MOST_OF_SOURCE = 4000
#: Simulated scenes whose noise is added, lowest significance and most rows of one scene.
NOISE_SCENES, NOISE_SNR, NOISE_OF_SCENE = 150, 1.0, 60
#: How much each of them counts: of a real frame's faint candidates nearly all are noise.
NOISE_WEIGHT = 16.0
#: Chosen by leaving out one source after the other: folds of frames, which show the same
#: detectors on both sides, ask for 100 times more and do worse on an unseen one.
GRID = {"C": [0.001], "pca": False}
#: The scenes for the noise come from another part of the seed's sequence.
_FIRST_NOISE_SCENE = 1_000_000
_NOISE = "simulated-noise"


def noise_candidates(n_scenes: int, seed: int) -> LabelledCandidates:
    """Return candidates of simulated scenes that are noise, too faint for the finder's cut.

    Where a person lowers the cut these are nearly all there is; without them a model learns
    the shape of what looks like a peak, and not that a peak must be significant.
    """
    parts = []
    for index in range(_FIRST_NOISE_SCENE, _FIRST_NOISE_SCENE + n_scenes):
        scene = training_scene(seed, index)
        finder = PeakFinder(scene.good, scene.radius, scene.panels)
        values = finder.candidates(scene.image, snr_min=NOISE_SNR).values
        labels, _ = label_candidates(values, scene)
        rows = np.flatnonzero((labels == OTHER) & (values[:, m.SNR] < SNR_MIN))
        if len(rows) > NOISE_OF_SCENE:
            rng = np.random.default_rng([seed, index])
            rows = np.sort(rng.choice(rows, NOISE_OF_SCENE, replace=False))
        n = len(rows)
        parts.append(
            LabelledCandidates(
                patches=extract_patches(
                    scene.image, values[rows, m.ROW], values[rows, m.COL], scene.good
                ),
                is_peak=np.zeros(n, bool),
                snr=values[rows, m.SNR].astype(np.float32),
                source=np.full(n, _NOISE, dtype="U32"),
                group=np.full(n, index, np.int64),
                weight=np.ones(n, np.float32),
            )
        )
    return LabelledCandidates.concat(parts)


def train_default_svm(
    candidates: LabelledCandidates,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    *,
    noise_scenes: int = NOISE_SCENES,
) -> SvmVerifier:
    """Train the linear machine that is shipped: small, fast, and steady on unseen detectors.

    Parameters
    ----------
    candidates : LabelledCandidates
        Simulated and real candidates; at most `MOST_OF_SOURCE` of a source are used.
    seed : int
        Seed of everything.
    progress, cancel
        As for `fit_svm`.
    noise_scenes : int
        Simulated scenes whose noise is added (`noise_candidates`).

    Returns
    -------
    SvmVerifier
        Its metadata name the sources and the number of candidates of each.
    """
    from napari_xtal.peaks.verify.svm import fit_svm

    if noise_scenes:
        candidates = LabelledCandidates.concat([candidates, noise_candidates(noise_scenes, seed)])
    rng = np.random.default_rng(seed)
    kept = []
    for source in np.unique(candidates.source):
        rows = np.flatnonzero(candidates.source == source)
        if len(rows) > MOST_OF_SOURCE:
            rows = np.sort(rng.choice(rows, MOST_OF_SOURCE, replace=False))
        kept.append(rows)
    used = candidates.take(np.concatenate(kept))
    model = fit_svm(
        candidate_features(used.patches), used.is_peak, used.group, grid=GRID,
        weight=np.where(used.source == _NOISE, NOISE_WEIGHT, 1.0),
        seed=seed, kernel="linear", downsample_ratio=None, progress=progress, cancel=cancel,
    )  # fmt: skip
    names, counts = np.unique(used.source, return_counts=True)
    model.metadata["training"]["sources"] = dict(zip(names.tolist(), counts.tolist(), strict=True))
    return model
