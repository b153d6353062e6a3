"""Compiled measures of one window: extent and symmetry of the spot, what lies around it."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from napari_xtal.peaks.jit import INNER, INNER_FAST

#: Pixels this many sigma above the background count as bright.
BRIGHT = np.float32(3)
#: 3x3 sums this many sigma above the background make a second spot.
OTHER_SPOT = np.float32(4)
#: A spot reaches as far as its 3x3 sums exceed this many sigma and this share of its top.
REACH_SIGMA, REACH_SHARE = np.float32(2.5), np.float32(0.2)
#: Half side of the window for sums over quadrants [px]; fewest pixels of a line.
CORE = 3
#: Fewest usable pixels of a 3x3 sum that is compared with others.
FEWEST_OF_9 = np.float32(4)


@njit(**INNER)
def masked(ok, mask, out):
    """Write the mask as numbers; return the number of usable pixels, and near the centre.

    `out` gets the distance to the nearest unusable pixel [px], at most one beyond the
    window, the share of unusable pixels, and that in the central 5x5.
    """
    side = ok.shape[0]
    half = side // 2
    n = core = near = 0
    for r in range(side):
        for c in range(side):
            mask[r, c] = ok[r, c]
            n += ok[r, c]
    nearest = (half + 1) ** 2
    if n < side * side:
        for r in range(side):
            for c in range(side):
                if not ok[r, c]:
                    nearest = min(nearest, (r - half) ** 2 + (c - half) ** 2)
    for r in range(half - 2, half + 3):
        for c in range(half - 2, half + 3):
            core += not ok[r, c]
            near += ok[r, c] and abs(r - half) < 2 and abs(c - half) < 2
    out[0], out[1], out[2] = math.sqrt(nearest), 1 - n / (side * side), core / 25
    return n, near


@njit(**INNER)
def grow(z3, count, region, stack):
    """Mark the pixels of the spot at the centre; return their number and that of its upper half.

    Starts at the strongest 3x3 sum next to the centre and follows neighbours while their
    sums stay above a share of it. `region` becomes 1 in the spot, 2 in its upper half.
    """
    side = z3.shape[0]
    half = side // 2
    region[:] = 0
    r0 = c0 = half
    top = np.float32(-np.inf)
    for r in range(half - 1, half + 2):
        for c in range(half - 1, half + 2):
            if count[r, c] > 0 and z3[r, c] > top:
                top, r0, c0 = z3[r, c], r, c
    floor = max(REACH_SIGMA, REACH_SHARE * top)
    region[r0, c0] = 1
    stack[0] = r0 * side + c0
    n_stack = 1
    n = n_half = 0
    while n_stack:
        n_stack -= 1
        r, c = stack[n_stack] // side, stack[n_stack] % side
        n += 1
        if z3[r, c] >= 0.5 * top:
            region[r, c] = 2
            n_half += 1
        for i in range(max(r - 1, 0), min(r + 2, side)):
            for j in range(max(c - 1, 0), min(c + 2, side)):
                if region[i, j] == 0 and count[i, j] > 0 and z3[i, j] > floor:
                    region[i, j] = 1
                    stack[n_stack] = i * side + j
                    n_stack += 1
    return n, n_half


@njit(**INNER)
def moments(excess, region, noise, out):
    """Return the spot's sum; `out` gets distance of the centroid, width, elongation, gyration.

    Shape counts pixels above one sigma of the background only; a spot without any keeps
    what `out` holds.
    """
    side = excess.shape[0]
    half = side // 2
    total = w = mr = mc = rr = cc = rc = 0.0
    for r in range(side):
        for c in range(side):
            if region[r, c] == 0:
                continue
            v = excess[r, c]
            total += v
            if v > noise:
                y, x = float(r - half), float(c - half)
                w += v
                mr += v * y
                mc += v * x
                rr += v * y * y
                cc += v * x * x
                rc += v * y * x
    if w <= 0:
        return total
    mr, mc = mr / w, mc / w
    # A pixel is no point: its own extent keeps one-pixel spots round and as wide as a pixel.
    rr, cc, rc = rr / w - mr * mr + 1 / 12, cc / w - mc * mc + 1 / 12, rc / w - mr * mc
    mean, spread = 0.5 * (rr + cc), math.sqrt(0.25 * (rr - cc) ** 2 + rc * rc)
    long, short = mean + spread, max(mean - spread, 1 / 12)
    out[0], out[1] = math.hypot(mr, mc), math.sqrt(short)
    out[2], out[3] = math.sqrt(max(long / short, 1.0)), math.sqrt(long + short)
    return total


@njit(**INNER)
def asymmetry(excess, ok, noise):
    """Return the imbalance of quadrants and the deviation from point symmetry, about 0 to 1."""
    half = excess.shape[0] // 2
    total = noise
    odd = q0 = q1 = q2 = q3 = 0.0
    for i in range(-CORE, CORE + 1):
        for j in range(-CORE, CORE + 1):
            v = excess[half + i, half + j]
            total += abs(v)
            if ok[half + i, half + j] and ok[half - i, half - j]:
                odd += abs(v - excess[half - i, half - j])
            if i < 0 and j <= 0:
                q0 += v
            elif i <= 0 and j > 0:
                q1 += v
            elif i > 0 and j >= 0:
                q2 += v
            elif i >= 0 and j < 0:
                q3 += v
    return (max(q0, q1, q2, q3) - min(q0, q1, q2, q3)) / total, 0.5 * odd / total


@njit(**INNER_FAST)
def maxima(z, far):
    """Return the window's highest pixel, how many are bright, and the rim's highest pixel."""
    top = rim = n = np.float32(0)
    for r in range(z.shape[0]):
        for c in range(z.shape[1]):
            v = z[r, c]
            top = max(top, v)
            rim = max(rim, v * far[r, c])
            n += np.float32(1) if v > BRIGHT else np.float32(0)
    return top, n, rim


@njit(**INNER_FAST)
def _scatter(z3, count, region, far):
    """Return number, sum and sum of squares of the rim's 3x3 sums, and the highest of all."""
    n = s = q = top = np.float32(0)
    for r in range(z3.shape[0]):
        for c in range(z3.shape[1]):
            outside = (count[r, c] >= FEWEST_OF_9) & (region[r, c] == 0)
            v = z3[r, c] if outside else np.float32(0)
            w = far[r, c] if outside else np.float32(0)
            top = max(top, v)
            # Clipped: bright neighbours are counted apart.
            v = w * min(max(v, -OTHER_SPOT), OTHER_SPOT)
            n += w
            s += v
            q += v * v
    return n, s, q, top


