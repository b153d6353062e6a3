"""What is a peak, and what is not."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import SHAPE, SPOTS, add_spot, each_method, make_frame, make_radius, near

from napari_xtal.peaks.find import find_peaks


@pytest.mark.parametrize("height", [30, 100, 1000, 60_000])
def test_a_single_hot_pixel_is_no_peak(height):
    image = make_frame(height=0)
    image[77, 133] += height
    for radius in (None, make_radius()):
        assert len(near(find_peaks(image, radius=radius), 77, 133, 4)) == 0


@pytest.mark.parametrize("sigma", [0.5, 0.8, 1.2, 2.0, 3.0])
@pytest.mark.parametrize("height", [60, 1000, 30_000])
def test_a_spot_of_any_width_is_one_peak(sigma, height):
    clean = np.random.default_rng(1).poisson(8, SHAPE).astype(np.int32)
    image = add_spot(clean, 77.3, 133.4, height, sigma).astype(np.uint16)
    for radius in (None, make_radius()):
        table = near(find_peaks(image, radius=radius), 77.3, 133.4, 15)
        assert len(table) == 1
        assert np.hypot(table["row"] - 77.3, table["col"] - 133.4).item() < 0.4


def test_two_by_two_pixels_are_a_peak():
    image = make_frame(height=0)
    image[77:79, 133:135] += 40
    assert len(near(find_peaks(image, radius=make_radius()), 77.5, 133.5, 1)) == 1


@each_method
@pytest.mark.parametrize("sigma", [0.8, 1.5, 2.5, 4.0])
def test_saturated_flat_top_is_one_peak(params, sigma):
    image = np.random.default_rng(1).poisson(8, SHAPE).astype(np.int64)
    image = np.minimum(add_spot(image, 77, 133, 2_000_000, sigma), 65_000).astype(np.uint16)
    radius = make_radius()
    if params.method == "peakfinder8":
        # A wide spot fills too much of a real ring to be told from it.
        radius = np.zeros(SHAPE)
    params = params.replace(max_pix_count=2000)
    table = near(find_peaks(image, radius=radius, params=params), 77, 133, 25)
    assert len(table) == 1
    assert table["max_value"].item() == 65_000
    if params.method != "significance" or sigma < 2:
        assert np.hypot(table["row"] - 77, table["col"] - 133).item() < 0.5


@each_method
def test_peaks_do_not_cross_panel_borders(params):
    image = make_frame(height=0)
    # Gain and offset differ from panel to panel; a step is no peak.
    image[:, 110:] += 300
    panels = (np.indices(SHAPE)[1] >= 110).astype(np.int16)
    if params.method == "threshold":
        params = params.replace(threshold=450)
    # Rings on either side of the step keep the radial background of peakfinder8 apart.
    radius = make_radius() + 300 * panels
    image = add_spot(image.astype(np.int32), 60, 150.0, 400).astype(np.uint16)
    table = find_peaks(image, radius=radius, panels=panels, params=params)
    assert near(table, 60, 150)["panel"].tolist() == [1]
    assert len(table) == 1


@each_method
def test_spot_at_a_panel_border_is_measured_on_its_side(params):
    image = add_spot(np.random.default_rng(4).poisson(8, SHAPE).astype(np.int32), 60, 107, 300)
    # The neighbour is dimmer than any threshold here, or far brighter than the spot.
    image[:, 110:] = 5000 if params.method != "threshold" else -5000
    panels = (np.indices(SHAPE)[1] >= 110).astype(np.int16)
    table = find_peaks(image, radius=make_radius() + 300 * panels, panels=panels, params=params)
    assert len(table) == 1
    peak = table.iloc[0]
    assert peak["panel"] == 0
    assert (peak["row"], peak["col"]) == pytest.approx((60, 107), abs=0.2)
    assert peak["max_value"] == image[60, 107]
    assert peak["background"] == pytest.approx(8, abs=2.5)


@each_method
def test_no_peak_on_masked_pixels(params):
    image = make_frame()
    good = np.ones(SHAPE, bool)
    row, col = SPOTS[1]
    good[round(row) - 5 : round(row) + 6, round(col) - 5 : round(col) + 6] = False
    table = find_peaks(image, good, radius=make_radius(), params=params)
    assert len(table) == len(SPOTS) - 1
    assert len(near(table, row, col, 5)) == 0


@each_method
def test_limits_of_radius(params):
    radius = make_radius()
    distance = {spot: np.hypot(spot[0] - 98.3, spot[1] - 111.7) for spot in SPOTS}
    table = find_peaks(make_frame(), radius=radius, params=params.replace(min_res=51, max_res=75))
    inside = {spot for spot, r in distance.items() if 51 < r < 75}
    assert len(table) == len(inside) > 0
    assert all(len(near(table, *spot)) == 1 for spot in inside)


@each_method
def test_number_of_peaks_is_limited_to_the_strongest(params):
    image = make_frame(height=0).astype(np.int32)
    for i, (row, col) in enumerate(SPOTS):
        image = add_spot(image, row, col, 150 + 100 * i)
    table = find_peaks(
        image.astype(np.uint16), radius=make_radius(), params=params.replace(max_peaks=2)
    )
    assert len(table) == 2
    assert all(len(near(table, *spot)) == 1 for spot in SPOTS[-2:])
