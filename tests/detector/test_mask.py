"""Masks: what the numbers of each format mean, marks by value, hot pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_xtal.detector.mask import (
    Reason,
    ValueRules,
    automatic_marks,
    bad_fraction,
    constant_hot_pixels,
    fractions,
    is_good,
    mask_from_file,
    type_marker,
)
from napari_xtal.errors import InputError


@pytest.mark.parametrize(
    ("rule", "values", "good"),
    [
        ("nonzero-bad", [0, 1, 2], [True, False, False]),
        ("nonzero-good", [0, 1, 2], [False, True, True]),
        ("cxi", [0, 1, 0x1000, 0x20, 0x80, 0xFFFFFFFF], [True, False, True, True, False, False]),
        ("nexus", [0, 1, 2, 0x100, 1 << 31, 0x10000], [True, False, False, False, True, True]),
    ],
)
def test_polarity(rule, values, good):
    reasons = mask_from_file(np.array([values], dtype="u4"), rule)
    assert is_good(reasons)[0].tolist() == good


def test_gap_is_told_from_dead():
    reasons = mask_from_file(np.array([[1, 2]]), "nexus")
    assert Reason(int(reasons[0, 0])) is Reason.GAP
    assert Reason(int(reasons[0, 1])) is Reason.MASKED


def test_unknown_rule_and_type():
    with pytest.raises(InputError, match="unknown rule"):
        mask_from_file(np.zeros((2, 2), int), "guess")
    with pytest.raises(InputError, match="integers or booleans"):
        mask_from_file(np.array([["a"]]), "cxi")


def test_type_marker():
    assert type_marker(np.dtype("u2")) == 65535
    assert type_marker(np.dtype("u4"), 16) == 65535
    assert type_marker(np.dtype("u2"), 12) == 65535
    assert type_marker(np.dtype("i4")) is None
    assert type_marker(np.dtype("f4")) is None


def test_saturated_pixels_stay_good():
    image = np.array([[1, 100, 101, 65535]], "u2")
    marks = automatic_marks(image, ValueRules(65535, True, saturation=100))
    assert marks.bad is None
    assert marks.saturated.tolist() == [[False, False, True, True]]
    reasons = np.where(marks.saturated, np.uint8(Reason.SATURATED), np.uint8(0))
    assert is_good(reasons).all()


def test_marker_without_a_mask_is_bad_and_not_saturated():
    image = np.array([[1, 101, 65535]], "u2")
    marks = automatic_marks(image, ValueRules(65535, False, saturation=100))
    assert is_good(marks.bad).tolist() == [[True, True, False]]
    assert marks.saturated.tolist() == [[False, True, False]]


def test_clean_frame_has_no_arrays():
    marks = automatic_marks(np.ones((3, 3), "f4"), ValueRules(saturation=5, underload=0))
    assert marks == (None, None, 1.0, 1.0)


@given(
    hnp.arrays(np.float32, (4, 5), elements=st.floats(width=32)),
    st.floats(-100, 100), st.floats(-100, 100),
)  # fmt: skip
def test_marks_follow_their_definition(image, low, high):
    rules = ValueRules(saturation=high, underload=low)
    marks = automatic_marks(image, rules)
    good = np.ones(image.shape, bool) if marks.bad is None else is_good(marks.bad)
    expected = np.isfinite(image) & ~(image < low)
    np.testing.assert_array_equal(good, expected)
    saturated = np.zeros(image.shape, bool) if marks.saturated is None else marks.saturated
    np.testing.assert_array_equal(saturated, expected & (image > high))


@given(hnp.arrays(np.int32, (4, 5), elements=st.integers(-4, 9)))
def test_negative_codes_only_where_nothing_is_lower(image):
    marks = automatic_marks(image, ValueRules(negative_codes=True))
    good = np.ones(image.shape, bool) if marks.bad is None else is_good(marks.bad)
    expected = np.ones(image.shape, bool) if image.min() < -2 else image >= 0
    np.testing.assert_array_equal(good, expected)


def test_fractions():
    reasons = np.array([[0, Reason.GAP], [Reason.GAP | Reason.HOT, 0]], np.uint8)
    assert fractions(reasons)["gap"] == 0.5 and fractions(reasons)["hot"] == 0.25
    assert bad_fraction(is_good(reasons)) == 0.5


def test_hot_pixels_are_found_and_peaks_are_not():
    rng = np.random.default_rng(1)
    frames = rng.poisson(3, (40, 30, 30)).astype("f4")
    frames[::4, 5, 5] += 200  # fires in a quarter of the frames
    frames[:, 20:23, 20:23] += 100  # a wide, constant feature
    frames[3, 10, 10] += 500  # once
    hot = constant_hot_pixels(frames)
    assert np.argwhere(hot).tolist() == [[5, 5]]
    assert not constant_hot_pixels(frames[:5]).any()
    with pytest.raises(InputError, match="no frames"):
        constant_hot_pixels([])
