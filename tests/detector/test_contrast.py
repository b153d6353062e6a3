"""Display limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_xtal.detector.contrast import contrast_limits, highest_background
from napari_xtal.errors import ParameterError


def test_gaps_and_markers_do_not_count():
    image = np.random.default_rng(0).poisson(10, (1000, 1000)).astype("u4")
    good = np.ones(image.shape, bool)
    image[400:600] = 2**32 - 1
    good[400:600] = False
    low, high = contrast_limits(image, good)
    expected = np.percentile(image[good], (1, 99.5))
    assert abs(low - expected[0]) <= 1 and abs(high - expected[1]) <= 1


def test_nothing_usable():
    assert contrast_limits(np.zeros((5, 5)), np.zeros((5, 5), bool)) == (0.0, 1.0)
    assert contrast_limits(np.full((5, 5), np.nan)) == (0.0, 1.0)


def test_few_usable_pixels_are_found():
    image, good = np.zeros((2000, 2000), "f4"), np.zeros((2000, 2000), bool)
    image[7, 9:12], good[7, 9:12] = 5, True
    assert contrast_limits(image, good)[0] == 5


def test_sparse_photons_are_visible():
    image = np.zeros((200, 200), "u2")
    image[50, 50] = 3
    assert contrast_limits(image)[1] == 3


@given(hnp.arrays(np.float32, (6, 7), elements=st.floats(width=32)))
def test_limits_are_finite_and_ordered(image):
    low, high = contrast_limits(image)
    assert np.isfinite([low, high]).all() and low < high


def test_bad_percentiles():
    with pytest.raises(ParameterError):
        contrast_limits(np.zeros((3, 3)), percentiles=(50, 10))


def test_highest_background_is_that_of_the_ring_not_of_peaks_or_masked_pixels():
    rows, cols = np.indices((300, 340))
    image = 100 + 900 * np.exp(-(((np.hypot(rows - 150, cols - 170) - 100) / 40) ** 2))
    image[::40, ::40] = 30000.0
    good = np.ones(image.shape, bool)
    image[100:200, :60], good[100:200, :60] = 50000.0, False
    image[0, 0] = np.nan
    assert highest_background(image, good) == pytest.approx(1000, rel=0.05)
    assert np.isnan(highest_background(image, np.zeros(image.shape, bool)))
    assert np.isnan(highest_background(image[:20]))
    assert highest_background(np.full((64, 64), 7, np.uint16)) == 7
