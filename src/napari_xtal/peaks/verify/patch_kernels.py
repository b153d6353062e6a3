"""Compiled loops over windows: cut them out of a frame, turn counts into significance."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from napari_xtal.peaks.jit import INNER, INNER_FAST, JIT

#: Most of the smallest distinct values among which the quantum is looked for.
N_SMALLEST = 8
#: Every how many pixels are asked for it first, and from how many distinct values on that is enough.
SAMPLE, ENOUGH = 5, 4
#: Fewest background pixels before the window's inner pixels are asked too.
FEW = 30
#: Clipping rounds with a constant background, and then with a plane.
CONSTANT_ROUNDS, PLANE_ROUNDS = 12, 3
#: Clipping limit in standard deviations.
CLIP = np.float32(3)
#: Anscombe's shift: makes the variance of a square root of few counts constant.
SHIFT = np.float32(0.375)


@njit(**JIT)
def extract(image, good, masked, marker, marked, rows, cols, half, values, usable):
    """Cut out a window around each position of one frame.

    `good` counts only where `masked`; pixels equal to `marker` are unusable where `marked`.
    """
    n_ss, n_fs = image.shape
    side = 2 * half + 1
    for i in range(rows.size):
        for k in range(side):
            r = rows[i] - half + k
            for m in range(side):
                c = cols[i] - half + m
                ok = 0 <= r < n_ss and 0 <= c < n_fs
                x = np.float32(0)
                if ok:
                    v = image[r, c]
                    x = np.float32(v)
                    ok = x - x == 0
                    if marked and v == marker:
                        ok = False
                    if masked and not good[r, c]:
                        ok = False
                values[i, k, m] = x if ok else np.float32(0)
                usable[i, k, m] = ok


@njit(**INNER)
def _smallest_step(x, step, smallest):
    """Smallest difference of the smallest distinct values, and how many of these there are."""
    n = 0
    for i in range(0, x.size, step):
        v = x[i]
        if n == N_SMALLEST and v >= smallest[n - 1]:
            continue
        k = n
        while k > 0 and smallest[k - 1] > v:
            k -= 1
        if k > 0 and smallest[k - 1] == v:
            continue
        if n < N_SMALLEST:
            n += 1
        for j in range(n - 1, k, -1):
            smallest[j] = smallest[j - 1]
        smallest[k] = v
    least = np.float32(0)
    for k in range(1, n):
        d = smallest[k] - smallest[k - 1]
        if k == 1 or d < least:
            least = d
    if least > 0:
        # The whole span in steps: values with an offset carry rounding errors.
        span = smallest[n - 1] - smallest[0]
        least = span / np.float32(round(span / least))
    return least, n


@njit(**INNER)
def _quantum(x, smallest):
    """Smallest step of the data, 0 when all values are equal."""
    least, n = _smallest_step(x, SAMPLE, smallest)
    if n < ENOUGH:
        # Few photons: a sample may have missed the single ones.
        least, n = _smallest_step(x, 1, smallest)
    return least


@njit(**INNER_FAST)
def _moments(x, low, high):
    """Return number, sum and sum of squares of the values within limits."""
    n = np.float32(0)
    s = np.float32(0)
    q = np.float32(0)
    for i in range(x.size):
        v = x[i]
        w = np.float32(1) if (v >= low) & (v <= high) else np.float32(0)
        n += w
        s += w * v
        q += w * v * v
    return n, s, q


@njit(**INNER_FAST)
def _plane_sums(x, y, u, a, b, c, limit, sums):
    """Fill the sums for a plane through the values near an earlier plane a + b y + c u."""
    n = sy = su = syy = syu = suu = s0 = s1 = s2 = q = np.float32(0)
    for i in range(x.size):
        e = x[i] - (a + b * y[i] + c * u[i])
        w = np.float32(1) if abs(e) <= limit else np.float32(0)
        n += w
        sy += w * y[i]
        su += w * u[i]
        syy += w * y[i] * y[i]
        syu += w * y[i] * u[i]
        suu += w * u[i] * u[i]
        s0 += w * e
        s1 += w * e * y[i]
        s2 += w * e * u[i]
        q += w * e * e
    sums[0], sums[1], sums[2] = n, sy, su
    sums[3], sums[4], sums[5] = syy, syu, suu
    sums[6], sums[7], sums[8], sums[9] = s0, s1, s2, q


@njit(**INNER)
def _refine_plane(sums, a, b, c):
    """Add the least-squares plane of the residuals (in `sums`); returns it and their variance."""
    n = float(sums[0])
    my, mu, m0 = sums[1] / n, sums[2] / n, sums[6] / n
    # A ridge of one pixel squared keeps windows with a single usable line solvable.
    yy = sums[3] / n - my * my + 1.0
    yu = sums[4] / n - my * mu
    uu = sums[5] / n - mu * mu + 1.0
    ye = sums[7] / n - my * m0
    ue = sums[8] / n - mu * m0
    det = yy * uu - yu * yu
    db = (ye * uu - ue * yu) / det
    dc = (ue * yy - ye * yu) / det
    v = max(sums[9] / n - m0 * m0 - db * ye - dc * ue, 0.0)
    da = m0 - db * my - dc * mu
    return np.float32(a + da), np.float32(b + db), np.float32(c + dc), np.float32(v)


@njit(**INNER)
def _background(x, y, u, sums):
    """Clipped background plane (a, b, c) and variance of some pixels, all in quanta."""
    one = np.float32(1)
    low, high = np.float32(-np.inf), np.float32(np.inf)
    m = v = np.float32(0)
    kept = np.float32(-1)
    for k in range(CONSTANT_ROUNDS):
        n, s, q = _moments(x, low, high)
        if n < 4 or n == kept:
            break
        m = s / n
        v = max(q / n - m * m, np.float32(0))
        kept = n
        # Bright neighbours pull the first means up: clip harder above.
        limit = CLIP * math.sqrt(v) + one
        low, high = m - limit, m + (limit if k > 1 else np.float32(0.7) * limit)
    a, b, c = m, np.float32(0), np.float32(0)
    for _ in range(PLANE_ROUNDS):
        _plane_sums(x, y, u, a, b, c, CLIP * math.sqrt(v) + one, sums)
        if sums[0] < 4:
            break
        a, b, c, v = _refine_plane(sums, a, b, c)
    return a, b, c, v


@njit(**INNER)
def _gather(value, ok, pixels, reference, gain, x, y, u):
    """Collect the usable ones of some pixels in quanta above a reference; returns how many."""
    n = 0
    for q in range(pixels.shape[1]):
        k = pixels[0, q]
        # Written always, kept when usable: cheaper than a branch that is hard to foresee.
        x[n] = (value[k] - reference) * gain
        y[n] = np.float32(pixels[1, q])
        u[n] = np.float32(pixels[2, q])
        n += 1 if ok[k] else 0
    return n


@njit(**INNER)
def _gather_all(value, ok, x):
    """Collect the usable pixels; returns how many."""
    n = 0
    for k in range(value.size):
        x[n] = value[k]
        n += 1 if ok[k] else 0
    return n


@njit(**INNER)
def _local_noise(value, ok, pixels, n_ring, n_outer, buffers, smallest, sums):
    """Background plane, quantum and noise of a window.

    `pixels` lists the window's flat indices and offsets from the centre, those far from
    the centre first.

    Returns
    -------
    reference, a, b, c, gain, lam
        Background reference + (a + b y + c u) / gain with (y, u) from the centre,
        1 / quantum, and the noise's variance in quanta squared. The gain is 0 when all
        values are equal.
    """
    x, y, u = buffers[0], buffers[1], buffers[2]
    zero = np.float32(0)
    m = _gather_all(value, ok, x)
    quantum = _quantum(x[:m], smallest)
    if quantum <= 0:
        return zero, zero, zero, zero, zero, zero
    # A dark value as origin: squares of large offsets would lose digits.
    reference = smallest[0]
    gain = np.float32(1) / quantum
    m = _gather(value, ok, pixels[:, :n_ring], reference, gain, x, y, u)
    if m < FEW:
        m = _gather(value, ok, pixels[:, :n_outer], reference, gain, x, y, u)
        if m < 8:
            m = _gather(value, ok, pixels, reference, gain, x, y, u)
    a, b, c, v = _background(x[:m], y[:m], u[:m], sums)
    # Half a quantum in all the ring: what an empty ring may have had.
    lam = max(v, np.float32(0.5) / np.float32(m))
    return reference, a, b, c, gain, lam


@njit(**INNER_FAST)
def _compress(e, lam):
    """Compressed significance of an excess over a Poisson expectation, both in quanta.

    2 (sqrt(lam + e + 3/8) - sqrt(lam + 3/8)), free of cancellation, then a fourth root.
    """
    high = math.sqrt(max(lam + e + SHIFT, np.float32(0)))
    z = np.float32(2) * e / (high + math.sqrt(lam + SHIFT))
    t = np.float32(2) * (math.sqrt(math.sqrt(np.float32(1) + abs(z))) - np.float32(1))
    return t if z > 0 else -t


@njit(**INNER_FAST)
def _excess(value, ok, reference, a, b, c, gain, out):
    """Excess of every pixel over the background [quanta], 0 where unusable."""
    side = value.shape[0]
    half = np.float32(side // 2)
    for i in range(side):
        line = a + b * (np.float32(i) - half) - c * half
        for j in range(side):
            e = (value[i, j] - reference) * gain - (line + c * np.float32(j))
            out[i, j] = e if ok[i, j] else np.float32(0)


@njit(**INNER_FAST)
def _boxes(values, first, last, line, out):
    """Fill in the sums over the 3x3 neighbourhoods of the square [first, last) of a larger one."""
    for i in range(first, last):
        for j in range(line.size):
            line[j] = values[i - 1, j] + values[i, j] + values[i + 1, j]
        for j in range(first, last):
            out[i - first, j - first] = line[j - 1] + line[j] + line[j + 1]


@njit(**INNER)
def _by_distance(side, ring2, core2):
    """Pixels of a window, the farthest from the centre first: index, row and column offset.

    Also returns how many lie at least sqrt(ring2), and sqrt(core2) from the centre.
    """
    half = side // 2
    radius2 = np.empty(side * side, np.int64)
    for k in range(side * side):
        radius2[k] = (k // side - half) ** 2 + (k % side - half) ** 2
    order = np.argsort(-radius2, kind="mergesort")
    pixels = np.empty((3, side * side), np.int32)
    for q in range(order.size):
        pixels[0, q] = order[q]
        pixels[1, q] = order[q] // side - half
        pixels[2, q] = order[q] % side - half
    return pixels, np.sum(radius2 >= ring2), np.sum(radius2 >= core2)


@njit(**JIT)
def significance(values, usable, ring2, core2, out):
    """Fill the two planes of each window: compressed significance and mask.

    The background is a clipped plane through the pixels at least sqrt(`ring2`) from the
    centre, through those beyond sqrt(`core2`) where they are few, else through all.
    """
    n, side, _ = values.shape
    pixels, n_ring, n_outer = _by_distance(side, ring2, core2)
    flat, flags = values.reshape(n, side * side), usable.reshape(n, side * side)
    # One more than can be kept: the collecting loops write before they decide.
    buffers = np.empty((3, side * side + 1), np.float32)
    smallest = np.empty(N_SMALLEST, np.float32)
    sums = np.empty(10, np.float32)
    excess = np.empty((side, side), np.float32)
    for p in range(n):
        reference, a, b, c, gain, lam = _local_noise(
            flat[p], flags[p], pixels, n_ring, n_outer, buffers, smallest, sums
        )
        _excess(values[p], usable[p], reference, a, b, c, gain, excess)
        for i in range(side):
            for j in range(side):
                out[p, 0, i, j] = _compress(excess[i, j], lam)
                out[p, 1, i, j] = np.float32(1) if usable[p, i, j] else np.float32(0)


@njit(**INNER_FAST)
def _matched(excess, mask, profile, lam):
    """Compressed significance of a profile's amplitude, taken as a scaled Poisson variable."""
    t = p1 = p2 = np.float32(0)
    # Flat: lines of 27 pixels would leave a tenth of the work to single steps.
    for k in range(profile.size):
        q = profile[k] * mask[k]
        t += profile[k] * excess[k]
        p1 += q
        p2 += q * q
    if p2 <= 0:
        return np.float32(0)
    scale = p1 / p2
    return _compress(t * scale, lam * p1 * scale)


