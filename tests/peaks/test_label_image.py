"""The rule for a peak and the label image."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_xtal.errors import InputError, ParameterError
from napari_xtal.peaks.label_image import confirmed, is_peak, label_image
from napari_xtal.peaks.table import make_table


def frame(**pixels):
    image = np.full((11, 11), 3.0)
    for place, value in pixels.items():
        row, col = place.strip("p").split("_")
        image[int(row), int(col)] = value
    return image


@pytest.mark.parametrize(
    ("image", "position", "expected"),
    [
        (frame(p5_5=9), (5, 5), True),
        (frame(p5_5=9), (5.4, 4.6), True),  # the nearest pixel counts
        (frame(p5_5=9), (5, 6), False),  # beside the maximum
        (frame(), (5, 5), False),  # flat: not above the median
        (frame(p5_5=1), (5, 5), False),
        (frame(p5_5=9, p5_7=10), (5, 5), False),  # higher at the window's rim
        (frame(p5_5=9, p5_8=10), (5, 5), True),  # higher outside the window
        (frame(p5_5=9, p5_6=9), (5, 5), True),  # plateau: first in row order
        (frame(p5_5=9, p5_6=9), (5, 6), False),
        (frame(p4_6=9, p5_5=9), (5, 5), False),  # the row above comes first
        (frame(p4_6=9, p5_5=9), (4, 6), True),
        (frame(p0_0=9), (0, 0), True),  # corner
        (frame(p10_10=9), (10, 10), True),
        (frame(p5_5=9), (-1, 5), False),  # outside
        (frame(p5_5=9), (5, 11), False),
        (-frame(p5_5=9), (5, 5), False),  # a hole
        (frame(p5_5=9) - 100, (5, 5), True),  # negative background
        (frame(p5_5=np.nan), (5, 5), False),
        (frame(p5_5=9, p5_6=np.nan), (5, 5), True),
    ],
)
def test_truth_table(image, position, expected):
    assert is_peak(image, *position) is expected


def test_masked_pixels_do_not_count():
    image = frame(p5_5=9, p5_6=50, p4_4=9)
    good = np.ones(image.shape, bool)
    good[5, 6] = good[4, 4] = False
    assert not is_peak(image, 5, 5)
    assert is_peak(image, 5, 5, good=good)
    assert not is_peak(image, 5, 6, good=good)
    assert not is_peak(image, 5, 5, good=np.zeros(image.shape, bool))


def test_the_marker_of_an_unsigned_type_is_no_neighbour():
    image = frame(p5_5=9).astype(np.uint16)
    image[5, 6] = 65535
    assert is_peak(image, 5, 5)
    assert not is_peak(image, 5, 6)


def test_half_sets_the_window():
    image = frame(p5_5=9, p5_7=10)
    assert is_peak(image, 5, 5, half=1)
    with pytest.raises(ParameterError, match="half"):
        is_peak(image, 5, 5, half=0)
    with pytest.raises(InputError, match="not finite"):
        is_peak(image, np.nan, 5)
    with pytest.raises(InputError, match="differ in shape"):
        is_peak(image, 5, 5, good=np.ones((3, 3), bool))
    with pytest.raises(InputError, match="2-D"):
        is_peak(image[0], 5, 5)


def peaks(*places, **columns):
    rows, cols = (np.array(v, float) for v in zip(*places, strict=True))
    return make_table(frame=np.zeros(len(places), int), row=rows, col=cols, **columns)


@pytest.mark.parametrize(("radius", "area"), [(0, 1), (1, 5), (1.5, 9), (2, 13), (3, 29)])
def test_the_sum_is_the_number_of_peaks_times_the_disc(radius, area):
    table = peaks((10, 10), (10.4, 20.3), (25, 12.6))
    image = label_image((40, 30), table, radius)
    assert image.dtype == np.uint8 and set(np.unique(image)) == {0, 1}
    assert image.sum() == 3 * area
    rows, cols = np.ogrid[:40, :30]
    centres = [(10, 10), (10, 20), (25, 13)]
    near = [(rows - r) ** 2 + (cols - c) ** 2 <= radius**2 for r, c in centres]
    np.testing.assert_array_equal(image, np.any(near, axis=0))


def test_discs_are_cut_at_the_edge_and_the_mask_wins():
    good = np.ones((20, 20), bool)
    good[0, 1] = good[15, 15] = False
    image = label_image((20, 20), peaks((0, 0)), 2, good)
    assert image[0, 0] == 1 and image[0, 1] == 255 and image[15, 15] == 255
    assert (image == 1).sum() == 6 - 1  # a quarter disc, one of its pixels masked
    assert (image == 255).sum() == 2


def test_only_confirmed_peaks_are_drawn_once_anything_is_labelled():
    places = [(5, 5), (5, 15), (15, 5), (15, 15)]
    table = peaks(*places, label=["peak", "not-peak", "unsure", "unlabelled"])
    image = label_image((20, 20), table, 0)
    assert [int(image[p]) for p in places] == [1, 0, 0, 0]
    fresh = peaks(*places)
    assert label_image((20, 20), fresh, 0).sum() == 4
    refused = peaks(*places, label=["not-peak"] * 4)
    assert label_image((20, 20), refused, 0).sum() == 0
    assert len(confirmed(fresh[["row", "col"]])) == 4


def test_no_peaks_give_an_empty_image():
    assert label_image((4, 5), pd.DataFrame({"row": [], "col": []})).tolist() == [[0] * 5] * 4


def test_bad_input_is_named():
    with pytest.raises(InputError, match="row 50, col 3 lies outside"):
        label_image((20, 20), peaks((50, 3)))
    with pytest.raises(InputError, match="on 2 frames"):
        label_image((20, 20), pd.DataFrame({"frame": [0, 1], "row": [1, 1], "col": [1, 1]}))
    with pytest.raises(InputError, match="mask"):
        label_image((20, 20), peaks((5, 3)), good=np.ones((3, 3), bool))
    with pytest.raises(InputError, match="column 'col'"):
        label_image((20, 20), pd.DataFrame({"row": [1.0]}))
    with pytest.raises(InputError, match="NaN"):
        label_image((20, 20), pd.DataFrame({"row": [np.nan], "col": [1.0]}))
    for radius in (-1, np.nan, 1e6):
        with pytest.raises(ParameterError, match="radius"):
            label_image((20, 20), peaks((5, 3)), radius)
