"""The public functions: one frame, many frames, bad input, caches, threads."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from napari_xtal.detector.frame import Frame, FrameId, FrameStatus
from napari_xtal.errors import InputError, ParameterError, XtalError
from napari_xtal.peaks.find import PeakFinder, find_peaks, find_peaks_in
from napari_xtal.peaks.parameters import PeakFinderParams
from napari_xtal.peaks.table import PEAK_COLUMNS

SHAPE = (200, 220)
METHODS = {
    "significance": PeakFinderParams(),
    "threshold": PeakFinderParams(method="threshold", threshold=60),
    "peakfinder8": PeakFinderParams(method="peakfinder8", min_pix_count=2),
}
each_method = pytest.mark.parametrize("params", METHODS.values(), ids=METHODS.keys())


def _radius(shape=SHAPE, centre=(98.3, 111.7)):
    rows, cols = np.indices(shape)
    return np.hypot(rows - centre[0], cols - centre[1]).astype(np.float32)


def _add(image, row, col, height, sigma=1.0):
    rows, cols = np.indices(image.shape)
    profile = np.exp(-0.5 * ((rows - row) ** 2 + (cols - col) ** 2) / sigma**2)
    return image + np.rint(height * profile).astype(image.dtype)


SPOTS = [(30.0, 40.0), (60.4, 150.2), (120.0, 70.7), (170.3, 180.6), (140.0, 20.0)]


def _frame(seed=0, height=200, level=8.0):
    image = np.random.default_rng(seed).poisson(level, SHAPE).astype(np.int32)
    for row, col in SPOTS:
        image = _add(image, row, col, height)
    return image.astype(np.uint16)


def _near(table, row, col, distance=1.5):
    return table[np.hypot(table["row"] - row, table["col"] - col) < distance]


def _same(a, b):
    pd.testing.assert_frame_equal(a.reset_index(drop=True), b.reset_index(drop=True))


class Source:
    """Frames from memory; some may fail, and reading may take its time."""

    def __init__(self, frames, good=None, radius=None, failing=(), delay=None):
        self.frames, self.failing, self.delay = frames, failing, delay
        self.good = np.ones(SHAPE, bool) if good is None else good
        self._radius = radius
        self.threads = set()

    def __len__(self):
        return len(self.frames)

    def frame(self, index):
        self.threads.add(threading.get_ident())
        if self.delay:
            time.sleep(self.delay(index))
        who = FrameId("run.h5", "/data", f"//{index}")
        if index in self.failing:
            meta = {"reason": f"frame {index} is damaged"}
            nothing = np.zeros(SHAPE, bool)
            return Frame(np.zeros(SHAPE, np.uint16), nothing, FrameStatus.CORRUPT, who, meta)
        item = self.frames[index]
        image, good = item if isinstance(item, tuple) else (item, self.good)
        return Frame(image, good, FrameStatus.OK, who)

    def radius(self):
        return self._radius

    def inv_d(self):
        return None

    def panels(self):
        return None


# One frame


@each_method
def test_spots_are_found_where_they_are(params):
    table = find_peaks(_frame(), radius=_radius(), params=params)
    assert len(table) == len(SPOTS)
    for row, col in SPOTS:
        peak = _near(table, row, col, 0.2)
        assert len(peak) == 1
        assert peak["snr"].item() > 10
        assert peak["intensity"].item() > 500
        assert peak["background"].item() == pytest.approx(8, abs=2.5)


@each_method
def test_table_has_the_schema_and_the_parameters(params):
    for image in (_frame(), np.zeros(SHAPE, np.uint16)):
        table = find_peaks(image, radius=_radius(), inv_d=_radius() / 50, params=params)
        assert {n: str(d) for n, d in table.dtypes.items()} == PEAK_COLUMNS
        assert table.attrs["parameters"] == params.to_dict()
        assert (table["frame"] == 0).all()
        assert (table["source"] == "auto").all()
        assert (table["label"] == "unlabelled").all()
    table = find_peaks(_frame(), radius=_radius(), inv_d=_radius() / 50, params=params)
    pixel = np.rint(table[["row", "col"]].to_numpy()).astype(int)
    np.testing.assert_allclose(table["inv_d"], _radius()[tuple(pixel.T)] / 50, rtol=1e-5)


def test_default_parameters_without_geometry():
    table = find_peaks(_frame())
    assert all(len(_near(table, *spot)) == 1 for spot in SPOTS)
    assert table["inv_d"].isna().all()
    assert table.attrs["parameters"] == PeakFinderParams().to_dict()


@each_method
@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]
)
def test_every_dtype_gives_the_same_peaks(params, dtype):
    image = np.minimum(_frame(), 120)
    expected = find_peaks(image.astype(np.int32), radius=_radius(), params=params)
    table = find_peaks(image.astype(dtype), radius=_radius(), params=params)
    assert len(table) == len(expected) >= len(SPOTS)
    pairs = table[["row", "col"]].to_numpy(), expected[["row", "col"]].to_numpy()
    np.testing.assert_allclose(*pairs, atol=0.05)


@each_method
@pytest.mark.parametrize("dtype", ["u2", "i4", "u4", "f4", "f8"])
def test_byte_order_and_memory_layout_do_not_matter(params, dtype):
    image = _frame().astype(dtype)
    expected = find_peaks(image, radius=_radius(), params=params)
    big = image.astype(np.dtype(dtype).newbyteorder(">"))
    _same(find_peaks(big, radius=_radius(), params=params), expected)
    _same(find_peaks(np.asfortranarray(image), radius=_radius(), params=params), expected)
    wide = np.repeat(image, 2, axis=1)
    _same(find_peaks(wide[:, ::2], radius=_radius(), params=params), expected)


@each_method
def test_the_frame_is_not_changed(params):
    image = _frame()
    image.setflags(write=False)
    before = image.copy()
    find_peaks(image, radius=_radius(), params=params)
    np.testing.assert_array_equal(image, before)


@each_method
@pytest.mark.parametrize("dtype", ["u2", "i4", "f4"])
@pytest.mark.parametrize("value", [0, 1, 7, 60_000])
def test_constant_frames_have_no_peaks(params, dtype, value):
    image = np.full(SHAPE, value, dtype)
    table = find_peaks(image, radius=_radius(), params=params)
    # Above the threshold, a constant frame is one plateau.
    assert len(table) == (params.method == "threshold" and value > params.threshold) * 1 or (
        params.max_pix_count < image.size and len(table) == 0
    )


@each_method
def test_frames_without_usable_pixels_have_no_peaks(params):
    nothing = np.zeros(SHAPE, bool)
    assert len(find_peaks(_frame(), nothing, radius=_radius(), params=params)) == 0
    for value in (np.nan, np.inf, -np.inf):
        image = np.full(SHAPE, value, np.float32)
        assert len(find_peaks(image, radius=_radius(), params=params)) == 0
        everything = np.ones(SHAPE, bool)
        assert len(find_peaks(image, everything, radius=_radius(), params=params)) == 0


@each_method
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_pixels_are_as_good_as_masked(params, value):
    image = _frame().astype(np.float32)
    rng = np.random.default_rng(3)
    bad = rng.random(SHAPE) < 0.01
    for row, col in SPOTS:
        bad[round(row) - 4 : round(row) + 5, round(col) - 4 : round(col) + 5] = False
    image[bad] = value
    good = np.ones(SHAPE, bool)
    table = find_peaks(image, good, radius=_radius(), params=params)
    assert len(table) == len(SPOTS)
    assert all(len(_near(table, *spot)) == 1 for spot in SPOTS)
    assert np.isfinite(table[["row", "col", "intensity", "background", "snr"]]).all(axis=None)


@each_method
def test_negative_values(params):
    image = _frame().astype(np.int32) - 500
    params = params.replace(threshold=60) if params.method == "threshold" else params
    if params.method == "threshold":
        image += 500 - 8
    elif params.method == "peakfinder8":
        params = params.replace(threshold=-1000)
    table = find_peaks(image, radius=_radius(), params=params)
    assert len(table) == len(SPOTS)
    assert all(len(_near(table, *spot)) == 1 for spot in SPOTS)


@each_method
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 2), (3, 7), (17, 17)])
def test_tiny_frames_do_not_fail(params, shape):
    image = np.random.default_rng(0).poisson(5, shape).astype(np.uint16)
    table = find_peaks(image, radius=_radius(shape, (0, 0)), params=params)
    assert set(PEAK_COLUMNS) == set(table.columns)
    assert np.isfinite(table[["row", "col"]]).all(axis=None)


@each_method
def test_wide_range_of_values(params):
    image = _frame().astype(np.float32)
    image[50, 50] = 3e38
    image[150, 150] = -3e38
    table = find_peaks(image, radius=_radius(), params=params)
    assert all(len(_near(table, *spot)) == 1 for spot in SPOTS)


@pytest.mark.parametrize("shape", [(0,), (5,), (2, 5, 5), ()])
def test_frames_must_be_two_dimensional(shape):
    with pytest.raises(InputError, match=r"2-D \(ss, fs\), got shape"):
        find_peaks(np.zeros(shape, np.uint16))


@pytest.mark.parametrize("dtype", ["complex64", "U3", "O", "M8[s]"])
def test_frames_must_be_numbers(dtype):
    with pytest.raises(InputError, match="the frame has type .*; give integers or floats"):
        find_peaks(np.zeros((20, 20), dtype))
    with pytest.raises(InputError, match="the frame has type .*; give integers or floats"):
        PeakFinder(np.ones((20, 20), bool)).find(np.zeros((20, 20), dtype))


def test_shapes_must_agree():
    image = np.zeros((20, 30), np.uint16)
    with pytest.raises(InputError, match=r"frame has shape \(20, 30\), the mask \(30, 20\)"):
        find_peaks(image, np.ones((30, 20), bool))
    for name in ("radius", "panels", "inv_d"):
        with pytest.raises(InputError, match=rf"{name} has shape \(20, 31\), the mask \(20, 30\)"):
            find_peaks(image, **{name: np.zeros((20, 31))})
    with pytest.raises(InputError, match=r"frame has shape \(20, 31\), the mask \(20, 30\)"):
        PeakFinder(np.ones((20, 30), bool)).find(np.zeros((20, 31)))
    with pytest.raises(InputError, match="mask must be 2-D"):
        PeakFinder(np.ones(20, bool))


def test_radial_background_needs_the_centre():
    with pytest.raises(ParameterError, match="beam centre"):
        find_peaks(_frame(), params=PeakFinderParams(background="radial"))


# What is a peak


@pytest.mark.parametrize("height", [30, 100, 1000, 60_000])
def test_a_single_hot_pixel_is_no_peak(height):
    image = _frame(height=0)
    image[77, 133] += height
    for radius in (None, _radius()):
        assert len(_near(find_peaks(image, radius=radius), 77, 133, 4)) == 0


@pytest.mark.parametrize("sigma", [0.5, 0.8, 1.2, 2.0, 3.0])
@pytest.mark.parametrize("height", [60, 1000, 30_000])
def test_a_spot_of_any_width_is_one_peak(sigma, height):
    clean = np.random.default_rng(1).poisson(8, SHAPE).astype(np.int32)
    image = _add(clean, 77.3, 133.4, height, sigma).astype(np.uint16)
    for radius in (None, _radius()):
        table = _near(find_peaks(image, radius=radius), 77.3, 133.4, 15)
        assert len(table) == 1
        assert np.hypot(table["row"] - 77.3, table["col"] - 133.4).item() < 0.4


def test_two_by_two_pixels_are_a_peak():
    image = _frame(height=0)
    image[77:79, 133:135] += 40
    assert len(_near(find_peaks(image, radius=_radius()), 77.5, 133.5, 1)) == 1


@each_method
@pytest.mark.parametrize("sigma", [1.5, 2.5, 4.0])
def test_saturated_flat_top_is_one_peak(params, sigma):
    clean = np.random.default_rng(1).poisson(8, SHAPE).astype(np.int64)
    rows, cols = np.indices(SHAPE)
    clean += np.rint(
        2e6 * np.exp(-0.5 * ((rows - 77) ** 2 + (cols - 133) ** 2) / sigma**2)
    ).astype(np.int64)
    image = np.minimum(clean, 65_000).astype(np.uint16)
    params = params.replace(max_pix_count=2000)
    if params.method == "peakfinder8":
        # Few pixels per radius: at five sigma they cannot be told from their spot.
        params = params.replace(min_snr=3, threshold=1000)
    if params.method == "threshold":
        params = params.replace(threshold=1000)
    table = _near(find_peaks(image, radius=_radius(), params=params), 77, 133, 25)
    assert len(table) == 1
    assert np.hypot(table["row"] - 77, table["col"] - 133).item() < 0.5
    assert table["max_value"].item() == 65_000


@each_method
def test_peaks_do_not_cross_panel_borders(params):
    image = _frame(height=0)
    # Gain and offset differ from panel to panel; a step is no peak.
    image[:, 110:] += 300
    panels = (np.indices(SHAPE)[1] >= 110).astype(np.int16)
    if params.method == "threshold":
        params = params.replace(threshold=450)
    # Rings on either side of the step keep the radial background of peakfinder8 apart.
    radius = _radius() + 300 * panels
    image = _add(image.astype(np.int32), 60, 150.0, 400).astype(np.uint16)
    table = find_peaks(image, radius=radius, panels=panels, params=params)
    assert _near(table, 60, 150)["panel"].tolist() == [1]
    assert len(table) == 1


@each_method
def test_spot_on_a_panel_border_is_measured_on_its_side(params):
    image = np.random.default_rng(2).poisson(8, SHAPE).astype(np.int32)
    image = _add(image, 60.0, 107.0, 300, 1.2)
    image[:, 110:] = 5000
    panels = (np.indices(SHAPE)[1] >= 110).astype(np.int16)
    params = params.replace(threshold=6000) if params.method == "threshold" else params
    if params.method == "threshold":
        image[:, 110:] = 8
        params = params.replace(threshold=100)
    table = find_peaks(
        image.astype(np.uint16), radius=_radius() + 300 * panels, panels=panels, params=params
    )
    left = table[table["panel"] == 0]
    assert len(left) == 1
    assert left["max_value"].item() < 1000
    assert left["row"].item() == pytest.approx(60, abs=0.4)
    assert left["col"].item() == pytest.approx(107, abs=0.4)


@each_method
def test_no_peak_on_masked_pixels(params):
    image = _frame()
    good = np.ones(SHAPE, bool)
    row, col = SPOTS[1]
    good[round(row) - 5 : round(row) + 6, round(col) - 5 : round(col) + 6] = False
    table = find_peaks(image, good, radius=_radius(), params=params)
    assert len(table) == len(SPOTS) - 1
    assert len(_near(table, row, col, 5)) == 0


@each_method
def test_limits_of_radius(params):
    radius = _radius()
    distance = {spot: np.hypot(spot[0] - 98.3, spot[1] - 111.7) for spot in SPOTS}
    table = find_peaks(_frame(), radius=radius, params=params.replace(min_res=60, max_res=97))
    inside = {spot for spot, r in distance.items() if 60 < r < 97}
    assert len(table) == len(inside) > 0
    assert all(len(_near(table, *spot)) == 1 for spot in inside)


@each_method
def test_number_of_peaks_is_limited_to_the_strongest(params):
    image = _frame(height=0).astype(np.int32)
    for i, (row, col) in enumerate(SPOTS):
        image = _add(image, row, col, 150 + 100 * i)
    table = find_peaks(
        image.astype(np.uint16), radius=_radius(), params=params.replace(max_peaks=2)
    )
    assert len(table) == 2
    assert all(len(_near(table, *spot)) == 1 for spot in SPOTS[-2:])


# Candidates


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"min_snr": 6},
        {"min_snr": 30},
        {"false_peaks_per_frame": 20},
        {"threshold": 100},
        {"min_pix_count": 4, "max_pix_count": 30},
        {"min_res": 60, "max_res": 97},
        {"min_distance": 0},
        {"min_distance": 50},
        {"max_peaks": 3},
        {"reject_single_pixels": False},
        {"relative_snr": 0.5},
    ],
    ids=str,
)
def test_filtering_equals_a_new_search(changes):
    finder = PeakFinder(np.ones(SHAPE, bool), _radius())
    image = _frame(height=60)
    image[5, 5] += 300
    kept = finder.candidates(image)
    params = PeakFinderParams().replace(**changes)
    filtered, fresh = kept.filter(params), finder.find(image, params)
    columns = ["row", "col", "intensity", "background", "sigma", "snr", "n_pixels", "max_value"]
    order = ["row", "col"]
    np.testing.assert_array_equal(
        filtered.sort_values(order)[columns], fresh.sort_values(order)[columns]
    )


def test_candidates_are_kept_or_rejected_with_a_reason():
    finder = PeakFinder(np.ones(SHAPE, bool), _radius())
    image = _frame()
    image[99, 33] += 500
    candidates = finder.candidates(image)
    params = PeakFinderParams()
    rejected = candidates.rejected(params)
    assert len(candidates.filter(params)) + len(rejected) == len(candidates)
    assert (rejected["reason"].str.len() > 0).all()
    assert "hot pixel" in set(_near(rejected, 99, 33)["reason"])
    assert "too weak" in set(rejected["reason"])
    strict = candidates.rejected(params.replace(min_res=150))
    assert "resolution" in set(_near(strict, *SPOTS[0])["reason"])


def test_more_false_peaks_allowed_never_gives_fewer_peaks():
    finder = PeakFinder(np.ones(SHAPE, bool), _radius())
    candidates = finder.candidates(_frame(height=25))
    counts = [
        len(candidates.filter(PeakFinderParams(false_peaks_per_frame=n, min_distance=0)))
        for n in (0.01, 0.1, 1, 10, 100)
    ]
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]


# The cache behind `find_peaks`


@each_method
def test_mask_changed_in_place_takes_effect(params):
    image, good, radius = _frame(), np.ones(SHAPE, bool), _radius()
    assert len(find_peaks(image, good, radius=radius, params=params)) == len(SPOTS)
    row, col = (round(x) for x in SPOTS[2])
    good[row - 5 : row + 6, col - 5 : col + 6] = False
    assert len(find_peaks(image, good, radius=radius, params=params)) == len(SPOTS) - 1
    good[:] = True
    assert len(find_peaks(image, good, radius=radius, params=params)) == len(SPOTS)


@each_method
def test_radius_changed_in_place_takes_effect(params):
    image, radius = _frame(), _radius()
    limited = params.replace(min_res=60)
    before = len(find_peaks(image, radius=radius, params=limited))
    radius += 100
    assert len(find_peaks(image, radius=radius, params=limited)) > before


def test_many_masks_in_turn():
    image = _frame()
    for _ in range(2):
        for row, col in SPOTS:
            good = np.ones(SHAPE, bool)
            good[round(row) - 5 : round(row) + 6, round(col) - 5 : round(col) + 6] = False
            table = find_peaks(image, good)
            assert len(_near(table, row, col, 5)) == 0
            assert len(table) == len(SPOTS) - 1


@each_method
def test_one_finder_in_many_threads(params):
    frames = [_frame(seed) for seed in range(8)]
    finder = PeakFinder(np.ones(SHAPE, bool), _radius())
    expected = [finder.find(image, params) for image in frames]
    with ThreadPoolExecutor(4) as pool:
        for table, other in zip(
            pool.map(lambda image: finder.find(image, params), frames), expected, strict=True
        ):
            _same(table, other)


def test_two_finders_in_one_thread_do_not_mix():
    image = _frame()
    radial, local = PeakFinder(np.ones(SHAPE, bool), _radius()), PeakFinder(np.ones(SHAPE, bool))
    first = radial.find(image), local.find(image)
    for _ in range(2):
        _same(radial.find(image), first[0])
        _same(local.find(image), first[1])


# Many frames


@each_method
@pytest.mark.parametrize("workers", [None, 1, 3])
def test_run_equals_frame_by_frame(params, workers):
    src = Source([_frame(seed) for seed in range(6)], radius=_radius())
    table = find_peaks_in(src, params, workers=workers)
    finder = PeakFinder(src.good, _radius())
    parts = [finder.find(image, params, frame=i) for i, image in enumerate(src.frames)]
    _same(table, pd.concat(parts, ignore_index=True))
    assert table.attrs["parameters"] == params.to_dict()
    assert table.attrs["failed"] == {}
    assert table.attrs["frames"] == list(range(6))


def test_frames_come_in_order_however_long_they_take():
    frames = [_frame(seed) for seed in range(6)]
    src = Source(frames, radius=_radius(), delay=lambda i: 0.05 if i % 2 == 0 else 0)
    seen = []
    table = find_peaks_in(src, workers=3, on_frame=lambda i, t: seen.append((i, len(t))))
    assert table["frame"].is_monotonic_increasing
    assert sorted(seen) == [(i, int((table["frame"] == i).sum())) for i in range(6)]
    assert len(src.threads) > 1


def test_chosen_frames():
    src = Source([_frame(seed) for seed in range(6)], radius=_radius())
    table = find_peaks_in(src, frames=[4, 1])
    assert table["frame"].unique().tolist() == [1, 4]
    assert table.attrs["frames"] == [1, 4]
    nothing = find_peaks_in(src, frames=[])
    assert {n: str(d) for n, d in nothing.dtypes.items()} == PEAK_COLUMNS
    assert nothing.attrs["frames"] == []
    assert len(find_peaks_in(src, frames=iter(range(2)))) == len(find_peaks_in(src, frames=[0, 1]))


@pytest.mark.parametrize("frames", [[6], [-1], [0, 100]])
def test_frames_that_do_not_exist(frames):
    src = Source([_frame(seed) for seed in range(6)])
    with pytest.raises(InputError, match="do not fit a run of 6 frames"):
        find_peaks_in(src, frames=frames)


def test_failing_frames_are_named_and_the_others_searched():
    src = Source([_frame(seed) for seed in range(5)], radius=_radius(), failing={1, 3})
    table = find_peaks_in(src)
    assert table["frame"].unique().tolist() == [0, 2, 4]
    assert table.attrs["failed"] == {1: "frame 1 is damaged", 3: "frame 3 is damaged"}
    assert table.attrs["frames"] == [0, 1, 2, 3, 4]


def test_a_run_of_failing_frames_gives_an_empty_table():
    src = Source([_frame()] * 2, failing={0, 1})
    table = find_peaks_in(src)
    assert {n: str(d) for n, d in table.dtypes.items()} == PEAK_COLUMNS
    assert set(table.attrs["failed"]) == {0, 1}


def test_frames_of_a_wrong_shape_fail_alone():
    odd = np.zeros((20, 20), np.uint16)
    src = Source([_frame(), (odd, np.ones(odd.shape, bool)), _frame(1)], radius=_radius())
    table = find_peaks_in(src)
    assert table["frame"].unique().tolist() == [0, 2]
    assert set(table.attrs["failed"]) == {1}
    assert "(20, 20)" in table.attrs["failed"][1]


@each_method
@pytest.mark.parametrize("half_side", [4, 20], ids=["few", "many"])
def test_bad_pixels_of_one_frame_do_not_touch_the_others(params, half_side):
    row, col = (round(x) for x in SPOTS[0])
    good = np.ones(SHAPE, bool)
    good[row - half_side : row + half_side + 1, col - half_side : col + half_side + 1] = False
    src = Source([_frame(0), (_frame(1), good), _frame(2)], radius=_radius())
    table = find_peaks_in(src, params)
    counts = table.groupby("frame").size()
    assert len(_near(table[table["frame"] == 1], *SPOTS[0], 4)) == 0
    assert counts[1] == counts[0] - 1 == counts[2] - 1


def test_progress_counts_every_frame():
    src = Source([_frame(seed) for seed in range(5)], radius=_radius(), failing={2})
    calls, threads = [], set()

    def progress(done, total):
        calls.append((done, total))
        threads.add(threading.get_ident())

    find_peaks_in(src, progress=progress, workers=2)
    assert calls == [(i, 5) for i in range(1, 6)]
    assert threads == {threading.get_ident()}


def test_cancel_keeps_what_is_done():
    src = Source([_frame(seed) for seed in range(30)], radius=_radius(), delay=lambda _: 0.01)
    done = []
    table = find_peaks_in(
        src,
        progress=lambda d, _: done.append(d),
        cancel=lambda: len(done) >= 3,
        workers=2,
    )
    searched = table.attrs["frames"]
    assert 3 <= len(searched) < 15
    assert set(table["frame"]) == set(searched)
    finder = PeakFinder(src.good, _radius())
    for i in searched:
        assert (table["frame"] == i).sum() == len(finder.find(src.frames[i]))


def test_cancel_at_once():
    src = Source([_frame(seed) for seed in range(20)], radius=_radius(), delay=lambda _: 0.01)
    table = find_peaks_in(src, cancel=lambda: True, workers=2)
    assert len(table.attrs["frames"]) < 10


def test_errors_of_parameters_reach_the_caller():
    src = Source([_frame()])
    params = PeakFinderParams(background="radial")
    with pytest.raises(XtalError, match="beam centre"):
        find_peaks(_frame(), params=params)
    failed = find_peaks_in(src, params).attrs["failed"]
    assert "beam centre" in failed[0]


def test_an_unexpected_error_stops_the_run():
    class Broken(Source):
        def frame(self, index):
            if index == 1:
                raise RuntimeError("out of memory")
            return super().frame(index)

    with pytest.raises(RuntimeError, match="out of memory"):
        find_peaks_in(Broken([_frame()] * 4), workers=2)
