"""What lies under the spots: solvent scattering, shadows, ice rings, jet streak, tracks."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_xtal.simulate.detectors import Detector

#: 1/d of the strongest powder rings of hexagonal ice [1/nm].
ICE_INV_D = (2.564, 2.725, 2.907, 3.745, 4.444, 4.831, 5.219)
#: 1/d and width of the ring of liquid water [1/nm].
WATER_INV_D, WATER_WIDTH = 3.1, 0.45


@lru_cache(maxsize=4)
def solvent(detector: Detector, level: float = 1.0, water_ring: float = 1.0) -> NDArray[np.float32]:
    """Return the expected photons per pixel of air and solvent scattering.

    Parameters
    ----------
    detector : Detector
    level : float
        Overall scale; 1 gives about 7 photons near the beam and 0.3 at high resolution.
    water_ring : float
        Strength of the water ring, 0 for none.

    Returns
    -------
    (ss, fs) ndarray of float32, read-only
        Radial fall-off plus water ring, times the solid angle of the pixel.
    """
    q = detector.inv_d
    photons = 0.45 + 6.5 * np.exp(-q / np.float32(0.9))
    photons += (
        2.6
        * water_ring
        * np.exp(np.float32(-0.5) * ((q - WATER_INV_D) / np.float32(WATER_WIDTH)) ** 2)
    )
    photons *= np.float32(level) * solid_angle(detector)
    photons = photons.astype(np.float32)
    photons.setflags(write=False)
    return photons


def solid_angle(detector: Detector) -> NDArray[np.float32]:
    """Solid angle of each pixel relative to the one on the beam: cos^3 of 2 theta."""
    ratio = detector.radius * np.float32(detector.pixel_size_m / detector.distance_m)
    return ((1 + ratio * ratio) ** np.float32(-1.5)).astype(np.float32)


def half_shadow(detector: Detector, rng: np.random.Generator) -> NDArray[np.float32]:
    """Transmission of something that covers one side of the detector, with a soft edge."""
    angle = rng.uniform(0, 2 * np.pi)
    reach = float(detector.radius.max())
    edge = rng.uniform(0.1, 0.45) * reach
    x, y = detector.positions
    depth = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle)) - np.float32(edge)
    return _covered(depth, rng.uniform(0.3, 0.6), rng.uniform(1.0, 3.0))


def arm_shadow(detector: Detector, rng: np.random.Generator) -> NDArray[np.float32]:
    """Transmission of the arm that holds the beam stop: a bar from the beam outwards."""
    angle = rng.uniform(0, 2 * np.pi)
    x, y = detector.positions
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    width = 0.6 * detector.beam_stop
    depth = np.minimum(x * c + y * s, np.float32(width) - np.abs(y * c - x * s))
    return _covered(depth, rng.uniform(0.4, 0.7), 1.5)


def _covered(
    depth: NDArray[np.float32], transmission: float, softness: float
) -> NDArray[np.float32]:
    share = 0.5 * (1 + np.tanh(depth / np.float32(softness)))
    return (1 - np.float32(1 - transmission) * share).astype(np.float32)


def add_ice_rings(
    photons: NDArray[np.float32], detector: Detector, rng: np.random.Generator
) -> None:
    """Add powder rings of ice with texture, in place.

    The crystallites are few and have a preferred orientation: slow modulation along the
    ring times grains a few pixels long.
    """
    x, y = detector.positions
    for inv_d in rng.permutation(ICE_INV_D)[: rng.integers(3, len(ICE_INV_D) + 1)]:
        theta = np.arcsin(min(1.0, inv_d * detector.wavelength / 20))
        ring = np.tan(2 * theta) * detector.distance_m / detector.pixel_size_m
        width = rng.uniform(1.2, 3.0)
        at = np.nonzero(np.abs(detector.radius - np.float32(ring)) < 4 * width)
        if not len(at[0]):
            continue
        phi = np.arctan2(y[at], x[at])
        bins = max(16, int(2 * np.pi * ring / rng.uniform(4, 12)))
        grains = rng.gamma(1.5, 1 / 1.5, bins + 1)
        grains[-1] = grains[0]
        texture = np.interp((phi + np.pi) * (bins / (2 * np.pi)), np.arange(bins + 1), grains)
        texture *= 1 + 0.7 * np.cos(rng.integers(1, 4) * phi + rng.uniform(0, 2 * np.pi))
        profile = np.exp(-0.5 * ((detector.radius[at] - ring) / width) ** 2)
        photons[at] += (rng.uniform(0.8, 6.0) * texture * profile).astype(np.float32)


def add_jet_streak(
    photons: NDArray[np.float32], detector: Detector, rng: np.random.Generator
) -> None:
    """Add the streak of a liquid jet: a narrow line through the beam that fades out, in place."""
    angle = rng.normal(0, 0.1)  # the jet falls, so its streak is nearly horizontal
    x, y = detector.positions
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    width = rng.uniform(1.2, 2.5)
    across = np.abs(y * c - x * s)
    at = np.nonzero(across < 4 * width)
    along = np.abs(x[at] * c + y[at] * s)
    reach = 0.25 * float(detector.radius.max())
    height = rng.uniform(20, 60) * np.exp(-along / reach) * (0.8 + 0.2 * np.cos(along / 9.0))
    photons[at] += (height * np.exp(-0.5 * (across[at] / width) ** 2)).astype(np.float32)


def add_tracks(
    adu: NDArray[np.float32], detector: Detector, rng: np.random.Generator, n: int
) -> None:
    """Add tracks of charged particles to a frame: thin straight lines, in place."""
    ss, fs = detector.shape
    for _ in range(n):
        length = rng.uniform(4, 45)
        steps = np.arange(0, length, 0.5)
        angle = rng.uniform(0, 2 * np.pi)
        rows = np.rint(rng.uniform(0, ss) + steps * np.sin(angle)).astype(int)
        cols = np.rint(rng.uniform(0, fs) + steps * np.cos(angle)).astype(int)
        inside = (rows >= 0) & (rows < ss) & (cols >= 0) & (cols < fs)
        # Energy loss fluctuates along a track with a long tail (Landau): lognormal will do.
        deposit = rng.uniform(4, 30) * rng.lognormal(0, 0.5, len(steps)) * detector.gain
        np.add.at(adu, (rows[inside], cols[inside]), deposit[inside].astype(np.float32) / 2)
