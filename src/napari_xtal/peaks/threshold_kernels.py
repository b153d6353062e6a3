"""Compiled steps of the threshold mode; see `napari_xtal.peaks.threshold`."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from napari_xtal.peaks.blob_kernels import MARKED, UNMARKED, VISITED, fill
from napari_xtal.peaks.jit import JIT
from napari_xtal.peaks.plan import MASKED
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

#: Half side of the window that gives position and intensity [px].
WINDOW = 2
#: The background ring lies at INNER < distance <= INNER + RING_WIDTH from the peak [px] …
INNER, RING_WIDTH = 4, 3
#: … and moves outwards, at most this far, while it has fewer pixels than MIN_RING.
LAST_INNER, MIN_RING = 40, 8
#: Stands for the noise of a background that has none [ADU].
NO_SIGMA = 0.01

HEIGHT = MAXIMUM + 1
N_COLUMNS = HEIGHT + 1

_ON_PLATEAU = 3


@njit(**JIT)
def mark_above(values, state, threshold, marks):
    """Mark usable, finite pixels above the threshold and return how many there are."""
    n = 0
    for r in range(values.shape[0]):
        line, usable, mark = values[r], state[r], marks[r]
        for c in range(line.size):
            x = np.float64(line[c])
            if x > threshold and x < np.inf and usable[c] != MASKED:
                mark[c] = MARKED
                n += 1
    return n


@njit(**JIT)
def _plateau(values, panels, marks, row, col, rows, cols):
    """Collect touching pixels of one value; return their number, 0 when a higher one touches."""
    n_ss, n_fs = marks.shape
    value, panel = values[row, col], panels[row, col]
    marks[row, col] = _ON_PLATEAU
    rows[0], cols[0] = row, col
    done, end = 0, 1
    highest = True
    while done < end:
        r, c = rows[done], cols[done]
        done += 1
        for y in range(max(r - 1, 0), min(r + 2, n_ss)):
            for x in range(max(c - 1, 0), min(c + 2, n_fs)):
                if marks[y, x] == UNMARKED or panels[y, x] != panel:
                    continue
                if values[y, x] > value:
                    highest = False
                elif values[y, x] == value and marks[y, x] == VISITED:
                    marks[y, x] = _ON_PLATEAU
                    rows[end], cols[end] = y, x
                    end += 1
    return end if highest else 0


@njit(**JIT)
def maxima(values, panels, marks, n_marked, min_pix, max_pix):
    """Find the local maxima of every blob of marked pixels, plateaus counted once.

    Returns per maximum its first pixel, its middle, and the pixels of its blob:
    (n, 5) int64. Blobs of too few or too many pixels are left out.
    """
    rows, cols = np.empty(n_marked, np.int32), np.empty(n_marked, np.int32)
    flat_rows, flat_cols = np.empty(n_marked, np.int32), np.empty(n_marked, np.int32)
    out = np.empty((n_marked, 5), np.int64)
    n = 0
    for r in range(marks.shape[0]):
        line = marks[r]
        for c in range(line.size):
            if line[c] != MARKED:
                continue
            size = fill(marks, panels, r, c, rows, cols, 0)
            if size < min_pix or size > max_pix:
                continue
            for i in range(size):
                if marks[rows[i], cols[i]] != VISITED:
                    continue
                k = _plateau(values, panels, marks, rows[i], cols[i], flat_rows, flat_cols)
                if k == 0:
                    continue
                out[n, 0], out[n, 1] = rows[i], cols[i]
                out[n, 2] = int(round(flat_rows[:k].mean()))
                out[n, 3] = int(round(flat_cols[:k].mean()))
                out[n, 4] = size
                n += 1
    return out[:n]


@njit(**JIT)
def _ring(image, state, panels, marks, row, col, panel, inner):
    """Mean, standard deviation and number of the unmarked pixels of a ring."""
    n_ss, n_fs = image.shape
    outer = inner + RING_WIDTH
    n = 0
    s = q = 0.0
    for r in range(max(row - outer, 0), min(row + outer + 1, n_ss)):
        for c in range(max(col - outer, 0), min(col + outer + 1, n_fs)):
            d2 = (r - row) ** 2 + (c - col) ** 2
            if d2 <= inner * inner or d2 > outer * outer:
                continue
            if state[r, c] == MASKED or panels[r, c] != panel or marks[r, c] != UNMARKED:
                continue
            x = np.float64(image[r, c])
            if x - x == 0:
                n += 1
                s += x
                q += x * x
    if n == 0:
        return 0.0, NO_SIGMA, 0
    variance = q / n - (s / n) ** 2
    return s / n, math.sqrt(variance) if variance > 0 else NO_SIGMA, n


@njit(**JIT)
def measure(image, values, state, panels, marks, found, out):
    """Measure the maxima of `maxima` into the columns of this module."""
    n_ss, n_fs = image.shape
    for i in range(found.shape[0]):
        first_row, first_col, row, col = found[i, 0], found[i, 1], found[i, 2], found[i, 3]
        panel = panels[first_row, first_col]
        inner = INNER
        level, sigma, n_ring = _ring(image, state, panels, marks, row, col, panel, inner)
        while n_ring < MIN_RING and inner + RING_WIDTH <= LAST_INNER:
            inner += RING_WIDTH
            level, sigma, n_ring = _ring(image, state, panels, marks, row, col, panel, inner)
        top, left = max(row - WINDOW, 0), max(col - WINDOW, 0)
        bottom, right = min(row + WINDOW + 1, n_ss), min(col + WINDOW + 1, n_fs)
        n = 0
        raw = y = x = w = 0.0
        for r in range(top, bottom):
            for c in range(left, right):
                value = np.float64(image[r, c])
                if state[r, c] == MASKED or panels[r, c] != panel or value - value != 0:
                    continue
                weight = max(value - level, 0.0)
                raw += value - level
                y, x, w = y + weight * r, x + weight * c, w + weight
                n += 1
        out[i, ROW], out[i, COL] = (y / w, x / w) if w > 0 else (row, col)
        out[i, INTENSITY], out[i, BACKGROUND], out[i, SIGMA] = raw, level, sigma
        out[i, SNR] = raw / (sigma * math.sqrt(max(n, 1)))
        out[i, N_PIXELS] = found[i, 4]
        out[i, MAXIMUM] = image[first_row, first_col]
        out[i, HEIGHT] = values[first_row, first_col]


@njit(**JIT)
def too_near(found, order, distance):
    """Whether each peak, highest first, lies nearer than `distance` to a higher one that stays.

    A peak can only be near to kept ones in its own and the 8 cells around it, whose
    side is the distance.
    """
    side = max(distance, 1.0)
    near = np.zeros(order.size, np.bool_)
    n_cells = int(found[:, COL].max() / side) + 3
    first = np.full((int(found[:, ROW].max() / side) + 3) * n_cells, -1, np.int32)
    following = np.full(order.size, -1, np.int32)
    for k in range(order.size):
        y, x = found[order[k], ROW], found[order[k], COL]
        cell = (int(y / side) + 1) * n_cells + int(x / side) + 1
        for around in range(9):
            other = first[cell + (around // 3 - 1) * n_cells + around % 3 - 1]
            while other >= 0 and not near[k]:
                dy, dx = found[order[other], ROW] - y, found[order[other], COL] - x
                near[k] = dy * dy + dx * dx < distance * distance
                other = following[other]
        if not near[k]:
            following[k] = first[cell]
            first[cell] = k
    return near


@njit(**JIT)
def _select(a, n, k):
    """Return the element of rank k among the first n of `a` (Hoare's quickselect)."""
    low, high = 0, n - 1
    while low < high:
        pivot = a[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while a[i] < pivot:
                i += 1
            while pivot < a[j]:
                j -= 1
            if i <= j:
                a[i], a[j] = a[j], a[i]
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    return a[k]


@njit(**JIT)
def subtract_median(image, state, panels, half, out):
    """Subtract from each pixel the median of its window; NaN where it must not be used.

    Only usable, finite pixels of the same panel count; of an even number of values
    the lower middle one is taken.
    """
    n_ss, n_fs = image.shape
    values = np.empty((2 * half + 1) ** 2, np.float32)
    for r in range(n_ss):
        for c in range(n_fs):
            own = np.float32(image[r, c])
            if state[r, c] == MASKED or own - own != 0:
                out[r, c] = np.nan
                continue
            panel = panels[r, c]
            n = 0
            for y in range(max(r - half, 0), min(r + half + 1, n_ss)):
                for x in range(max(c - half, 0), min(c + half + 1, n_fs)):
                    value = np.float32(image[y, x])
                    if state[y, x] != MASKED and panels[y, x] == panel and value - value == 0:
                        values[n] = value
                        n += 1
            out[r, c] = own - _select(values, n, (n - 1) // 2)
