"""Detector models: panels, gaps, dead pixels, gain and noise.

A frame is stored as one slab (ss, fs). Each panel is a rectangle of the slab with its own
place in the laboratory, so that gaps exist either inside the slab (pixels that belong to
no panel) or only in the laboratory (panels that touch in the slab but not in space).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.detector.radial import inv_d_map
from napari_xtal.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Planck constant times speed of light [eV Angstrom].
HC_EV_ANGSTROM = 12398.41984


@dataclass(frozen=True)
class Panel:
    """One flat panel normal to the beam.

    Attributes
    ----------
    rows, cols : (int, int)
        Half-open ranges of slab rows and columns.
    origin : (float, float)
        Laboratory (x, y) of the centre of the first pixel, in pixels from the beam.
    fs, ss : (float, float)
        Laboratory (x, y) of one step along the fast and the slow axis, in pixels.
    """

    rows: tuple[int, int]
    cols: tuple[int, int]
    origin: tuple[float, float]
    fs: tuple[float, float] = (1.0, 0.0)
    ss: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Detector:
    """A detector as the simulator needs it.

    Attributes
    ----------
    name : str
        Name of the model.
    shape : (int, int)
        Slab shape (ss, fs).
    dtype : numpy dtype
        Data type of a stored frame.
    panels : tuple of Panel
        Where the panels are.
    dead : (ss, fs) ndarray of bool
        Pixels that never answer (masked in every frame).
    beam_stop : float
        Radius of the masked beam-stop shadow [px].
    pixel_size_m, distance_m, photon_energy_ev : float
        Geometry and beam.
    gain : float
        ADU per photon.
    read_noise, common_mode : float
        Standard deviation per pixel, and of the offset that a panel shares [ADU].
    """

    name: str
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    panels: tuple[Panel, ...]
    dead: NDArray[np.bool_]
    beam_stop: float
    pixel_size_m: float
    distance_m: float
    photon_energy_ev: float
    gain: float = 1.0
    read_noise: float = 0.0
    common_mode: float = 0.0

    @property
    def wavelength(self) -> float:
        """Wavelength [Angstrom]."""
        return HC_EV_ANGSTROM / self.photon_energy_ev

    @property
    def counting(self) -> bool:
        """Whether frames are integer photon counts."""
        return self.dtype.kind == "u"

    @property
    def marker(self) -> int:
        """Value of pixels without a measurement: 2^n - 1 of counts, 0 of float data."""
        return int(np.iinfo(self.dtype).max) if self.counting else 0

    @cached_property
    def panel_map(self) -> NDArray[np.int16]:
        """Panel number of each pixel, -1 in gaps."""
        numbers = np.full(self.shape, -1, dtype=np.int16)
        for k, panel in enumerate(self.panels):
            numbers[slice(*panel.rows), slice(*panel.cols)] = k
        return numbers

    @cached_property
    def positions(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Laboratory (x, y) of each pixel centre in pixels from the beam.

        Gap pixels take the values of the first panel's grid carried on.
        """
        first = self.panels[0]
        x, y = _grid(first, (0, self.shape[0]), (0, self.shape[1]))
        if len(self.panels) > 1:
            for panel in self.panels:
                at = (slice(*panel.rows), slice(*panel.cols))
                x[at], y[at] = _grid(panel, panel.rows, panel.cols)
        return x, y

    @cached_property
    def radius(self) -> NDArray[np.float32]:
        """Distance of each pixel from the beam in the laboratory [px]."""
        return np.hypot(*self.positions)

    @cached_property
    def inv_d(self) -> NDArray[np.float32]:
        """1/d of each pixel [1/nm]."""
        return inv_d_map(self.radius, self.pixel_size_m, self.distance_m, self.photon_energy_ev)

    @cached_property
    def good(self) -> NDArray[np.bool_]:
        """Usable pixels: on a panel, alive, outside the beam stop."""
        return (self.panel_map >= 0) & ~self.dead & (self.radius >= self.beam_stop)

    @property
    def beam_centre(self) -> tuple[float, float]:
        """(row, col) where the beam meets the grid of the nearest panel, integer = pixel centre."""
        nearest = np.argmin(np.where(self.panel_map >= 0, self.radius, np.inf))
        panel = self.panels[self.panel_map.reshape(-1)[nearest]]
        matrix = np.array([panel.ss, panel.fs]).T
        row, col = np.linalg.solve(matrix, -np.array(panel.origin))
        return (float(row) + panel.rows[0], float(col) + panel.cols[0])

    def to_slab(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int16]]:
        """Turn laboratory positions into slab positions.

        Parameters
        ----------
        x, y : (n,) ndarray
            Pixels from the beam.

        Returns
        -------
        row, col : (n,) ndarray
            Slab position, integer = pixel centre; NaN where no panel is.
        panel : (n,) ndarray of int16
            Panel number, -1 where no panel is.
        """
        row = np.full(x.shape, np.nan)
        col = np.full(x.shape, np.nan)
        number = np.full(x.shape, -1, dtype=np.int16)
        for k, panel in enumerate(self.panels):
            inverse = np.linalg.inv(np.array([panel.ss, panel.fs]).T)
            dx, dy = x - panel.origin[0], y - panel.origin[1]
            r = inverse[0, 0] * dx + inverse[0, 1] * dy + panel.rows[0]
            c = inverse[1, 0] * dx + inverse[1, 1] * dy + panel.cols[0]
            # A pixel reaches half a step beyond its centre.
            inside = (r >= panel.rows[0] - 0.5) & (r < panel.rows[1] - 0.5)
            inside &= (c >= panel.cols[0] - 0.5) & (c < panel.cols[1] - 0.5)
            row[inside], col[inside], number[inside] = r[inside], c[inside], k
        return row, col, number