@njit(**INNER)
def _measures(excess, mask, profiles, slope, lam, out):
    """Numbers of the whole window: significance per width, noise in quanta, slope, coverage."""
    n, n_pixels = profiles.shape
    side = math.sqrt(n_pixels)
    for w in range(n):
        out[w] = _matched(excess, mask, profiles[w], lam)
    out[n] = np.float32(0.25) * math.log(lam) if lam > 0 else np.float32(0)
    across = slope * side / math.sqrt(lam) if lam > 0 else np.float32(0)
    out[n + 1] = math.log1p(across)
    out[n + 2] = mask.sum() / np.float32(n_pixels)


@njit(**JIT)
def foveate(values, usable, ring2, core2, profiles, fine, coarse, whole):
    """Fill the planes of each window at full resolution in the middle, binned 3x3 all over.

    `fine` gets significance, mask and significance of the 3x3 sums; `coarse` gets the
    significance and the share of usable pixels of the bins; `whole` the `_measures`.
    """
    n, side, _ = values.shape
    half, reach = side // 2, fine.shape[2] // 2
    first, last = half - reach, half + reach + 1
    n_bins = coarse.shape[2]
    pixels, n_ring, n_outer = _by_distance(side, ring2, core2)
    flat, flags = values.reshape(n, side * side), usable.reshape(n, side * side)
    # One more than can be kept: the collecting loops write before they decide.
    buffers = np.empty((3, side * side + 1), np.float32)
    smallest = np.empty(N_SMALLEST, np.float32)
    sums = np.empty(10, np.float32)
    excess = np.empty((side, side), np.float32)
    mask = np.empty((side, side), np.float32)
    line = np.empty(side, np.float32)
    box_excess = np.empty((last - first, last - first), np.float32)
    box_count = np.empty((last - first, last - first), np.float32)
    for p in range(n):
        reference, a, b, c, gain, lam = _local_noise(
            flat[p], flags[p], pixels, n_ring, n_outer, buffers, smallest, sums
        )
        _excess(values[p], usable[p], reference, a, b, c, gain, excess)
        for i in range(side):
            for j in range(side):
                mask[i, j] = np.float32(1) if usable[p, i, j] else np.float32(0)
        _boxes(excess, first, last, line, box_excess)
        _boxes(mask, first, last, line, box_count)
        for i in range(last - first):
            for j in range(last - first):
                fine[p, 0, i, j] = _compress(excess[first + i, first + j], lam)
                fine[p, 1, i, j] = mask[first + i, first + j]
                fine[p, 2, i, j] = _compress(box_excess[i, j], box_count[i, j] * lam)
        for i in range(n_bins):
            for j in range(n_bins):
                e = m = np.float32(0)
                for k in range(3 * i, 3 * i + 3):
                    for q in range(3 * j, 3 * j + 3):
                        e += excess[k, q]
                        m += mask[k, q]
                coarse[p, 0, i, j] = _compress(e, m * lam)
                coarse[p, 1, i, j] = m / np.float32(9)
        slope = math.sqrt(b * b + c * c)
        _measures(excess.ravel(), mask.ravel(), profiles, slope, lam, whole[p])


@njit(**JIT)
def local_noise(values, usable, ring2, core2, out):
    """Background at the centre, standard deviation and quantum of each window, (n, 3)."""
    n, side, _ = values.shape
    pixels, n_ring, n_outer = _by_distance(side, ring2, core2)
    flat, flags = values.reshape(n, side * side), usable.reshape(n, side * side)
    buffers = np.empty((3, side * side + 1), np.float32)
    smallest = np.empty(N_SMALLEST, np.float32)
    sums = np.empty(10, np.float32)
    for p in range(n):
        reference, a, b, c, gain, lam = _local_noise(
            flat[p], flags[p], pixels, n_ring, n_outer, buffers, smallest, sums
        )
        quantum = np.float32(1) / gain if gain > 0 else np.float32(0)
        out[p, 0] = reference + a * quantum
        out[p, 1] = quantum * math.sqrt(lam)
        out[p, 2] = quantum
