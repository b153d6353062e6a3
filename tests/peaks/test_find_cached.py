"""Candidates that are only filtered; finders that are kept and shared."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scenes import METHODS, SHAPE, SPOTS, assert_same, each_method, make_frame, make_radius, near

from napari_xtal.peaks.find import PeakFinder, find_peaks
from napari_xtal.peaks.parameters import PeakFinderParams


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"min_snr": 6},
        {"min_snr": 30},
        {"false_peaks_per_frame": 20},
        {"threshold": 100},
        {"min_pix_count": 4, "max_pix_count": 30},
        {"min_res": 51, "max_res": 99.2},
        {"min_distance": 0},
        {"min_distance": 50},
        {"max_peaks": 3},
        {"reject_single_pixels": False},
        {"relative_snr": 0.5},
    ],
    ids=str,
)
def test_filtering_equals_a_new_search(changes):
    finder = PeakFinder(np.ones(SHAPE, bool), make_radius())
    image = make_frame(height=60)
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
    finder = PeakFinder(np.ones(SHAPE, bool), make_radius())
    image = make_frame()
    image[99, 33] += 500
    candidates = finder.candidates(image)
    params = PeakFinderParams()
    rejected = candidates.rejected(params)
    assert len(candidates.filter(params)) + len(rejected) == len(candidates)
    assert (rejected["reason"].str.len() > 0).all()
    assert "hot pixel" in set(near(rejected, 99, 33)["reason"])
    weak = candidates.rejected(params.replace(reject_single_pixels=False, min_snr=6))
    assert "too weak" in set(weak["reason"])
    strict = candidates.rejected(params.replace(min_res=150))
    assert "resolution" in set(near(strict, *SPOTS[0])["reason"])


def test_more_false_peaks_allowed_never_gives_fewer_peaks():
    finder = PeakFinder(np.ones(SHAPE, bool), make_radius())
    candidates = finder.candidates(make_frame(height=25))
    params = PeakFinderParams(min_distance=0, reject_single_pixels=False)
    counts = [
        len(candidates.filter(params.replace(false_peaks_per_frame=n)))
        for n in (0.01, 0.1, 1, 10, 100)
    ]
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]


@each_method
def test_mask_changed_in_place_takes_effect(params):
    image, good, radius = make_frame(), np.ones(SHAPE, bool), make_radius()
    assert len(find_peaks(image, good, radius=radius, params=params)) == len(SPOTS)
    row, col = (round(x) for x in SPOTS[2])
    good[row - 5 : row + 6, col - 5 : col + 6] = False
    assert len(find_peaks(image, good, radius=radius, params=params)) == len(SPOTS) - 1
    good[:] = True
    assert len(find_peaks(image, good, radius=radius, params=params)) == len(SPOTS)


@each_method
def test_radius_changed_in_place_takes_effect(params):
    image, radius = make_frame(), make_radius()
    limited = params.replace(min_res=60)
    before = len(find_peaks(image, radius=radius, params=limited))
    radius += 100
    assert len(find_peaks(image, radius=radius, params=limited)) > before


def test_many_masks_in_turn():
    image = make_frame()
    for _ in range(2):
        for row, col in SPOTS:
            good = np.ones(SHAPE, bool)
            good[round(row) - 5 : round(row) + 6, round(col) - 5 : round(col) + 6] = False
            table = find_peaks(image, good, params=METHODS["significance"])
            assert len(near(table, row, col, 5)) == 0
            assert len(table) == len(SPOTS) - 1


@each_method
def test_one_finder_in_many_threads(params):
    frames = [make_frame(seed) for seed in range(8)]
    finder = PeakFinder(np.ones(SHAPE, bool), make_radius())
    expected = [finder.find(image, params) for image in frames]
    with ThreadPoolExecutor(4) as pool:
        for table, other in zip(
            pool.map(lambda image: finder.find(image, params), frames), expected, strict=True
        ):
            assert_same(table, other)


def test_two_finders_in_one_thread_do_not_mix():
    image = make_frame()
    radial, local = (
        PeakFinder(np.ones(SHAPE, bool), make_radius()),
        PeakFinder(np.ones(SHAPE, bool)),
    )
    first = radial.find(image), local.find(image)
    for _ in range(2):
        assert_same(radial.find(image), first[0])
        assert_same(local.find(image), first[1])
