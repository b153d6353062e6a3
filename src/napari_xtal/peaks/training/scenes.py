"""Small random scenes with known spots, from a wide range of detectors and conditions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.peaks.training.layouts import Camera, background, log_uniform, random_camera
from napari_xtal.peaks.training.spots import draw, random_spots
from napari_xtal.peaks.training.structures import add_bad_pixels, add_to_background

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

#: Share of scenes without any Bragg spot: blanks, and powder only.
BLANK_SHARE = 0.15
#: Share of large scenes with next to nothing on them: weak candidates are mostly noise there,
#: as on the wide empty parts of real frames.
QUIET_SHARE, QUIET_STRUCTURES, QUIET_SPOTS = 0.25, 0.3, 12


@dataclass(frozen=True)
class TrainingScene:
    """A simulated frame with its truth.

    Attributes
    ----------
    image : (ss, fs) ndarray
        Frame as the detector stores it: uint16, int32 or float32.
    good : (ss, fs) ndarray of bool
        Usable pixels as far as anybody told.
    radius : (ss, fs) ndarray or None
        Distance from the beam centre as reported [px], off by some pixels in some scenes.
    panels : (ss, fs) ndarray or None
        Panel numbers, if anybody told.
    peaks : DataFrame
        row, col, snr (`training.spots.significance`), photons, sigma and length [px].
    family : str
        Kind of the detector.
    """

    image: NDArray[Any]
    good: NDArray[np.bool_]
    radius: NDArray[np.float32] | None
    panels: NDArray[np.int16] | None
    peaks: pd.DataFrame
    family: str


def training_scene(seed: int, index: int = 0) -> TrainingScene:
    """Simulate one scene.

    Parameters
    ----------
    seed, index : int
        The same numbers give the same scene.

    Returns
    -------
    TrainingScene
    """
    rng = np.random.default_rng([seed, index])
    quiet = rng.random() < QUIET_SHARE
    camera = random_camera(rng, sides=(800, 1200) if quiet else (380, 640))
    under = background(camera, rng)
    if not quiet or rng.random() < QUIET_STRUCTURES:
        add_to_background(under, camera, rng)
    expected = under.copy()
    spots = random_spots(camera, rng)
    if quiet:
        spots = spots.keep(rng.random(len(spots.row)) < QUIET_SPOTS / max(len(spots.row), 1))
    if rng.random() < BLANK_SHARE:
        spots = spots.keep(np.zeros(len(spots.row), bool))
    peaks = draw(expected, under, camera, spots, rng)
    adu = camera.record(expected, rng)
    add_bad_pixels(adu, camera, under, peaks[["row", "col"]].to_numpy(float), rng)
    _saturate(adu, camera, rng)
    detector = camera.detector
    return TrainingScene(
        image=camera.store(adu, rng),
        good=detector.good,
        radius=_reported_radius(camera, rng),
        panels=detector.panel_map if rng.random() < 0.5 else None,
        peaks=peaks,
        family=camera.family,
    )


def _saturate(adu: NDArray[np.float32], camera: Camera, rng: np.random.Generator) -> None:
    """Cut the highest values of some scenes off, in place."""
    if rng.random() < 0.15:
        unit = camera.noise * camera.detector.gain
        middle = float(np.median(adu))
        np.minimum(adu, np.float32(middle + unit * log_uniform(rng, 30, 3000)), out=adu)


def _reported_radius(camera: Camera, rng: np.random.Generator) -> NDArray[np.float32] | None:
    if rng.random() < 0.25:
        return None
    if rng.random() < 0.7:
        return camera.detector.radius
    x, y = camera.detector.positions
    dx, dy = rng.normal(0, 10, 2).astype(np.float32)
    return np.hypot(x - dx, y - dy)
