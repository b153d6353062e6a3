"""Compiled loops over windows: significance, shape and surroundings of a candidate."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from napari_xtal.peaks.jit import INNER, INNER_FAST, JIT
from napari_xtal.peaks.verify import shape_kernels as shape
from napari_xtal.peaks.verify.patch_kernels import (
    N_SMALLEST,
    SHIFT,
    _by_distance,
    _excess,
    _local_noise,
)

#: Order of the columns that `measure` fills; what they mean stands in `features.FEATURES`.
(
    MATCHED_07, MATCHED_12, MATCHED_20, MATCHED_32, CENTRE, NEIGHBOURS, INTENSITY, N_PIXELS,
    N_HALF, MAX_MINUS_CENTRE, DILATION_MINUS_CENTRE, GRADIENT, GRADIENT_AROUND, SHARE_ABOVE,
    SINGLE_3, SINGLE_5, QUADRANTS, POINT_ASYMMETRY, OFF_CENTRE, WIDTH, ELONGATION, GYRATION,
    SLOPE, TEXTURE, RIM_MAXIMUM, N_MAXIMA, OTHER_MAXIMUM, RIDGE, LINE, EDGE_DISTANCE,
    MASKED_SHARE, MASKED_CORE,
) = range(32)  # fmt: skip
N_FEATURES = 32

#: Fewest usable pixels of a window in which anything is measured.
FEWEST = 8


@njit(**INNER)
def _significance(excess, expected):
    """Variance-stabilised excess over an expected count (Anscombe 1948)."""
    high = math.sqrt(max(expected + excess + SHIFT, 0.0))
    return 2.0 * excess / (high + math.sqrt(expected + SHIFT))


@njit(**INNER_FAST)
def _significances(excess, lam, out):
    """Significance of every pixel."""
    root = math.sqrt(lam + SHIFT)
    for r in range(excess.shape[0]):
        for c in range(excess.shape[1]):
            e = excess[r, c]
            high = math.sqrt(max(lam + e + SHIFT, np.float32(0)))
            out[r, c] = np.float32(2) * e / (high + root)


@njit(**INNER_FAST)
def _sums3(values, across, out):
    """Sum over the 3x3 neighbourhood of every pixel, cut at the window's edge."""
    side = values.shape[0]
    last = side - 1
    for r in range(side):
        across[r, 0] = values[r, 0] + values[r, 1]
        across[r, last] = values[r, last] + values[r, last - 1]
        for c in range(1, last):
            across[r, c] = values[r, c - 1] + values[r, c] + values[r, c + 1]
    for c in range(side):
        out[0, c] = across[0, c] + across[1, c]
        out[last, c] = across[last, c] + across[last - 1, c]
    for r in range(1, last):
        for c in range(side):
            out[r, c] = across[r - 1, c] + across[r, c] + across[r + 1, c]


@njit(**INNER_FAST)
def _significances3(sums, count, lam, out):
    """Significance of every 3x3 sum."""
    for r in range(sums.shape[0]):
        for c in range(sums.shape[1]):
            e, expected = sums[r, c], count[r, c] * lam + SHIFT
            high = math.sqrt(max(expected + e, np.float32(0)))
            out[r, c] = np.float32(2) * e / (high + math.sqrt(expected))


@njit(**INNER)
def _matched(excess, ok, lam, profile):
    """Return the significance of a Gaussian profile at the centre, over usable pixels."""
    h = profile.size // 2
    half = excess.shape[0] // 2
    t = p1 = p2 = 0.0
    for i in range(-h, h + 1):
        for j in range(-h, h + 1):
            if ok[half + i, half + j]:
                p = profile[h + i] * profile[h + j]
                t += p * excess[half + i, half + j]
                p1 += p
                p2 += p * p
    if p2 <= 0:
        return 0.0
    # A weighted sum of counts has mean and variance of a count scaled by sum p^2 / sum p.
    return _significance(t * p1 / p2, lam * p1 * p1 / p2)


@njit(**INNER)
def _core(excess, ok, z, lam, f):
    """Fill what the innermost pixels say: neighbours, single-pixel shares, local maxima."""
    half = excess.shape[0] // 2
    top = np.float32(-np.inf)
    r0 = c0 = half
    for r in range(half - 1, half + 2):
        for c in range(half - 1, half + 2):
            if ok[r, c] and excess[r, c] > top:
                top, r0, c0 = excess[r, c], r, c
    s3 = s5 = n3 = 0.0
    for r in range(r0 - 2, r0 + 3):
        for c in range(c0 - 2, c0 + 3):
            s5 += excess[r, c]
            if abs(r - r0) <= 1 and abs(c - c0) <= 1 and ok[r, c]:
                s3 += excess[r, c]
                n3 += 1
    f[NEIGHBOURS] = _significance(s3 - top, (n3 - 1) * lam) if n3 > 1 else 0.0
    # In counts with a pixel's noise added, so that the share of nothing is no number at random.
    noise = math.sqrt(lam + SHIFT)
    f[SINGLE_3] = max(top, 0.0) / (max(s3, top, 0.0) + noise)
    f[SINGLE_5] = max(top, 0.0) / (max(s5, top, 0.0) + noise)
    dilated = z[half, half]
    for r in range(half - 2, half + 3):
        for c in range(half - 2, half + 3):
            dilated = max(dilated, z[r, c])
    f[CENTRE] = z[half, half]
    f[DILATION_MINUS_CENTRE] = dilated - z[half, half]


