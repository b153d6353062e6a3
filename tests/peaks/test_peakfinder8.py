"""The peakfinder8-compatible mode against a plain transcription of its description."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_xtal.peaks.find import PeakFinder, find_peaks
from napari_xtal.peaks.parameters import PeakFinderParams

PARAMS = PeakFinderParams(method="peakfinder8", min_pix_count=2, max_pix_count=200)
COLUMNS = ["row", "col", "intensity", "background", "sigma", "snr", "n_pixels", "max_value"]


def _limits(values, rings, min_snr, threshold):
    """Steps 1 and 2: bin means and upper limits by five rounds of clipping."""
    mean, upper, lower = {}, {}, {}
    for b in set(rings.values()):
        mean[b], lower[b], upper[b] = 0.0, -1e9, 1e9
    for _ in range(5):
        sums = {b: [0, 0.0, 0.0] for b in mean}
        for p, b in rings.items():
            if lower[b] < values[p] < upper[b]:
                sums[b][0] += 1
                sums[b][1] += values[p]
                sums[b][2] += values[p] ** 2
        for b, (n, s, q) in sums.items():
            if n == 0:
                lower[b] = upper[b] = math.inf
            elif lower[b] != math.inf:
                mean[b] = s / n
                sd = math.sqrt(max(q / n - mean[b] ** 2, 0.0))
                lower[b] = mean[b] - min_snr * sd
                upper[b] = max(mean[b] + min_snr * sd, threshold)
    return mean, upper


def reference(image, good, radius, panels, params):
    """Return the peaks as tuples of `COLUMNS`, one Python loop per step."""
    n_ss, n_fs = image.shape
    min_snr = params.min_snr or 5
    values, rings = {}, {}
    for r in range(n_ss):
        for c in range(n_fs):
            inside = not params.min_res or radius[r, c] > params.min_res
            inside &= not params.max_res or radius[r, c] < params.max_res
            if good[r, c] and inside and np.isfinite(image[r, c]):
                values[r, c] = float(image[r, c])
                rings[r, c] = int(np.rint(radius[r, c]))
    mean, upper = _limits(values, rings, min_snr, params.threshold)
    above = {p for p in values if values[p] > upper[rings[p]]}

    def on_border(r, c):
        own = np.argwhere(panels == panels[r, c])
        return r in (own[:, 0].min(), own[:, 0].max()) or c in (own[:, 1].min(), own[:, 1].max())

    used, peaks = set(), []
    for seed in sorted(above):
        if seed in used or on_border(*seed):
            continue
        blob = [seed]
        used.add(seed)
        for r, c in blob:
            for y in (r - 1, r, r + 1):
                for x in (c - 1, c, c + 1):
                    if (y, x) in above - used and panels[y, x] == panels[seed]:
                        used.add((y, x))
                        blob.append((y, x))
        if not params.min_pix_count <= len(blob) <= params.max_pix_count:
            continue
        weights = [abs(values[p] - mean[rings[p]]) for p in blob]
        row = round(sum(w * p[0] for w, p in zip(weights, blob, strict=True)) / sum(weights))
        col = round(sum(w * p[1] for w, p in zip(weights, blob, strict=True)) / sum(weights))
        disc = [
            values[p]
            for p in values
            if (p[0] - row) ** 2 + (p[1] - col) ** 2 <= (2 * params.local_bg_radius) ** 2
            and values[p] < upper[rings[p]]
            and p not in used
            and panels[p] == panels[seed]
        ]
        level = sum(disc) / len(disc) if disc else mean[rings[seed]]
        variance = sum(v**2 for v in disc) / len(disc) - level**2 if disc else 0
        sigma = math.sqrt(variance) if variance > 0 else 0.01
        excess = [values[p] - level for p in blob]
        highest = max(values[p] for p in blob)
        if sum(excess) / sigma < min_snr or (disc and highest < max(disc)):
            continue
        weights = [max(e, 0) for e in excess]
        peaks.append(
            (
                sum(w * p[0] for w, p in zip(weights, blob, strict=True)) / sum(weights),
                sum(w * p[1] for w, p in zip(weights, blob, strict=True)) / sum(weights),
                sum(excess), level, sigma, sum(excess) / sigma, len(blob), highest,
            )
        )  # fmt: skip
    return sorted(peaks)


def _scene(seed):
    """Return a small frame with spots, masked pixels, panels and, in floats, NaN."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(30, 50)), int(rng.integers(30, 50)))
    rows, cols = np.indices(shape)
    radius = np.hypot(rows - rng.uniform(0, shape[0]), cols - rng.uniform(0, shape[1]))
    image = rng.poisson(20 * np.exp(-radius / 30) + 2, shape).astype(float)
    for _ in range(12):
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        spot = np.exp(-0.5 * ((rows - y) ** 2 + (cols - x) ** 2) / rng.uniform(0.5, 1.5) ** 2)
        image += rng.poisson(rng.uniform(20, 300) * spot)
    good = rng.random(shape) > 0.04
    good[:, int(rng.integers(shape[1]))] = False
    half = shape[0] // 2, shape[1] // 2
    panels = np.where(rows >= half[0], 2, 0) + np.where(cols >= half[1], 1, 0)
    if seed % 3 == 0:
        panels = np.zeros(shape, int)
    dtype = (np.uint16, np.int32, np.uint32, np.float32)[seed % 4]
    image = image.astype(dtype)
    if dtype is np.float32:
        image += rng.normal(0, 1.5, shape).astype(np.float32)
        image[rng.random(shape) < 0.03] = np.nan
        image[rng.random(shape) < 0.01] = np.inf
        image[rng.random(shape) < 0.01] = -np.inf
    return image, good, radius.astype(np.float32), panels.astype(np.int16)


