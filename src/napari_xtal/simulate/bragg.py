"""Simulated runs of Bragg frames: randomly oriented lattices on a real-looking detector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd

from napari_xtal.errors import ParameterError
from napari_xtal.simulate.background import arm_shadow, half_shadow, solvent
from napari_xtal.simulate.crystal import LYSOZYME, Crystal, random_rotation
from napari_xtal.simulate.cxi_writer import PEAK_TRUTH, RunWriter
from napari_xtal.simulate.detectors import Detector, digitise, expose, make_detector
from napari_xtal.simulate.scenes import (
    MARGIN,
    SEPARATION,
    add_hot_pixels,
    free_pixels,
    kept_after_thinning,
)
from napari_xtal.simulate.spots import add_spots, pixel_variance, spot_shapes, unit_snr

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

#: Spots with a smaller matched-filter SNR are neither drawn nor listed: no method sees them.
_FAINTEST_SNR = 1.0
#: Share of frames in which a constantly hot pixel fires.
_HOT_DUTY = 0.8


@dataclass(frozen=True)
class BraggRun:
    """A simulated run and its truth.

    Attributes
    ----------
    path : Path
        The CXI file; the same tables stand in it under /truth.
    peaks : DataFrame
        frame, row, col (integer = pixel centre), h, k, l, expected_counts (signal recorded on
        good pixels, in the units of the image), snr (matched filter), lattice (0, 1 …).
    frames : DataFrame
        Indexed by frame: n_lattices, class (blank, single, multiple), n_peaks.
    """

    path: Path
    peaks: pd.DataFrame
    frames: pd.DataFrame

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> BraggRun:
        """Read the truth of a run that `bragg_run` wrote.

        Raises
        ------
        ParameterError
            When the file holds no truth.
        """
        path = Path(path)
        with h5py.File(path, "r") as file:
            if "truth/peaks" not in file:
                raise ParameterError(f"{path}: no /truth; the file was not written by bragg_run")
            peaks = pd.DataFrame({name: file[f"truth/peaks/{name}"][:] for name in PEAK_TRUTH})
            group = file["truth/frames"]
            frames = pd.DataFrame(
                {
                    "n_lattices": group["n_lattices"][:],
                    "class": [name.decode() for name in group["class"][:]],
                    "n_peaks": group["n_peaks"][:],
                }
            )
        frames.index.name = "frame"
        return cls(path, peaks, frames)


def bragg_run(
    path: str | os.PathLike[str],
    n_frames: int,
    *,
    detector: str | Detector = "demo",
    cell: tuple[float, float, float, float, float, float] = LYSOZYME,
    hit_fraction: float = 0.8,
    n_lattices: int | Mapping[int, float] | None = None,
    snr_ladder: Sequence[float] | None = None,
    photons: float = 400.0,
    b_factor: float = 25.0,
    background: float = 1.0,
    water_ring: float = 1.0,
    psf_sigma: float = 0.7,
    bandwidth: float = 1e-3,
    shadows: int = 1,
    half_shadows: int = 0,
    hot_pixels: int = 8,
    zingers: int = 4,
    dead_fraction: float = 2e-4,
    read_noise: float | None = None,
    photon_energy_ev: float | None = None,
    distance_m: float | None = None,
    compression: str = "gzip",
    overwrite: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> BraggRun:
    """Simulate a run of serial crystallography and write it as CXI with its truth.

    Parameters
    ----------
    path : path
        File to write (``.cxi``).
    n_frames : int
        Number of frames, at least 1.
    detector : str or Detector
        ``demo``, ``eiger4m``, ``xfel1m`` (see `make_detector`), or a detector, which then
        has its own `dead_fraction`, `read_noise`, `photon_energy_ev` and `distance_m`.
    cell : tuple of float
        a, b, c [Angstrom], alpha, beta, gamma [degree].
    hit_fraction : float
        Share of frames with a crystal, 0 to 1; the others are blank.
    n_lattices : int or mapping, optional
        Lattices per hit, or ``{number: probability}``; default
        ``{1: 0.8, 2: 0.15, 3: 0.05}``.
    snr_ladder : sequence of float, optional
        Controlled simulation: each spot gets one of these matched-filter SNRs instead of a
        physical intensity, and spots closer than 12 px to another or 5 px to a masked pixel or
        panel edge are left out.
    photons : float
        Mean photons of a full reflection near the beam.
    b_factor : float
        Temperature factor [Angstrom^2].
    background, water_ring : float
        Scale of the solvent background and strength of its water ring; 1 gives 0.3 to 7 photons
        per pixel.
    psf_sigma : float
        Standard deviation of a spot [px].
    bandwidth : float
        Relative spread of the wavelength; elongates spots along the radius.
    shadows : int
        Soft bars from the beam outwards, as a beam-stop arm casts (the same in all frames).
    half_shadows : int
        Shadows that cover one side of the detector (the same in all frames).
    hot_pixels : int
        Unmasked pixels that are too bright at the same place in most frames.
    zingers : int
        Unmasked single bright pixels per frame, at new places each time.
    dead_fraction : float
        Share of dead, masked pixels.
    read_noise : float, optional
        Read noise [ADU] if other than the detector's own.
    photon_energy_ev, distance_m : float, optional
        Photon energy [eV] and detector distance [m] if other than the detector's own.
    compression : {"gzip", "bitshuffle", "none"}
        Compression of the frames.
    overwrite : bool
        Replace an existing file.
    seed : int
        The same arguments give the same run.
    progress : callable, optional
        Called as ``progress(done, total)`` after each frame.

    Returns
    -------
    BraggRun

    Raises
    ------
    ParameterError
        When a parameter is out of range.
    OutputError
        When the file exists or cannot be written; nothing is left behind.
    """
    _check(n_frames, hit_fraction, snr_ladder, seed)
    _at_least_zero(
        photons=photons, background=background, water_ring=water_ring, bandwidth=bandwidth,
        shadows=shadows, half_shadows=half_shadows, hot_pixels=hot_pixels, zingers=zingers,
    )  # fmt: skip
    if not psf_sigma > 0:
        raise ParameterError(f"psf_sigma must be positive [px], got {psf_sigma}")
    if isinstance(detector, str):
        detector = make_detector(
            detector,
            photon_energy_ev=photon_energy_ev,
            distance_m=distance_m,
            dead_fraction=dead_fraction,
            read_noise=read_noise,
        )
    # Streams: what the run shares, what each frame is, and one per frame, so that a frame
    # does not depend on how many others are made.
    shared = np.random.default_rng([seed, 0])
    crystal = Crystal(cell, _q_max(detector), shared, b_factor=b_factor)
    under = solvent(detector, background, water_ring)
    for _ in range(shadows):
        under = under * arm_shadow(detector, shared)
    for _ in range(half_shadows):
        under = under * half_shadow(detector, shared)
    plan = _lattices_per_frame(n_frames, hit_fraction, n_lattices, seed)
    simulation = _Simulation(
        detector, crystal, under, photons, psf_sigma, bandwidth,
        None if snr_ladder is None else np.asarray(snr_ladder, dtype=float),
        _constant_hot_pixels(detector, hot_pixels, under, shared), zingers,
    )  # fmt: skip
    path = Path(path)
    with RunWriter(path, n_frames, detector, compression, overwrite) as writer:
        bright = []
        for frame in range(n_frames):
            rng = np.random.default_rng([seed, 1, frame])
            image, peaks, spikes = simulation.frame(frame, int(plan[frame]), rng)
            writer.write(frame, image, peaks, int(plan[frame]))
            bright.append(np.column_stack([np.full(len(spikes), frame), spikes]))
            if progress is not None:
                progress(frame + 1, n_frames)
        writer.write_truth("hot_pixels", simulation.hot.pixels(detector))
        writer.write_truth("zingers", np.vstack(bright))
    return BraggRun.open(path)


def _check(
    n_frames: int, hit_fraction: float, snr_ladder: Sequence[float] | None, seed: int
) -> None:
    if n_frames < 1:
        raise ParameterError(f"n_frames must be at least 1, got {n_frames}")
    if not 0 <= hit_fraction <= 1:
        raise ParameterError(f"hit_fraction must lie in 0 to 1, got {hit_fraction}")
    if seed < 0:
        raise ParameterError(f"seed must be 0 or more, got {seed}")
    if snr_ladder is not None:
        levels = np.asarray(snr_ladder, dtype=float)
        if levels.ndim != 1 or not levels.size or not (np.isfinite(levels) & (levels > 0)).all():
            raise ParameterError(f"snr_ladder must be positive numbers, got {snr_ladder}")


def _at_least_zero(**values: float) -> None:
    for name, value in values.items():
        if not (np.isfinite(value) and value >= 0):
            raise ParameterError(f"{name} must be 0 or more, got {value}")


def _q_max(detector: Detector) -> float:
    """Largest 1/d on the detector [1/Angstrom]."""
    return float(detector.inv_d[detector.good].max()) / 10


def _lattices_per_frame(
    n_frames: int, hit_fraction: float, n_lattices: int | Mapping[int, float] | None, seed: int
) -> NDArray[np.int64]:
    if n_lattices is None:
        n_lattices = {1: 0.8, 2: 0.15, 3: 0.05}
    elif not isinstance(n_lattices, Mapping):
        n_lattices = {int(n_lattices): 1.0}
    numbers = np.array(list(n_lattices), dtype=np.int64)
    shares = np.array(list(n_lattices.values()), dtype=float)
    if not len(numbers) or numbers.min() < 1 or (shares < 0).any() or not shares.sum() > 0:
        raise ParameterError(
            f"n_lattices must be at least 1, or {{number: probability}}, got {dict(n_lattices)}; "
            "blank frames come from hit_fraction"
        )
    rng = np.random.default_rng([seed, 2])
    plan = np.zeros(n_frames, dtype=np.int64)
    hits = round(hit_fraction * n_frames)
    # Stratified, so that also a short run holds each number in its share.
    quantiles = (np.arange(hits) + rng.uniform()) / max(hits, 1)
    plan[:hits] = numbers[np.searchsorted(np.cumsum(shares / shares.sum())[:-1], quantiles)]
    return rng.permutation(plan)


@dataclass(frozen=True)
class _Hot:
    """Pixels that are too bright in most frames: flat indices and their typical ADU."""

    index: NDArray[np.int64]
    adu: NDArray[np.float64]

    def pixels(self, detector: Detector) -> NDArray[np.int64]:
        return np.column_stack(np.divmod(self.index, detector.shape[1]))

    def add(self, adu: NDArray[np.float32], rng: np.random.Generator) -> None:
        fires = rng.random(len(self.index)) < _HOT_DUTY
        values = self.adu * rng.uniform(0.8, 1.2, len(self.index))
        adu.reshape(-1)[self.index[fires]] = np.ceil(values[fires])


def _constant_hot_pixels(
    detector: Detector, n: int, under: NDArray[np.float32], rng: np.random.Generator
) -> _Hot:
    index = rng.choice(np.flatnonzero(detector.good), n, replace=False)
    base = under.reshape(-1)[index]
    excess = np.exp(rng.uniform(np.log(10), np.log(3000), n))
    return _Hot(index, (base + excess * np.sqrt(pixel_variance(detector, base))) * detector.gain)


@dataclass(frozen=True)
class _Simulation:
    """Everything that the frames of a run share."""

    detector: Detector
    crystal: Crystal
    under: NDArray[np.float32]
    photons: float
    psf_sigma: float
    bandwidth: float
    ladder: NDArray[np.float64] | None
    hot: _Hot
    zingers: int

    def frame(
        self, frame: int, n_lattices: int, rng: np.random.Generator
    ) -> tuple[NDArray[Any], dict[str, NDArray[Any]], NDArray[np.int64]]:
        """Return image, truth columns, and the (row, col) of its zingers."""
        # The jet or loop in the beam varies from shot to shot.
        under = self.under * np.float32(rng.uniform(0.85, 1.15))
        spots = self._spots(n_lattices, rng)
        row, col = spots["row"], spots["col"]
        radius = self.detector.radius[np.rint(row).astype(int), np.rint(col).astype(int)]
        sigma = self.psf_sigma * rng.uniform(0.9, 1.15, len(row))
        shapes = spot_shapes(self.detector, row, col, sigma, radius * self.bandwidth)
        per_photon = unit_snr(self.detector, shapes, under)
        if self.ladder is not None:
            signal = rng.permutation(np.resize(self.ladder, len(row))) / per_photon
        else:
            signal = spots["photons"]
        seen = signal * per_photon >= (_FAINTEST_SNR if self.ladder is None else 0.0)
        shapes, signal = shapes.keep(seen), signal[seen]

        expected = under.copy()
        add_spots(expected, shapes, signal)
        adu = expose(self.detector, expected, rng)
        self.hot.add(adu, rng)
        places = np.column_stack([row[seen], col[seen]])
        zingers = add_hot_pixels(adu, self.detector, under, places, rng, self.zingers)
        truth = {name: values[seen] for name, values in spots.items() if name in PEAK_TRUTH}
        truth["frame"] = np.full(len(signal), frame)
        truth["expected_counts"] = signal * shapes.recorded * self.detector.gain
        truth["snr"] = signal * per_photon[seen]
        return digitise(self.detector, adu), truth, zingers

    def _spots(self, n_lattices: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Predict the spots of a frame that hit good pixels."""
        parts = [self._lattice(number, rng) for number in range(n_lattices)]
        if not parts:
            names = ("row", "col", "h", "k", "l", "lattice", "photons")
            return {name: np.empty(0) for name in names}
        spots = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        keep = self._on_good_pixels(spots["row"], spots["col"])
        if self.ladder is not None:
            # Controlled spots must not overlap nor lose a part at an edge, or the SNR asked
            # for would not be the SNR there is.
            order = rng.permutation(np.flatnonzero(keep))
            keep = order[
                kept_after_thinning(
                    np.column_stack([spots["row"][order], spots["col"][order]]), SEPARATION
                )
            ]
        return {name: values[keep] for name, values in spots.items()}

    def _on_good_pixels(
        self, row: NDArray[np.float64], col: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        allowed = self.detector.good
        if self.ladder is not None:
            allowed = free_pixels(self.detector, MARGIN)
            # A constantly hot pixel under a spot would spoil its known counts.
            allowed = allowed.copy()
            for r, c in self.hot.pixels(self.detector):
                allowed[max(r - 8, 0) : r + 9, max(c - 8, 0) : c + 9] = False
        keep = np.isfinite(row)
        r, c = (np.rint(np.where(keep, v, 0)).astype(int) for v in (row, col))
        return keep & allowed[r, c]

    def _lattice(self, number: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        detector = self.detector
        found = self.crystal.diffract(random_rotation(rng), detector.wavelength)
        x, y = (found.tan * (detector.distance_m / detector.pixel_size_m)).T
        row, col, _ = detector.to_slab(x, y)
        # Crystals differ in size and in how well the beam hits them.
        strength = self.photons * rng.lognormal(0, 0.5) / (1 + 0.5 * number)
        h, k, l = found.hkl.T  # noqa: E741
        return {
            "row": row,
            "col": col,
            "h": h,
            "k": k,
            "l": l,
            "lattice": np.full(len(row), number),
            "photons": found.intensity * strength,
        }
