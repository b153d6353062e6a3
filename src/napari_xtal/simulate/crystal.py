"""A crystal lattice in the beam: which reflections are excited, where, and how strongly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_xtal.errors import ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Cell of tetragonal lysozyme (a, b, c [Angstrom], alpha, beta, gamma [degree]).
LYSOZYME = (79.1, 79.1, 37.9, 90.0, 90.0, 90.0)
#: Reflections further from the Ewald sphere than this many widths are dark.
_CUT = 3.0
#: More reflections than this do not fit into memory comfortably.
_MAX_REFLECTIONS = 20_000_000


def reciprocal_basis(cell: tuple[float, float, float, float, float, float]) -> NDArray[np.float64]:
    """Return a*, b*, c* as the columns of a matrix [1/Angstrom].

    Parameters
    ----------
    cell : tuple of float
        a, b, c in Angstrom, alpha, beta, gamma in degrees.

    Returns
    -------
    (3, 3) ndarray
        ``q = basis @ (h, k, l)`` in the crystal's own frame, a along x, b in the xy plane.

    Raises
    ------
    ParameterError
        When no such cell exists.
    """
    values = np.asarray(cell, dtype=float)
    if values.shape != (6,) or not np.isfinite(values).all() or (values <= 0).any():
        raise ParameterError(
            f"cell must be (a, b, c, alpha, beta, gamma) in Angstrom and degrees, got {cell}"
        )
    a, b, c = values[:3]
    cos_a, cos_b, cos_g = np.cos(np.deg2rad(values[3:]))
    sin_g = np.sqrt(1 - cos_g**2)
    squared = 1 - cos_a**2 - cos_b**2 - cos_g**2 + 2 * cos_a * cos_b * cos_g
    if not squared > 1e-12 or sin_g < 1e-6:
        raise ParameterError(f"cell: these angles do not close a cell, got {cell}")
    y = c * (cos_a - cos_b * cos_g) / sin_g
    direct = np.array(
        [[a, b * cos_g, c * cos_b], [0, b * sin_g, y], [0, 0, c * np.sqrt(squared) / sin_g]]
    )
    return np.linalg.inv(direct).T


def random_rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a rotation matrix drawn uniformly from all orientations (Shoemake 1992)."""
    return rotation_matrix(random_quaternion(rng))


def random_quaternion(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a unit quaternion (w, x, y, z) drawn uniformly from all orientations."""
    return _unit(rng.standard_normal(4))


def rotation_matrix(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (3, 3) matrix that turns vectors as the unit quaternion (w, x, y, z) does."""
    w, x, y, z = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / np.linalg.norm(vector)


@dataclass(frozen=True)
class Reflections:
    """Excited reflections of one lattice.

    Attributes
    ----------
    hkl : (n, 3) ndarray of int32
        Miller indices.
    q : (n, 3) ndarray of float64
        Scattering vector in the laboratory, beam along +z [1/Angstrom].
    excitation : (n,) ndarray of float64
        Distance from the Ewald sphere, ``|k0 + q| - 1/lambda`` [1/Angstrom].
    intensity : (n,) ndarray of float64
        Relative intensity: structure factor squared, fall-off and partiality; about 1
        for a full reflection near the beam.
    tan : (n, 2) ndarray of float64
        Where the diffracted ray meets a detector at unit distance (x, y).
    """

    hkl: NDArray[np.int32]
    q: NDArray[np.float64]
    excitation: NDArray[np.float64]
    intensity: NDArray[np.float64]
    tan: NDArray[np.float64]


class Crystal:
    """A kind of crystal: cell and intensities shared by all its lattices.

    Parameters
    ----------
    cell : tuple of float
        a, b, c [Angstrom], alpha, beta, gamma [degree].
    q_max : float
        Largest 1/d that the detector records [1/Angstrom].
    rng : numpy Generator
        Draws the structure factors.
    b_factor : float
        Temperature factor B [Angstrom^2]: intensities fall as exp(-B q^2 / 2).
    profile_radius : float
        Width (standard deviation) of a reciprocal-lattice point [1/Angstrom], from the size of
        the coherent domains.
    mosaicity : float
        Angular spread of the domains [rad]; widens points in proportion to q.

    Notes
    -----
    Intensities follow the acentric Wilson distribution (exponential; Wilson 1949) with equal
    Friedel mates. The partiality is a Gaussian of the excitation error, 1 on the Ewald sphere.
    """

    def __init__(
        self,
        cell: tuple[float, float, float, float, float, float],
        q_max: float,
        rng: np.random.Generator,
        *,
        b_factor: float = 25.0,
        profile_radius: float = 4e-4,
        mosaicity: float = 5e-4,
    ) -> None:
        for name, value in (("b_factor", b_factor), ("mosaicity", mosaicity)):
            if not value >= 0:
                raise ParameterError(f"{name} must be 0 or more, got {value}")
        if not profile_radius > 0:
            raise ParameterError(f"profile_radius must be positive, got {profile_radius}")
        basis = reciprocal_basis(cell)
        # |h| <= q_max * a holds for every point within q_max, whatever the angles.
        limits = [int(q_max * length) for length in cell[:3]]
        size = int(np.prod([2 * n + 1 for n in limits]))
        if size > _MAX_REFLECTIONS:
            raise ParameterError(
                f"cell: {size:.1e} reflections within 1/d = {q_max:.2f} / Angstrom are too many; "
                "use a smaller cell or a longer distance"
            )
        axes = np.meshgrid(*(np.arange(-n, n + 1) for n in limits), indexing="ij")
        hkl = np.stack([axis.ravel() for axis in axes], axis=1).astype(np.int32)
        # In this order the Friedel mate of entry i is entry size - 1 - i.
        order = np.arange(size)
        wilson = rng.exponential(1.0, size)[np.minimum(order, size - 1 - order)]
        q = hkl @ basis.T
        q2 = np.sum(q * q, axis=1)
        inside = (q2 > 0) & (q2 <= q_max**2)
        self.hkl = hkl[inside]
        self._q = q[inside]
        self._full = (wilson * np.exp(-b_factor * q2 / 2))[inside]
        self._width = np.hypot(profile_radius, mosaicity * np.sqrt(q2[inside]))

    def diffract(self, rotation: NDArray[np.float64], wavelength: float) -> Reflections:
        """Return the reflections that a lattice in this orientation excites.

        Parameters
        ----------
        rotation : (3, 3) ndarray
            Crystal frame to laboratory.
        wavelength : float
            Wavelength [Angstrom].

        Returns
        -------
        Reflections
        """
        k = 1 / wavelength
        # |k0 + q| - k = (q^2 + 2 k q_z) / (|k0 + q| + k): cheap sieve on the numerator first.
        q_z = self._q @ rotation[2]
        numerator = np.einsum("ij,ij->i", self._q, self._q) + 2 * k * q_z
        near = np.flatnonzero(np.abs(numerator) < 2.5 * k * _CUT * self._width)
        q = self._q[near] @ rotation.T
        outgoing = q + np.array([0.0, 0.0, k])
        excitation = np.linalg.norm(outgoing, axis=1) - k
        width = self._width[near]
        seen = (np.abs(excitation) < _CUT * width) & (outgoing[:, 2] > 0.05 * k)
        q, outgoing, excitation, near = q[seen], outgoing[seen], excitation[seen], near[seen]
        partiality = np.exp(-0.5 * (excitation / width[seen]) ** 2)
        return Reflections(
            hkl=self.hkl[near],
            q=q,
            excitation=excitation,
            intensity=self._full[near] * partiality,
            tan=outgoing[:, :2] / outgoing[:, 2:],
        )
