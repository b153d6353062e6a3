"""Runs in napari: lazy, masked, with sane contrast, and clear words for bad files."""

from __future__ import annotations

import numpy as np
import pytest
from window_runs import GAP, N_FRAMES, SHAPE, make_frames, write_run

from napari_xtal.errors import InputError
from napari_xtal.io.source import open_frames
from napari_xtal.widgets.frame_stack import FrameStack
from napari_xtal.widgets.reader import get_reader, read, run_name


@pytest.fixture
def stack(run_file):
    return FrameStack(open_frames(run_file))


def test_layer_has_percentile_contrast_axis_labels_and_source(run_file):
    data, attributes, kind = read(str(run_file))[0]
    assert kind == "image"
    assert (data.shape, data.dtype, data.ndim) == ((N_FRAMES, *SHAPE), np.float32, 3)
    low, high = attributes["contrast_limits"]
    assert 0 <= low <= 5
    assert 8 < high < 400  # neither the marker 65535 nor one hot spot
    assert attributes["axis_labels"] == ("frame", "ss", "fs")
    assert attributes["multiscale"] is False
    assert attributes["name"] == "run"
    assert len(attributes["metadata"]["xtal_source"]) == N_FRAMES


def test_a_water_ring_is_not_drawn_black(tmp_path):
    rows, cols = np.indices((320, 340))
    ring = 100 + 4000 * np.exp(-(((np.hypot(rows - 160, cols - 170) - 100) / 30) ** 2))
    path = write_run(tmp_path / "run.h5", ring[None].astype(np.uint16), mask=False)
    low, high = read(str(path))[0][1]["contrast_limits"]
    assert low < 200
    assert high > 1.2 * ring.max()


def test_masked_pixels_are_nan_and_the_rest_is_the_data(stack):
    image = stack[2]
    assert np.isnan(image[:, GAP]).all()
    expected = make_frames()[2].astype(np.float32)
    good = np.ones(SHAPE, bool)
    good[:, GAP] = False
    np.testing.assert_array_equal(image[good], expected[good])


def test_slices_like_an_array(stack):
    assert stack[1:2].shape == (1, *SHAPE)
    assert stack[(slice(1, 2), slice(None), slice(None))].shape == (1, *SHAPE)
    assert stack[0, 10:20, 5].shape == (10,)
    assert stack[..., 5].shape == (N_FRAMES, SHAPE[0])
    assert stack[[0, 3]].shape == (2, *SHAPE)
    assert stack[-1].shape == SHAPE
    assert stack[4:4].shape == (0, *SHAPE)
    with pytest.raises(IndexError, match="frame 6 of a run of 6"):
        stack[6]


def test_a_whole_run_is_never_loaded(stack):
    with pytest.raises(InputError, match="not loaded into memory"):
        np.asarray(stack)


def test_a_slice_of_many_frames_is_refused(tmp_path):
    path = write_run(tmp_path / "many.h5", np.zeros((40, 16, 110), np.uint16))
    with pytest.raises(InputError, match="shown frame by frame"):
        FrameStack(open_frames(path))[:]


def test_only_frames_that_are_asked_for_are_read(run_file, monkeypatch):
    source = open_frames(run_file)
    asked = []
    original = source.frame
    monkeypatch.setattr(source, "frame", lambda i: (asked.append(i), original(i))[1])
    stack = FrameStack(source)
    stack[3]
    stack[3]
    assert asked == [3]
    stack[4]  # travelling forwards: the next one is fetched ahead
    stack._ahead.result()
    assert asked == [3, 4, 5]


def test_broken_frame_is_an_empty_canvas_with_a_reason(tmp_path):
    from dataclasses import replace

    from napari_xtal.detector.frame import FrameStatus

    source = open_frames(write_run(tmp_path / "run.h5", make_frames(3)))
    original = source.frame

    def frame(i):
        good = original(i)
        if i != 1:
            return good
        return replace(
            good, image=np.zeros(SHAPE, np.uint16), good=np.zeros(SHAPE, bool),
            status=FrameStatus.CORRUPT, meta={"reason": "chunk is damaged"},
        )  # fmt: skip

    source.frame = frame
    told = []
    stack = FrameStack(source, told.append)
    assert np.isnan(stack[1]).all()
    assert np.isnan(stack[1]).all()
    assert len(told) == 1
    assert "Frame 1" in told[0]
    assert "corrupt: chunk is damaged" in told[0]
    assert np.isfinite(stack[2]).any()


@pytest.mark.parametrize(
    ("name", "known"),
    [("a.h5", True), ("a.CXI", True), ("a.cbf.bz2", True), ("a.h5::/entry/data", True),
     ("a.txt", False), ("a.png", False)],
)  # fmt: skip
def test_reader_takes_what_it_knows(name, known):
    assert (get_reader(name) is not None) == known
    assert (get_reader([name, name]) is not None) == known


def test_run_name_drops_folder_dataset_and_suffixes():
    class Source:
        files = ("/data/x_0001.cbf.bz2",)

    assert run_name(Source()) == "x_0001"


def test_masked_pixels_are_transparent_on_the_screen(make_napari_viewer, run_file):
    viewer = make_napari_viewer(show=True)
    data, attributes, _ = read(str(run_file))[0]
    layer = viewer.add_image(data, **attributes)
    viewer.dims.set_point(0, 0)
    picture = viewer.screenshot(canvas_only=True, flash=False)
    row, gap = picture.shape[0] // 2, picture.shape[1] // 2
    background = picture[2, 2, :3]  # canvas outside the frame
    np.testing.assert_array_equal(picture[row, gap, :3], background)
    assert layer.axis_labels == ("frame", "ss", "fs")
    assert viewer.dims.axis_labels[0] == "frame"


def test_corrupt_file_gives_one_message_and_the_window_goes_on(
    make_napari_viewer, tmp_path, messages, npe2pm
):
    from npe2 import PluginManifest

    npe2pm.register(PluginManifest.from_distribution("napari-xtal"))
    viewer = make_napari_viewer()
    broken = tmp_path / "broken.h5"
    broken.write_bytes(b"\x89HDF\r\n\x1a\n" + b"no file" * 20)
    with pytest.raises(InputError, match=r"broken\.h5"):
        viewer.open(str(broken), plugin="napari-xtal")
    assert len(viewer.layers) == 0
    viewer.open(str(write_run(tmp_path / "good.h5", make_frames(2))), plugin="napari-xtal")
    assert len(viewer.layers) == 1


def test_three_dimensional_view_is_refused_without_breaking_the_window(
    make_napari_viewer, tmp_path
):
    path = write_run(tmp_path / "many.h5", make_frames(20))
    viewer = make_napari_viewer()
    data, attributes, _ = read(str(path))[0]
    layer = viewer.add_image(data, **attributes)
    with pytest.raises(InputError, match="leave the 3-D view"):
        viewer.dims.ndisplay = 3
    viewer.dims.ndisplay = 2
    viewer.dims.set_point(0, 3)
    assert np.isfinite(layer.get_value((3, 10, 10)))