def _grid(
    panel: Panel, rows: tuple[int, int], cols: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    r = np.arange(*rows, dtype=np.float32)[:, None] - panel.rows[0]
    c = np.arange(*cols, dtype=np.float32)[None, :] - panel.cols[0]
    x = np.float32(panel.origin[0]) + np.float32(panel.fs[0]) * c + np.float32(panel.ss[0]) * r
    y = np.float32(panel.origin[1]) + np.float32(panel.fs[1]) * c + np.float32(panel.ss[1]) * r
    return x, y


def _tiled(
    grid: tuple[int, int],
    size: tuple[int, int],
    gap: tuple[int, int],
    centre: tuple[float, float],
) -> tuple[Panel, ...]:
    """Panels on one common pixel grid with gaps inside the slab."""
    panels = []
    for i in range(grid[0]):
        for j in range(grid[1]):
            r, c = i * (size[0] + gap[0]), j * (size[1] + gap[1])
            panels.append(Panel((r, r + size[0]), (c, c + size[1]), (c - centre[1], r - centre[0])))
    return tuple(panels)


def _scattered(
    grid: tuple[int, int], size: tuple[int, int], gap: float, rng: np.random.Generator
) -> tuple[Panel, ...]:
    """Panels that touch in the slab, with gaps, shifts and small turns in the laboratory."""
    height, width = (n * (s + gap) - gap for n, s in zip(grid, size, strict=True))
    panels = []
    for i in range(grid[0]):
        for j in range(grid[1]):
            x, y = j * (size[1] + gap) - width / 2, i * (size[0] + gap) - height / 2
            x, y = x + rng.uniform(-1, 1), y + rng.uniform(-1, 1)
            turn = np.deg2rad(rng.uniform(-0.3, 0.3))
            fs = (float(np.cos(turn)), float(np.sin(turn)))
            panels.append(
                Panel(
                    (i * size[0], (i + 1) * size[0]),
                    (j * size[1], (j + 1) * size[1]),
                    (float(x), float(y)),
                    fs,
                    (-fs[1], fs[0]),
                )
            )
    return tuple(panels)


def _dead(shape: tuple[int, int], fraction: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    dead = np.zeros(shape, dtype=bool)
    n = round(fraction * dead.size)
    dead.reshape(-1)[rng.choice(dead.size, n, replace=False)] = True
    return dead


@lru_cache(maxsize=4)
def make_detector(
    name: str,
    *,
    photon_energy_ev: float | None = None,
    distance_m: float | None = None,
    dead_fraction: float = 2e-4,
    read_noise: float | None = None,
) -> Detector:
    """Return a detector model; the same arguments always give the same detector.

    Parameters
    ----------
    name : {"demo", "eiger4m", "xfel1m"}
        ``eiger4m``: 2167 x 2070 photon counts (uint16), 4 x 2 modules with gaps.
        ``xfel1m``: 970 x 1110 float32, 30 panels with gaps in the laboratory, 30 ADU per
        photon, read noise 8 ADU and a common-mode offset per panel. ``demo``: 512 x 512
        photon counts, four panels.
    photon_energy_ev, distance_m : float, optional
        Other values than the model's own.
    dead_fraction : float
        Share of dead (masked) pixels.
    read_noise : float, optional
        Other read noise [ADU] than the model's own.

    Returns
    -------
    Detector

    Raises
    ------
    ParameterError
        When there is no such model or a value is out of range.
    """
    if name not in DETECTORS:
        raise ParameterError(f"detector '{name}' is unknown; choose one of {', '.join(DETECTORS)}")
    for label, value in (("photon_energy_ev", photon_energy_ev), ("distance_m", distance_m)):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise ParameterError(f"{label} must be positive, got {value}")
    if not 0 <= dead_fraction < 0.5:
        raise ParameterError(f"dead_fraction must lie in 0 to 0.5, got {dead_fraction}")
    if read_noise is not None and not read_noise >= 0:
        raise ParameterError(f"read_noise must be 0 ADU or more, got {read_noise}")
    # The detector is a piece of hardware: its dead pixels do not change with the run.
    rng = np.random.default_rng(sum(name.encode()))
    noise, common = 0.0, 0.0
    if name == "eiger4m":
        shape, dtype, gain = (2167, 2070), "uint16", 1.0
        panels = _tiled((4, 2), (514, 1030), (37, 10), (1087.3, 1029.8))
        stop, pixel, distance, energy = 22.0, 75e-6, 0.15, 12400.0
    elif name == "xfel1m":
        shape, dtype, gain = (970, 1110), "float32", 30.0
        panels = _scattered((5, 6), (194, 185), 8.0, rng)
        noise, common = 8.0, 2.0
        stop, pixel, distance, energy = 14.0, 110e-6, 0.12, 9500.0
    else:
        shape, dtype, gain = (512, 512), "uint16", 1.0
        panels = _tiled((2, 2), (250, 253), (12, 6), (258.4, 253.2))
        stop, pixel, distance, energy = 10.0, 75e-6, 0.05, 12400.0
    return Detector(
        name=name,
        shape=shape,
        dtype=np.dtype(dtype),
        panels=panels,
        dead=_dead(shape, dead_fraction, rng),
        beam_stop=stop,
        pixel_size_m=pixel,
        distance_m=distance if distance_m is None else distance_m,
        photon_energy_ev=energy if photon_energy_ev is None else photon_energy_ev,
        gain=gain,
        read_noise=noise if read_noise is None else read_noise,
        common_mode=common,
    )


#: Names that `make_detector` knows.
DETECTORS = ("demo", "eiger4m", "xfel1m")


def expose(
    detector: Detector, expected: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw one frame: Poisson photons, gain, read noise and common mode.

    Parameters
    ----------
    detector : Detector
    expected : (ss, fs) ndarray of float32
        Expected photons per pixel.
    rng : numpy Generator

    Returns
    -------
    (ss, fs) ndarray of float32
        ADU (before rounding and markers, see `digitise`).
    """
    adu = rng.poisson(expected).astype(np.float32)
    if detector.gain != 1.0:
        adu *= np.float32(detector.gain)
    if detector.read_noise > 0:
        adu += np.float32(detector.read_noise) * rng.standard_normal(adu.shape, dtype=np.float32)
    if detector.common_mode > 0:
        offsets = rng.normal(0, detector.common_mode, len(detector.panels)).astype(np.float32)
        adu += np.append(offsets, np.float32(0))[detector.panel_map]
    return adu


def digitise(detector: Detector, adu: NDArray[np.float32]) -> NDArray[Any]:
    """Turn ADU into what the detector stores; pixels without a measurement get the marker."""
    if detector.counting:
        stored = np.clip(np.rint(adu), 0, detector.marker - 1).astype(detector.dtype)
    else:
        stored = adu.astype(detector.dtype)
    stored[(detector.panel_map < 0) | detector.dead] = detector.marker
    return stored
