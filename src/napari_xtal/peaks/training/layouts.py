"""Random detectors and beams: what the verifier may meet in any laboratory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from napari_xtal.simulate.detectors import Detector, Panel, expose

if TYPE_CHECKING:
    from numpy.typing import NDArray

Family = Literal["counter", "integrating", "ccd"]
#: How often each family of detectors is drawn.
FAMILIES: dict[Family, float] = {"counter": 0.45, "integrating": 0.3, "ccd": 0.25}


def log_uniform(rng: np.random.Generator, low: float, high: float, size: Any = None) -> Any:
    """Draw numbers whose logarithms are evenly distributed."""
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


@dataclass(frozen=True)
class Camera:
    """A detector with everything between the photons and the stored numbers.

    Attributes
    ----------
    family : {"counter", "integrating", "ccd"}
    detector : Detector
        Panels, mask, gain, read noise and common mode.
    level : float
        Typical background [photons per pixel].
    blur, halo : float
        Width of the point spread that acts after the photons are counted, so that it
        correlates their noise, and the share of its wide halo [px, 0 to 1].
    offset : float
        Added to every pixel [ADU].
    flat_error : float
        Spread of the pixels' gains.
    fixed_noise : float
        Spread of the pixels' own offsets [ADU].
    seams : bool
        Whether pixels beside panel borders are twice as large.
    marked : bool
        Whether unusable pixels hold a marker rather than a plausible number.
    """

    family: Family
    detector: Detector
    level: float
    blur: float = 0.0
    halo: float = 0.0
    offset: float = 0.0
    flat_error: float = 0.0
    fixed_noise: float = 0.0
    seams: bool = False
    marked: bool = True

    @property
    def noise(self) -> float:
        """Typical noise per pixel [photons], at least that of rare photons."""
        read = self.detector.read_noise / self.detector.gain
        return float(np.sqrt(self.level + read**2 + 0.05))

    def record(self, expected: NDArray[np.float32], rng: np.random.Generator) -> NDArray[Any]:
        """Draw the frame in ADU: photons, point spread, gain, noise, offsets."""
        detector = self.detector
        if self.seams:
            expected = expected * np.where(_seams(detector), np.float32(2), np.float32(1))
        if self.blur == 0:
            adu = expose(detector, expected, rng)
        else:
            photons = rng.poisson(expected).astype(np.float32)
            spread = gaussian_filter(photons, self.blur, truncate=3.0)
            if self.halo:
                spread *= np.float32(1 - self.halo)
                spread += np.float32(self.halo) * gaussian_filter(photons, 3 * self.blur + 1)
            adu = spread * np.float32(detector.gain)
            adu += np.float32(detector.read_noise) * rng.standard_normal(adu.shape, dtype="f4")
            offsets = rng.normal(0, detector.common_mode, len(detector.panels)).astype("f4")
            adu += np.append(offsets, np.float32(0))[detector.panel_map]
        if self.flat_error:
            adu *= 1 + np.float32(self.flat_error) * rng.standard_normal(adu.shape, dtype="f4")
        if self.fixed_noise:
            adu += np.float32(self.fixed_noise) * rng.standard_normal(adu.shape, dtype="f4")
        return adu + np.float32(self.offset)

    def store(self, adu: NDArray[np.float32], rng: np.random.Generator) -> NDArray[Any]:
        """Turn ADU into the stored type, saturated and with marked pixels."""
        dtype = self.detector.dtype
        if dtype.kind == "f":
            stored: NDArray[Any] = adu.astype(dtype)
            marker: float = np.nan if rng.random() < 0.5 else 0.0
        else:
            limits = np.iinfo(dtype)
            low = 0 if dtype.kind == "u" else -32768
            high = limits.max - 1 if dtype.itemsize == 2 else 1_048_575
            stored = np.clip(np.rint(adu), low, high).astype(dtype)
            marker = limits.max if dtype.kind == "u" else -1
        unusable = (self.detector.panel_map < 0) | self.detector.dead
        stored[unusable] = marker if self.marked else stored.dtype.type(0)
        return stored


def random_camera(rng: np.random.Generator, sides: tuple[int, int] = (380, 640)) -> Camera:
    """Draw a detector: its family, panels, noise, point spread and stored type.

    Parameters
    ----------
    rng : numpy Generator
    sides : (int, int)
        Shortest and longest side [px].
    """
    shape = (int(rng.integers(*sides)), int(rng.integers(*sides)))
    family: Family = rng.choice(list(FAMILIES), p=list(FAMILIES.values()))
    if family == "counter":
        detector = _random_detector(rng, shape, str(rng.choice(["uint16", "int32", "int32"])))
        return Camera(
            family,
            detector,
            level=log_uniform(rng, 0.005, 200),
            blur=0.0,
            flat_error=rng.choice([0.0, 0.0, 0.02]),
            seams=_panels_touch(detector) and rng.random() < 0.7,
            marked=bool(rng.random() < 0.8),
        )
    if family == "integrating":
        gain = log_uniform(rng, 0.5, 100)
        # From single photons far above the noise to none of them visible.
        noise = gain * log_uniform(rng, 0.1, 4)
        dtype = str(rng.choice(["float32", "float32", "int32"])) if gain > 5 else "float32"
        detector = _random_detector(
            rng, shape, dtype, gain=gain, read_noise=noise,
            common_mode=noise * rng.choice([0, 0.1, 0.5]),
        )  # fmt: skip
        return Camera(
            family,
            detector,
            level=log_uniform(rng, 0.01, 60),
            blur=rng.choice([0.0, rng.uniform(0.25, 0.5)]),
            offset=rng.choice([0.0, rng.uniform(-1000, 1000)]),
            flat_error=rng.choice([0.0, 0.03]),
            fixed_noise=noise * rng.choice([0.0, 0.5]),
            seams=_panels_touch(detector) and rng.random() < 0.7,
        )
    detector = _random_detector(
        rng, shape, "uint16", gain=log_uniform(rng, 0.3, 2), read_noise=rng.uniform(1, 6),
        tiled=False,
    )  # fmt: skip
    return Camera(
        family,
        detector,
        level=log_uniform(rng, 3, 4000),
        blur=rng.uniform(0.4, 1.4),
        halo=rng.choice([0.0, rng.uniform(0.02, 0.15)]),
        offset=rng.uniform(5, 60),
        flat_error=rng.choice([0.0, 0.01]),
    )


def _random_detector(
    rng: np.random.Generator, shape: tuple[int, int], dtype: str, tiled: bool = True,
    **noise: float,
) -> Detector:  # fmt: skip
    # The beam may also lie beside the frame: a module far from it sees straight rings.
    inside = rng.random() < 0.7
    centre = [rng.uniform(0.2, 0.8) if inside else rng.uniform(-1.0, 2.0) for _ in shape]
    row, col = centre[0] * shape[0], centre[1] * shape[1]
    panels = _random_panels(shape, (row, col), rng, tiled)
    dead = rng.random(shape) < log_uniform(rng, 1e-5, 2e-3)
    if rng.random() < 0.2:  # masked columns or rows
        dead[:, rng.integers(0, shape[1], 2)] = True
    return Detector(
        name="random",
        shape=shape,
        dtype=np.dtype(dtype),
        panels=panels,
        dead=dead,
        beam_stop=rng.uniform(6, 30),
        pixel_size_m=1e-4,
        distance_m=1e-4 * log_uniform(rng, 500, 4000),
        photon_energy_ev=12400.0,
        **noise,
    )


def _random_panels(
    shape: tuple[int, int], centre: tuple[float, float], rng: np.random.Generator, tiled: bool
) -> tuple[Panel, ...]:
    """Panels on one grid: a single one, with masked gaps, or touching."""
    parts = rng.choice([1, 2, 3, 4], 2) if tiled and rng.random() < 0.7 else np.array([1, 1])
    gap = int(rng.choice([0, 1, 2, 6, 14]))
    edges = [_edges(int(size), int(n), gap) for size, n in zip(shape, parts, strict=True)]
    return tuple(
        Panel(rows, cols, (cols[0] - centre[1], rows[0] - centre[0]))
        for rows in edges[0]
        for cols in edges[1]
    )


def _edges(size: int, n: int, gap: int) -> list[tuple[int, int]]:
    starts = np.linspace(0, size + gap, n + 1).astype(int)
    return [(int(a), int(b) - gap) for a, b in zip(starts[:-1], starts[1:], strict=True)]


def _panels_touch(detector: Detector) -> bool:
    return len(detector.panels) > 1 and not (detector.panel_map < 0).any()


def _seams(detector: Detector) -> NDArray[np.bool_]:
    """Pixels on either side of a border between panels."""
    numbers = detector.panel_map
    seams = np.zeros(detector.shape, bool)
    for axis in (0, 1):
        at = np.diff(numbers, axis=axis) != 0
        first = (slice(None, -1), slice(None)) if axis == 0 else (slice(None), slice(None, -1))
        last = (slice(1, None), slice(None)) if axis == 0 else (slice(None), slice(1, None))
        seams[first] |= at
        seams[last] |= at
    return seams


def background(camera: Camera, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw the expected photons of air, solvent and fluorescence under the spots."""
    radius = camera.detector.radius
    reach = float(np.median(radius))
    flat = rng.uniform(0.05, 1.0)
    fall = np.float32(reach * log_uniform(rng, 0.1, 1.5))
    profile = flat + (1 - flat) * np.exp(-radius / fall) * rng.uniform(1, 4)
    for _ in range(rng.integers(0, 3)):  # water and oil rings
        width = np.float32(reach * rng.uniform(0.04, 0.25))
        where = np.float32(reach * rng.uniform(0.2, 1.6))
        profile += rng.uniform(0.3, 4) * np.exp(np.float32(-0.5) * ((radius - where) / width) ** 2)
    profile *= np.float32(camera.level / max(float(np.median(profile)), 1e-9))
    if rng.random() < 0.25:
        profile *= _uneven(camera.detector.shape, rng)
    return np.asarray(profile, np.float32)


def _uneven(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Slow modulation of 2 to 20 %, such as absorption makes."""
    coarse = 1 + rng.uniform(0.02, 0.2) * rng.standard_normal((9, 9))
    fine = zoom(coarse, (shape[0] / 9, shape[1] / 9), order=1, grid_mode=True, mode="nearest")
    return np.maximum(fine[: shape[0], : shape[1]], 0.2).astype(np.float32)
