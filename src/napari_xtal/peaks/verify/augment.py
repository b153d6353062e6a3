"""Random changes of windows that leave the answer as it is, made before normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_xtal.peaks.verify.normalisation import CORE, RING, local_noise
from napari_xtal.peaks.verify.patches import Patches

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Augmentation:
    """How often windows are changed, as shares of the windows.

    Gain and offset need none: normalisation removes them. Turns and mirror images are
    always drawn.

    Attributes
    ----------
    shift : float
        One pixel off the centre, as a finder may be.
    noise : float
        More background photons: the same spot at a lower signal-to-noise ratio.
    hot : float
        A hot pixel beside the spot.
    edge : float
        A panel edge that comes as near as 3 px.
    dead : float
        One to three masked pixels.
    neighbour : float
        A spot 6 to 13 px away.
    stretch : float
        Peaks only: the spot becomes longer in some direction, up to five times.
    """

    shift: float = 0.3
    noise: float = 0.25
    hot: float = 0.1
    edge: float = 0.1
    dead: float = 0.1
    neighbour: float = 0.15
    stretch: float = 0.25


def augmented(
    patches: Patches,
    is_peak: NDArray[np.bool_],
    rng: np.random.Generator,
    options: Augmentation | None = None,
) -> Patches:
    """Return changed copies of windows.

    Parameters
    ----------
    patches : Patches
        n windows.
    is_peak : (n,) ndarray of bool
        Their labels.
    rng : numpy Generator
        The same state gives the same changes.
    options : Augmentation, optional
        How often what is done.

    Returns
    -------
    Patches
        n windows of the same size.
    """
    options = options or Augmentation()
    n = len(patches)
    values, usable = patches.values.copy(), patches.usable.copy()
    if n == 0:
        return Patches(values, usable)
    background, sigma, quantum = local_noise(patches).T
    for change, share in (
        (_stretch, options.stretch * is_peak),
        (_add_photons, options.noise),
        (_add_neighbour, options.neighbour),
        (_add_hot_pixel, options.hot),
    ):
        rows = np.flatnonzero((rng.random(n) < share) & (quantum > 0))
        change(values, rows, background, sigma, quantum, rng)
    _shift(values, usable, np.flatnonzero(rng.random(n) < options.shift), rng)
    _turn(values, usable, rng)
    _mask_edge(usable, np.flatnonzero(rng.random(n) < options.edge), rng)
    _mask_pixels(usable, np.flatnonzero(rng.random(n) < options.dead), rng)
    values[~usable] = 0
    return Patches(values, usable)


def _add_photons(
    values: NDArray[np.float32],
    rows: NDArray[np.intp],
    background: NDArray[np.float32],
    sigma: NDArray[np.float32],
    quantum: NDArray[np.float32],
    rng: np.random.Generator,
) -> None:
    """Add up to as much noise again as there is; its mean does not matter."""
    mean = (sigma[rows] / quantum[rows]) ** 2 * rng.uniform(0.05, 1.0, rows.size)
    photons = rng.poisson(mean[:, None, None], (rows.size, *values.shape[1:]))
    values[rows] += quantum[rows, None, None] * (photons - mean[:, None, None].round())


def _stretch(
    values: NDArray[np.float32],
    rows: NDArray[np.intp],
    background: NDArray[np.float32],
    sigma: NDArray[np.float32],
    quantum: NDArray[np.float32],
    rng: np.random.Generator,
) -> None:
    """Add an elongated Gaussian of its own width and 0.3 to 1.5 times its height to a spot."""
    half = values.shape[1] // 2
    core = values[rows, half - 1 : half + 2, half - 1 : half + 2] - background[rows, None, None]
    height, mean = core.max(axis=(1, 2)), core.mean(axis=(1, 2))
    # The mean of a Gaussian spot's 3x3 core in units of its height tells its width.
    width = np.interp(mean / np.maximum(height, 1e-30), _CORE_MEAN, _CORE_WIDTH)
    # One-pixel spots would become lines, which are no peaks.
    some = (height > 5 * sigma[rows]) & (height > 3 * quantum[rows]) & (width > 0.7)
    rows, height, width = rows[some], height[some], width[some]
    n = rows.size
    angle, length = rng.uniform(0, np.pi, n), np.minimum(width * rng.uniform(1.5, 5, n), 5.5)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    sin, cos = (f(angle)[:, None, None] for f in (np.sin, np.cos))
    along, across = sin * y + cos * x, cos * y - sin * x
    form = np.exp(
        -0.5 * ((along / length[:, None, None]) ** 2 + (across / width[:, None, None]) ** 2)
    )
    photons = (height * rng.uniform(0.3, 1.5, n) / quantum[rows])[:, None, None] * form
    values[rows] += quantum[rows, None, None] * rng.poisson(photons)


_CORE_WIDTH = np.array([0.3, 0.45, 0.6, 0.8, 1.0, 1.4, 2.0, 3.0, 5.0])
_CORE_MEAN = ((1 + 2 * np.exp(-0.5 / _CORE_WIDTH**2)) / 3) ** 2


def _add_neighbour(
    values: NDArray[np.float32],
    rows: NDArray[np.intp],
    background: NDArray[np.float32],
    sigma: NDArray[np.float32],
    quantum: NDArray[np.float32],
    rng: np.random.Generator,
) -> None:
    """Add a Gaussian spot away from the centre, 3 to 300 standard deviations high."""
    n, half = rows.size, values.shape[1] // 2
    angle, distance = rng.uniform(0, 2 * np.pi, n), rng.uniform(6, half, n)
    width = rng.uniform(0.6, 2.0, n)
    height = np.exp(rng.uniform(np.log(3), np.log(300), n)) * (sigma[rows] + 0.5 * quantum[rows])
    offset = np.arange(values.shape[1]) - half
    across = np.exp(-0.5 * ((offset - (distance * np.sin(angle))[:, None]) / width[:, None]) ** 2)
    along = np.exp(-0.5 * ((offset - (distance * np.cos(angle))[:, None]) / width[:, None]) ** 2)
    photons = (height / quantum[rows])[:, None, None] * across[:, :, None] * along[:, None, :]
    values[rows] += quantum[rows, None, None] * rng.poisson(photons)


def _add_hot_pixel(
    values: NDArray[np.float32],
    rows: NDArray[np.intp],
    background: NDArray[np.float32],
    sigma: NDArray[np.float32],
    quantum: NDArray[np.float32],
    rng: np.random.Generator,
) -> None:
    """Make one pixel outside the core 10 to 3000 standard deviations brighter."""
    side = values.shape[1]
    place = rng.integers(0, side, (rows.size, 2))
    far = np.abs(place - side // 2).max(axis=1) > CORE
    rows, place = rows[far], place[far]
    excess = np.exp(rng.uniform(np.log(10), np.log(3000), rows.size))
    steps = np.ceil(excess * sigma[rows] / quantum[rows] + 1)
    values[rows, place[:, 0], place[:, 1]] += steps * quantum[rows]


def _shift(
    values: NDArray[np.float32],
    usable: NDArray[np.bool_],
    rows: NDArray[np.intp],
    rng: np.random.Generator,
) -> None:
    """Move by one pixel; the line that is not known becomes unusable."""
    direction = rng.integers(0, 4, rows.size)
    for k, (axis, step, line) in enumerate(((1, 1, 0), (1, -1, -1), (2, 1, 0), (2, -1, -1))):
        some = rows[direction == k]
        for array in (values, usable):
            moved = np.roll(array[some], step, axis=axis)
            if array is usable:
                moved[(slice(None), line) if axis == 1 else (slice(None), slice(None), line)] = 0
            array[some] = moved


def _turn(values: NDArray[np.float32], usable: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Draw one of the eight turns and mirror images for every window."""
    kind = rng.integers(0, 8, len(values))
    for k in range(1, 8):
        rows = np.flatnonzero(kind == k)
        for array in (values, usable):
            turned = np.rot90(array[rows], k % 4, axes=(1, 2))
            array[rows] = turned.swapaxes(1, 2) if k >= 4 else turned


def _mask_edge(usable: NDArray[np.bool_], rows: NDArray[np.intp], rng: np.random.Generator) -> None:
    """Mask all beyond a line that runs along one side."""
    half = usable.shape[1] // 2
    for row, width, axis in zip(
        rows, rng.integers(1, half - 2, rows.size), rng.integers(0, 4, rows.size), strict=True
    ):
        window = usable[row] if axis < 2 else usable[row].T
        window[slice(None, width) if axis % 2 else slice(-width, None)] = False


def _mask_pixels(
    usable: NDArray[np.bool_], rows: NDArray[np.intp], rng: np.random.Generator
) -> None:
    """Mask up to three pixels, not the very centre."""
    half = usable.shape[1] // 2
    for _ in range(3):
        place = np.clip(np.rint(rng.normal(0, RING / 2, (rows.size, 2))), -half, half).astype(int)
        some = (rng.random(rows.size) < 0.6) & (place != 0).any(axis=1)
        usable[rows[some], half + place[some, 0], half + place[some, 1]] = False
