"""Simulated runs of single particles: one, several, or only water in the focus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.errors import ParameterError
from napari_xtal.simulate.background import solid_angle
from napari_xtal.simulate.crystal import random_quaternion, rotation_matrix
from napari_xtal.simulate.cxi_writer import FrameWriter
from napari_xtal.simulate.detectors import Detector, digitise, expose
from napari_xtal.simulate.particles_background import instrument_background
from napari_xtal.simulate.particles_detector import particle_detector
from napari_xtal.simulate.particles_model import particle_model
from napari_xtal.simulate.particles_scene import LABELS, SIZE_CUT, Optics, Scene, SceneSource
from napari_xtal.simulate.particles_truth import ParticleRun, body_row, write_tables

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_xtal.simulate.particles_background import InstrumentBackground
    from napari_xtal.simulate.particles_model import ParticleModel

#: Share of the classes if none is given.
SHARES = {"single": 0.45, "multiple": 0.3, "water": 0.25}
#: Number of particles of a multiple hit if none is given.
N_PARTICLES = {2: 0.6, 3: 0.25, 4: 0.15}
#: Spread of the pulse energy (standard deviation of the logarithm).
_PULSE_SPREAD = 0.25
#: Orientations over which the scattering of one particle is averaged.
_N_ORIENTATIONS = 12
#: Scenes drawn for one frame before the threshold of the hit finder counts as too high.
_TRIES = 200


def particle_run(
    path: str | os.PathLike[str],
    n_frames: int = 1770,
    *,
    detector: str | Detector = "halves",
    particle: str = "icosahedron",
    size_nm: float = 70.0,
    size_spread: float = 0.03,
    structure: float = 0.25,
    structure_seed: int = 0,
    shares: Mapping[str, float] | None = None,
    n_particles: Mapping[int, float] | None = None,
    aggregates: float = 0.5,
    separation_nm: float = 500.0,
    photons: float = 2e5,
    fluence_range: float = 1000.0,
    waist_nm: float = 1500.0,
    hit_threshold: float = 2000.0,
    background: float = 1.0,
    saturation: float | None = 4000.0,
    compression: str = "gzip",
    overwrite: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> ParticleRun:
    """Simulate a run of flash X-ray imaging and write it as CXI with its truth.

    A frame is the far field of what the pulse hit: the coherent sum over particles and
    droplets of their transforms on the Ewald sphere, averaged over each pixel, over a
    background of stray light, fluorescence and water. Shots differ in orientation, size,
    place in the Gaussian focus (which makes the fluence log-uniform) and pulse energy.

    Another run of the same experiment is another `seed` with, for example,
    ``detector=particle_detector(centre=(2, -3), gap=9)`` and ``background=1.4``; another
    experiment has another detector, `particle` or `size_nm`.

    Parameters
    ----------
    path : path
        File to write (``.cxi``).
    n_frames : int
        Number of frames, at least 1.
    detector : str or Detector
        ``halves``, ``quadrants`` (see `particle_detector`), or a detector.
    particle : {"icosahedron", "ellipsoid", "decorated", "cube", "sphere"}
        Shape of the particle: a dense shell around a core with random inner structure.
    size_nm : float
        Diameter of the sphere with the same volume [nm].
    size_spread : float
        Relative standard deviation of the sizes, up to 0.2.
    structure : float
        Standard deviation of the inner structure relative to the density of the shell.
    structure_seed : int
        Another number gives another inner structure; it does not depend on `seed`, as a
        further run shows the same particle.
    shares : mapping, optional
        Share of the classes ``{"single": 0.45, "multiple": 0.3, "water": 0.25}``.
    n_particles : mapping, optional
        Number of particles of a multiple hit, ``{2: 0.6, 3: 0.25, 4: 0.15}``.
    aggregates : float
        Share of the multiple hits whose particles touch, 0 to 1.
    separation_nm : float
        Largest distance of other particles from the first [nm]; distances are log-uniform.
    photons : float
        Photons that one particle in the middle of the focus scatters onto the good pixels in
        a mean pulse.
    fluence_range : float
        Fluence in the middle of the focus relative to the dimmest place where hits occur.
    waist_nm : float
        Radius of the focus where the fluence is exp(-2) of the middle [nm].
    hit_threshold : float
        Photons at which the hit finder misses half of the hits; those it misses (with the
        probability 1 / (1 + (photons / threshold)^2)) are not recorded. 0 keeps all.
    background : float
        Scale of the background; 1 gives some 700 photons in a frame of 256 x 256.
    saturation : float, optional
        Photons at which a pixel is full; None for no limit.
    compression : {"gzip", "bitshuffle", "none"}
        Compression of the frames.
    overwrite : bool
        Replace an existing file.
    seed : int
        The same arguments give the same file.
    progress : callable, optional
        Called as ``progress(done, total)`` after each frame.

    Returns
    -------
    ParticleRun

    Raises
    ------
    ParameterError
        When a parameter is out of range.
    OutputError
        When the file exists or cannot be written; nothing is left behind.
    """
    _check_range(n_frames=(n_frames, 1), seed=(seed, 0), background=(background, 0))
    _check_range(hit_threshold=(hit_threshold, 0), fluence_range=(fluence_range, 1))
    _check_positive(photons=photons, waist_nm=waist_nm, size_nm=size_nm)
    if saturation is not None:
        _check_positive(saturation=saturation)
    if not 0 <= size_spread <= 0.2:
        raise ParameterError(f"size_spread must lie in 0 to 0.2, got {size_spread}")
    if not 0 <= aggregates <= 1:
        raise ParameterError(f"aggregates must lie in 0 to 1, got {aggregates}")
    widest = size_nm * (1 + SIZE_CUT * size_spread)
    if not widest <= separation_nm < np.inf:
        raise ParameterError(
            f"separation_nm must be at least the largest particle, {widest:.4g} nm, "
            f"got {separation_nm}"
        )
    plan = _labels(n_frames, SHARES if shares is None else shares, seed)
    source = SceneSource(
        size_nm, size_spread, waist_nm, fluence_range, separation_nm, aggregates,
        _numbers(N_PARTICLES if n_particles is None else n_particles),
    )  # fmt: skip
    if isinstance(detector, str):
        detector = particle_detector(detector)
    optics = _optics(detector)
    reach = float(np.sqrt((optics.q**2).sum(axis=0)).max()) * (1 + SIZE_CUT * size_spread)
    model = particle_model(
        particle, size_nm, reach * 1.001, structure=structure, structure_seed=structure_seed
    )
    solid = solid_angle(detector)[detector.good]
    shared = np.random.default_rng([seed, 0])
    simulation = _Simulation(
        detector, optics, model, source, solid * np.float32(photons / _typical(model, optics, solid)),
        instrument_background(detector, background, shared), hit_threshold, saturation,
    )  # fmt: skip
    path = Path(path)
    events = [f"seed{seed}-{frame:06d}" for frame in range(n_frames)]
    rows: list[dict[str, Any]] = []
    bodies: list[dict[str, Any]] = []
    with FrameWriter(path, n_frames, detector, compression, overwrite, events) as writer:
        for frame, label in enumerate(plan):
            # A stream per frame: what it shows does not depend on the frames before.
            rng = np.random.default_rng([seed, 1, frame])
            image, row, parts = simulation.frame(label, rng)
            writer.write_frame(frame, image)
            rows.append({"event_id": events[frame], **row})
            bodies += [{"frame": frame, **part} for part in parts]
            if progress is not None:
                progress(frame + 1, n_frames)
        write_tables(writer, rows, bodies)
    return ParticleRun.open(path)


def _check_range(**limits: tuple[float, float]) -> None:
    for name, (value, least) in limits.items():
        if not (np.isfinite(value) and value >= least):
            raise ParameterError(f"{name} must be {least} or more, got {value}")


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not (np.isfinite(value) and value > 0):
            raise ParameterError(f"{name} must be positive, got {value}")


def _labels(n_frames: int, shares: Mapping[str, float], seed: int) -> list[str]:
    """Draw the class of each frame."""
    weights = np.array([shares.get(label, 0.0) for label in LABELS], dtype=float)
    if not set(shares) <= set(LABELS) or not _are_weights(weights):
        raise ParameterError(
            f"shares must give the classes {', '.join(LABELS)} a share of 0 or more, "
            f"got {dict(shares)}"
        )
    rng = np.random.default_rng([seed, 2])
    # Stratified, so that also a short run holds each class in its share.
    quantiles = (np.arange(n_frames) + rng.uniform()) / n_frames
    numbers = np.searchsorted(np.cumsum(weights / weights.sum())[:-1], quantiles, side="right")
    return [LABELS[number] for number in rng.permutation(numbers)]


def _numbers(shares: Mapping[int, float]) -> Mapping[int, float]:
    fine = _are_weights(np.array(list(shares.values()), dtype=float))
    if not fine or not all(n in range(2, 21) for n in shares):
        raise ParameterError(
            f"n_particles must be {{number: share}} with numbers from 2 to 20, got {dict(shares)}"
        )
    return shares


def _are_weights(values: NDArray[np.float64]) -> bool:
    return bool(np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0)


def _optics(detector: Detector) -> Optics:
    """Scattering vectors of the good pixels: on the Ewald sphere, not a plane."""
    x, y = (values[detector.good].astype(np.float64) for values in detector.positions)
    away = detector.distance_m / detector.pixel_size_m
    length = np.sqrt(x**2 + y**2 + away**2)
    k = 10 / detector.wavelength
    q = k * np.stack([x / length, y / length, away / length - 1])
    return Optics(q.astype(np.float32), k / away)


def _typical(model: ParticleModel, optics: Optics, solid: NDArray[np.float32]) -> float:
    """Scattering of one particle onto the good pixels, mean over orientations."""
    rng = np.random.default_rng(0)
    turns = [rotation_matrix(random_quaternion(rng)) for _ in range(_N_ORIENTATIONS)]
    return float(
        np.mean([(np.abs(model.amplitude(optics.q, turn)) ** 2 * solid).sum() for turn in turns])
    )


@dataclass(frozen=True)
class _Simulation:
    """Everything that the frames of a run share."""

    detector: Detector
    optics: Optics
    model: ParticleModel
    source: SceneSource
    photons: NDArray[np.float32]
    background: InstrumentBackground
    hit_threshold: float
    saturation: float | None

    def frame(
        self, label: str, rng: np.random.Generator
    ) -> tuple[NDArray[Any], dict[str, Any], list[dict[str, Any]]]:
        """Return the image, the row of the frame and one row per body."""
        scene, signal, pulse = self._hit(label, rng)
        under = self.background.draw(label, pulse, rng)
        expected = np.zeros(self.detector.shape, dtype=np.float32)
        expected[self.detector.good] = signal + under
        adu = expose(self.detector, expected, rng)
        if self.saturation is not None:
            np.minimum(adu, np.float32(self.saturation * self.detector.gain), out=adu)
        parts = [body_row(body, pulse) for body in scene.bodies]
        first = {name: value for name, value in parts[0].items() if name != "kind"}
        row = {
            "label": label,
            "kind": scene.kind,
            "n_particles": scene.n_particles,
            "photons": float(signal.sum(dtype=np.float64)),
            "background": float(under.mean(dtype=np.float64)),
            "pulse": pulse,
            **first,
        }
        return digitise(self.detector, adu), row, parts

    def _hit(
        self, label: str, rng: np.random.Generator
    ) -> tuple[Scene, NDArray[np.float32], float]:
        """Draw scenes until the hit finder records one."""
        for _ in range(_TRIES):
            scene = self.source.draw(label, rng)
            pulse = float(rng.lognormal(0, _PULSE_SPREAD))
            signal = self.optics.intensity(scene, self.model) * self.photons
            signal *= np.float32(pulse)
            found = float(signal.sum(dtype=np.float64)) ** 2
            if rng.random() * (found + self.hit_threshold**2) <= found:
                return scene, signal, pulse
        raise ParameterError(
            f"hit_threshold {self.hit_threshold:g}: {_TRIES} scenes of the class {label} scattered "
            "too little; lower it or raise photons"
        )
