"""The threshold mode against naive loops over pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_xtal.errors import ParameterError
from napari_xtal.peaks.find import PeakFinder, find_peaks
from napari_xtal.peaks.parameters import PeakFinderParams

PARAMS = PeakFinderParams(method="threshold", threshold=10, min_distance=0)
SMALL = st.tuples(st.integers(3, 12), st.integers(3, 12))


def _neighbours(p, shape):
    return [
        (y, x)
        for y in range(max(p[0] - 1, 0), min(p[0] + 2, shape[0]))
        for x in range(max(p[1] - 1, 0), min(p[1] + 2, shape[1]))
        if (y, x) != p
    ]


def _connected(seed, members, panels):
    """Pixels of `members` that are connected to `seed` on its panel."""
    found, stack = {seed}, [seed]
    while stack:
        for q in _neighbours(stack.pop(), panels.shape):
            if q in members and q not in found and panels[q] == panels[seed]:
                found.add(q)
                stack.append(q)
    return found


def naive_maxima(image, good, panels, threshold):
    """Return [(plateau, size of its blob), ...] in the order in which plateaus begin."""
    usable = good & np.isfinite(image)
    above = {tuple(map(int, p)) for p in np.argwhere(usable & (image > threshold))}
    seen, out = set(), []
    for p in sorted(above):
        if p in seen:
            continue
        plateau = _connected(p, {q for q in above if image[q] == image[p]}, panels)
        seen |= plateau
        touching = {q for t in plateau for q in _neighbours(t, image.shape) if usable[q]}
        if all(image[q] <= image[p] for q in touching if panels[q] == panels[p]):
            out.append((plateau, len(_connected(p, above, panels))))
    return out


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_same_maxima_as_naive_loops(data):
    shape = data.draw(SMALL)
    image = data.draw(hnp.arrays(np.int32, shape, elements=st.integers(8, 14)))
    good = data.draw(hnp.arrays(bool, shape, elements=st.sampled_from([True] * 7 + [False])))
    panels = np.zeros(shape, np.int16)
    panels[:, data.draw(st.integers(0, shape[1])) :] = 1
    table = find_peaks(image, good, panels=panels, params=PARAMS)
    expected = naive_maxima(image, good, panels, 10)
    assert len(table) == len(expected)
    ours = sorted(zip(table["max_value"], table["n_pixels"], table["panel"], strict=True))
    naive = [(image[min(p)], size, panels[min(p)]) for p, size in expected]
    assert ours == sorted(naive)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_pixel_limits_act_on_connected_pixels(data):
    image = data.draw(hnp.arrays(np.uint16, data.draw(SMALL), elements=st.integers(8, 14)))
    low, high = data.draw(st.integers(1, 4)), data.draw(st.integers(4, 20))
    good, panels = np.ones(image.shape, bool), np.zeros(image.shape, np.int16)
    params = PARAMS.replace(min_pix_count=low, max_pix_count=high)
    table = find_peaks(image, good, params=params)
    sizes = [size for _, size in naive_maxima(image, good, panels, 10) if low <= size <= high]
    assert sorted(table["n_pixels"]) == sorted(sizes)


def _noise(shape=(80, 80), seed=0):
    return np.random.default_rng(seed).poisson(5, shape).astype(np.uint16)


def _spot(image, row, col, height, sigma=1.0):
    rows, cols = np.indices(image.shape)
    profile = np.exp(-0.5 * ((rows - row) ** 2 + (cols - col) ** 2) / sigma**2)
    image += np.rint(height * profile).astype(image.dtype)


FLAT_TOPS = [
    ["xx", "xx"],
    ["x.x", "xxx"],
    ["xxxxx"],
    ["xxx", "x.x", "xxx"],
    ["x..", ".x.", "..x"],
    ["x...x", ".x.x.", "..x.."],
]


@pytest.mark.parametrize("shape", FLAT_TOPS, ids="/".join)
def test_plateau_of_any_shape_counts_once_at_its_middle(shape):
    pattern = np.array([[ch == "x" for ch in line] for line in shape])
    image = np.full((30, 30), 2, np.int32)
    image[10 : 10 + pattern.shape[0], 12 : 12 + pattern.shape[1]][pattern] = 100
    table = find_peaks(image, params=PARAMS)
    assert len(table) == 1
    rows, cols = np.nonzero(pattern)
    assert table["row"][0] == pytest.approx(10 + rows.mean(), abs=0.6)
    assert table["col"][0] == pytest.approx(12 + cols.mean(), abs=0.6)
    assert table["n_pixels"][0] == pattern.sum()


def test_plateau_on_the_slope_of_a_peak_is_no_maximum():
    image = np.full((20, 20), 2, np.int32)
    image[10, 5:9] = 50
    image[10, 9] = 60
    table = find_peaks(image, params=PARAMS)
    assert table["max_value"].tolist() == [60]


def test_threshold_itself_is_not_above():
    image = np.full((20, 20), 2, np.int32)
    image[5, 5], image[12, 12] = 10, 11
    assert find_peaks(image, params=PARAMS)["max_value"].tolist() == [11]


@pytest.mark.parametrize("corner", [(0, 0), (0, 39), (39, 0), (39, 39), (0, 17), (22, 39)])
def test_frame_border_counts(corner):
    image = _noise((40, 40))
    image[corner] = 500
    table = find_peaks(image, params=PARAMS.replace(threshold=100))
    assert len(table) == 1
    assert np.hypot(table["row"][0] - corner[0], table["col"][0] - corner[1]) < 0.5


def test_neighbour_on_another_panel_does_not_matter():
    image = np.full((20, 20), 2, np.int32)
    image[10, 9], image[10, 10] = 50, 60
    panels = (np.indices(image.shape)[1] >= 10).astype(np.int16)
    assert len(find_peaks(image, params=PARAMS)) == 1
    table = find_peaks(image, panels=panels, params=PARAMS)
    assert table["panel"].tolist() == [0, 1]
    assert table["col"].tolist() == [9, 10]


def test_masked_and_non_finite_pixels_are_not_there():
    image = _noise().astype(np.float32)
    image[20, 20], image[40, 40], image[60, 60] = 300, np.inf, np.nan
    image[20, 21] = 400
    good = np.ones(image.shape, bool)
    good[20, 21] = False
    table = find_peaks(image, good, params=PARAMS.replace(threshold=100))
    assert (table["row"][0], table["col"][0], table["max_value"][0]) == pytest.approx(
        (20, 20, 300), abs=0.3
    )
    assert len(table) == 1


@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.3, -0.4), (-0.25, 0.45)])
def test_centroid_and_background(offset):
    image = np.random.default_rng(1).poisson(100, (60, 60)).astype(np.int32)
    _spot(image, 30 + offset[0], 25 + offset[1], 5000, 0.8)
    peak = find_peaks(image, params=PARAMS.replace(threshold=500)).iloc[0]
    assert peak["row"] == pytest.approx(30 + offset[0], abs=0.05)
    assert peak["col"] == pytest.approx(25 + offset[1], abs=0.05)
    assert peak["background"] == pytest.approx(100, abs=4)
    assert peak["sigma"] == pytest.approx(10, rel=0.3)
    window = image[28:33, 23:28].astype(float) - peak["background"]
    assert peak["intensity"] == pytest.approx(window.sum())
    assert peak["snr"] == pytest.approx(window.sum() / peak["sigma"] / 5)


def test_constant_background_gives_finite_numbers():
    image = np.zeros((40, 40), np.uint16)
    image[20, 20] = 50
    table = find_peaks(image, params=PARAMS)
    assert len(table) == 1
    assert np.isfinite(table[["intensity", "background", "sigma", "snr"]]).all(axis=None)


def test_background_of_a_spot_wider_than_the_ring():
    image = np.full((100, 100), 20, np.int32)
    rows, cols = np.indices(image.shape)
    image[np.hypot(rows - 50, cols - 50) < 12] = 5000
    table = find_peaks(image, params=PARAMS.replace(threshold=100))
    assert len(table) == 1
    peak = table.iloc[0]
    assert (peak["row"], peak["col"], peak["background"]) == pytest.approx((50, 50, 20))


def test_min_distance_keeps_the_stronger():
    image = np.full((60, 60), 2, np.int32)
    for col, height in ((20, 100), (24, 200), (28, 150), (45, 120)):
        image[30, col] = height

    def heights(distance):
        table = find_peaks(image, params=PARAMS.replace(min_distance=distance))
        return table["max_value"].tolist()

    assert heights(3) == [100, 200, 150, 120]
    assert heights(6) == [200, 120]
    assert heights(100) == [200]


def test_max_peaks_keeps_the_highest_in_reading_order():
    image = np.full((60, 60), 2, np.int32)
    for i, height in enumerate((50, 300, 90, 200, 100)):
        image[5 + 10 * i, 30] = height
    table = find_peaks(image, params=PARAMS.replace(max_peaks=3))
    assert table["max_value"].tolist() == [300, 200, 100]


def test_resolution_limits_and_beam_stop():
    image = _noise((120, 120))
    radius = np.hypot(*(np.indices(image.shape) - 60.0))
    for col in (60, 70, 85, 110):
        image[60, col] = 300

    def columns(**limits):
        params = PARAMS.replace(threshold=100, **limits)
        return [round(c) for c in find_peaks(image, radius=radius, params=params)["col"]]

    assert columns() == [60, 70, 85, 110]
    assert columns(min_res=5) == [70, 85, 110]
    assert columns(max_res=30) == [60, 70, 85]
    assert columns(beam_stop_radius=15) == [85, 110]
    with pytest.warns(UserWarning, match="beam centre is unknown"):
        table = PeakFinder(np.ones(image.shape, bool)).find(
            image, PARAMS.replace(threshold=100, beam_stop_radius=15)
        )
    assert len(table) == 2


@pytest.mark.parametrize("threshold", [0, -5])
def test_no_threshold_is_an_error(threshold):
    with pytest.raises(ParameterError, match=r"threshold = .*ADU"):
        find_peaks(_noise(), params=PARAMS.replace(threshold=threshold))


def test_median_filter_removes_what_is_wide():
    rows, cols = np.indices((80, 80))
    image = (3000 - 20 * np.hypot(rows - 40, cols - 40)).astype(np.int32)
    image += np.random.default_rng(0).integers(0, 5, image.shape, dtype=np.int32)
    _spot(image, 20, 20, 200, 0.8)
    params = PARAMS.replace(threshold=100, median_filter=9, min_distance=3)
    table = find_peaks(image, params=params)
    assert [(round(r), round(c)) for r, c in table[["row", "col"]].to_numpy()] == [(20, 20)]
    assert table["max_value"][0] == image[20, 20]
    assert len(find_peaks(image, params=params.replace(threshold=0.0))) > 1


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_median_filter_is_a_median_of_usable_pixels(data):
    shape = data.draw(SMALL)
    half = data.draw(st.integers(1, 3))
    image = data.draw(hnp.arrays(np.uint16, shape, elements=st.integers(0, 30)))
    good = data.draw(hnp.arrays(bool, shape, elements=st.sampled_from([True, True, True, False])))
    panels = np.zeros(shape, np.int16)
    panels[data.draw(st.integers(0, shape[0])) :] = 1
    rest = np.zeros(shape)
    for r, c in np.argwhere(good):
        window = np.s_[max(r - half, 0) : r + half + 1, max(c - half, 0) : c + half + 1]
        values = np.sort(image[window][good[window] & (panels[window] == panels[r, c])])
        rest[r, c] = float(image[r, c]) - values[(values.size - 1) // 2]
    params = PARAMS.replace(threshold=3, median_filter=2 * half + 1)
    table = find_peaks(image, good, panels=panels, params=params)
    expected = naive_maxima(rest, good, panels, 3)
    assert len(table) == len(expected)
    assert sorted(table["n_pixels"]) == sorted(size for _, size in expected)
