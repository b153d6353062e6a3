"""Compiled measurement of candidates: background, position, width, significance, shape.

A candidate is judged by all its pixels: the amplitude of a Gaussian spot of the
best of several widths over a local background, with the noise of the background
as a scaled and shifted Poisson variable. `snr` is the square root of its deviance
(twice the log-likelihood ratio), a matched-filter signal-to-noise ratio where
photons are many.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from napari_xtal.peaks.candidate_kernels import smoothed
from napari_xtal.peaks.jit import INNER, INNER_FAST, JIT
from napari_xtal.peaks.kernels import CAP, KERNEL_SUM, KERNEL_SUM2
from napari_xtal.peaks.plan import SCALE_ROWS, SEGMENT
from napari_xtal.peaks.spots import (
    BACKGROUND,
    COL,
    ELONGATION,
    FRACTIONS,
    HALF,
    HEIGHT,
    INTENSITY,
    MAXIMUM,
    MISSING,
    N_PIXELS,
    NEIGHBOURS,
    PARENT,
    PATCH,
    ROW,
    SCAN,
    SIGMA,
    SNR,
    SPILL,
    TEXTURE,
    WIDTH,
    WIDTHS,
)

#: Spots up to this width count in full; wider ones are weighted down by sqrt(width).
TYPICAL_WIDTH = np.float32(1.2)
#: Widths from this index on take their background from the outer ring.
FIRST_WIDE = 3
#: Directions in which a line through a spot is looked for.
N_AXES = 8
_ANGLES = np.pi * np.arange(N_AXES) / N_AXES
DIRECTIONS = np.stack([np.sin(_ANGLES), np.cos(_ANGLES)], 1).astype(np.float32)
#: A line fainter than this share of the spot is the spot's own tail.
FAINT_LINE = np.float32(0.15)
#: Share of a ring's structure that adds up over a spot.
STRUCTURE_SHARE = np.float32(0.2)
#: Half side of the window in which a saturated plateau is looked for [px].
PLATEAU = 9
#: Most a spot's SNR may exceed that of its 3x3 core over the graininess of the line.
GRAIN_FACTOR = np.float32(1.0)
LOG2 = np.float32(math.log(2))
#: Below this background [quanta per pixel] the exact likelihood replaces the scaled sum.
FEW_QUANTA = np.float32(20)


@njit(**INNER)
def _ring(patch, offsets, quantum, v_model, buffer):
    """Clipped mean, variance and number of the background pixels around a candidate."""
    n = 0
    s = q = np.float32(0)
    for i in range(offsets.size):
        x = patch[offsets[i]]
        if x - x == 0:
            buffer[n] = x
            s += x
            n += 1
    if n == 0:
        return np.float32(0), np.float32(0), 0
    m = s / n
    for i in range(n):
        d = buffer[i] - m
        q += d * d
    v = q / n
    kept = n
    # Clip only where the ring is noisier than its background can explain.
    if v > np.float32(1.4) * v_model:
        half = v > np.float32(3) * v_model
        for _ in range(4):
            limit = np.float32(3) * math.sqrt(min(v, np.float32(4) * v_model)) + quantum
            # Bright neighbours pull the first mean up: start from the lower part.
            low, high = m - limit, m + (np.float32(0.5) * limit if half else limit)
            s = q = np.float32(0)
            k = 0
            for i in range(n):
                x = buffer[i]
                if low <= x <= high:
                    d = x - m
                    s += d
                    q += d * d
                    k += 1
            if k < 8:
                break
            v = max(q / k - (s / k) ** 2, np.float32(0))
            m += s / k
            if k == kept and not half:
                break
            kept, half = k, False
    return m, v, kept


@njit(**INNER)
def _fit(patch, table, w, half, y0, x0, b):
    """Weighted sums of a Gaussian profile at (y0, x0) relative to the patch's centre.

    Returns sum p (x - b), sum p^2, sum p, first moments of p (x - b) about the
    rounded position, and the share of p^2 that unusable pixels took away.
    """
    yi, xi = int(round(y0)), int(round(x0))
    wy = table[w, int(round((y0 - yi) * FRACTIONS)) + FRACTIONS // 2]
    wx = table[w, int(round((x0 - xi) * FRACTIONS)) + FRACTIONS // 2]
    t = p1 = p2 = my = mx = lost = np.float32(0)
    a = PATCH + xi - half
    for i in range(2 * half + 1):
        line = patch[PATCH + yi + i - half, a : a + 2 * half + 1]
        lt = lm = q1 = q2 = q3 = np.float32(0)
        for j in range(line.size):
            p, x = wx[j], line[j]
            usable = x - x == 0
            d = p * (x - b) if usable else np.float32(0)
            lt += d
            lm += d * np.float32(j - half)
            q1 += p if usable else np.float32(0)
            q2 += p * p if usable else np.float32(0)
            q3 += p * p
        t += wy[i] * lt
        mx += wy[i] * lm
        my += wy[i] * lt * np.float32(i - half)
        p1 += wy[i] * q1
        p2 += wy[i] * wy[i] * q2
        lost += wy[i] * wy[i] * q3
    return t, p2, p1, my, mx, np.float32(1) - p2 / lost


@njit(**INNER)
def significance(t, p2, p1, v, v_b, gain):
    """Significance of a weighted sum `t` of background-subtracted values.

    The sum is taken as a Poisson variable, scaled by ``gain * p2 / p1`` and shifted so
    that its variance is that of the noise, ``v * p2``, and of the uncertain
    background, ``v_b * p1^2``. The square root of its deviance is returned.
    """
    if t <= 0 or p2 <= 0:
        return np.float32(0)
    var = v * p2 + v_b * p1 * p1
    linear = t / math.sqrt(var)
    a = gain * p2 / p1
    lam = var / max(a * a, np.float32(1e-20))
    e = t / max(a, np.float32(1e-10)) / lam
    if e < np.float32(1e-3):
        return np.float32(linear)
    return np.float32(math.sqrt(2 * lam * ((1 + e) * math.log1p(e) - e)))


@njit(**INNER_FAST)
def _newton_sums(n, p, beta, s, size):
    """First and second derivative of the log likelihood without their constant parts."""
    f = g = np.float32(0)
    for i in range(size):
        q = p[i] / (beta + s * p[i])
        f += n[i] * q
        g += n[i] * q * q
    return f, g


@njit(**INNER_FAST)
def _log_sum(n, p, scale, work, bits, size):
    """Sum of n * log(1 + scale * p), by exponent and series: unlike `log` it vectorises.

    `bits` views `work` as integers. The series in (m - 1) / (m + 1) is exact to 1e-5.
    """
    for i in range(size):
        work[i] = np.float32(1) + scale * p[i]
    total = np.float32(0)
    for i in range(size):
        exponent = (bits[i] >> np.int32(23)) - np.int32(127)
        bits[i] = (bits[i] & np.int32(0x7FFFFF)) | np.int32(0x3F800000)
        t = (work[i] - np.float32(1)) / (work[i] + np.float32(1))
        t2 = t * t
        series = np.float32(1) + t2 * (
            np.float32(1 / 3) + t2 * (np.float32(1 / 5) + t2 * np.float32(1 / 7))
        )
        total += n[i] * (np.float32(exponent) * LOG2 + np.float32(2) * t * series)
    return total


@njit(**INNER)
def _likelihood(patch, table, w, half, y0, x0, b, beta, gain, start, n, p, work, bits):
    """Twice the log-likelihood ratio of a spot over none, for shifted Poisson counts.

    Pixel values become quanta, ``(x - b) / gain + beta``, with background `beta`
    (variance over squared gain, so read noise is included). The amplitude is fitted
    by Newton steps from `start` quanta; missing neighbours count against the spot.
    `n`, `p`, `work` and `bits` are buffers.
    """
    yi, xi = int(round(y0)), int(round(x0))
    wy = table[w, int(round((y0 - yi) * FRACTIONS)) + FRACTIONS // 2]
    wx = table[w, int(round((x0 - xi) * FRACTIONS)) + FRACTIONS // 2]
    a = PATCH + xi - half
    size = 0
    p1 = np.float32(0)
    for i in range(2 * half + 1):
        line = patch[PATCH + yi + i - half, a : a + 2 * half + 1]
        for j in range(line.size):
            p[size] = wy[i] * wx[j]
            n[size] = max((line[j] - b) / gain + beta, np.float32(0))
            if line[j] - line[j] == 0:
                p1 += p[size]
                size += 1
    s = start
    for _ in range(2):
        f, g = _newton_sums(n, p, beta, s, size)
        if g <= 0:
            return np.float32(0)
        s = max(s + (f - p1) / g, np.float32(0.25) * s)
    return 2 * (_log_sum(n, p, s / beta, work, bits, size) - s * p1)


@njit(**INNER)
def _refine(patch, table, w, half, y0, x0, b, beta, gain, s):
    """Maximum-likelihood position for `s` quanta on a background of `beta` (Fisher scoring)."""
    y, x = y0, x0
    width2 = WIDTHS[w] * WIDTHS[w] + np.float32(1 / 12)
    for _ in range(3):
        yi, xi = int(round(y)), int(round(x))
        if max(abs(yi), abs(xi)) > PATCH - half:
            return y0, x0
        wy = table[w, int(round((y - yi) * FRACTIONS)) + FRACTIONS // 2]
        wx = table[w, int(round((x - xi) * FRACTIONS)) + FRACTIONS // 2]
        a = PATCH + xi - half
        norm = np.float32(0)
        for j in range(2 * half + 1):
            norm += wx[j]
        norm = np.float32(1) / (norm * norm)
        gy = gx = hy = hx = np.float32(0)
        for i in range(2 * half + 1):
            line = patch[PATCH + yi + i - half, a : a + 2 * half + 1]
            dy = np.float32(i - half + yi) - y
            for j in range(line.size):
                if line[j] - line[j] != 0:
                    continue
                dx = np.float32(j - half + xi) - x
                p = s * wy[i] * wx[j] * norm
                q = p / (beta + p)
                n = max((line[j] - b) / gain + beta, np.float32(0))
                e = n * q - p
                gy += e * dy
                gx += e * dx
                hy += p * q * dy * dy
                hx += p * q * dx * dx
        if hy <= 0 or hx <= 0:
            return y0, x0
        sy = min(max(gy * width2 / hy, np.float32(-0.5)), np.float32(0.5))
        sx = min(max(gx * width2 / hx, np.float32(-0.5)), np.float32(0.5))
        y += sy
        x += sx
        if abs(y - y0) > 1 or abs(x - x0) > 1:
            return y0, x0
        if abs(sy) + abs(sx) < np.float32(0.03):
            break
    return y, x


@njit(**INNER)
def _scan_snr(patch, model, v, gain):
    """Significance of the binomially smoothed pixel, as the scan judged it."""
    t = np.float32(0)
    for i in range(-1, 2):
        for j in range(-1, 2):
            x = patch[PATCH + i, PATCH + j] - model
            if x - x == 0:
                t += np.float32((2 - abs(i)) * (2 - abs(j))) * x
    return significance(t, KERNEL_SUM2, KERNEL_SUM, v, np.float32(0), gain)


@njit(**INNER)
def _sharpness(patch, i0, j0, b, sd, e):
    """How much of the signal the brightest pixel's neighbours share.

    Returns the significance of the eight neighbours together or of the best 2x2
    block without the pixel itself, the share of the signal outside the brightest
    pixel, and outside the brightest two (scaled up where masked pixels hide a part).
    """
    peak = patch[i0, j0] - b
    e[:] = 0
    n8 = 0
    s8 = second = np.float32(0)
    for i in range(3):
        for j in range(3):
            x = patch[i0 + i - 1, j0 + j - 1]
            if x - x == 0:
                e[i, j] = x - b
                if i != 1 or j != 1:
                    s8 += x - b
                    n8 += 1
                    second = max(second, x - b)
    best = np.float32(0)
    for i in range(2):
        for j in range(2):
            best = max(best, e[i, j] + e[i, j + 1] + e[i + 1, j] + e[i + 1, j + 1] - e[1, 1])
    z8 = s8 / (sd * math.sqrt(max(n8, 1)))
    # The best of four blocks is 0.8 sigma high by chance.
    z3 = best / (sd * np.float32(1.7320508)) - np.float32(0.8)
    total = max(peak + s8, np.float32(1e-6))
    # Masked neighbours (the core of a saturated spot) hide most of what was shared.
    if n8 < 8 and peak < np.float32(100) * sd:
        return max(z8, z3), np.float32(1), np.float32(1)
    hidden = np.float32(1 if n8 == 8 else 20)
    return max(z8, z3), hidden * s8 / total, hidden * (s8 - second) / total


@njit(**INNER)
def _grow(patch, i0, j0, b, level, mask, stack, out):
    """Collect the 8-connected pixels above `level`; fill the shape columns of `out`."""
    side = 2 * PATCH + 1
    mask[:] = 0
    mask[i0, j0] = 1
    stack[0] = i0 * side + j0
    top = 1
    n = 0
    s = sy = sx = syy = sxx = sxy = np.float32(0)
    peak = np.float32(-np.inf)
    while top > 0:
        top -= 1
        i, j = stack[top] // side, stack[top] % side
        peak = max(peak, patch[i, j])
        d = max(patch[i, j] - b, np.float32(0))
        y, x = np.float32(i - i0), np.float32(j - j0)
        n += 1
        s += d
        sy += d * y
        sx += d * x
        syy += d * y * y
        sxx += d * x * x
        sxy += d * x * y
        for k in range(max(i - 1, 0), min(i + 2, side)):
            for m in range(max(j - 1, 0), min(j + 2, side)):
                if mask[k, m] == 0 and patch[k, m] > level:
                    mask[k, m] = 1
                    stack[top] = k * side + m
                    top += 1
    out[N_PIXELS], out[INTENSITY], out[MAXIMUM], out[ELONGATION] = n, s, peak, 1
    if s > 0:
        my, mx = sy / s, sx / s
        vyy, vxx, vxy = syy / s - my * my, sxx / s - mx * mx, sxy / s - mx * my
        half_sum, root = (vyy + vxx) / 2, math.sqrt(((vyy - vxx) / 2) ** 2 + vxy * vxy)
        pixel = np.float32(1 / 12)
        out[ELONGATION] = math.sqrt((half_sum + root + pixel) / max(half_sum - root + pixel, pixel))
        out[WIDTH] = max(out[WIDTH], math.sqrt(max(half_sum, np.float32(0))))


@njit(**INNER)
def _climb(patch):
    """Find the top of a very bright spot, which the scan clamps: its 3x3 mean, or plateau's middle."""
    y = x = PATCH
    best = np.float32(-np.inf)
    for _ in range(8):
        y0, x0 = y, x
        for k in range(9):
            i, j = y0 - 1 + k // 3, x0 - 1 + k % 3
            v = smoothed(patch, i, j)
            if v > best:
                y, x, best = i, j, v
        if y == y0 and x == x0:
            break
    # A saturated spot is flat on top.
    n = sy = sx = 0
    for i in range(max(y - PLATEAU, 0), min(y + PLATEAU + 1, patch.shape[0])):
        for j in range(max(x - PLATEAU, 0), min(x + PLATEAU + 1, patch.shape[1])):
            if patch[i, j] == patch[y, x]:
                n += 1
                sy += i
                sx += j
    if n >= 9:
        return np.float32(sy / n - PATCH), np.float32(sx / n - PATCH)
    return np.float32(y - PATCH), np.float32(x - PATCH)


