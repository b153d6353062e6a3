"""Compiled per-frame loops of the default finder: background and scan.

Single-threaded and without the interpreter lock, so that a thread pool runs one
frame per thread. The scan looks at every pixel once; all that follows touches
only the candidates.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types
from numba.extending import overload

from napari_xtal.peaks.jit import INNER, INNER_FAST, JIT
from napari_xtal.peaks.plan import (
    BLOCK_COLS,
    BLOCK_ROWS,
    LAG,
    MASKED,
    SCALE_ROWS,
    SEGMENT,
)

#: Binomial kernel (1, 2, 1) x (1, 2, 1): sum of weights and of squared weights.
KERNEL_SUM, KERNEL_SUM2 = np.float32(16.0), np.float32(36.0)
CLIP = np.float32(4.5)
#: Stands for NaN and infinity among the samples: finite, and never within limits.
NEVER = np.float32(1e30)
#: Distance over which grains of a ring differ [px].
GRAIN_LAG = 6
#: Largest value that 16 of them fit into a 16-bit integer.
CAP = 2047
#: Bytes of a row that are scanned at a time: nine such buffers fit the first-level cache.
STRIP_BYTES = 5120


@njit(**JIT)
def gather(image, index, slot, safe, values, noise, grain):
    """Copy the background samples, their pixel noise and their graininess, sorted by bin.

    Pixel noise: half the squared difference to a near pixel. Graininess: squared second
    difference over `GRAIN_LAG` pixels, which sees the grains of ice and powder rings that
    near pixels share, but no smooth gradient. Both have the variance of a pixel as mean.
    """
    flat = image.ravel()
    for i in range(index.size):
        p, k = index[i], slot[i]
        a = np.float32(flat[p])
        d = a - np.float32(flat[p + LAG])
        finite = d - d == 0
        values[k] = a if finite else NEVER
        noise[k] = np.float32(0.5) * d * d if finite else NEVER
        grain[k] = NEVER
        if safe[i]:
            d = np.float32(flat[p - GRAIN_LAG]) + np.float32(flat[p + GRAIN_LAG]) - a - a
            if d - d == 0:
                grain[k] = d * d / np.float32(6)


@njit(**INNER_FAST)
def _clipped_sum(x, centre, limit):
    """Sum and number of the deviations from `centre` within `limit`; x must be finite."""
    s = np.float32(0)
    k = np.float32(0)
    low, high = centre - limit, centre + limit
    for i in range(x.size):
        # A product vectorises, a condition around the sum does not.
        w = np.float32(1) if (x[i] >= low) & (x[i] <= high) else np.float32(0)
        s += w * (x[i] - centre)
        k += w
    return s, k


@njit(**INNER)
def _median(x, n):
    """Sort the first n values (insertion: n is small, and it compiles fast); return the middle."""
    for i in range(1, n):
        v, j = x[i], i
        while j > 0 and x[j - 1] > v:
            x[j] = x[j - 1]
            j -= 1
        x[j] = v
    return x[n // 2]


@njit(**INNER)
def _robust_start(values, noise):
    """Median of the values and a variance that outliers cannot spoil, from a few samples."""
    stride = max(values.size // 64, 1)
    x = np.empty(values.size // stride + 1, np.float32)
    d = np.empty(values.size // stride + 1, np.float32)
    m = 0
    for i in range(0, values.size, stride):
        if values[i] != NEVER:
            x[m], d[m] = values[i], noise[i]
            m += 1
    if m == 0:
        return np.float32(0), np.float32(0)
    centre = _median(x, m)
    spread = np.float32(0)
    for i in range(m):
        spread += abs(x[i] - centre)
    # The median of (a - b)^2 / 2 is 0.455 var for normal noise, but 0 for rare photons.
    return centre, max(_median(d, m) / np.float32(0.455), (spread / m) ** 2 * np.float32(0.5))


@njit(**JIT)
def bin_statistics(values, noise, start, quantum, mean, var, count):
    """Clipped mean and difference variance of each bin.

    Sparse bins borrow from their neighbours. The variance comes from pixel pairs a
    few pixels apart, so gradients, shadows and a wrong beam centre do not widen it.
    A bin starts from the result of the one before it where that fits.
    """
    n_bins = start.size - 1
    n_all = start[n_bins]
    centre = scale = np.float32(0)
    for b in range(n_bins):
        count[b] = start[b + 1] - start[b]
        lo, hi, reach = start[b], start[b + 1], 0
        while hi - lo < 48 and reach < 40 and hi - lo < n_all:
            reach += 1
            lo, hi = start[max(b - reach, 0)], start[min(b + 1 + reach, n_bins)]
        mean[b], var[b] = np.float32(0), np.float32(0)
        if hi == lo:
            continue
        x, d = values[lo:hi], noise[lo:hi]
        for attempt in range(2):
            if attempt == 1 or scale <= 0:
                centre, scale = _robust_start(x, d)
            scale = max(scale, np.float32(1e-6))
            for _ in range(3):
                # One photon (`quantum`) on an empty detector is no outlier.
                limit = CLIP * math.sqrt(scale) + quantum + np.float32(1e-6)
                s, k = _clipped_sum(x, centre, limit)
                sd, kd = _clipped_sum(d, np.float32(0), np.float32(1.1) * limit * limit)
                if k == 0 or kd == 0:
                    k = np.float32(0)
                    break
                centre += s / k
                change = abs(sd / kd - scale)
                scale = sd / kd
                if change < np.float32(0.02) * scale:
                    break
            if k > np.float32(0.8) * x.size:
                break
        if k > 0:
            mean[b], var[b] = centre, scale
        else:
            scale = np.float32(0)


@njit(**JIT)
def smooth_profile(mean, var, count):
    """Average neighbouring rings where their means agree within their errors.

    Narrow rings of ice or powder, which do not agree, keep their own values.
    """
    # The ring before in its original state; values are replaced in place.
    last_mean, last_var = mean[0], var[0]
    for b in range(1, mean.size - 1):
        this_mean, this_var = mean[b], var[b]
        if count[b] > 0 and count[b - 1] > 0 and count[b + 1] > 0:
            side = np.float32(0.5) * (last_mean + mean[b + 1])
            total = np.float32(count[b - 1] + count[b + 1])
            error = this_var * (np.float32(1) / count[b] + np.float32(1) / total)
            if (this_mean - side) ** 2 < np.float32(4) * error:
                mean[b] = np.float32(0.5) * (this_mean + side)
                var[b] = np.float32(0.5) * this_var + np.float32(0.25) * (last_var + var[b + 1])
        last_mean, last_var = this_mean, this_var


@njit(**INNER)
def deviance_excess(dev2, lam):
    """Excess N - lam of a Poisson count of mean `lam` whose deviance is `dev2`."""
    if lam > 1e5:
        return math.sqrt(dev2 * lam)
    n = lam + math.sqrt(dev2 * lam) + dev2 / 6.0
    for _ in range(8):
        f = 2.0 * (n * math.log(n / lam) - (n - lam)) - dev2
        n = max(n - f / (2.0 * math.log(n / lam) + 1e-12), lam * 1.0001)
    return n - lam


@njit(**JIT)
def gain_of(mean, var, count, integer):
    """Return data units per quantum from the variance-against-mean line of the bins.

    Photon transfer (Janesick 2007): var = read noise + gain * mean.
    """
    sw = sm = sv = smm = smv = 0.0
    for b in range(mean.size):
        if count[b] > 0 and var[b] > 0:
            w = count[b] / (var[b] * var[b] + 1e-12)
            sw += w
            sm += w * mean[b]
            sv += w * var[b]
            smm += w * mean[b] * mean[b]
            smv += w * mean[b] * var[b]
    if sw == 0:
        return 0.0
    mm, vv = sm / sw, sv / sw
    spread = smm / sw - mm * mm
    ratio = vv / mm if mm > 0 else 0.0
    if integer:
        return ratio
    if spread > 0.01 * vv or spread > 1e-3 * mm * mm:
        slope = (smv / sw - mm * vv) / spread
        return min(max(slope, 0.0), ratio if ratio > 0 else max(slope, 0.0))
    return 0.5 * ratio


@njit(**JIT)
def tile_offsets(image, bins, state, mean, var, row_step, offset):
    """Local minus modelled background per tile; 0 where it does not differ."""
    n_ss, n_fs = image.shape
    n_r, n_c = offset.shape
    diff = np.zeros((n_r, n_c), np.float32)
    vsum = np.zeros((n_r, n_c), np.float32)
    n = np.zeros((n_r, n_c), np.float32)
    for r in range(row_step // 2, n_ss, row_step):
        tr = r // SCALE_ROWS
        row, st, bn = image[r], state[r], bins[r]
        for s in range(n_c):
            d = v = k = np.float32(0)
            for c in range(s * SEGMENT, min((s + 1) * SEGMENT, n_fs), 2):
                if st[c] != MASKED:
                    b = bn[c]
                    x = np.float32(row[c]) - mean[b]
                    # A shadow may lie far below the model, -inf must not.
                    if -NEVER < x < np.float32(4.5) * math.sqrt(var[b]) + np.float32(1.0):
                        d += x
                        v += var[b]
                        k += np.float32(1)
            diff[tr, s] += d
            vsum[tr, s] += v
            n[tr, s] += k
    for tr in range(n_r):
        for s in range(n_c):
            significant = abs(diff[tr, s]) > 3 * math.sqrt(vsum[tr, s])
            offset[tr, s] = diff[tr, s] / n[tr, s] if significant and n[tr, s] > 0 else 0


@njit(**JIT)
def thresholds(mean, var, gain, z, offset, lo, hi, bin_excess, block):
    """Excess of the smoothed image a candidate needs, per bin, and its floor per block.

    The excess is the quantile of a scaled Poisson variable with the variance of
    the weighted sum, so that rare photons do not flood the candidates.
    """
    a = gain * KERNEL_SUM2 / KERNEL_SUM
    for b in range(mean.size):
        total = KERNEL_SUM2 * var[b]
        if a * a * 1e-5 * 1e5 > total * 1e-5 and a > 0:
            bin_excess[b] = a * deviance_excess(z * z, max(total / (a * a), 1e-6))
        else:
            bin_excess[b] = z * math.sqrt(total)
    level = np.empty(mean.size, np.float32)
    for b in range(mean.size):
        level[b] = KERNEL_SUM * mean[b] + bin_excess[b]
    for i in range(block.shape[0]):
        tr = i * BLOCK_ROWS // SCALE_ROWS
        for s in range(block.shape[1]):
            m = np.float32(np.inf)
            for b in range(lo[i, s], hi[i, s] + 1):
                if level[b] < m:
                    m = level[b]
            block[i, s] = m + KERNEL_SUM * offset[tr, s * BLOCK_COLS // SEGMENT]


@njit(**INNER_FAST)
def _not_finite(row):
    """Whether a row holds NaN or infinite values (x * 0 is then NaN)."""
    s = np.float32(0)
    for c in range(row.size):
        s += row[c] * np.float32(0)
    return s != 0


def _convert(src, dst):
    """Copy pixel values, clamped where the destination is a 16-bit integer."""
    raise TypeError("only within compiled code")


@overload(_convert)
def _convert_overload(src, dst):
    if isinstance(dst.dtype, types.Float):

        def to_float(src, dst):
            for c in range(src.size):
                dst[c] = src[c]

        return to_float
    if isinstance(src.dtype, types.Integer) and src.dtype.signed:

        def from_signed(src, dst):
            high, low = src.dtype.type(CAP), src.dtype.type(-CAP)
            for c in range(src.size):
                dst[c] = max(min(src[c], high), low)

        return from_signed

    def from_unsigned(src, dst):
        high = src.dtype.type(CAP)
        for c in range(src.size):
            dst[c] = min(src[c], high)

    return from_unsigned


@njit(**INNER)
def _load_row(src, state, bins, segments, mean, offset, check, a, dst):
    """Convert columns a-2 … of a row to the working type, edges repeated.

    Masked and non-finite pixels take the value of the background.
    """
    n = src.size
    lo, hi = max(a - 2, 0), min(a - 2 + dst.size, n)
    part, body = src[lo:hi], dst[lo - a + 2 : hi - a + 2]
    _convert(part, body)
    bad = check and _not_finite(body)
    for s in range(lo // SEGMENT, (hi - 1) // SEGMENT + 1):
        if segments[s] == 2:
            c = max(s * SEGMENT, lo)
            body[c - lo : min((s + 1) * SEGMENT, hi) - lo] = mean[bins[c]] + offset[s]
        elif segments[s] or bad:
            for c in range(max(s * SEGMENT, lo), min((s + 1) * SEGMENT, hi)):
                if state[c] == MASKED or body[c - lo] - body[c - lo] != 0:
                    body[c - lo] = mean[bins[c]] + offset[s]
    for c in range(lo - a + 2):
        dst[c] = body[0]
    for c in range(hi - a + 2, dst.size):
        dst[c] = body[hi - lo - 1]


@njit(**INNER)
def _weigh(a, b, c, out):
    for i in range(out.size):
        out[i] = a[i] + (b[i] + b[i]) + c[i]


@njit(**INNER)
def _copy(src, dst):
    # A loop, since an array assignment compiles its error message for two seconds.
    for i in range(dst.size):
        dst[i] = src[i]


@njit(**INNER)
def _compare(x, floor, out):
    for i in range(out.size):
        out[i] = x[i] > floor[i]


@njit(**INNER)
def _any(words, w):
    """Whether one of eight words is set."""
    a = words[w] | words[w + 1] | words[w + 2] | words[w + 3]
    return (a | words[w + 4] | words[w + 5] | words[w + 6] | words[w + 7]) != 0


@njit(**JIT)
def scan(
    image, state, bins, segments, mean, offset, bin_excess, block, check, lowest, out_row, out_col
):
    """Find local maxima of the binomially smoothed frame above the background.

    `block` and `lowest` (a one-element array with the least value) give the working type:
    float32, or int16 where the background allows it, which is twice as fast.
    Works in strips of columns whose row buffers stay in the first-level cache.
    Returns the number of candidates, or -1 when they do not fit into the output.
    """
    n_ss, n_fs = image.shape
    most = STRIP_BYTES // block.itemsize
    n_strips = (n_fs + most - 1) // most
    strip = ((n_fs + n_strips - 1) // n_strips + 63) // 64 * 64
    n_out = 0
    for a in range(0, n_fs, strip):
        width = min(strip, n_fs - a)
        f = np.zeros((3, width + 4), block.dtype)
        h = np.full((3, width + 2), lowest[0], block.dtype)
        v = np.zeros(width + 4, block.dtype)
        floor = np.zeros(width, block.dtype)
        # One byte per pixel, looked at 64 or 8 at a time.
        marks = np.zeros((3, (width + 63) // 64 * 64), np.uint8)
        words = marks.view(np.uint64)
        _load_row(image[0], state[0], bins[0], segments[0], mean, offset[0], check, a, f[0])
        _copy(f[0], f[2])
        for r in range(n_ss + 1):
            # Smooth row r (needs rows r-1 and r+1), then judge row r-1 (smoothed r-2 … r).
            if r < n_ss:
                q = r + 1
                if q < n_ss:
                    off = offset[q // SCALE_ROWS]
                    _load_row(
                        image[q], state[q], bins[q], segments[q], mean, off, check, a, f[q % 3]
                    )
                else:
                    _copy(f[r % 3], f[q % 3])
                if r % BLOCK_ROWS == 0:
                    for s in range(a // BLOCK_COLS, (a + width - 1) // BLOCK_COLS + 1):
                        level = block[r // BLOCK_ROWS, s]
                        floor[s * BLOCK_COLS - a : min((s + 1) * BLOCK_COLS - a, width)] = level
                _weigh(f[(r + 2) % 3], f[r % 3], f[q % 3], v)
                hr = h[r % 3]
                _weigh(v[0 : width + 2], v[1 : width + 3], v[2 : width + 4], hr)
                _compare(hr[1 : width + 1], floor, marks[r % 3][:width])
            else:
                h[r % 3][:] = lowest[0]
            p = r - 1
            if p < 0:
                continue
            above, here, below = h[(p + 2) % 3], h[p % 3], h[(p + 1) % 3]
            row_words, row_marks = words[p % 3], marks[p % 3]
            w = -1
            while w + 1 < row_words.size:
                w += 1
                if w % 8 == 0 and not _any(row_words, w):
                    w += 7
                    continue
                if row_words[w] == 0:
                    continue
                for c in range(8 * w, min(8 * w + 8, width)):
                    x = here[c + 1]
                    # Plateaus count once: the first pixel in row order wins.
                    if (
                        row_marks[c] == 0
                        or x <= above[c] or x <= above[c + 1] or x <= above[c + 2] or x <= here[c]
                        or x < here[c + 2] or x < below[c] or x < below[c + 1] or x < below[c + 2]
                        or state[p, a + c] == MASKED
                    ):  # fmt: skip
                        continue
                    b = bins[p, a + c]
                    off_c = offset[p // SCALE_ROWS, (a + c) // SEGMENT]
                    if x <= KERNEL_SUM * (mean[b] + off_c) + bin_excess[b]:
                        continue
                    if n_out == out_row.size:
                        return -1
                    out_row[n_out] = p
                    out_col[n_out] = a + c
                    n_out += 1
    return n_out


@njit(**JIT)
def correlation(image, pairs, bins, var):
    """Variance of the smoothed background relative to that of independent pixels, >= 1."""
    s = 0.0
    n = 0
    for i in range(pairs.shape[0]):
        r, c = pairs[i, 0], pairs[i, 1]
        d = np.float32(0)
        for dr in range(-1, 2):
            for dc in range(-1, 2):
                w = np.float32((2 - abs(dr)) * (2 - abs(dc)))
                d += w * (np.float32(image[r + dr, c + dc]) - np.float32(image[r + dr, c + dc - 8]))
        total = 2 * KERNEL_SUM2 * var[bins[r, c]]
        if total > 0 and d - d == 0:
            # Clipping at 3 sigma keeps 97.3 % of a normal distribution's variance.
            q = d * d / total
            if q < 16:
                s += q
                n += 1
    return max(s / n, 1.0) if n > 100 else 1.0


@njit(**JIT)
def model_error(image, pairs, bins, mean, var, offset):
    """Variance of the modelled background about the true one, per pixel variance.

    Means over 7x7 windows scatter about the model by this beyond their own noise;
    clipped, so that windows with peaks do not count.
    """
    s = 0.0
    n = 0
    for i in range(0, pairs.shape[0], 4):
        r, c = pairs[i, 0], pairs[i, 1]
        b = bins[r, c]
        if var[b] <= 0:
            continue
        m = np.float32(0)
        for y in range(r - 3, r + 4):
            for x in range(c - 3, c + 4):
                m += np.float32(image[y, x])
        d = m / np.float32(49) - mean[b] - offset[r // SCALE_ROWS, c // SEGMENT]
        q = d * d / var[b]
        if q < 0.5:
            s += q
            n += 1
    return max(s / n - 1.0 / 49.0, 0.0) if n > 50 else 1.0


@njit(**JIT)
def texture(grain, start, var, out):
    """Structure of each bin: variance of grains of several pixels beyond pixel noise."""
    for b in range(var.size):
        out[b] = 0
        if var[b] <= 0:
            continue
        d2 = grain[start[b] : start[b + 1]]
        limit = np.float32(100) * var[b]
        q = n = np.float32(0)
        for _ in range(3):
            q, n = _clipped_sum(d2, np.float32(0), limit)
            if n < 24:
                break
            q /= n
            limit = np.float32(25) * q + np.float32(1)
        if n >= 24:
            # Twice the scatter that normal noise gives the mean of n squares.
            noise = var[b] * (np.float32(1) + np.float32(3) / math.sqrt(n))
            out[b] = max(q - noise, np.float32(0))


@njit(**JIT)
def checksum(words):
    """Weighted sum of 64-bit words: changes with the value and with the place of any."""
    total = np.uint64(0)
    for i in range(words.size):
        total += words[i] * ((np.uint64(i) << np.uint64(1)) | np.uint64(1))
    return total
