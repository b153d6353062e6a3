"""Many frames: order, threads, failing frames, progress, cancel."""

from __future__ import annotations

import threading
import time

import numpy as np
import pandas as pd
import pytest
from scenes import SHAPE, SPOTS, assert_same, each_method, make_frame, make_radius, near

from napari_xtal.detector.frame import Frame, FrameId, FrameStatus
from napari_xtal.errors import InputError, XtalError
from napari_xtal.peaks.find import PeakFinder, find_peaks, find_peaks_in
from napari_xtal.peaks.parameters import PeakFinderParams
from napari_xtal.peaks.table import PEAK_COLUMNS


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


@each_method
@pytest.mark.parametrize("workers", [None, 1, 3])
def test_run_equals_frame_by_frame(params, workers):
    src = Source([make_frame(seed) for seed in range(6)], radius=make_radius())
    table = find_peaks_in(src, params, workers=workers)
    finder = PeakFinder(src.good, make_radius())
    parts = [finder.find(image, params, frame=i) for i, image in enumerate(src.frames)]
    assert_same(table, pd.concat(parts, ignore_index=True))
    assert table.attrs["parameters"] == params.to_dict()
    assert table.attrs["failed"] == {}
    assert table.attrs["frames"] == list(range(6))


def test_frames_come_in_order_however_long_they_take():
    frames = [make_frame(seed) for seed in range(6)]
    src = Source(frames, radius=make_radius(), delay=lambda i: 0.05 if i % 2 == 0 else 0)
    seen = []
    table = find_peaks_in(src, workers=3, on_frame=lambda i, t: seen.append((i, len(t))))
    assert table["frame"].is_monotonic_increasing
    assert sorted(seen) == [(i, int((table["frame"] == i).sum())) for i in range(6)]
    assert len(src.threads) > 1


def test_chosen_frames():
    src = Source([make_frame(seed) for seed in range(6)], radius=make_radius())
    table = find_peaks_in(src, frames=[4, 1])
    assert table["frame"].unique().tolist() == [1, 4]
    assert table.attrs["frames"] == [1, 4]
    nothing = find_peaks_in(src, frames=[])
    assert {n: str(d) for n, d in nothing.dtypes.items()} == PEAK_COLUMNS
    assert nothing.attrs["frames"] == []
    assert len(find_peaks_in(src, frames=iter(range(2)))) == len(find_peaks_in(src, frames=[0, 1]))


@pytest.mark.parametrize("frames", [[6], [-1], [0, 100]])
def test_frames_that_do_not_exist(frames):
    src = Source([make_frame(seed) for seed in range(6)])
    with pytest.raises(InputError, match="do not fit a run of 6 frames"):
        find_peaks_in(src, frames=frames)


def test_failing_frames_are_named_and_the_others_searched():
    src = Source([make_frame(seed) for seed in range(5)], radius=make_radius(), failing={1, 3})
    table = find_peaks_in(src)
    assert table["frame"].unique().tolist() == [0, 2, 4]
    assert table.attrs["failed"] == {1: "frame 1 is damaged", 3: "frame 3 is damaged"}
    assert table.attrs["frames"] == [0, 1, 2, 3, 4]


def test_a_run_of_failing_frames_gives_an_empty_table():
    src = Source([make_frame()] * 2, failing={0, 1})
    table = find_peaks_in(src)
    assert {n: str(d) for n, d in table.dtypes.items()} == PEAK_COLUMNS
    assert set(table.attrs["failed"]) == {0, 1}


@each_method
@pytest.mark.parametrize("half_side", [4, 20], ids=["few", "many"])
def test_bad_pixels_of_one_frame_do_not_touch_the_others(params, half_side):
    row, col = (round(x) for x in SPOTS[0])
    good = np.ones(SHAPE, bool)
    good[row - half_side : row + half_side + 1, col - half_side : col + half_side + 1] = False
    src = Source([make_frame(0), (make_frame(1), good), make_frame(2)], radius=make_radius())
    table = find_peaks_in(src, params)
    counts = table.groupby("frame").size()
    assert len(near(table[table["frame"] == 1], *SPOTS[0], 4)) == 0
    assert counts[1] == counts[0] - 1 == counts[2] - 1


