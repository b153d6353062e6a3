"""Detectors for single particles: two halves or four quadrants around a hole for the beam."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_xtal.errors import ParameterError
from napari_xtal.simulate.detectors import Detector, Panel

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Names that `particle_detector` knows.
PARTICLE_DETECTORS = ("halves", "quadrants")
#: Least number of pixels along a side; smaller frames hold no rings.
_LEAST_PIXELS = 32


def particle_detector(
    name: str = "halves",
    *,
    n_pixels: int | None = None,
    gap: int | None = None,
    hole: int | None = None,
    centre: tuple[float, float] = (0.0, 0.0),
    pixel_size_m: float | None = None,
    distance_m: float | None = None,
    photon_energy_ev: float = 1600.0,
    dead_fraction: float = 5e-4,
    integrating: bool = False,
    gain: float = 30.0,
    read_noise: float = 6.0,
    common_mode: float = 2.0,
) -> Detector:
    """Return a small detector for single particles in a soft X-ray beam.

    Parameters
    ----------
    name : {"halves", "quadrants"}
        ``halves``: 256 x 256 pixels of 300 um at 0.74 m, an upper and a lower half with 5 rows
        between and a square hole for the beam (a pnCCD, binned by 4). ``quadrants``: 224 x 224
        pixels of 400 um at 0.8 m, four quadrants shifted around the hole like a pinwheel.
    n_pixels : int, optional
        Side of the frame [px].
    gap : int, optional
        Pixels between the panels.
    hole : int, optional
        Side of the square without pixels around the beam [px]; 0 for none. The quadrants'
        hole comes from their shift and is at least `gap`.
    centre : (float, float)
        Where the beam meets the detector, (row, col) in pixels from the middle of the frame.
        The hole stays in the middle: it belongs to the detector.
    pixel_size_m, distance_m, photon_energy_ev : float, optional
        Geometry and beam.
    dead_fraction : float
        Share of dead (masked) pixels.
    integrating : bool
        Whether frames are ADU with noise (float32) instead of photon counts (uint16).
    gain, read_noise, common_mode : float
        ADU per photon, noise per pixel and offset per panel [ADU]; only of an integrating one.

    Returns
    -------
    Detector

    Raises
    ------
    ParameterError
        When there is no such detector or a value is out of range.
    """
    if name not in PARTICLE_DETECTORS:
        raise ParameterError(
            f"detector '{name}' is unknown; choose one of {', '.join(PARTICLE_DETECTORS)}"
        )
    halves = name == "halves"
    side = (256 if halves else 224) if n_pixels is None else n_pixels
    gap = (5 if halves else 6) if gap is None else gap
    hole = (18 if halves else 16) if hole is None else hole
    pixel = (300e-6 if halves else 400e-6) if pixel_size_m is None else pixel_size_m
    distance = (0.74 if halves else 0.8) if distance_m is None else distance_m
    _check_size(side, gap, hole, centre)
    for label, value in (
        ("pixel_size_m", pixel), ("distance_m", distance), ("photon_energy_ev", photon_energy_ev),
        ("gain", gain),
    ):  # fmt: skip
        if not (np.isfinite(value) and value > 0):
            raise ParameterError(f"{label} must be positive, got {value}")
    for label, value in (("read_noise", read_noise), ("common_mode", common_mode)):
        if not (np.isfinite(value) and value >= 0):
            raise ParameterError(f"{label} must be 0 ADU or more, got {value}")
    if not 0 <= dead_fraction < 0.5:
        raise ParameterError(f"dead_fraction must lie in 0 to 0.5, got {dead_fraction}")
    beam = ((side - 1) / 2 + centre[0], (side - 1) / 2 + centre[1])
    areas = _halves(side, gap, hole) if halves else _quadrants(side, gap, hole)
    return Detector(
        name=f"{name}-{'adu' if integrating else 'counts'}",
        shape=(side, side),
        dtype=np.dtype("float32" if integrating else "uint16"),
        panels=tuple(
            Panel(rows, cols, (cols[0] - beam[1], rows[0] - beam[0])) for rows, cols in areas
        ),
        dead=_dead(side, dead_fraction, name),
        beam_stop=0.0,
        pixel_size_m=pixel,
        distance_m=distance,
        photon_energy_ev=photon_energy_ev,
        gain=gain if integrating else 1.0,
        read_noise=read_noise if integrating else 0.0,
        common_mode=common_mode if integrating else 0.0,
    )


def _check_size(side: int, gap: int, hole: int, centre: tuple[float, float]) -> None:
    if side < _LEAST_PIXELS:
        raise ParameterError(f"n_pixels must be at least {_LEAST_PIXELS}, got {side}")
    for label, value in (("gap", gap), ("hole", hole)):
        if not 0 <= value <= side // 3:
            raise ParameterError(
                f"{label} must lie in 0 to {side // 3} (a third of the frame), got {value}"
            )
    if not max(abs(offset) for offset in centre) < side / 2:
        raise ParameterError(
            f"centre must be (row, col) in px from the middle, inside the frame, got {centre}"
        )


_Area = tuple[tuple[int, int], tuple[int, int]]


def _halves(side: int, gap: int, hole: int) -> list[_Area]:
    """Two halves with a notch each: left, middle and right part of both."""
    top, bottom = (side - gap) // 2, (side - gap) // 2 + gap
    first, last = (side - hole) // 2, (side - hole) // 2 + hole
    areas: list[_Area] = []
    columns = [(0, first), (first, last), (last, side)] if hole > gap else [(0, side)]
    for cols in columns:
        notched = cols == (first, last) and hole > gap
        areas.append(((0, first if notched else top), cols))
        areas.append(((last if notched else bottom, side), cols))
    return areas


def _quadrants(side: int, gap: int, hole: int) -> list[_Area]:
    """Four quadrants, each shifted along its neighbour so that a square hole opens."""
    shift = max(hole - gap, 0) // 2
    low, high = (side - gap) // 2, (side - gap) // 2 + gap
    return [
        ((0, low - shift), (0, low + shift)),
        ((0, low + shift), (high + shift, side)),
        ((high + shift, side), (high - shift, side)),
        ((high - shift, side), (0, low - shift)),
    ]


def _dead(side: int, fraction: float, name: str) -> NDArray[np.bool_]:
    # The same piece of hardware in each run: its dead pixels do not change.
    rng = np.random.default_rng([side, *name.encode()])
    dead = np.zeros((side, side), dtype=bool)
    dead.reshape(-1)[rng.choice(dead.size, round(fraction * dead.size), replace=False)] = True
    return dead
