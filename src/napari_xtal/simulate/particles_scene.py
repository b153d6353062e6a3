"""What is in the focus of a shot, drawn at random, and what it scatters.

Positions are nm from the middle of the focus: x and y across the beam as on the detector,
z along it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from napari_xtal.errors import ParameterError
from napari_xtal.simulate.crystal import random_quaternion, rotation_matrix
from napari_xtal.simulate.particles_model import droplet_amplitude

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_xtal.simulate.particles_model import ParticleModel

_Key = TypeVar("_Key", str, int)

#: Classes of a frame.
LABELS = ("single", "multiple", "water")
#: What makes a class, and how often.
SINGLE_KINDS = {"bare": 0.8, "coated": 0.2}
WATER_KINDS = {"drop": 0.44, "oval": 0.14, "drops": 0.04, "mist": 0.2, "buried": 0.18}
#: Density of water relative to the shell of the particle.
WATER_DENSITY = 0.75
#: The dimmest particle of a multiple hit gets this share of the light of the first, or the
#: frame would be single to every eye.
_DIMMEST = 0.15
#: Sizes of particles vary by no more than this many standard deviations.
SIZE_CUT = 3.0
#: Tries to place a particle before the focus counts as too small.
_TRIES = 1000


@dataclass(frozen=True)
class Body:
    """One particle or droplet.

    Attributes
    ----------
    kind : {"particle", "droplet"}
    size : float
        Diameter of the sphere with the same volume [nm].
    axes : tuple of float
        Semi-axes of a droplet relative to size / 2.
    quaternion : (4,) ndarray
        Orientation (w, x, y, z): from the body's own axes into the laboratory.
    position : (3,) ndarray
        Centre [nm].
    light : float
        Fluence here relative to the middle of the focus.
    medium : float
        Density of the water that surrounds a particle (0: it stands in vacuum).
    """

    kind: str
    size: float
    quaternion: NDArray[np.float64]
    position: NDArray[np.float64]
    light: float
    axes: tuple[float, float, float] = (1.0, 1.0, 1.0)
    medium: float = 0.0

    def amplitude(self, q: NDArray[np.float32], model: ParticleModel) -> NDArray[np.complex64]:
        """Return the amplitude of the body at the origin in full light, for q (3, n) [1/nm]."""
        rotation = rotation_matrix(self.quaternion)
        if self.kind == "droplet":
            axes = self.size / 2 * np.array(self.axes)
            spread = None if len(set(self.axes)) == 1 else rotation
            return (WATER_DENSITY * droplet_amplitude(q, axes, spread)).astype(np.complex64)
        values = model.amplitude(q, rotation, self.size / model.size)
        if self.medium:
            displaced = droplet_amplitude(q, np.full(3, self.size / 2))
            values -= np.float32(self.medium) * displaced
        return values


@dataclass(frozen=True)
class Scene:
    """What a shot hits.

    Attributes
    ----------
    label : {"single", "multiple", "water"}
        Class of the frame.
    kind : str
        bare, coated; aggregate, separate; drop, oval, drops, mist, buried.
    bodies : tuple of Body
        The first one stands for the frame.
    """

    label: str
    kind: str
    bodies: tuple[Body, ...]

    @property
    def n_particles(self) -> int:
        """Number of particles, droplets not counted."""
        return sum(body.kind == "particle" for body in self.bodies)


@dataclass(frozen=True)
class Optics:
    """What the intensity of a scene needs of beam and detector.

    Attributes
    ----------
    q : (3, n) ndarray of float32
        Scattering vectors of the pixels on the Ewald sphere [1/nm].
    pixel : float
        Width of a pixel in q [1/nm].
    """

    q: NDArray[np.float32]
    pixel: float

    def intensity(self, scene: Scene, model: ParticleModel) -> NDArray[np.float32]:
        """Return the squared amplitude of the coherent sum, pixel by pixel: (n,) [nm^6].

        Distant bodies make fringes finer than a pixel: the pixel damps each pair's
        interference by the sinc of its phase across the pixel. The droplets of a mist are many
        and move: their intensities add.
        """
        total = np.zeros(self.q.shape[1], dtype=np.float32)
        before: list[tuple[Body, NDArray[np.complex64]]] = []
        for body in scene.bodies:
            wave = body.amplitude(self.q, model)
            wave *= np.float32(np.sqrt(body.light))
            total += wave.real**2 + wave.imag**2
            if scene.kind == "mist" or len(scene.bodies) == 1:
                continue
            wave *= self._phase(body.position)
            for other, earlier in before:
                apart = (body.position - other.position)[:2] * self.pixel
                damped = np.float32(2 * np.prod(np.sinc(apart)))
                total += damped * (wave.real * earlier.real + wave.imag * earlier.imag)
            before.append((body, wave))
        # The interference of unlike terms in float32 may undershoot zero by rounding.
        return np.maximum(total, 0, out=total)

    def _phase(self, position: NDArray[np.float64]) -> NDArray[np.complex64]:
        angle = (-2 * np.pi * position).astype(np.float32) @ self.q
        phase = np.empty(angle.shape, dtype=np.complex64)
        phase.real, phase.imag = np.cos(angle), np.sin(angle)
        return phase


@dataclass(frozen=True)
class SceneSource:
    """Draws scenes; parameters as in `particle_run`."""

    size: float
    size_spread: float
    waist: float
    fluence_range: float
    separation: float
    aggregates: float
    n_particles: Mapping[int, float]

    def draw(self, label: str, rng: np.random.Generator) -> Scene:
        """Return a random scene of the class `label`."""
        if label == "multiple":
            return self._multiple(rng)
        first = self._place(rng)
        if label == "single":
            kind = _pick(SINGLE_KINDS, rng)
            body = self._particle(first, rng, WATER_DENSITY if kind == "coated" else 0.0)
            if kind == "bare":
                return Scene(label, kind, (body,))
            return Scene(label, kind, (body, self._around(body, rng.uniform(1.03, 1.15), rng)))
        kind = _pick(WATER_KINDS, rng)
        if kind == "buried":
            body = self._particle(first, rng, WATER_DENSITY)
            return Scene(label, kind, (self._around(body, rng.uniform(1.5, 2.2), rng), body))
        if kind == "mist":
            n = int(rng.integers(8, 25))
            spread = rng.normal(0, self.waist / 3, (n, 3))
            drops = [self._drop(first + step, rng.lognormal(-0.9, 0.25), rng) for step in spread]
            return Scene(label, kind, tuple(drops))
        body = self._drop(first, rng.lognormal(0.4, 0.45), rng, oval=kind == "oval")
        if kind != "drops":
            return Scene(label, kind, (body,))
        drops = [body]
        for _ in range(int(rng.integers(1, 3))):
            size = rng.lognormal(-0.15, 0.25)
            at = self._beside(drops, rng, touching=rng.random() < 0.5, size=size * self.size)
            drops.append(self._drop(at, size, rng))
        return Scene(label, kind, tuple(drops))

    def _multiple(self, rng: np.random.Generator) -> Scene:
        n = _pick(self.n_particles, rng)
        touching = rng.random() < self.aggregates
        bodies = [self._particle(self._place(rng), rng)]
        while len(bodies) < n:
            size = self._size(rng)
            at = self._beside(bodies, rng, touching=touching, size=size)
            bodies.append(Body("particle", size, random_quaternion(rng), at, self._light(at)))
        kind = "aggregate" if touching else "separate"
        return Scene("multiple", kind, tuple(bodies))

    def _size(self, rng: np.random.Generator) -> float:
        step = np.clip(rng.standard_normal(), -SIZE_CUT, SIZE_CUT)
        return float(self.size * (1 + self.size_spread * step))

    def _place(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw a uniform place where the light is within its range: log-uniform fluence."""
        r = self.waist * np.sqrt(0.5 * np.log(self.fluence_range) * rng.random())
        angle = rng.uniform(0, 2 * np.pi)
        depth = rng.uniform(-0.2, 0.2) * self.waist
        return np.array([r * np.cos(angle), r * np.sin(angle), depth])

    def _light(self, position: NDArray[np.float64]) -> float:
        """Fluence of a Gaussian focus relative to its middle."""
        return float(np.exp(-2 * (position[0] ** 2 + position[1] ** 2) / self.waist**2))

    def _particle(
        self, at: NDArray[np.float64], rng: np.random.Generator, medium: float = 0.0
    ) -> Body:
        size = self._size(rng)
        return Body("particle", size, random_quaternion(rng), at, self._light(at), medium=medium)

    def _drop(
        self, at: NDArray[np.float64], size: float, rng: np.random.Generator, oval: bool = False
    ) -> Body:
        """Droplet of `size` times the particle's."""
        axes = np.ones(3)
        if oval:
            axes = np.exp(rng.normal(0, 0.25, 3))
            axes /= np.prod(axes) ** (1 / 3)
        return Body(
            "droplet", size * self.size, random_quaternion(rng), at, self._light(at),
            axes=(float(axes[0]), float(axes[1]), float(axes[2])),
        )  # fmt: skip

    def _around(self, body: Body, ratio: float, rng: np.random.Generator) -> Body:
        """Droplet that holds the body, anywhere inside."""
        free = (ratio - 1) * body.size / 2
        at = body.position + _direction(rng) * free * rng.random() ** (1 / 3)
        return Body("droplet", body.size * ratio, random_quaternion(rng), at, body.light)

    def _beside(
        self, bodies: list[Body], rng: np.random.Generator, *, touching: bool, size: float
    ) -> NDArray[np.float64]:
        """Draw a free place: in touch with one of the bodies, or up to `separation` away."""
        for _ in range(_TRIES):
            base = bodies[int(rng.integers(len(bodies)))] if touching else bodies[0]
            distance = (base.size + size) / 2
            if not touching:
                # Log-uniform: near pairs are as frequent as their share of orders of magnitude.
                distance *= (self.separation / distance) ** rng.random()
            at = base.position + distance * _direction(rng)
            gaps = [
                np.linalg.norm(at - body.position) - 0.999 * (body.size + size) / 2
                for body in bodies
            ]
            ratio = self._light(at) / bodies[0].light
            if min(gaps) >= 0 and _DIMMEST <= ratio <= 1 / _DIMMEST:
                return at
        raise ParameterError(
            f"waist_nm {self.waist:g}: the focus is too small for several particles of "
            f"{self.size:g} nm; choose a wider focus"
        )


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    vector = rng.standard_normal(3)
    return np.asarray(vector / np.linalg.norm(vector))


def _pick(shares: Mapping[_Key, float], rng: np.random.Generator) -> _Key:
    keys = list(shares)
    weights = np.array(list(shares.values()), dtype=float)
    return keys[int(rng.choice(len(keys), p=weights / weights.sum()))]