@njit(**INNER)
def _smooth(patch, smooth):
    """Fill `smooth` with the 3x3 means of a patch without unusable pixels, border excluded."""
    side = patch.shape[0]
    column = np.empty(side, np.float32)
    for y in range(1, side - 1):
        up, mid, down, out = patch[y - 1], patch[y], patch[y + 1], smooth[y]
        for x in range(side):
            column[x] = up[x] + mid[x] + down[x]
        for x in range(1, side - 1):
            out[x] = (column[x - 1] + column[x] + column[x + 1]) * np.float32(1 / 9)


@njit(**INNER)
def _ridge(patch, y0, x0, start, b, directions, smooth):
    """Brightest line through a position that goes on at both sides of the spot.

    Ice rings, streaks, particle tracks and shadow edges go on; a spot does not.
    Returns the line's height over the background and the variance of its 3x3 means, both
    of the lower side, so that a neighbouring spot makes no line.
    """
    side = patch.shape[0]
    _smooth(patch, smooth)
    best, best_var = np.float32(0), np.float32(0)
    for axis in range(N_AXES):
        dy, dx = directions[axis, 0], directions[axis, 1]
        low, low_var = np.float32(np.inf), np.float32(0)
        for direction in (-1, 1):
            s = s2 = np.float32(0)
            n = 0
            for k in range(6):
                d = direction * (start + k)
                y, x = int(y0 + d * dy + np.float32(0.5)), int(x0 + d * dx + np.float32(0.5))
                if y < 1 or x < 1 or y >= side - 1 or x >= side - 1:
                    continue
                v = smooth[y, x]
                if v - v != 0:
                    v = smoothed(patch, y, x)
                v -= b
                if v - v == 0:
                    s += v
                    s2 += v * v
                    n += 1
            # A side that a mask hides cannot tell whether the line goes on.
            mean = s / n if n >= 3 else np.float32(0)
            if mean < low:
                low, low_var = mean, s2 / max(n, 1) - mean * mean
        if low > best:
            best, best_var = low, low_var
    return best, max(best_var, np.float32(0))


