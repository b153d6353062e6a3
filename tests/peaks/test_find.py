"""One frame: where peaks are, and every kind of bad input."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import SHAPE, SPOTS, assert_same, each_method, make_frame, make_radius, near

from napari_xtal.errors import InputError, ParameterError
from napari_xtal.peaks.find import PeakFinder, find_peaks
from napari_xtal.peaks.parameters import PeakFinderParams
from napari_xtal.peaks.table import PEAK_COLUMNS


@each_method
def test_spots_are_found_where_they_are(params):
    table = find_peaks(make_frame(), radius=make_radius(), params=params)
    assert len(table) == len(SPOTS)
    for row, col in SPOTS:
        peak = near(table, row, col, 0.2)
        assert len(peak) == 1
        assert peak["snr"].item() > 10
        assert peak["intensity"].item() > 500
        assert peak["background"].item() == pytest.approx(8, abs=2.5)


@each_method
def test_table_has_the_schema_and_the_parameters(params):
    for image in (make_frame(), np.zeros(SHAPE, np.uint16)):
        table = find_peaks(image, radius=make_radius(), inv_d=make_radius() / 50, params=params)
        assert {n: str(d) for n, d in table.dtypes.items()} == PEAK_COLUMNS
        assert table.attrs["parameters"] == params.to_dict()
        assert (table["frame"] == 0).all()
        assert (table["source"] == "auto").all()
        assert (table["label"] == "unlabelled").all()
    table = find_peaks(make_frame(), radius=make_radius(), inv_d=make_radius() / 50, params=params)
    pixel = np.rint(table[["row", "col"]].to_numpy()).astype(int)
    np.testing.assert_allclose(table["inv_d"], make_radius()[tuple(pixel.T)] / 50, rtol=1e-5)


def test_default_parameters_without_geometry():
    table = find_peaks(make_frame())
    assert all(len(near(table, *spot)) == 1 for spot in SPOTS)
    assert table["inv_d"].isna().all()
    assert table.attrs["parameters"] == PeakFinderParams().to_dict()


@each_method
@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]
)
def test_every_dtype_gives_the_same_peaks(params, dtype):
    image = np.minimum(make_frame(), 120)
    expected = find_peaks(image.astype(np.int32), radius=make_radius(), params=params)
    table = find_peaks(image.astype(dtype), radius=make_radius(), params=params)
    assert len(table) == len(expected) >= len(SPOTS)
    pairs = table[["row", "col"]].to_numpy(), expected[["row", "col"]].to_numpy()
    # Integers and floats have their noise estimated in different ways.
    np.testing.assert_allclose(*pairs, atol=0.15)


@each_method
@pytest.mark.parametrize("dtype", ["u2", "i4", "u4", "f4", "f8"])
def test_byte_order_and_memory_layout_do_not_matter(params, dtype):
    image = make_frame().astype(dtype)
    expected = find_peaks(image, radius=make_radius(), params=params)
    big = image.astype(np.dtype(dtype).newbyteorder(">"))
    assert_same(find_peaks(big, radius=make_radius(), params=params), expected)
    assert_same(find_peaks(np.asfortranarray(image), radius=make_radius(), params=params), expected)
    wide = np.repeat(image, 2, axis=1)
    assert_same(find_peaks(wide[:, ::2], radius=make_radius(), params=params), expected)


@each_method
def test_the_frame_is_not_changed(params):
    image = make_frame()
    image.setflags(write=False)
    before = image.copy()
    find_peaks(image, radius=make_radius(), params=params)
    np.testing.assert_array_equal(image, before)


@each_method
@pytest.mark.parametrize("dtype", ["u2", "i4", "f4"])
@pytest.mark.parametrize("value", [0, 1, 7, 60_000])
def test_constant_frames_have_no_peaks(params, dtype, value):
    image = np.full(SHAPE, value, dtype)
    assert len(find_peaks(image, radius=make_radius(), params=params)) == 0


@each_method
def test_frames_without_usable_pixels_have_no_peaks(params):
    nothing = np.zeros(SHAPE, bool)
    assert len(find_peaks(make_frame(), nothing, radius=make_radius(), params=params)) == 0
    for value in (np.nan, np.inf, -np.inf):
        image = np.full(SHAPE, value, np.float32)
        assert len(find_peaks(image, radius=make_radius(), params=params)) == 0
        everything = np.ones(SHAPE, bool)
        assert len(find_peaks(image, everything, radius=make_radius(), params=params)) == 0


@each_method
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_pixels_are_as_good_as_masked(params, value):
    image = make_frame().astype(np.float32)
    rng = np.random.default_rng(3)
    bad = rng.random(SHAPE) < 0.01
    for row, col in SPOTS:
        bad[round(row) - 4 : round(row) + 5, round(col) - 4 : round(col) + 5] = False
    image[bad] = value
    good = np.ones(SHAPE, bool)
    table = find_peaks(image, good, radius=make_radius(), params=params)
    assert len(table) == len(SPOTS)
    assert all(len(near(table, *spot)) == 1 for spot in SPOTS)
    assert np.isfinite(table[["row", "col", "intensity", "background", "snr"]]).all(axis=None)


@each_method
def test_negative_values(params):
    image = make_frame().astype(np.int32) - 500
    if params.method == "threshold":
        image += 492
    elif params.method == "peakfinder8":
        params = params.replace(threshold=-1000)
    table = find_peaks(image, radius=make_radius(), params=params)
    assert len(table) == len(SPOTS)
    assert all(len(near(table, *spot)) == 1 for spot in SPOTS)


@each_method
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 2), (3, 7), (17, 17)])
def test_tiny_frames_do_not_fail(params, shape):
    image = np.random.default_rng(0).poisson(5, shape).astype(np.uint16)
    table = find_peaks(image, radius=make_radius(shape, (0, 0)), params=params)
    assert set(PEAK_COLUMNS) == set(table.columns)
    assert np.isfinite(table[["row", "col"]]).all(axis=None)


@each_method
def test_wide_range_of_values(params):
    image = make_frame().astype(np.float32)
    image[50, 50] = 3e38
    image[150, 150] = -3e38
    table = find_peaks(image, radius=make_radius(), params=params)
    assert all(len(near(table, *spot)) == 1 for spot in SPOTS)


@pytest.mark.parametrize("shape", [(0,), (5,), (2, 5, 5), ()])
def test_frames_must_be_two_dimensional(shape):
    with pytest.raises(InputError, match=r"2-D \(ss, fs\), not empty; got shape"):
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
        find_peaks(make_frame(), params=PeakFinderParams(background="radial"))
