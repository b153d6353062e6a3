"""Measure a spot at a position that a person gave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Half side of the box that is summed, and of the box whose rim is the background [px].
CORE, RIM = 2, 5


def measure_at(
    image: NDArray[Any], good: NDArray[np.bool_], row: float, col: float
) -> dict[str, float]:
    """Return intensity, background, noise and significance of the spot at one position.

    Parameters
    ----------
    image : (ss, fs) ndarray
        Pixel values.
    good : (ss, fs) ndarray of bool
        Usable pixels.
    row, col : float
        Position [px].

    Returns
    -------
    dict
        Columns of the peak table: ``intensity`` (sum over 5 x 5 pixels minus background),
        ``background`` (median of the rim), ``sigma`` (its scaled median absolute deviation),
        ``snr`` (intensity over the noise of the sum), ``n_pixels`` (usable pixels of the sum),
        ``max_value``. NaN where no usable pixel is left.
    """
    r, c = round(row), round(col)
    top, left = max(r - RIM, 0), max(c - RIM, 0)
    box = np.asarray(image[top : r + RIM + 1, left : c + RIM + 1], dtype=np.float64)
    use = good[top : r + RIM + 1, left : c + RIM + 1] & np.isfinite(box)
    rows, cols = np.ogrid[top : top + box.shape[0], left : left + box.shape[1]]
    core = (np.abs(rows - r) <= CORE) & (np.abs(cols - c) <= CORE)
    rim = np.maximum(np.abs(rows - r), np.abs(cols - c)) > CORE + 1
    spot, ground = box[core & use], box[rim & use]
    if not len(spot) or not len(ground):
        nan = float("nan")
        return {"intensity": nan, "background": nan, "sigma": nan, "snr": nan,
                "n_pixels": len(spot), "max_value": float(spot.max()) if len(spot) else nan}  # fmt: skip
    background = float(np.median(ground))
    # Sparse photon counts have a median deviation of zero; the standard deviation then is it.
    sigma = 1.4826 * float(np.median(np.abs(ground - background))) or float(ground.std())
    intensity = float(spot.sum() - background * len(spot))
    noise = sigma * np.sqrt(len(spot))
    return {
        "intensity": intensity,
        "background": background,
        "sigma": sigma,
        "snr": intensity / noise if noise > 0 else float("nan"),
        "n_pixels": len(spot),
        "max_value": float(spot.max()),
    }
