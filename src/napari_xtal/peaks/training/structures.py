"""What is no Bragg spot and yet stands out: rings, grains, streaks, tracks, bad pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_xtal.peaks.training.layouts import Camera, log_uniform
from napari_xtal.simulate.background import add_jet_streak, add_tracks, arm_shadow, half_shadow
from napari_xtal.simulate.scenes import add_hot_pixels
from napari_xtal.simulate.spots import add_spots, spot_shapes

if TYPE_CHECKING:
    from numpy.typing import NDArray


def add_to_background(
    photons: NDArray[np.float32], camera: Camera, rng: np.random.Generator
) -> None:
    """Add a random choice of structures to the expected photons, in place."""
    if rng.random() < 0.45:
        for _ in range(rng.integers(1, 9)):
            add_ring(photons, camera, rng)
    if rng.random() < 0.12:
        add_grains(photons, camera, rng)
    if rng.random() < 0.15:
        streak = np.zeros_like(photons)
        add_jet_streak(streak, camera.detector, rng)
        photons += streak * np.float32(camera.noise * log_uniform(rng, 0.03, 0.5))
    if rng.random() < 0.3:
        add_smears(photons, camera, rng)
    if rng.random() < 0.15:
        photons *= half_shadow(camera.detector, rng)
    if rng.random() < 0.15:
        photons *= arm_shadow(camera.detector, rng)
    if rng.random() < 0.3:  # a beam-stop shadow that reaches beyond its mask
        edge = camera.detector.beam_stop + rng.uniform(-4, 12)
        soft = np.float32(rng.uniform(0.5, 4))
        depth = np.clip((camera.detector.radius - np.float32(edge)) / soft, -30, 30)
        photons *= 1 / (1 + np.exp(-depth))


def add_ring(photons: NDArray[np.float32], camera: Camera, rng: np.random.Generator) -> None:
    """Add a powder ring, smooth or textured, in place.

    Texture is a random height per piece of arc, interpolated along the ring, and the
    pieces lie at slightly different radii.
    """
    detector = camera.detector
    low, high = float(detector.radius.min()), float(detector.radius.max())
    ring = rng.uniform(low, high)
    width = log_uniform(rng, 0.7, 4)
    at = np.nonzero(np.abs(detector.radius - np.float32(ring)) < 4 * width)
    if not len(at[0]):
        return
    x, y = detector.positions
    phi = np.arctan2(y[at], x[at])
    height = camera.noise * log_uniform(rng, 0.7, 40)
    centre: NDArray[np.floating] | float = ring
    texture: NDArray[np.floating] | float = 1.0
    if rng.random() < 0.65:
        bins = max(16, int(2 * np.pi * ring / log_uniform(rng, 2, 12)))
        coarseness = log_uniform(rng, 0.2, 8)
        place = (phi + np.pi) * (bins / (2 * np.pi))
        grains = rng.gamma(coarseness, 1 / coarseness, bins + 1)
        texture = np.interp(place, np.arange(bins + 1), grains)
        shift = rng.normal(0, 0.4 * width, bins + 1)
        centre = ring + np.interp(place, np.arange(bins + 1), shift)
    if rng.random() < 0.4:  # preferred orientation
        texture = texture * (1 + 0.8 * np.cos(rng.integers(1, 5) * phi + rng.uniform(0, 6.28)))
    profile = np.exp(-0.5 * ((detector.radius[at] - centre) / width) ** 2)
    photons[at] += (height * texture * profile).astype(np.float32)


def add_grains(photons: NDArray[np.float32], camera: Camera, rng: np.random.Generator) -> None:
    """Add rings of single crystallites, so close to each other that they are an arc, in place."""
    detector = camera.detector
    for _ in range(rng.integers(1, 4)):
        at = np.argwhere(detector.good)[:: rng.integers(500, 4000)]
        r, c = at[rng.integers(len(at))] if len(at) else (0, 0)
        ring, width = float(detector.radius[r, c]), rng.uniform(0.3, 1.2)
        near = np.argwhere(detector.good & (np.abs(detector.radius - np.float32(ring)) < 1))
        spacing = rng.uniform(3, 9)
        n = min(int(len(near) / 2 / spacing), 150)
        if n < 8:
            continue
        # An arc rather than the whole ring, where the whole would thin the grains out.
        x, y = detector.positions
        angle = np.arctan2(y[near[:, 0], near[:, 1]], x[near[:, 0], near[:, 1]])
        order = np.argsort(angle)
        first = rng.integers(len(order))
        arc = np.roll(order, -first)[: int(n * spacing * 2)]
        chosen = near[rng.choice(arc, n)]
        row, col = (chosen + rng.uniform(-0.5, 0.5, chosen.shape)).T
        sigma = np.full(n, rng.uniform(0.5, 1.5))
        away = np.column_stack([y[chosen[:, 0], chosen[:, 1]], x[chosen[:, 0], chosen[:, 1]]])
        along = np.column_stack([-away[:, 1], away[:, 0]]) / max(ring, 1.0)
        shapes = spot_shapes(detector, row, col, sigma, sigma * rng.uniform(0, 3, n), along)
        signal = camera.noise * 4 * sigma * log_uniform(rng, 3, 60, n) * width
        add_spots(photons, shapes, signal)


def add_smears(photons: NDArray[np.float32], camera: Camera, rng: np.random.Generator) -> None:
    """Add diffuse clouds and streaks such as lie between and under spots, in place.

    Clouds are wider and streaks longer than any spot, else they would be spots.
    """
    ss, fs = photons.shape
    common = rng.uniform(0, np.pi)
    for _ in range(rng.integers(3, 25)):
        r0, c0 = rng.uniform(0, ss), rng.uniform(0, fs)
        if rng.random() < 0.5:
            across, ratio = log_uniform(rng, 4.5, 12), log_uniform(rng, 1, 3)
        else:
            across, ratio = log_uniform(rng, 1.2, 4), log_uniform(rng, 5, 14)
        along = across * ratio
        angle = common if rng.random() < 0.5 else rng.uniform(0, np.pi)
        half = int(min(3 * along, 60)) + 1
        rows = slice(max(int(r0) - half, 0), min(int(r0) + half, ss))
        cols = slice(max(int(c0) - half, 0), min(int(c0) + half, fs))
        r = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(r0)
        c = np.arange(cols.start, cols.stop, dtype=np.float32)[None, :] - np.float32(c0)
        s, k = np.float32(np.sin(angle)), np.float32(np.cos(angle))
        u, v = (r * s + c * k) / np.float32(along), (r * k - c * s) / np.float32(across)
        height = np.float32(camera.noise * log_uniform(rng, 0.3, 8))
        photons[rows, cols] += height * np.exp(np.float32(-0.5) * (u * u + v * v))


def add_bad_pixels(
    adu: NDArray[np.float32],
    camera: Camera,
    photons: NDArray[np.float32],
    spots: NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    """Add hot pixels and clusters, tracks of particles and bad columns, in place."""
    detector = camera.detector
    add_hot_pixels(adu, detector, photons, spots, rng, int(rng.integers(0, 30)))
    unit = np.float32(camera.noise * detector.gain)
    ss, fs = adu.shape
    for _ in range(rng.integers(0, 16)):  # clusters of two or three
        r, c = int(rng.integers(1, ss - 1)), int(rng.integers(1, fs - 1))
        height = unit * log_uniform(rng, 4, 300)
        steps = rng.integers(-1, 2, (rng.integers(1, 3), 2))
        adu[r, c] += height
        for dr, dc in steps:
            adu[r + dr, c + dc] += height * rng.uniform(0.1, 1)
    if rng.random() < 0.4:
        tracks = np.zeros_like(adu)
        add_tracks(tracks, detector, rng, n=int(rng.integers(1, 12)))
        adu += tracks * np.float32(camera.noise * log_uniform(rng, 0.3, 3))
    if rng.random() < 0.12:
        column = int(rng.integers(0, fs))
        adu[:, column] += unit * rng.uniform(1, 6)
    if rng.random() < 0.08:  # one that flickers
        row = int(rng.integers(0, ss))
        adu[row] += unit * rng.uniform(1, 4) * rng.standard_normal(fs, dtype="f4")
