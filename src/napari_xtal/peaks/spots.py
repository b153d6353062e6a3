"""The spots that are looked for and the columns in which they are measured."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Widths (sigma) of the spots looked for and half sides of their windows [px].
WIDTHS = np.array([0.5, 0.8, 1.2, 1.8, 2.7, 4.0], np.float32)
HALF = np.array([2, 3, 4, 5, 7, 9], np.int64)
#: Sub-pixel positions of the tabulated profiles.
FRACTIONS = 16
#: Half side of the patch that is cut out around a candidate [px].
PATCH = 16

ROW, COL, INTENSITY, BACKGROUND, SIGMA, SNR, N_PIXELS, MAXIMUM = range(8)
WIDTH, ELONGATION, NEIGHBOURS, SPILL, MISSING, TEXTURE, PARENT, HEIGHT = range(8, 16)
#: SNR at which the scan saw the candidate's pixel.
SCAN = 16
N_COLUMNS = 17


def profile_table() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return Gaussian profiles, (width, sub-pixel position, pixel), pixel-averaged variance."""
    table = np.zeros((WIDTHS.size, FRACTIONS + 1, 2 * int(HALF.max()) + 1), np.float32)
    for w, (sigma, half) in enumerate(zip(WIDTHS, HALF, strict=True)):
        for i in range(FRACTIONS + 1):
            x = np.arange(-half, half + 1) - (i / FRACTIONS - 0.5)
            table[w, i, : x.size] = np.exp(-0.5 * x**2 / (sigma**2 + 1 / 12))
    return table


def ring_offsets(inner: float, outer: float, step: int = 1) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Return positions of a ring of pixels in a flat patch, inner < distance <= outer."""
    r, c = np.mgrid[-PATCH : PATCH + 1, -PATCH : PATCH + 1]
    d = np.hypot(r, c)
    keep = (d > inner) & (d <= outer) & ((r + c) % step == 0)
    return np.flatnonzero(keep).astype(np.int32)