@njit(**INNER)
def surroundings(z3, count, region, far):
    """Return texture of the rim, number of other spots, significance of the strongest.

    The texture is the logarithm of the scatter of 3x3 sums over what the noise of their
    pixels explains.
    """
    side = z3.shape[0]
    n, s, q, top = _scatter(z3, count, region, far)
    texture = 0.5 * math.log(max(q / n - (s / n) ** 2, 0.01)) if n >= 8 else 0.0
    n_other = 0
    other = 0.0
    if top > OTHER_SPOT:
        for r in range(side):
            for c in range(side):
                v = z3[r, c]
                if v > OTHER_SPOT and region[r, c] == 0 and _is_maximum(z3, count, r, c):
                    n_other += 1
                    other = max(other, v)
    return texture, n_other, other


@njit(**INNER)
def _is_maximum(z3, count, r, c):
    """Whether no neighbour is higher; of equal ones the first in row order counts."""
    side = z3.shape[0]
    if count[r, c] < FEWEST_OF_9:
        return False
    for i in range(max(r - 1, 0), min(r + 2, side)):
        for j in range(max(c - 1, 0), min(c + 2, side)):
            if count[i, j] < FEWEST_OF_9 or (i == r and j == c):
                continue
            before = i < r or (i == r and j < c)
            if z3[i, j] > z3[r, c] or (before and z3[i, j] == z3[r, c]):
                return False
    return True


@njit(**INNER)
def gradients(excess, gauss, derivative, lines):
    """Return the Gaussian gradient at the centre and its mean over the 8 pixels 2 px away.

    `lines` is room for (2, 11, 3) numbers: sums along rows for three columns.
    """
    half = excess.shape[0] // 2
    h = gauss.size // 2
    for i in range(2 * h + 5):
        row = excess[half - h - 2 + i]
        for k in range(3):
            a = b = 0.0
            for j in range(gauss.size):
                v = row[half + 2 * (k - 1) - h + j]
                a += gauss[j] * v
                b += derivative[j] * v
            lines[0, i, k], lines[1, i, k] = a, b
    centre = around = 0.0
    for m in range(3):
        for k in range(3):
            a = b = 0.0
            for i in range(gauss.size):
                a += derivative[i] * lines[0, 2 * m + i, k]
                b += gauss[i] * lines[1, 2 * m + i, k]
            if m == 1 and k == 1:
                centre = math.hypot(a, b)
            else:
                around += math.hypot(a, b)
    return centre, around / 8


@njit(**INNER_FAST)
def ridge(z3, scratch):
    """Return the anisotropy of the structure tensor, 0 (none) to 1 (parallel lines)."""
    side = z3.shape[0]
    for r in range(side):
        for c in range(side):
            # Limited: a spot's own flanks would outweigh the whole window.
            scratch[r, c] = min(max(z3[r, c], -OTHER_SPOT), OTHER_SPOT)
    rr = cc = rc = np.float32(0)
    for r in range(1, side - 1):
        for c in range(1, side - 1):
            a = scratch[r + 1, c] - scratch[r - 1, c]
            b = scratch[r, c + 1] - scratch[r, c - 1]
            rr += a * a
            cc += b * b
            rc += a * b
    total = rr + cc
    if total <= 0:
        return 0.0
    return math.sqrt((rr - cc) * (rr - cc) + np.float32(4) * rc * rc) / total


@njit(**INNER)
def line(z3, count, lines):
    """Return the significance of the best line through the centre, without the centre.

    Of its two sides the weaker counts: a neighbour on one side makes no line.
    """
    best = 0.0
    for k in range(lines.shape[0]):
        weaker = np.inf
        for side in range(2):
            s = 0.0
            n = 0
            for step in range(lines.shape[2]):
                r, c = lines[k, side, step, 0], lines[k, side, step, 1]
                n += count[r, c] > 0
                s += z3[r, c]
            # 3x3 sums along a line overlap by two thirds: their noise adds as that of 3 n.
            weaker = min(weaker, s / math.sqrt(3.0 * n) if n >= CORE else 0.0)
        best = max(best, weaker)
    return best