@njit(**JIT)
def measure(values, usable, rings, profiles, gauss, derivative, lines, defaults, out):
    """Fill the features of each window.

    Parameters
    ----------
    values, usable : (n, side, side) ndarray of float32, bool
        Windows of at least 15 px, 0 where unusable.
    rings : (2,) ndarray of int64
        Squared radii from which the background is taken, wished and with few pixels.
    profiles : (4, m) ndarray
        Gaussian profiles, zero beyond their reach.
    gauss, derivative : (7,) ndarray
        Profile of sigma 1 and its derivative, for gradients.
    lines : (k, 2, m, 2) ndarray of int
        Pixels of lines through the centre: direction, side, step, (row, col).
    defaults : (N_FEATURES,) ndarray
        What a window gets in which nothing can be measured.
    out : (n, N_FEATURES) ndarray of float64
        Features, filled here; significances are compressed by asinh.
    """
    n, side = values.shape[0], values.shape[1]
    pixels, n_ring, n_outer = _by_distance(side, rings[0], rings[1])
    flat, flags = values.reshape(n, side * side), usable.reshape(n, side * side)
    buffers = np.empty((3, side * side + 1), np.float32)
    smallest = np.empty(N_SMALLEST, np.float32)
    sums = np.empty(10, np.float32)
    # Planes: mask, its 3x3 sums, excess, its 3x3 sums, significance, that of 3x3 sums, rim.
    planes = np.empty((8, side, side), np.float32)
    mask, count, excess, sums3 = planes[0], planes[1], planes[2], planes[3]
    z, z3, far, scratch = planes[4], planes[5], planes[6], planes[7]
    region = np.empty((side, side), np.uint8)
    stack = np.empty(side * side, np.int64)
    along = np.empty((2, 11, 3))
    far[:] = 0
    for k in range(n_ring):
        far[pixels[0, k] // side, pixels[0, k] % side] = 1
    for i in range(n):
        f, ok = out[i], usable[i]
        f[:] = defaults
        n_usable, near = shape.masked(ok, mask, f[EDGE_DISTANCE : MASKED_CORE + 1])
        if n_usable < FEWEST or not near:
            continue
        reference, a, b, c, gain, lam = _local_noise(
            flat[i], flags[i], pixels, n_ring, n_outer, buffers, smallest, sums
        )
        if gain <= 0:
            continue
        _excess(values[i], ok, reference, a, b, c, gain, excess)
        _sums3(mask, scratch, count)
        _sums3(excess, scratch, sums3)
        _significances(excess, lam, z)
        _significances3(sums3, count, lam, z3)
        noise = math.sqrt(lam + SHIFT)
        for k in range(4):
            f[MATCHED_07 + k] = math.asinh(_matched(excess, ok, lam, profiles[k]))
        _core(excess, ok, z, lam, f)
        n_pixels, n_half = shape.grow(z3, count, region, stack)
        f[N_PIXELS], f[N_HALF] = math.log1p(n_pixels), math.log1p(n_half)
        total = shape.moments(excess, region, noise, f[OFF_CENTRE : GYRATION + 1])
        f[INTENSITY] = math.asinh(total / noise)
        f[QUADRANTS], f[POINT_ASYMMETRY] = shape.asymmetry(excess, ok, noise)
        top, n_bright, rim = shape.maxima(z, far)
        f[MAX_MINUS_CENTRE] = math.asinh(top - f[CENTRE])
        f[SHARE_ABOVE], f[RIM_MAXIMUM] = n_bright / n_usable, math.asinh(rim)
        f[TEXTURE], n_other, other = shape.surroundings(z3, count, region, far)
        f[N_MAXIMA], f[OTHER_MAXIMUM] = math.log1p(n_other), math.asinh(other)
        at, around = shape.gradients(excess, gauss, derivative, along)
        f[GRADIENT], f[GRADIENT_AROUND] = math.asinh(at / noise), math.asinh(around / noise)
        f[RIDGE] = shape.ridge(z3, scratch)
        f[LINE] = math.asinh(shape.line(z3, count, lines))
        f[SLOPE] = math.asinh(10 * math.hypot(b, c) / noise)
        for k in (CENTRE, NEIGHBOURS, DILATION_MINUS_CENTRE):
            f[k] = math.asinh(f[k])
