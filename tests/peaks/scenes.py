"""Small frames with known spots, for the tests of the public functions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_xtal.peaks.parameters import PeakFinderParams

SHAPE = (200, 220)
METHODS = {
    # Strict, so that the noise of a few frames does not add a peak of its own.
    "significance": PeakFinderParams(false_peaks_per_frame=0.01),
    "threshold": PeakFinderParams(method="threshold", threshold=60),
    "peakfinder8": PeakFinderParams(method="peakfinder8", min_pix_count=2),
}
each_method = pytest.mark.parametrize("params", METHODS.values(), ids=METHODS.keys())


def make_radius(shape=SHAPE, centre=(98.3, 111.7)):
    rows, cols = np.indices(shape)
    return np.hypot(rows - centre[0], cols - centre[1]).astype(np.float32)


def add_spot(image, row, col, height, sigma=1.0):
    rows, cols = np.indices(image.shape)
    profile = np.exp(-0.5 * ((rows - row) ** 2 + (cols - col) ** 2) / sigma**2)
    return image + np.rint(height * profile).astype(image.dtype)


SPOTS = [(30.0, 40.0), (60.4, 150.2), (120.0, 70.7), (170.3, 180.6), (140.0, 20.0)]


def make_frame(seed=0, height=200, level=8.0):
    image = np.random.default_rng(seed).poisson(level, SHAPE).astype(np.int32)
    for row, col in SPOTS:
        image = add_spot(image, row, col, height)
    return image.astype(np.uint16)


def near(table, row, col, distance=1.5):
    return table[np.hypot(table["row"] - row, table["col"] - col) < distance]


def assert_same(a, b):
    pd.testing.assert_frame_equal(a.reset_index(drop=True), b.reset_index(drop=True))