@njit(**JIT)
def measure(
    patches, rows, cols, n, bins, mean, var, structure, offset, gain, kappa2, tau2, quantum,
    ring1, ring2, table, snr_min, index, out
):  # fmt: skip
    """Measure candidates; returns the number of those with `snr` of at least `snr_min`.

    `tau2` is the variance of the modelled background about the true one, in units of
    the pixel variance; it tells how far the model is to be trusted beside the ring.
    `index` receives the candidate each output row belongs to.
    """
    buffer = np.empty(max(ring1.size, ring2.size), np.float32)
    mask = np.zeros((2 * PATCH + 1, 2 * PATCH + 1), np.uint8)
    stack = np.empty((2 * PATCH + 1) ** 2, np.int32)
    smooth = np.empty((2 * PATCH + 1, 2 * PATCH + 1), np.float32)
    block = np.empty((3, 3), np.float32)
    window = (2 * HALF[-1] + 1) ** 2
    quanta, profile = np.empty(window, np.float32), np.empty(window, np.float32)
    work = np.empty(window, np.float32)
    work_bits = work.view(np.int32)
    n_out = 0
    for i in range(n):
        patch = patches[i]
        flat = patch.reshape(-1)
        r, c = rows[i], cols[i]
        bin_ = bins[r, c]
        v_bin = max(var[bin_], np.float32(1e-6))
        model = mean[bin_] + offset[r // SCALE_ROWS, c // SEGMENT]
        b = model
        v = v_b = texture = np.float32(0)
        y, x = _climb(patch) if patch[PATCH, PATCH] >= CAP else (np.float32(0), np.float32(0))
        y_start, x_start = y, x
        w = best_w = 1
        best = best_b = best_v = best_vb = np.float32(-1)
        # Stage 0: quick test at the pixel. 1: centred, sharp. 2: widen. 3: sharpen. 4: final.
        stage, rounds, new_ring = 0, 0, True
        while True:
            if new_ring:
                # A wide spot fills the inner ring: take its background further out.
                ring = ring1 if stage == 0 else ring2
                m, v_ring, k = _ring(flat, ring, quantum, v_bin, buffer)
                if k < 12:
                    m, v_ring, k = model, v_bin, 12
                v_m = max(v_bin + gain * (m - mean[bin_]), np.float32(0.25) * v_bin)
                v = kappa2 * max(v_m, np.float32(0.8) * v_ring)
                v_mean = kappa2 * max(v_m, v_ring) / k
                # The ring of a wide, bright spot lies on the spot itself: trust the model.
                top = patch[PATCH, PATCH] - model
                if m - model > np.float32(0.2) * top > 10 * math.sqrt(v_bin):
                    m = model
                    v_m, v = v_bin, kappa2 * v_bin
                delta = m - model
                spread = max(tau2 * v_m, delta * delta - np.float32(2) * v_mean)
                trust = spread / (spread + v_mean)
                b = model + trust * delta
                v_b = trust * v_mean + STRUCTURE_SHARE * structure[bin_]
                new_ring = False
                if stage == 0:
                    texture = v_ring / v_m
            t, p2, p1, my, mx, lost = _fit(patch, table, w, HALF[w], y, x, b)
            if rounds:
                # Windowed centroid (XWIN of SExtractor): the maximum of the matched filter.
                rounds -= 1
                dy = np.float32(2) * (my / t - (y - round(y)))
                dx = np.float32(2) * (mx / t - (x - round(x)))
                dy = min(max(dy, np.float32(-0.7)), np.float32(0.7))
                dx = min(max(dx, np.float32(-0.7)), np.float32(0.7))
                far = max(abs(y + dy - y_start), abs(x + dx - x_start))
                outside = max(abs(y + dy), abs(x + dx)) > PATCH - HALF[w] - 1
                if t <= 0 or lost > 0.5 or outside or far > 1.5 + 0.5 * WIDTHS[w]:
                    rounds = 0
                else:
                    y += dy
                    x += dx
                    if abs(dy) + abs(dx) < np.float32(0.02):
                        rounds = 0
                    continue
            s = significance(t, p2, p1, v, v_b, gain)
            if stage == 0:
                if w == 1 and s < snr_min - np.float32(1.0):
                    w = FIRST_WIDE
                    continue
                if w > 1 and s < snr_min - np.float32(0.5):
                    break
                stage, w, rounds, y_start, x_start = 1, 1, 2, y, x
                continue
            if s > np.float32(3) and v < FEW_QUANTA * gain * gain:
                d = _likelihood(
                    patch, table, w, HALF[w], y, x, b, v / (gain * gain), gain, t / p2 / gain,
                    quanta, profile, work, work_bits,
                )  # fmt: skip
                shrink = v * p2 / (v * p2 + v_b * p1 * p1)
                s = min(s, np.float32(math.sqrt(max(d, np.float32(0)) * shrink)))
            if stage == 1:
                best, best_w, best_b, best_v, best_vb = s, w, b, v, v_b
                stage, w = 2, 2
            elif stage == 2:
                if s > best:
                    best, best_w, best_b, best_v, best_vb = s, w, b, v, v_b
                if s < best or w == WIDTHS.size - 1:
                    b, v, v_b = best_b, best_v, best_vb
                    y_start, x_start = y, x
                    if best_w > 1:
                        stage, w, rounds = 4, best_w, 3
                    else:
                        stage, w = 3, 0
                else:
                    w += 1
                    new_ring = w == FIRST_WIDE
            elif stage == 3:
                stage, w, rounds = 4, (0 if s > best else best_w), 3
            else:
                best, best_w, stage = s, w, 5
                break
        if stage != 5 or best < snr_min:
            continue
        if n_out == out.shape[0]:
            return -1
        o = out[n_out]
        index[n_out] = i
        n_out += 1
        # The brightest pixel near the centre anchors shape and hot-pixel tests.
        yi, xi = PATCH + int(round(y)), PATCH + int(round(x))
        i0, j0, top = yi, xi, np.float32(-np.inf)
        for k in range(yi - 1, yi + 2):
            for m_ in range(xi - 1, xi + 2):
                if patch[k, m_] > top:
                    i0, j0, top = k, m_, patch[k, m_]
        sd = np.float32(math.sqrt(v))
        # Where photons are many, weights are even and the gain no longer matters.
        g = max(gain, np.float32(0.02) * sd)
        fine = max(best_w, 1)
        y, x = _refine(
            patch, table, fine, HALF[fine], y, x, b, v / (g * g), g, max(t * p1 / p2, sd) / g
        )
        # A line through the spot is its background, and its graininess is noise.
        line, line_var = _ridge(
            patch, PATCH + y, PATCH + x, np.float32(2.5) + np.float32(2.5) * WIDTHS[best_w], b,
            DIRECTIONS, smooth,
        )  # fmt: skip
        noise = v / np.float32(9)
        core = max(smoothed(patch, yi, xi) - b, np.float32(1e-6))
        if line > max(np.float32(1.5) * math.sqrt(noise), FAINT_LINE * core):
            grain = max(line_var - noise - gain * line / np.float32(9), np.float32(0))
            above = max(core - line, np.float32(0))
            z = above / math.sqrt(noise + gain * line / np.float32(9) + grain)
            best = min(best * above / core, GRAIN_FACTOR * z)
            best *= min(TYPICAL_WIDTH / WIDTHS[best_w], np.float32(1))
        # Bragg spots are as sharp as the point spread; what is wider is more often diffuse.
        best *= min(math.sqrt(TYPICAL_WIDTH / WIDTHS[best_w]), np.float32(1))
        o[ROW], o[COL], o[SNR], o[BACKGROUND], o[SIGMA] = r + y, c + x, best, b, sd
        o[WIDTH], o[MISSING], o[HEIGHT] = WIDTHS[best_w], lost, t / p2
        o[TEXTURE], o[PARENT] = texture, -1
        z, share1, share2 = _sharpness(patch, i0, j0, b, sd, block)
        o[SCAN] = _scan_snr(patch, model, v_bin * kappa2, gain)
        o[NEIGHBOURS], o[SPILL] = z, min(share1, np.float32(2) * share2)
        level = b + max(np.float32(2) * sd, np.float32(0.1) * (top - b))
        _grow(patch, i0, j0, b, level, mask, stack, o)
        # The profile knows better what a weak spot holds outside its brightest pixels.
        o[INTENSITY] = max(o[INTENSITY], t * p1 / p2)
    return n_out
