"""Bragg spots: pixel-integrated shapes, their matched-filter SNR, and how to draw them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import erf

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_xtal.simulate.detectors import Detector

#: Nodes that turn a round spot into an elongated one, enough up to the stretch beside them [sigma].
_NODES, _FEW_UP_TO, _MANY_NODES = 9, 3.0, 25


@dataclass(frozen=True)
class Shapes:
    """Normalised spot shapes on the pixels of a frame.

    Attributes
    ----------
    index : (n, w*w) ndarray of int64
        Flat pixel indices (0 where `weight` is 0 because the pixel cannot be used).
    weight : (n, w*w) ndarray of float64
        Share of the spot's photons that fall onto the pixel; pixels that are masked, on
        another panel, or outside the frame have none.
    """

    index: NDArray[np.int64]
    weight: NDArray[np.float64]

    @property
    def recorded(self) -> NDArray[np.float64]:
        """Share of each spot that is recorded, 0 to 1."""
        return self.weight.sum(axis=1)

    def keep(self, which: NDArray[Any]) -> Shapes:
        """Return the shapes of some of the spots."""
        return Shapes(self.index[which], self.weight[which])


def spot_shapes(
    detector: Detector,
    row: NDArray[np.float64],
    col: NDArray[np.float64],
    sigma: NDArray[np.float64],
    stretch: NDArray[np.float64] | float = 0.0,
    direction: NDArray[np.float64] | None = None,
) -> Shapes:
    """Integrate Gaussian spots over pixels.

    Parameters
    ----------
    detector : Detector
    row, col : (n,) ndarray
        Spot centres in the slab, integer = pixel centre; they must lie inside the slab.
    sigma : (n,) ndarray
        Standard deviation across the radial direction [px].
    stretch : (n,) ndarray or float
        Additional standard deviation along the radial direction [px], added in squares.
    direction : (n, 2) ndarray, optional
        Unit vectors (row, col) along which the spots are stretched, if not the radial ones.

    Returns
    -------
    Shapes

    Notes
    -----
    A stretched spot is a round one smeared along its direction. The smearing is done by
    Gauss-Hermite quadrature, each node integrated exactly by the error function, so that
    also spots far narrower than a pixel keep their photons.
    """
    n = len(row)
    stretch = np.broadcast_to(np.asarray(stretch, dtype=float), (n,))
    ss, fs = detector.shape
    r0, c0 = np.rint(row).astype(np.int64), np.rint(col).astype(np.int64)
    half = 2 if n == 0 else int(np.ceil(4.5 * np.hypot(sigma, stretch).max())) + 1
    offsets = np.arange(-half, half + 1)

    if direction is None:
        direction = _radial(detector, r0, c0)
    few = n == 0 or float((stretch / sigma).max()) <= _FEW_UP_TO
    nodes, node_weights = np.polynomial.hermite_e.hermegauss(_NODES if few else _MANY_NODES)
    node_weights = node_weights / node_weights.sum()
    along = stretch[:, None] * nodes[None, :]
    row_part = _integrated(offsets, (row - r0)[:, None] + along * direction[:, :1], sigma)
    col_part = _integrated(offsets, (col - c0)[:, None] + along * direction[:, 1:], sigma)
    weight = np.einsum("k,nki,nkj->nij", node_weights, row_part, col_part)

    rows = np.broadcast_to(r0[:, None, None] + offsets[:, None], weight.shape)
    cols = np.broadcast_to(c0[:, None, None] + offsets[None, :], weight.shape)
    inside = (rows >= 0) & (rows < ss) & (cols >= 0) & (cols < fs)
    index = np.where(inside, rows * fs + cols, 0)
    own = detector.panel_map[r0, c0][:, None, None]
    usable = inside & detector.good.reshape(-1)[index]
    usable &= detector.panel_map.reshape(-1)[index] == own
    index = np.where(usable, index, 0)
    weight = np.where(usable, weight, 0.0)
    size = len(offsets) ** 2
    return Shapes(index.reshape(n, size), weight.reshape(n, size))


def _radial(
    detector: Detector, rows: NDArray[np.int64], cols: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return unit vectors (row, col) that point away from the beam."""
    x, y = detector.positions
    away = np.column_stack([y[rows, cols], x[rows, cols]]).astype(float)
    return away / np.maximum(np.hypot(*away.T), 1e-6)[:, None]


def _integrated(
    offsets: NDArray[np.int64], centre: NDArray[np.float64], sigma: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Integrals of unit Gaussians over pixels, (n, nodes, width)."""
    edges = np.append(offsets, offsets[-1] + 1) - 0.5
    z = (edges - centre[:, :, None]) / (np.sqrt(2.0) * sigma[:, None, None])
    return 0.5 * np.diff(erf(z), axis=2)


def pixel_variance(detector: Detector, photons: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the variance of pixels without a spot, in photons squared (Poisson + read noise)."""
    return np.asarray(photons, dtype=float) + (detector.read_noise / detector.gain) ** 2


def unit_snr(
    detector: Detector, shapes: Shapes, background: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the matched-filter SNR per photon of each spot.

    A spot of S photons has the signal-to-noise ratio ``S * sqrt(sum(p_i^2 / var_i))`` with
    p its shape and var the variance of the background: what a filter that knows the shape
    reaches. It is a property of the data, not of a peak finder.

    Parameters
    ----------
    detector : Detector
    shapes : Shapes
    background : (ss, fs) ndarray
        Expected photons per pixel without the spots.

    Returns
    -------
    (n,) ndarray
    """
    variance = pixel_variance(detector, background.reshape(-1)[shapes.index])
    return np.sqrt(np.sum(shapes.weight**2 / np.maximum(variance, 1e-9), axis=1))


def add_spots(expected: NDArray[np.float32], shapes: Shapes, photons: NDArray[np.float64]) -> None:
    """Add spots of given photons to the expected photons per pixel, in place."""
    flat = expected.reshape(-1)
    np.add.at(
        flat, shapes.index.reshape(-1), (shapes.weight * photons[:, None]).reshape(-1).astype("f4")
    )