def hot_frame(seed, *pixels):
    image = make_frame(seed)
    for row, col in pixels:
        image[row, col] = 300
    return image


@pytest.mark.parametrize("rejected", [True, False])
def test_single_pixels_that_fire_often_are_listed(rejected):
    """A hot pixel in 4 of 10 frames and one in 2; spots on a place in all frames are no such."""
    often, seldom = (0, 100), (50, 200)
    src = Source(
        [hot_frame(s, *[often] * (s % 3 == 0), *[seldom] * (s < 2)) for s in range(10)],
        radius=make_radius(),
    )
    params = PeakFinderParams(false_peaks_per_frame=0.01, reject_single_pixels=rejected)
    seen = []
    table = find_peaks_in(src, params, on_frame=lambda _, t: seen.append(t.attrs))
    assert table.attrs["hot_pixels"] == [(*often, 4)]
    assert len(near(table, *often)) == (0 if rejected else 4)
    assert all("hot_pixels" not in attrs for attrs in seen)


def test_pixels_are_hot_only_above_a_share_of_the_frames():
    from napari_xtal.peaks.find import _hot_pixels

    hot, quiet = np.array([[5, 6]]), np.empty((0, 2), np.int64)
    assert _hot_pixels([]) == []
    assert _hot_pixels([hot] * 2) == []
    assert _hot_pixels([hot] * 3 + [quiet] * 57) == []  # 5 % is not more than 5 %
    assert _hot_pixels([hot] * 3 + [quiet] * 56) == [(5, 6, 3)]


@each_method
def test_tables_of_single_frames_can_be_joined(params):
    """pandas compares attributes; those of a frame with hot pixels must allow it."""
    frames = [hot_frame(s, (100, 100), (60 + s, 60)) for s in range(2)]
    tables = [find_peaks(f, radius=make_radius(), params=params) for f in frames]
    assert len(pd.concat(tables)) == sum(len(t) for t in tables)
    if params.method == "significance":
        assert sorted(tables[1].attrs["hot_pixels"]) == [(61, 60), (100, 100)]


def test_progress_counts_every_frame():
    src = Source([make_frame(seed) for seed in range(5)], radius=make_radius(), failing={2})
    calls, threads = [], set()

    def progress(done, total):
        calls.append((done, total))
        threads.add(threading.get_ident())

    find_peaks_in(src, progress=progress, workers=2)
    assert calls == [(i, 5) for i in range(1, 6)]
    assert threads == {threading.get_ident()}


def test_cancel_keeps_what_is_done():
    src = Source(
        [make_frame(seed) for seed in range(30)], radius=make_radius(), delay=lambda _: 0.01
    )
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
    finder = PeakFinder(src.good, make_radius())
    for i in searched:
        assert (table["frame"] == i).sum() == len(finder.find(src.frames[i]))


def test_cancel_at_once():
    src = Source(
        [make_frame(seed) for seed in range(20)], radius=make_radius(), delay=lambda _: 0.01
    )
    table = find_peaks_in(src, cancel=lambda: True, workers=2)
    assert len(table.attrs["frames"]) < 10


def test_errors_of_parameters_reach_the_caller():
    src = Source([make_frame()])
    params = PeakFinderParams(background="radial")
    with pytest.raises(XtalError, match="beam centre"):
        find_peaks(make_frame(), params=params)
    failed = find_peaks_in(src, params).attrs["failed"]
    assert "beam centre" in failed[0]


def test_an_unexpected_error_stops_the_run():
    class Broken(Source):
        def frame(self, index):
            if index == 1:
                raise RuntimeError("out of memory")
            return super().frame(index)

    with pytest.raises(RuntimeError, match="out of memory"):
        find_peaks_in(Broken([make_frame()] * 4), workers=2)
