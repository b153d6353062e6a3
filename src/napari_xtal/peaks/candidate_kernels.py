"""Compiled loops around the measurement: cut patches out, join what belongs together."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from napari_xtal.peaks.jit import INNER, JIT
from napari_xtal.peaks.plan import MASKED
from napari_xtal.peaks.spots import BACKGROUND, COL, PARENT, PATCH, ROW, SIGMA, SNR, WIDTH


@njit(**JIT)
def extract(image, state, panels, rows, cols, n, patches):
    """Cut out a patch around each candidate; pixels that must not be used become NaN."""
    n_ss, n_fs = image.shape
    side = 2 * PATCH + 1
    for i in range(n):
        r0, c0 = rows[i] - PATCH, cols[i] - PATCH
        panel = panels[rows[i], cols[i]]
        lo, hi = max(c0, 0), min(c0 + side, n_fs)
        for k in range(side):
            line = patches[i, k]
            r = r0 + k
            if r < 0 or r >= n_ss:
                line[:] = np.nan
                continue
            if lo > c0 or hi < c0 + side:
                line[:] = np.nan
            src, st, pn = image[r, lo:hi], state[r, lo:hi], panels[r, lo:hi]
            dst = line[lo - c0 : hi - c0]
            for c in range(src.size):
                usable = (st[c] != MASKED) & (pn[c] == panel)
                dst[c] = np.float32(src[c]) if usable else np.float32(np.nan)


@njit(**INNER)
def smoothed(patch, y, x):
    """Mean of the usable pixels of a 3x3 window; NaN where there are none."""
    s = np.float32(0)
    n = 0
    side = patch.shape[0]
    for i in range(max(y - 1, 0), min(y + 2, side)):
        for j in range(max(x - 1, 0), min(x + 2, side)):
            if patch[i, j] - patch[i, j] == 0:
                s += patch[i, j]
                n += 1
    return s / n if n else np.float32(np.nan)


@njit(**JIT)
def mark_wings(patches, rows, cols, index, peaks, n, order, reach):
    """Mark peaks that are part of a brighter one (column PARENT = its row in `peaks`).

    `order` sorts the peaks by row. A weaker peak within `reach` of a stronger one
    belongs to it when the valley between them is not clearly below the weaker one.
    """
    for a in range(n):
        for b in range(a + 1, n):
            i, j = order[a], order[b]
            if peaks[j, ROW] - peaks[i, ROW] > reach:
                break
            if abs(peaks[j, COL] - peaks[i, COL]) > reach:
                continue
            if peaks[i, SNR] < peaks[j, SNR]:
                i, j = j, i
            # From here on i is the stronger one.
            if peaks[j, PARENT] >= 0:
                continue
            dy, dx = peaks[j, ROW] - peaks[i, ROW], peaks[j, COL] - peaks[i, COL]
            d = math.sqrt(dy * dy + dx * dx)
            if d > np.float32(3) * max(peaks[i, WIDTH], peaks[j, WIDTH]) + np.float32(3):
                continue
            patch = patches[index[i]]
            y0 = peaks[i, ROW] - rows[index[i]] + PATCH
            x0 = peaks[i, COL] - cols[index[i]] + PATCH
            steps = max(int(2 * d), 2)
            valley = np.float32(np.inf)
            top = np.float32(0)
            for k in range(steps + 1):
                f = np.float32(k) / np.float32(steps)
                top = smoothed(patch, int(round(y0 + f * dy)), int(round(x0 + f * dx)))
                valley = min(valley, top)
            height = top - peaks[j, BACKGROUND]
            noise = peaks[j, SIGMA] / np.float32(3)
            if d < 2 or top - valley < max(np.float32(0.3) * height, np.float32(2.5) * noise):
                peaks[j, PARENT] = i


@njit(**JIT)
def thin(peaks, order, by_row, distance):
    """Return which of the peaks, strongest first, lie near a stronger one that stays.

    `by_row` sorts the peaks named by `order` by row.
    """
    n = order.size
    near = np.zeros(n, np.bool_)
    place = np.empty(n, np.int64)
    for k in range(n):
        place[by_row[k]] = k
    for k in range(n):
        if near[k]:
            continue
        y, x = peaks[order[k], ROW], peaks[order[k], COL]
        for step in (-1, 1):
            q = place[k] + step
            while 0 <= q < n:
                other = by_row[q]
                dy = peaks[order[other], ROW] - y
                if abs(dy) >= distance:
                    break
                dx = peaks[order[other], COL] - x
                if other > k and dy * dy + dx * dx < distance * distance:
                    near[other] = True
                q += step
    return near
