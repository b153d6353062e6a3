"""Windows around positions, and what normalisation makes of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verifier_windows import SIDE, Run, counts

from napari_xtal.errors import InputError
from napari_xtal.peaks.table import make_table
from napari_xtal.peaks.verify.normalisation import (
    FINE,
    WIDTHS,
    foveate,
    local_noise,
    normalise,
)
from napari_xtal.peaks.verify.patches import HALF, Patches, extract_patches, patches_in


def brute_force(image, row, col, half, good=None):
    side = 2 * half + 1
    values, usable = np.zeros((side, side), "f4"), np.zeros((side, side), bool)
    for i in range(side):
        for j in range(side):
            r, c = round(row) - half + i, round(col) - half + j
            if 0 <= r < image.shape[0] and 0 <= c < image.shape[1]:
                usable[i, j] = good is None or good[r, c]
                values[i, j] = image[r, c] if usable[i, j] else 0
    return values, usable


def test_centre_is_the_pixel_at_every_border_position():
    image = np.arange(1, 9 * 11 + 1, dtype=np.int32).reshape(9, 11)
    rows, cols = (g.ravel() for g in np.mgrid[0:9, 0:11])
    patches = extract_patches(image, rows, cols, half=3)
    assert (patches.values[:, 3, 3] == image[rows, cols]).all()
    for k in (0, 5, 10, 44, 54, 98):
        values, usable = brute_force(image, rows[k], cols[k], 3)
        assert (patches.values[k] == values).all() and (patches.usable[k] == usable).all()


@settings(max_examples=25, deadline=None)
@given(
    row=st.floats(-40, 60), col=st.floats(-40, 60), half=st.integers(1, 6), seed=st.integers(0, 99)
)
def test_windows_equal_a_slow_reference(row, col, half, seed):
    rng = np.random.default_rng(seed)
    image, good = rng.integers(0, 99, (17, 23)), rng.random((17, 23)) > 0.2
    patches = extract_patches(image, [row], [col], good, half=half)
    values, usable = brute_force(image, row, col, half, good)
    assert (patches.values[0] == values).all() and (patches.usable[0] == usable).all()


@pytest.mark.parametrize("dtype", ["u1", ">u2", "i4", "u4", "f4", "f8", "f2", "?"])
def test_every_numeric_type(dtype):
    image = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0]]).astype(dtype)
    patches = extract_patches(image, [1], [1], half=1)
    assert (patches.values[0] == image.astype("f4")).all() and patches.usable.all()


def test_markers_and_not_finite_pixels_are_never_usable():
    image = np.full((5, 5), 7, np.uint16)
    image[2, 3] = 65535
    assert extract_patches(image, [2], [2], half=2).usable[0].sum() == 24
    assert extract_patches(image, [2], [2], np.ones((5, 5), bool), half=2).usable[0].sum() == 24
    floats = image.astype("f4")
    floats[0, 0], floats[1, 1] = np.nan, np.inf
    patches = extract_patches(floats, [2], [2], np.ones((5, 5), bool), half=2)
    assert patches.usable[0].sum() == 23 and np.isfinite(patches.values).all()


def test_a_window_off_the_frame_is_unusable():
    patches = extract_patches(np.ones((8, 8)), [1e12, -50], [0, 1e300], half=2)
    assert not patches.usable.any() and not patches.has_signal.any()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((np.ones((3, 3, 3)), [1], [1]), "2-D"),
        ((np.full((3, 3), "a"), [1], [1]), "type"),
        ((np.ones((3, 3)), [1, 2], [1]), "2 rows but 1"),
        ((np.ones((3, 3)), [np.nan], [1]), "finite"),
        ((np.ones((3, 3)), [1], [1], np.ones((4, 3), bool)), "must agree"),
    ],
)
def test_bad_input_is_refused(arguments, text):
    with pytest.raises(InputError, match=text):
        extract_patches(*arguments)


def test_windows_of_unequal_size_are_refused():
    with pytest.raises(InputError, match="same size"):
        Patches.join([Patches.empty(1, 2), Patches.empty(1, 3)])
    with pytest.raises(InputError, match="odd side"):
        Patches(np.zeros((1, 4, 4), "f4"), np.zeros((1, 4, 4), bool))
    with pytest.raises(InputError, match="must agree"):
        Patches(np.zeros((1, 5, 5), "f4"), np.zeros((2, 5, 5), bool))


@settings(max_examples=40, deadline=None)
@given(
    gain=st.floats(0.1, 100),
    offset=st.floats(-1000, 1000),
    level=st.sampled_from([0.02, 0.3, 4.0, 50.0]),
    height=st.sampled_from([0.0, 6.0, 5000.0]),
)
def test_normalisation_forgets_gain_and_offset(gain, offset, level, height):
    patches = counts(level, n=2, height=height)
    changed = Patches((patches.values * gain + offset).astype("f4"), patches.usable)
    assert np.abs(normalise(changed) - normalise(patches)).max() < 1e-3
    for a, b in zip(foveate(changed), foveate(patches), strict=True):
        assert np.abs(a - b).max() < 1e-3


@pytest.mark.parametrize("level", [0.05, 1.0, 50.0, 1e4])
def test_noise_of_counts_is_measured(level):
    background, sigma, quantum = local_noise(counts(level, n=50)).T
    assert np.median(background) == pytest.approx(level, rel=0.1, abs=0.02)
    assert np.median(sigma) == pytest.approx(np.sqrt(level), rel=0.1)
    if level < 100:
        assert quantum == pytest.approx(1, rel=1e-6)


def test_noise_of_an_integrating_detector_is_measured():
    values = np.random.default_rng(0).normal(-300, 12, (20, SIDE, SIDE)).astype("f4")
    background, sigma, _ = local_noise(Patches(values, np.ones(values.shape, bool))).T
    assert np.median(background) == pytest.approx(-300, abs=1)
    assert np.median(sigma) == pytest.approx(12, rel=0.05)


def test_neighbours_and_slopes_leave_the_background_alone():
    patches = counts(20.0, n=20)
    clean = normalise(patches)[:, 0, HALF - 4 : HALF + 5, HALF - 4 : HALF + 5]
    with_neighbour = patches.values.copy()
    with_neighbour[:, 2:7, 3:8] += 4000
    with_slope = patches.values + 8 * np.arange(SIDE, dtype="f4")
    for changed in (with_neighbour, with_slope):
        now = normalise(Patches(changed, patches.usable))[
            :, 0, HALF - 4 : HALF + 5, HALF - 4 : HALF + 5
        ]
        assert np.abs(now - clean).mean() < 0.05


def test_unusable_pixels_do_not_matter():
    patches = counts(3.0, n=4, height=40)
    usable = patches.usable.copy()
    usable[:, :, :9] = False
    usable[:, 4, 20] = False
    wild = np.where(usable, patches.values, 9e9).astype("f4")
    tame = np.where(usable, patches.values, 0).astype("f4")
    for a, b in zip(foveate(Patches(wild, usable)), foveate(Patches(tame, usable)), strict=True):
        assert (a == b).all()
    planes = normalise(Patches(wild, usable))
    assert (planes[:, 1] == usable).all() and (planes[:, 0][~usable] == 0).all()


def test_degenerate_windows_give_finite_zeros():
    patches = Patches.empty(3)
    patches.usable[1] = True  # a constant window
    patches.usable[2, HALF, HALF] = True  # a single pixel
    patches.values[1] = 17
    for array in (normalise(patches), *foveate(patches)):
        assert np.isfinite(array).all()
    assert (normalise(patches)[:, 0] == 0).all()


def test_the_middle_and_bins_are_those_of_the_whole_window():
    patches = counts(2.0, height=30)
    fine, coarse, whole = foveate(patches)
    middle = slice(HALF - FINE, HALF + FINE + 1)
    apart = fine[:, :2] - normalise(patches)[:, :, middle, middle]
    assert np.abs(apart).max() < 1e-5
    assert coarse.shape == (8, 2, SIDE // 3, SIDE // 3) and (coarse[:, 1] == 1).all()
    # The bin in the centre is the 3x3 sum in the centre.
    assert coarse[:, 0, SIDE // 6, SIDE // 6] == pytest.approx(fine[:, 2, FINE, FINE], abs=1e-5)
    # The planted spots have sigma 1.2 px.
    best = np.array(WIDTHS)[whole[:, : len(WIDTHS)].argmax(axis=1)]
    assert np.isin(best, (1.0, 1.6)).all()


def test_significance_grows_with_the_spot_and_is_calibrated_on_noise():
    noise = foveate(counts(30.0, n=400))[2][:, : len(WIDTHS)]
    # The compressed significance z has slope 1/2 at 0.
    assert noise.std(axis=0) == pytest.approx(0.36, abs=0.05)
    heights = [foveate(counts(30.0, n=50, height=h))[2][:, 1].mean() for h in (0, 10, 40, 400)]
    assert (np.diff(heights) > 0.3).all()


def test_a_window_that_cannot_be_binned_is_refused():
    with pytest.raises(InputError, match="cannot be binned"):
        foveate(Patches.empty(1, HALF + 1))


@pytest.fixture
def table():
    rng = np.random.default_rng(1)
    return make_table(
        frame=rng.integers(0, 3, 30), row=rng.uniform(0, 39, 30), col=rng.uniform(0, 49, 30)
    )


def test_windows_of_a_run_keep_the_order_of_the_table(table):
    run, calls = Run(), []
    patches = patches_in(run, table, half=4, progress=lambda d, t: calls.append((d, t)))
    assert calls == [(1, 3), (2, 3), (3, 3)] and sorted(run.reads) == [0, 1, 2]
    for k, (frame, row, col) in enumerate(table[["frame", "row", "col"]].to_numpy()):
        if frame == 1:
            assert not patches.usable[k].any()
        else:
            one = extract_patches(run.images[int(frame)], [row], [col], run.good, half=4)
            assert (patches.values[k] == one.values[0]).all()
            assert (patches.usable[k] == one.usable[0]).all()


def test_cancel_leaves_the_rest_unusable(table):
    patches = patches_in(Run(), table[table["frame"] != 1], cancel=lambda: True)
    assert len(patches) == (table["frame"] != 1).sum()
    none = patches_in(Run(), table.iloc[:0])
    assert len(none) == 0 and none.has_signal.shape == (0,)


def test_a_table_that_does_not_fit_is_refused(table):
    with pytest.raises(InputError, match="frame indices"):
        patches_in(Run(), table.assign(frame=5))
    with pytest.raises(InputError, match="missing"):
        patches_in(Run(), pd.DataFrame({"row": [1.0]}))
