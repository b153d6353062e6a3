"""Models of single particles and droplets, and their scattered amplitude.

Lengths are nm, scattering vectors cycles per nm (1/d), amplitudes volumes in nm^3 times a
density relative to that of the particle's shell.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.fft import fftn

from napari_xtal.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Names of the shapes that `particle_model` knows.
SHAPES = ("icosahedron", "ellipsoid", "decorated", "cube", "sphere")
#: Samples of the transform per 1/size: enough for linear interpolation (see `_transform`).
_OVERSAMPLING = 6
#: Voxels of the density per voxel that the highest frequency asks for; keeps the sharp surface
#: from folding back into the wanted frequencies.
_FINER = 2
#: Reach of the density box in units of the size; covers the longest shape.
_REACH = 0.85
#: Side of the largest transform: 2 GB of work space.
_MAX_SIDE = 512
#: Share of the size that the dense shell takes, and density of the core relative to it.
_SHELL, _CORE = 0.09, 0.75
#: Waves that make up the inner structure, and their highest frequency in 1/size.
_N_WAVES, _WAVE_MAX = 80, 3.0


@dataclass(frozen=True, eq=False)
class ParticleModel:
    """Three-dimensional Fourier transform of a particle.

    Attributes
    ----------
    shape : str
        One of `SHAPES`.
    size : float
        Diameter of the sphere with the same volume [nm].
    step : float
        Distance of neighbouring samples of the transform [1/nm].
    transform : (n, n, n) ndarray of complex64
        Samples, zero frequency at n // 2, axes (x, y, z) of the particle.
    """

    shape: str
    size: float
    step: float
    transform: NDArray[np.complex64]

    def amplitude(
        self, q: NDArray[np.float32], rotation: NDArray[np.float64], scale: float = 1.0
    ) -> NDArray[np.complex64]:
        """Return the amplitude that the rotated particle scatters.

        Parameters
        ----------
        q : (3, n) ndarray of float32
            Scattering vectors in the laboratory [1/nm].
        rotation : (3, 3) ndarray
            Turns the particle from its own axes into the laboratory.
        scale : float
            Size of this particle relative to the model.

        Returns
        -------
        (n,) ndarray of complex64

        Raises
        ------
        ParameterError
            When `q` reaches beyond the largest frequency of the model.
        """
        turn = (rotation.T * (scale / self.step)).astype(np.float32)
        centre = self.transform.shape[0] // 2
        at = turn @ q
        if at.size and np.abs(at).max() >= centre:
            raise ParameterError(
                f"q reaches {np.abs(at).max() * self.step:.3g} cycles per nm of the model, which "
                f"knows {centre * self.step:.3g}; make it with a larger q_max"
            )
        values = _interpolate(self.transform, at + np.float32(centre))
        values *= np.float32(scale**3)
        return values


def _interpolate(volume: NDArray[np.complex64], at: NDArray[np.float32]) -> NDArray[np.complex64]:
    """Trilinear interpolation at inner points (3, n); eight times as fast as scipy's."""
    side = volume.shape[0]
    flat = volume.reshape(-1)
    floor = np.floor(at)
    part = at - floor
    low = floor.astype(np.intp)
    corner = (low[0] * side + low[1]) * side + low[2]
    values = np.zeros(at.shape[1], dtype=np.complex64)
    for dx in (0, 1):
        along_x = part[0] if dx else 1 - part[0]
        for dy in (0, 1):
            weight = along_x * (part[1] if dy else 1 - part[1])
            first = corner + (dx * side + dy) * side
            near = flat.take(first)
            values += weight * (near + part[2] * (flat.take(first + 1) - near))
    return values


@lru_cache(maxsize=2)
def particle_model(
    shape: str, size: float, q_max: float, *, structure: float = 0.25, structure_seed: int = 0
) -> ParticleModel:
    """Compute the transform of a particle with shell, core and inner structure.

    Parameters
    ----------
    shape : {"icosahedron", "ellipsoid", "decorated", "cube", "sphere"}
        ``ellipsoid`` has axes 1 : 1.2 : 1.5; ``decorated`` is a sphere with small spheres on
        its surface.
    size : float
        Diameter of the sphere with the same volume [nm].
    q_max : float
        Largest frequency needed [1/nm].
    structure : float
        Standard deviation of the random inner structure relative to the density of the shell.
    structure_seed : int
        Another number gives another inner structure (and other decorations).

    Returns
    -------
    ParticleModel

    Raises
    ------
    ParameterError
        When there is no such shape, a value is out of range, or the particle is too large for
        the largest angle of the detector.
    """
    if shape not in SHAPES:
        raise ParameterError(f"particle '{shape}' is unknown; choose one of {', '.join(SHAPES)}")
    for name, value in (("size_nm", size), ("q_max", q_max)):
        if not (np.isfinite(value) and value > 0):
            raise ParameterError(f"{name} must be positive, got {value}")
    if not (np.isfinite(structure) and 0 <= structure <= 1):
        raise ParameterError(f"structure must lie in 0 to 1, got {structure}")
    if structure_seed < 0:
        raise ParameterError(f"structure_seed must be 0 or more, got {structure_seed}")
    half = int(np.ceil(_OVERSAMPLING * q_max * size)) + 1
    side = 2 * half * _FINER
    if side > _MAX_SIDE:
        raise ParameterError(
            f"size_nm {size:g} with {q_max:.3g} cycles per nm at the corner of the detector needs "
            f"{side}^3 voxels (at most {_MAX_SIDE}^3); choose a smaller particle or detector"
        )
    density = _density(shape, side, structure, structure_seed)
    return ParticleModel(
        shape, float(size), 1 / (_OVERSAMPLING * size), _transform(density, side, half, size)
    )


