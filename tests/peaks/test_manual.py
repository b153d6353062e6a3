"""A spot measured at a given position."""

from __future__ import annotations

import numpy as np

from napari_xtal.peaks.manual import measure_at


def _scene(seed=0):
    rng = np.random.default_rng(seed)
    image = rng.poisson(20, (64, 64)).astype(np.uint16)
    image[30:33, 40:43] += 100
    return image, np.ones(image.shape, bool)


def test_intensity_is_the_sum_above_the_background():
    image, good = _scene()
    spot = measure_at(image, good, 31.2, 40.8)
    assert abs(spot["intensity"] - 900) < 5 * np.sqrt(25 * 20 + 900)
    assert abs(spot["background"] - 20) <= 2
    assert spot["snr"] > 25
    assert spot["n_pixels"] == 25
    assert spot["max_value"] == image[29:34, 39:44].max()


def test_masked_pixels_do_not_count():
    image, good = _scene()
    image[31, 41], good[31, 41] = 65535, False
    spot = measure_at(image, good, 31, 41)
    assert spot["n_pixels"] == 24
    assert spot["max_value"] < 200


def test_corner_and_fully_masked_positions_do_not_fail():
    image, good = _scene()
    assert measure_at(image, good, 0, 0)["n_pixels"] == 9
    spot = measure_at(image, np.zeros_like(good), 31, 41)
    assert np.isnan(spot["intensity"])
    assert spot["n_pixels"] == 0
