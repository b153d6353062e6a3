"""Random Bragg spots: where they lie, how wide, long and strong they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from napari_xtal.peaks.training.layouts import Camera, log_uniform
from napari_xtal.simulate.spots import Shapes, add_spots, pixel_variance, spot_shapes, unit_snr

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Most spots of one scene.
MOST = 260
#: Fewest photons of a spot worth its name; below, chance decides whether there is one.
FEWEST_PHOTONS = 10.0


@dataclass(frozen=True)
class Spots:
    """Spots to be drawn.

    Attributes
    ----------
    row, col : (n,) ndarray
        Centres, integer = pixel centre.
    sigma, stretch : (n,) ndarray
        Width, and additional width along `direction` [px].
    direction : (n, 2) ndarray
        Unit vectors (row, col).
    snr : (n,) ndarray
        Significance to be reached, see `significance`.
    """

    row: NDArray[np.float64]
    col: NDArray[np.float64]
    sigma: NDArray[np.float64]
    stretch: NDArray[np.float64]
    direction: NDArray[np.float64]
    snr: NDArray[np.float64]

    def keep(self, which: NDArray[np.bool_]) -> Spots:
        """Return some of the spots."""
        return Spots(*(getattr(self, name)[which] for name in self.__dataclass_fields__))


def random_spots(camera: Camera, rng: np.random.Generator) -> Spots:
    """Draw spots: scattered or on lattices, round or elongated, single or split."""
    where = _positions(camera.detector.shape, rng)
    if rng.random() < 0.12 and len(where):  # split spots
        twins = where[rng.random(len(where)) < 0.5]
        angle = rng.uniform(0, 2 * np.pi)
        step = rng.uniform(2, 6) * np.array([np.sin(angle), np.cos(angle)])
        where = np.vstack([where, twins + step])
    rows, cols = np.rint(where).astype(int).T
    ss, fs = camera.detector.shape
    inside = (rows >= 0) & (rows < ss) & (cols >= 0) & (cols < fs)
    where = where[inside]
    where = where[camera.detector.good[rows[inside], cols[inside]]]
    n = len(where)
    sigma = np.clip(log_uniform(rng, 0.25, 2.6) * rng.lognormal(0, 0.12, n), 0.25, 4)
    ratio, direction = _elongation(camera, where, rng)
    return Spots(
        where[:, 0], where[:, 1], sigma,
        stretch=np.minimum(sigma * np.sqrt(ratio**2 - 1), 8.0),
        direction=direction,
        snr=_snr(n, rng),
    )  # fmt: skip


def _positions(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    if rng.random() < 0.35:
        return rng.uniform(0, shape, (int(log_uniform(rng, 10, 200)), 2))
    parts = [_lattice(shape, rng)]
    if rng.random() < 0.3:
        parts.append(_lattice(shape, rng))
    return np.vstack(parts)


def _lattice(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return points of a plane lattice that lie in zones, as a still frame shows them."""
    length = log_uniform(rng, 8, 70)
    first, between = rng.uniform(0, 2 * np.pi), rng.uniform(np.pi / 3, 2 * np.pi / 3)
    a = length * np.array([np.sin(first), np.cos(first)])
    b = (
        length
        * rng.uniform(0.8, 2.2)
        * np.array([np.sin(first + between), np.cos(first + between)])
    )
    reach = int(np.ceil(1.5 * max(shape) / length)) + 1
    i, j = (g.ravel() for g in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    middle = rng.uniform(0.3, 0.7, 2) * shape
    points = middle + i[:, None] * a + j[:, None] * b
    points = points[((points > 0) & (points < shape)).all(axis=1)]
    zone = rng.uniform(50, 250)
    distance = np.hypot(*(points - rng.uniform(-0.5, 1.5, 2) * shape).T)
    points = points[np.abs(distance / zone % 1 - 0.5) < rng.uniform(0.1, 0.5)]
    if len(points) > MOST:  # dense: a part of the frame, so that neighbours stay close
        near = np.hypot(*(points - rng.uniform(0.2, 0.8, 2) * shape).T)
        points = points[np.argsort(near)[:MOST]]
    return np.asarray(points + rng.normal(0, 0.25, points.shape))


def _elongation(
    camera: Camera, where: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ratios of axes and the directions of the long ones."""
    n = len(where)
    kind = rng.choice(3, p=[0.5, 0.25, 0.25])
    ratio = 1 + rng.exponential((0.12, 0.8, 0.8)[kind], n)
    if kind == 1:  # along the radius: bandwidth, mosaic spread
        x, y = camera.detector.positions
        rows, cols = where.astype(int).T
        away = np.column_stack([y[rows, cols], x[rows, cols]]).astype(float)
        direction = away / np.maximum(np.hypot(*away.T), 1e-6)[:, None]
    else:
        spread = 0.15 if kind == 2 and rng.random() < 0.7 else np.pi
        angle = rng.uniform(0, np.pi) + rng.normal(0, spread, n)
        direction = np.column_stack([np.sin(angle), np.cos(angle)])
    return np.minimum(ratio, 4.0), direction


def _snr(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw significances, dense where a verifier has to decide."""
    kind = rng.choice(3, n, p=_shares(rng))
    low, high = np.array([3, 12, 100])[kind], np.array([15, 100, 2000])[kind]
    return np.asarray(np.exp(rng.uniform(np.log(low), np.log(high))))


def _shares(rng: np.random.Generator) -> tuple[float, float, float]:
    strong = rng.choice([0.0, 0.03, 0.12])
    middle = rng.uniform(0.05, 0.3)
    return 1 - middle - strong, middle, strong


def significance(
    signal: NDArray[np.float64], weight: NDArray[np.float64], variance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the median significance of spots over a known background.

    ``sqrt(2 sum((b + s) ln(1 + s / b) - s))`` (Cowan et al., Eur. Phys. J. C 71 (2011)
    1554) with s the photons of a spot on a pixel and b the variance of the background:
    the matched-filter SNR for weak spots, honest where photons are few.

    Parameters
    ----------
    signal : (n,) ndarray
        Photons.
    weight, variance : (n, n_pixels) ndarray
        Share of the spot on each pixel, and the background's variance there.
    """
    s, b = signal[:, None] * weight, np.maximum(variance, 1e-6)
    return np.asarray(np.sqrt(2 * np.maximum((b + s) * np.log1p(s / b) - s, 0).sum(axis=1)))


def draw(
    photons: NDArray[np.float32], under: NDArray[np.float32], camera: Camera, spots: Spots,
    rng: np.random.Generator,
) -> pd.DataFrame:  # fmt: skip
    """Add spots to the expected photons, in place.

    Parameters
    ----------
    photons : (ss, fs) ndarray
        Expected photons.
    under : (ss, fs) ndarray
        The same without any spot.

    Returns
    -------
    DataFrame
        The truth: row, col, snr, photons, sigma (across), length (sigma along).
    """
    parts = []
    longest = np.hypot(spots.sigma, spots.stretch)
    # One window fits all spots of a call, so the wide ones are drawn apart.
    for low, high in ((0.0, 0.9), (0.9, 1.8), (1.8, 3.5), (3.5, np.inf)):
        part = spots.keep((longest >= low) & (longest < high))
        if len(part.row):
            parts.append(_draw_alike(photons, under, camera, part, rng))
    if not parts:
        return pd.DataFrame(
            columns=["row", "col", "snr", "photons", "sigma", "length"], dtype=float
        )
    return pd.concat(parts, ignore_index=True)


def _draw_alike(
    photons: NDArray[np.float32], under: NDArray[np.float32], camera: Camera, spots: Spots,
    rng: np.random.Generator,
) -> pd.DataFrame:  # fmt: skip
    detector = camera.detector
    shapes = spot_shapes(
        detector, spots.row, spots.col, spots.sigma, spots.stretch, spots.direction
    )
    variance = pixel_variance(detector, under.reshape(-1)[shapes.index])
    per_photon = np.maximum(unit_snr(detector, shapes, under), 1e-9)
    signal = spots.snr / per_photon
    for _ in range(4):  # the SNR grows a little less than linearly with few photons
        reached = np.maximum(significance(signal, shapes.weight, variance), 1e-6)
        signal = np.minimum(signal * spots.snr / reached, 1e9)
    signal = np.maximum(signal, FEWEST_PHOTONS)
    seen = shapes.recorded > 0.15
    shapes, signal, spots = shapes.keep(seen), signal[seen], spots.keep(seen)
    add_spots(photons, shapes, signal)
    _add_tails(photons, shapes, signal, spots, rng)
    return pd.DataFrame(
        {
            "row": spots.row,
            "col": spots.col,
            "snr": significance(signal, shapes.weight, variance[seen]),
            "photons": signal * shapes.recorded,
            "sigma": spots.sigma,
            "length": np.hypot(spots.sigma, spots.stretch),
        }
    )


def _add_tails(
    photons: NDArray[np.float32], shapes: Shapes, signal: NDArray[np.float64], spots: Spots,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Give the strong spots of some scenes wide tails (thermal diffuse scattering, halos)."""
    share = rng.choice([0.0, rng.uniform(0.01, 0.25)])
    ss, fs = photons.shape
    for k in np.flatnonzero((spots.snr > 60) & (share > 0)):
        row, col, wide = spots.row[k], spots.col[k], rng.uniform(1.5, 5)
        r = np.arange(max(int(row) - 20, 0), min(int(row) + 21, ss))
        c = np.arange(max(int(col) - 20, 0), min(int(col) + 21, fs))
        square = ((r[:, None] - row) ** 2 + (c[None, :] - col) ** 2) / wide**2
        tail = (1 + square) ** -2.0 / (np.pi * wide**2)
        photons[r[0] : r[-1] + 1, c[0] : c[-1] + 1] += (share * signal[k] * tail).astype("f4")