def _density(shape: str, side: int, structure: float, seed: int) -> NDArray[np.float32]:
    """Density on a cube around the particle; lengths in units of the size."""
    voxel = _OVERSAMPLING / side
    n = int(np.ceil(_REACH / voxel))
    axis = np.arange(-n, n + 1) * voxel
    rng = np.random.default_rng([seed, SHAPES.index(shape)])
    bumps = rng.standard_normal((14, 3))
    bumps *= 0.47 / np.linalg.norm(bumps, axis=1, keepdims=True)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))
    # Volume as it comes out of the shape's formula; scaled to the sphere of diameter 1.
    volume = np.clip(0.5 - _surface(shape, grid, bumps) / voxel, 0, 1).sum() * voxel**3
    stretch = (volume / (np.pi / 6)) ** (1 / 3)
    outside = _surface(shape, grid * stretch, bumps) / stretch
    filled = np.clip(0.5 - outside / voxel, 0, 1)
    core = np.clip(0.5 - (outside + _SHELL) / voxel, 0, 1)
    inner = filled > 0
    waves = rng.standard_normal((_N_WAVES, 3))
    waves *= _WAVE_MAX * rng.random((_N_WAVES, 1)) / np.linalg.norm(waves, axis=1, keepdims=True)
    field = np.zeros(inner.sum())
    for wave, phase in zip(waves, rng.uniform(0, 2 * np.pi, _N_WAVES), strict=True):
        field += np.cos(2 * np.pi * (wave @ grid[:, inner]) + phase)
    density = filled - (1 - _CORE) * core
    density[inner] += structure * np.sqrt(2 / _N_WAVES) * field * core[inner]
    return density.astype(np.float32)


def _surface(shape: str, r: NDArray[np.float64], bumps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance outside the surface (negative inside) at the points r (3, …)."""
    if shape == "ellipsoid":
        axes = np.array([1.0, 1.2, 1.5]) * 0.41
        length = np.sqrt(sum((x / a) ** 2 for x, a in zip(r, axes, strict=True)))
        # Distance scaled by the mean radius: exact on the surface, near enough beside it.
        return np.asarray((length - 1) * axes.mean())
    if shape == "cube":
        return np.asarray(np.abs(r).max(axis=0) - 0.4)
    radius = np.sqrt((r**2).sum(axis=0))
    if shape == "icosahedron":
        faces = np.max([np.abs(np.tensordot(n, r, 1)) for n in _icosahedron_faces()], axis=0)
        # Vertices of a capsid are blunt: cut them by a sphere.
        return np.asarray(np.maximum(faces - 0.47, radius - 0.565))
    if shape == "decorated":
        outside = radius - 0.44
        for bump in bumps:
            distance = np.sqrt(sum((x - b) ** 2 for x, b in zip(r, bump, strict=True)))
            np.minimum(outside, distance - 0.11, out=outside)
        return np.asarray(outside)
    return np.asarray(radius - 0.5)


def _icosahedron_faces() -> NDArray[np.float64]:
    """Return the normals of the faces, one of each opposite pair: (10, 3)."""
    golden = (1 + np.sqrt(5)) / 2
    normals = [(1, 1, 1), (1, 1, -1), (1, -1, 1), (1, -1, -1)]
    for sign in (1, -1):
        a, b = 1 / golden, sign * golden
        normals += [(0, a, b), (a, b, 0), (b, 0, a)]
    return np.array(normals) / np.sqrt(3)


def _transform(
    density: NDArray[np.float32], side: int, half: int, size: float
) -> NDArray[np.complex64]:
    """Transform the padded density and keep the frequencies -half to half."""
    n = density.shape[0] // 2
    # Linear interpolation between samples multiplies the density by sinc^2; divide it out.
    droop = np.sinc(np.arange(-n, n + 1) / side).astype(np.float32) ** 2
    density = density / (droop[:, None, None] * droop[None, :, None] * droop)
    volume = np.zeros((side,) * 3, dtype=np.complex64)
    index = np.arange(-n, n + 1)  # negative numbers wrap: the centre stands at voxel 0
    volume[np.ix_(index, index, index)] = density
    transform = fftn(volume, overwrite_x=True)
    keep = np.arange(-half, half + 1)
    voxel = np.float32((_OVERSAMPLING * size / side) ** 3)
    return np.ascontiguousarray(transform[np.ix_(keep, keep, keep)] * voxel)


def droplet_amplitude(
    q: NDArray[np.float32], axes: NDArray[np.float64], rotation: NDArray[np.float64] | None = None
) -> NDArray[np.float32]:
    """Return the amplitude of a homogeneous ellipsoid of density 1.

    Parameters
    ----------
    q : (3, n) ndarray of float32
        Scattering vectors in the laboratory [1/nm].
    axes : (3,) ndarray
        Semi-axes [nm].
    rotation : (3, 3) ndarray, optional
        Turns the ellipsoid into the laboratory; needless for a sphere.

    Returns
    -------
    (n,) ndarray of float32
        ``V 3 (sin x - x cos x) / x^3`` with x = 2 pi |axes * q|: real, as it is symmetric.
    """
    stretch = np.diag(axes) if rotation is None else axes[:, None] * rotation.T
    at = (2 * np.pi * stretch).astype(np.float32) @ q
    x2 = (at * at).sum(axis=0)
    # The quotient cancels for small x; there the series is exact in float32.
    x = np.sqrt(np.maximum(x2, np.float32(0.04)))
    bessel = np.where(x2 < 0.04, 1 - x2 / 10, 3 * (np.sin(x) - x * np.cos(x)) / x**3)
    volume = np.float32(4 / 3 * np.pi * np.prod(axes))
    return np.asarray(bessel * volume, dtype=np.float32)
