"""Compiled steps of the peakfinder8-compatible mode; see `napari_xtal.peaks.peakfinder8`."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from napari_xtal.peaks.blob_kernels import MARKED, fill
from napari_xtal.peaks.jit import JIT
from napari_xtal.peaks.spots import (
    BACKGROUND,
    COL,
    INTENSITY,
    MAXIMUM,
    N_PIXELS,
    ROW,
    SIGMA,
    SNR,
)

N_ROUNDS = 5
#: Values beyond this never count in the radial statistics [ADU].
FIRST_LIMIT = 1e9
#: Stands for the noise of a background that has none, or no pixel [ADU].
NO_SIGMA = 0.01

N_COLUMNS = MAXIMUM + 1


@njit(**JIT)
def radial_limits(image, rings, n_rings, min_snr, threshold):
    """Clipped mean of each ring and the limit above which a pixel may belong to a peak.

    `rings` is `n_rings` at pixels that must not be used. Rings whose pixels are
    all clipped away get an infinite limit.
    """
    mean = np.zeros(n_rings)
    lower, upper = np.full(n_rings, -FIRST_LIMIT), np.full(n_rings, FIRST_LIMIT)
    # Limits of this round, of rings that still change; nothing lies between infinities.
    low, high = np.full(n_rings + 1, np.inf), np.full(n_rings + 1, np.inf)
    low[:n_rings], high[:n_rings] = lower, upper
    count = np.zeros(n_rings + 1, np.int64)
    total, squares = np.zeros(n_rings + 1), np.zeros(n_rings + 1)
    for _ in range(N_ROUNDS):
        count[:], total[:], squares[:] = 0, 0.0, 0.0
        for r in range(image.shape[0]):
            values, ring = image[r], rings[r]
            for c in range(values.size):
                x, b = np.float64(values[c]), ring[c]
                if low[b] < x < high[b]:
                    count[b] += 1
                    total[b] += x
                    squares[b] += x * x
        changed = False
        for b in range(n_rings):
            if low[b] == np.inf:
                continue
            n = count[b]
            if n == 0:
                upper[b] = low[b] = high[b] = np.inf
                continue
            m = total[b] / n
            spread = min_snr * math.sqrt(max(squares[b] / n - m * m, 0.0))
            mean[b], lower[b], upper[b] = m, m - spread, max(m + spread, threshold)
            if lower[b] == low[b] and upper[b] == high[b]:
                # The same limits again choose the same pixels in every further round.
                low[b] = high[b] = np.inf
            else:
                low[b], high[b] = lower[b], upper[b]
                changed = True
        if not changed:
            break
    return mean, upper


@njit(**JIT)
def mark_above(image, rings, upper, marks):
    """Mark finite pixels above the limit of their ring and return how many there are."""
    n = 0
    for r in range(image.shape[0]):
        values, ring, mark = image[r], rings[r], marks[r]
        for c in range(values.size):
            x = np.float64(values[c])
            if x > upper[ring[c]] and x < np.inf:
                mark[c] = MARKED
                n += 1
    return n


@njit(**JIT)
def _on_border(panels, r, c):
    """Whether a pixel lies in the outermost row or column of its panel."""
    n_ss, n_fs = panels.shape
    if r == 0 or c == 0 or r == n_ss - 1 or c == n_fs - 1:
        return True
    p = panels[r, c]
    return (
        panels[r - 1, c] != p
        or panels[r + 1, c] != p
        or panels[r, c - 1] != p
        or panels[r, c + 1] != p
    )


@njit(**JIT)
def _disc(image, rings, panels, upper, row, col, panel, reach):
    """Mean, standard deviation, maximum and number of the background pixels of a disc.

    Pixels of peaks lie above the limit of their ring, so the limit leaves them out.
    """
    n_ss, n_fs = image.shape
    n = 0
    s = q = 0.0
    highest = -np.inf
    for r in range(max(row - reach, 0), min(row + reach + 1, n_ss)):
        for c in range(max(col - reach, 0), min(col + reach + 1, n_fs)):
            b = rings[r, c]
            if (
                (r - row) ** 2 + (c - col) ** 2 > reach * reach
                or b == upper.size - 1
                or panels[r, c] != panel
            ):
                continue
            x = np.float64(image[r, c])
            if x > -np.inf and x < upper[b]:
                n += 1
                s += x
                q += x * x
                highest = max(highest, x)
    if n == 0:
        return 0.0, NO_SIGMA, highest, 0
    variance = q / n - (s / n) ** 2
    return s / n, math.sqrt(variance) if variance > 0 else NO_SIGMA, highest, n


@njit(**JIT)
def _measure(image, rings, panels, mean, upper, rows, cols, reach, min_snr, out):
    """Measure one blob into `out`; return whether it passes the tests."""
    y = x = w = 0.0
    highest = -np.inf
    for i in range(rows.size):
        r, c = rows[i], cols[i]
        value = np.float64(image[r, c])
        weight = abs(value - mean[rings[r, c]])
        y, x, w = y + weight * r, x + weight * c, w + weight
        highest = max(highest, value)
    # Without any weight the blob's first pixel stands for its middle.
    row, col = (int(round(y / w)), int(round(x / w))) if w > 0 else (rows[0], cols[0])
    panel = panels[rows[0], cols[0]]
    level, sigma, highest_near, n = _disc(image, rings, panels, upper, row, col, panel, reach)
    if n == 0:
        level = mean[rings[rows[0], cols[0]]]
    total = y = x = w = 0.0
    for i in range(rows.size):
        r, c = rows[i], cols[i]
        excess = np.float64(image[r, c]) - level
        weight = max(excess, 0.0)
        total += excess
        y, x, w = y + weight * r, x + weight * c, w + weight
    if total / sigma < min_snr or (n and highest < highest_near):
        return False
    out[ROW], out[COL] = y / w, x / w
    out[INTENSITY], out[BACKGROUND], out[SIGMA] = total, level, sigma
    out[SNR], out[N_PIXELS], out[MAXIMUM] = total / sigma, rows.size, highest
    return True


@njit(**JIT)
def blobs(image, rings, panels, mean, upper, marks, n_marked, min_snr, min_pix, max_pix, reach):
    """Measure the connected pixels above the limits; one row per blob that is a peak."""
    rows, cols = np.empty(n_marked, np.int32), np.empty(n_marked, np.int32)
    out = np.empty((256, N_COLUMNS))
    k = 0
    for r in range(marks.shape[0]):
        line = marks[r]
        for c in range(line.size):
            if line[c] != MARKED or _on_border(panels, r, c):
                continue
            end = fill(marks, panels, r, c, rows, cols, 0)
            if end < min_pix or end > max_pix:
                continue
            if k == out.shape[0]:
                larger = np.empty((2 * k, N_COLUMNS))
                larger[:k] = out
                out = larger
            k += _measure(
                image, rings, panels, mean, upper, rows[:end], cols[:end], reach, min_snr, out[k]
            )
    return out[:k]
