"""What a single-particle frame holds besides the particle: stray light, fluorescence, water."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_xtal.simulate.detectors import Detector

#: Photons per pixel of 300 um at level 1: fluorescence and gas everywhere, stray light beside the
#: beam, its streaks along the slits, and diffuse scattering of water. Together some 700
#: photons in a frame of 256 x 256, as in frames of a soft X-ray run without a particle.
_FLAT, _FLARE, _STREAK, _WATER = 0.004, 0.8, 0.15, 0.004
_REFERENCE_PIXEL = 300e-6
#: Decay lengths on a detector at 0.74 m: flare, streak along and across, water [m].
_FLARE_LENGTH, _STREAK_LENGTH, _STREAK_WIDTH, _WATER_LENGTH = 2.4e-3, 15e-3, 0.4e-3, 14e-3
_REFERENCE_DISTANCE = 0.74
#: Relative shot-to-shot spread (standard deviation of the logarithm).
_FLARE_SPREAD, _STREAK_SPREAD, _WATER_SPREAD = 0.35, 0.5, 0.6
#: Mean water level of a frame with a particle and of one with water.
_WATER_LEVEL = {"single": 0.4, "multiple": 0.5, "water": 1.0}


@dataclass(frozen=True, eq=False)
class InstrumentBackground:
    """Expected background of a run on the good pixels, in parts that vary from shot to shot.

    Attributes
    ----------
    flat, flare, streak, water : (n,) ndarray of float32
        Photons per good pixel in a mean pulse.
    """

    flat: NDArray[np.float32]
    flare: NDArray[np.float32]
    streak: NDArray[np.float32]
    water: NDArray[np.float32]

    def draw(self, label: str, pulse: float, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return the expected photons (n,) under a scene of the class `label`.

        Parameters
        ----------
        label : str
            Water comes with more diffuse scattering than a particle.
        pulse : float
            Energy of the pulse relative to the mean.
        rng : numpy Generator
        """
        flare = rng.lognormal(0, _FLARE_SPREAD)
        streak = rng.lognormal(0, _STREAK_SPREAD)
        water = _WATER_LEVEL[label] * rng.lognormal(0, _WATER_SPREAD)
        return np.asarray(
            np.float32(pulse)
            * (
                self.flat
                + np.float32(flare) * self.flare
                + np.float32(streak) * self.streak
                + np.float32(water) * self.water
            )
        )


def instrument_background(
    detector: Detector, level: float, rng: np.random.Generator
) -> InstrumentBackground:
    """Return the background of a run.

    Parameters
    ----------
    detector : Detector
    level : float
        Scale of all parts; 1 gives some 700 photons in a frame of 256 x 256.
    rng : numpy Generator
        Draws how the slits stand in this run.
    """
    x, y = (values[detector.good] for values in detector.positions)
    scale = detector.pixel_size_m * _REFERENCE_DISTANCE / detector.distance_m
    x, y = x * np.float32(scale), y * np.float32(scale)
    r = np.hypot(x, y)
    photons = np.float32(level * (scale / _REFERENCE_PIXEL) ** 2)
    streak = np.zeros_like(r)
    for blade in (0.0, np.pi / 2):
        angle = blade + rng.normal(0, 0.02)
        across = np.abs(x * np.float32(np.sin(angle)) - y * np.float32(np.cos(angle)))
        streak += np.float32(rng.uniform(0.3, 1)) * np.exp(-across / np.float32(_STREAK_WIDTH))
    streak *= np.exp(-r / np.float32(_STREAK_LENGTH))
    return InstrumentBackground(
        flat=np.full_like(r, photons * np.float32(_FLAT)),
        flare=photons * np.float32(_FLARE) * np.exp(-r / np.float32(_FLARE_LENGTH)),
        streak=photons * np.float32(_STREAK) * streak,
        water=(photons * _WATER / (1 + (r / _WATER_LENGTH) ** 2)).astype(np.float32),
    )