@pytest.mark.parametrize("seed", range(20))
def test_same_peaks_as_the_description(seed):
    image, good, radius, panels = _scene(seed)
    params = PARAMS.replace(
        min_snr=(0, 3, 4, 6)[seed % 4],
        threshold=(0, 25, -5)[seed % 3],
        min_pix_count=1 + seed % 3,
        max_pix_count=(200, 12)[seed % 2],
        local_bg_radius=(3, 1, 2)[seed % 3],
        min_res=(0, 8)[seed // 2 % 2],
        max_res=(0, 28)[seed // 4 % 2],
    )
    found = find_peaks(image, good, radius=radius, panels=panels, params=params)
    ours = found.sort_values(["row", "col"])[COLUMNS].to_numpy()
    expected = np.array(reference(image, good, radius, panels, params)).reshape(-1, len(COLUMNS))
    assert len(ours) == len(expected)
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-6)


def test_the_scenes_have_peaks_to_compare():
    n = [
        len(reference(*_scene(seed), PARAMS.replace(min_snr=3, min_pix_count=1)))
        for seed in range(4)
    ]
    assert min(n) >= 3


def _frame(seed=0, shape=(120, 120)):
    image = np.random.default_rng(seed).poisson(10, shape).astype(np.uint16)
    rows, cols = np.indices(shape)
    return image, np.hypot(rows - 60, cols - 60).astype(np.float32)


def test_min_snr_zero_is_five():
    image, radius = _frame()
    image[20:22, 30:32] += 60
    tables = [find_peaks(image, radius=radius, params=PARAMS.replace(min_snr=s)) for s in (0, 5)]
    assert len(tables[0]) == 1
    np.testing.assert_array_equal(tables[0][COLUMNS], tables[1][COLUMNS])


def test_columns_describe_the_blob():
    image, radius = _frame()
    image[20:23, 30:33] += 500
    spot = find_peaks(image, radius=radius, params=PARAMS, inv_d=radius / 100).iloc[0]
    assert (round(spot["row"]), round(spot["col"]), spot["n_pixels"]) == (21, 31, 9)
    assert spot["max_value"] == image[20:23, 30:33].max()
    assert abs(spot["background"] - 10) < 2
    total = image[20:23, 30:33].astype(float).sum()
    assert spot["intensity"] == pytest.approx(total - 9 * spot["background"])
    assert spot["snr"] == pytest.approx(spot["intensity"] / spot["sigma"])
    assert spot["inv_d"] == pytest.approx(radius[21, 31] / 100)


def test_centroid_has_no_pull_of_the_background():
    image = np.full((80, 80), 1000, np.int32)
    image += np.random.default_rng(0).integers(-3, 4, image.shape, dtype=np.int32)
    rows, cols = np.indices(image.shape)
    radius = np.hypot(rows - 40, cols - 40)
    image[20, 20], image[20, 21] = 1300, 1100
    spot = find_peaks(image, radius=radius, params=PARAMS).iloc[0]
    assert spot["col"] == pytest.approx(20.25, abs=0.02)


def test_the_strongest_are_kept_not_the_first():
    image, _ = _frame()
    ring = np.zeros(image.shape)
    for i, height in enumerate((60, 80, 100, 900, 800, 700)):
        image[10 + 18 * i : 12 + 18 * i, 50:52] += height
    assert len(find_peaks(image, radius=ring, params=PARAMS)) == 6
    table = find_peaks(image, radius=ring, params=PARAMS.replace(max_peaks=3))
    assert [int(r) for r in table["row"]] == [64, 82, 100]


def test_resolution_limits_and_beam_stop():
    image, radius = _frame()
    for col in (70, 85, 110):
        image[60:62, col : col + 2] += 300

    def columns(**limits):
        table = find_peaks(
            image, radius=radius, params=PARAMS.replace(min_snr=3, threshold=100, **limits)
        )
        return {int(c) for c in table["col"]}

    assert columns() == {70, 85, 110}
    assert columns(min_res=20) == {85, 110}
    assert columns(max_res=30) == {70, 85}
    assert columns(min_res=20, max_res=30) == {85}
    assert columns(beam_stop_radius=20) == {85, 110}


def test_unknown_centre_warns_and_takes_the_middle():
    image, _ = _frame()
    image[20:22, 30:32] += 60
    middle = np.hypot(*(np.indices(image.shape) - 59.5))
    finder = PeakFinder(np.ones(image.shape, bool))
    with pytest.warns(UserWarning, match="beam centre is unknown"):
        table = finder.find(image, PARAMS)
    known = find_peaks(image, radius=middle, params=PARAMS)
    np.testing.assert_array_equal(table[COLUMNS], known[COLUMNS])


def test_limits_changed_between_calls_take_effect():
    image, radius = _frame()
    image[60:62, 70:72] += 300
    finder = PeakFinder(np.ones(image.shape, bool), radius)
    counts = [len(finder.find(image, PARAMS.replace(min_res=r))) for r in (0, 30, 0, 5)]
    assert counts == [1, 0, 1, 1]


def test_background_radial_is_no_matter_of_peakfinder8():
    image, _ = _frame()
    finder = PeakFinder(np.ones(image.shape, bool))
    with pytest.warns(UserWarning, match="beam centre"):
        assert len(finder.find(image, PARAMS.replace(background="radial"))) == 0


def test_blob_that_is_too_large_is_dropped_whole():
    image, _ = _frame()
    image[30:46, 30:46] += 300
    ring = np.zeros(image.shape)
    assert len(find_peaks(image, radius=ring, params=PARAMS)) == 0
    table = find_peaks(image, radius=ring, params=PARAMS.replace(max_pix_count=256))
    assert table["n_pixels"].tolist() == [256]


def test_more_peaks_than_the_first_buffer_holds():
    image = np.random.default_rng(0).poisson(10, (400, 400)).astype(np.uint16)
    image[5::10, 5::10] += 400
    image[5::10, 6::10] += 400
    ring = np.zeros(image.shape)
    # With one pixel in 50 in a spot, clipping begins at 7 sigma or less.
    assert len(find_peaks(image, radius=ring, params=PARAMS)) == 1600


def test_frames_without_usable_pixels():
    image, radius = _frame()
    nothing = np.zeros(image.shape, bool)
    assert len(find_peaks(image, nothing, radius=radius, params=PARAMS)) == 0
    assert len(find_peaks(np.zeros_like(image), radius=radius, params=PARAMS)) == 0
    nan = np.full(image.shape, np.nan, np.float32)
    everything = np.ones(image.shape, bool)
    assert len(find_peaks(nan, everything, radius=radius, params=PARAMS)) == 0
