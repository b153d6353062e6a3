"""Single frames with controlled truth: an SNR ladder, blanks, and difficult scenes.

These frames measure a peak finder: peaks have a known matched-filter SNR, wherever they
lie, so recall can be stated as a property of the finder and not of the detector.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.ndimage import minimum_filter
from scipy.spatial import cKDTree

from napari_xtal.errors import ParameterError
from napari_xtal.simulate.background import (
    add_ice_rings,
    add_jet_streak,
    add_tracks,
    half_shadow,
    solvent,
)
from napari_xtal.simulate.detectors import Detector, digitise, expose, make_detector
from napari_xtal.simulate.spots import add_spots, pixel_variance, spot_shapes, unit_snr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Kinds of frames that `ladder_frame` makes.
KINDS = ("ctrl", "blank", "real", "sharp", "hard")
#: Signal-to-noise ratios of the ladder.
SNR_LEVELS = (4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 12.0, 15.0, 20.0, 30.0, 50.0)
#: Smallest distance of two peaks, and of a peak from mask and panel edges [px].
SEPARATION, MARGIN = 12.0, 5
#: Unmasked hot pixels per frame.
N_HOT = 22
#: Error of the reported beam centre in hard scenes [px].
CENTRE_ERROR = 15.0


@dataclass(frozen=True)
class SceneFrame:
    """A simulated frame with its truth.

    Attributes
    ----------
    image : (ss, fs) ndarray
        Frame as the detector stores it; gaps and dead pixels hold the type's largest value
        (photon counts) or 0 (float).
    good : (ss, fs) ndarray of bool
        Usable pixels.
    radius : (ss, fs) ndarray of float32
        Distance from the beam centre *as reported* [px] (15 px off in hard scenes).
    panels : (ss, fs) ndarray of int16
        Panel number of each pixel, -1 in gaps.
    peaks : DataFrame
        row, col (integer = pixel centre), snr (matched filter), sigma (across the radius,
        px), counts (expected signal in the units of the image).
    hot_pixels : (n, 2) ndarray of int64
        Row and column of the unmasked hot pixels.
    kind : str
        One of `KINDS`.
    background : (ss, fs) ndarray of float32
        Expected frame without peaks, hot pixels and tracks, in the units of the image.
    """

    image: NDArray[Any]
    good: NDArray[np.bool_]
    radius: NDArray[np.float32]
    panels: NDArray[np.int16]
    peaks: pd.DataFrame
    hot_pixels: NDArray[np.int64]
    kind: str
    background: NDArray[np.float32]


def ladder_frame(
    detector: str | Detector,
    kind: str = "ctrl",
    seed: int = 0,
    snr_levels: Sequence[float] = SNR_LEVELS,
    n_peaks: int = 100,
) -> SceneFrame:
    """Simulate one frame whose peaks have given signal-to-noise ratios.

    Parameters
    ----------
    detector : str or Detector
        Name for `make_detector`, or a detector.
    kind : {"ctrl", "blank", "real", "sharp", "hard"}
        ``ctrl``: SNR ladder on a smooth background, sigma 0.6 to 1.1 px. ``blank``: no
        peaks. ``real``: exponentially distributed intensities. ``sharp``: ladder with sigma
        0.25 to 0.55 px. ``hard``: ladder with textured ice rings, particle tracks, a jet
        streak, a half shadow, and a beam centre reported 15 px off.
    seed : int
        The same arguments give the same frame.
    snr_levels : sequence of float
        SNR levels, each used for an equal share of the peaks.
    n_peaks : int
        Number of peaks.

    Returns
    -------
    SceneFrame

    Raises
    ------
    ParameterError
        For an unknown kind, SNRs that are not positive, or more peaks than fit.
    """
    if isinstance(detector, str):
        detector = make_detector(detector)
    if kind not in KINDS:
        raise ParameterError(f"kind '{kind}' is unknown; choose one of {', '.join(KINDS)}")
    levels = np.asarray(snr_levels, dtype=float)
    if levels.size == 0 or not (np.isfinite(levels) & (levels > 0)).all():
        raise ParameterError(f"snr_levels must be positive numbers, got {snr_levels}")
    if n_peaks < 0:
        raise ParameterError(f"n_peaks must be 0 or more, got {n_peaks}")
    if seed < 0:
        raise ParameterError(f"seed must be 0 or more, got {seed}")
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    n = 0 if kind == "blank" else n_peaks

    photons = solvent(detector) * np.float32(rng.uniform(0.85, 1.15))
    if kind == "hard":
        add_ice_rings(photons, detector, rng)
        add_jet_streak(photons, detector, rng)
        photons *= half_shadow(detector, rng)

    row, col = random_positions(detector, n, rng)
    sigma = rng.uniform(0.25, 0.55, n) if kind == "sharp" else rng.uniform(0.6, 1.1, n)
    # Axis ratio 1 to 1.4; the stretch is what has to be added in squares.
    stretch = sigma * np.sqrt(rng.uniform(1.0, 1.4, n) ** 2 - 1)
    shapes = spot_shapes(detector, row, col, sigma, stretch)
    per_photon = unit_snr(detector, shapes, photons)
    if kind == "real":
        signal = rng.exponential(60.0, n)
    else:
        signal = rng.permutation(np.resize(levels, n)) / per_photon

    expected = photons.copy()
    add_spots(expected, shapes, signal)
    adu = expose(detector, expected, rng)
    if kind == "hard":
        add_tracks(adu, detector, rng, n=int(rng.integers(6, 16)))
    hot = add_hot_pixels(adu, detector, photons, np.column_stack([row, col]), rng, N_HOT)
    return SceneFrame(
        image=digitise(detector, adu),
        good=detector.good,
        radius=_reported_radius(detector, kind, rng),
        panels=detector.panel_map,
        peaks=pd.DataFrame(
            {
                "row": row,
                "col": col,
                "snr": signal * per_photon,
                "sigma": sigma,
                "counts": signal * shapes.recorded * detector.gain,
            }
        ),
        hot_pixels=hot,
        kind=kind,
        background=photons * np.float32(detector.gain),
    )


def _reported_radius(
    detector: Detector, kind: str, rng: np.random.Generator
) -> NDArray[np.float32]:
    if kind != "hard":
        return detector.radius
    angle = rng.uniform(0, 2 * np.pi)
    x, y = detector.positions
    return np.hypot(
        x - np.float32(CENTRE_ERROR * np.cos(angle)), y - np.float32(CENTRE_ERROR * np.sin(angle))
    )


@lru_cache(maxsize=4)
def free_pixels(detector: Detector, margin: int = MARGIN) -> NDArray[np.bool_]:
    """Pixels at least `margin` px from every masked pixel and panel edge (the frame's too)."""
    clear = minimum_filter(detector.good, size=2 * margin + 1, mode="constant", cval=0)
    for panel in detector.panels:
        # Panels that touch in the slab have no gap between them that the mask would show.
        block = clear[slice(*panel.rows), slice(*panel.cols)]
        block[:margin], block[-margin:] = False, False
        block[:, :margin], block[:, -margin:] = False, False
    clear.setflags(write=False)
    return clear


@lru_cache(maxsize=4)
def _free_indices(detector: Detector) -> NDArray[np.int64]:
    return np.flatnonzero(free_pixels(detector))


def random_positions(
    detector: Detector, n: int, rng: np.random.Generator, separation: float = SEPARATION
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw sub-pixel positions that keep their distance from each other and from edges.

    Raises
    ------
    ParameterError
        When so many do not fit.
    """
    free = _free_indices(detector)
    chosen = np.empty((0, 2))
    for _ in range(12):
        if len(chosen) >= n:
            break
        index = rng.choice(free, 2 * n + 8)
        pixels = np.column_stack(np.divmod(index, detector.shape[1]))
        chosen = thin(
            np.vstack([chosen, pixels + rng.uniform(-0.5, 0.5, pixels.shape)]), separation
        )
    if len(chosen) < n:
        raise ParameterError(
            f"n_peaks: {n} peaks at least {separation:g} px apart do not fit on detector "
            f"'{detector.name}'; ask for fewer than {len(chosen)}"
        )
    return chosen[:n, 0], chosen[:n, 1]


def thin(points: NDArray[np.float64], separation: float) -> NDArray[np.float64]:
    """Drop points closer than `separation` to an earlier one that stays."""
    return points[kept_after_thinning(points, separation)]


def kept_after_thinning(points: NDArray[np.float64], separation: float) -> NDArray[np.bool_]:
    """Return which points `thin` keeps."""
    keep = np.ones(len(points), dtype=bool)
    if len(points) < 2:
        return keep
    pairs = cKDTree(points).query_pairs(separation, output_type="ndarray")
    # Ascending order of the later point: whether the earlier one stays is settled by then.
    for first, second in pairs[np.argsort(pairs[:, 1], kind="stable")]:
        if keep[first]:
            keep[second] = False
    return keep


def add_hot_pixels(
    adu: NDArray[np.float32],
    detector: Detector,
    photons: NDArray[np.float32],
    peaks: NDArray[np.float64],
    rng: np.random.Generator,
    n: int,
) -> NDArray[np.int64]:
    """Make `n` single good pixels too bright, in place, away from peaks.

    Values are 5 to 3000 standard deviations above the background, log-uniform.

    Returns
    -------
    (n, 2) ndarray of int64
        Row and column.
    """
    good = np.flatnonzero(detector.good)
    index = rng.choice(good, 4 * n, replace=False)
    spots = np.column_stack(np.divmod(index, detector.shape[1])).astype(float)
    keep = kept_after_thinning(np.vstack([peaks, spots]), SEPARATION)[len(peaks) :]
    index = index[keep][:n]
    base = photons.reshape(-1)[index]
    excess = np.exp(rng.uniform(np.log(5), np.log(3000), len(index)))
    values = (base + excess * np.sqrt(pixel_variance(detector, base))) * detector.gain
    adu.reshape(-1)[index] = np.ceil(values)
    return np.column_stack(np.divmod(index, detector.shape[1]))
