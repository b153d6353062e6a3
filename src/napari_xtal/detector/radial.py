"""Distance of every pixel from the beam centre."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def radius_map(shape: tuple[int, int], centre: tuple[float, float]) -> NDArray[np.float32]:
    """Return the distance of each pixel centre from the beam centre.

    Parameters
    ----------
    shape : (int, int)
        Frame shape, (ss, fs).
    centre : (float, float)
        Beam centre (row, col) in pixels, integer = pixel centre.

    Returns
    -------
    (ss, fs) ndarray of float32
        Distance in pixels.
    """
    rows = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(centre[0])
    cols = np.arange(shape[1], dtype=np.float32)[None, :] - np.float32(centre[1])
    return np.hypot(rows, cols)


def inv_d_map(
    radius: NDArray[np.floating], pixel_size_m: float, distance_m: float, photon_energy_ev: float
) -> NDArray[np.float32]:
    """Return 1/d [1/nm] of each pixel of a flat detector normal to the beam.

    ``1/d = 2 sin(theta) / lambda`` with ``tan(2 theta) = r / distance``.

    Parameters
    ----------
    radius : ndarray
        Distance from the beam centre in pixels.
    pixel_size_m, distance_m : float
        Pixel size and sample-detector distance in metres.
    photon_energy_ev : float
        Photon energy in eV; lambda [nm] = 1239.841984 / E.

    Returns
    -------
    ndarray of float32
        1/d in 1/nm, the shape of `radius`.
    """
    two_theta = np.arctan2(np.asarray(radius, dtype=np.float64) * pixel_size_m, distance_m)
    return (2 * np.sin(two_theta / 2) * photon_energy_ev / 1239.841984).astype(np.float32)
