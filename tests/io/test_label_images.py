"""Label images of a run in HDF5."""

from __future__ import annotations

import json

import h5py
import make_files as make
import numpy as np
import pytest

from napari_xtal.errors import InputError, OutputError, ParameterError
from napari_xtal.io.label_images import DATASET, write_label_images
from napari_xtal.io.source import open_frames
from napari_xtal.peaks.label_image import label_image
from napari_xtal.peaks.table import make_table


def peaks(**columns):
    return make_table(
        frame=np.array([0, 0, 2]), row=np.array([10.0, 12.0, 20.0]),
        col=np.array([4.0, 20.0, 30.0]), **columns,
    )  # fmt: skip


@pytest.fixture
def src(tmp_path):
    return open_frames(make.nxmx(tmp_path / "run.h5"))


def test_reread_equals_the_images_of_the_frames(tmp_path, src):
    table = peaks()
    table.attrs["parameters"] = {"min_snr": 5}
    seen = []
    path = write_label_images(
        tmp_path / "labels.h5", src, table, 2.0, progress=lambda *a: seen.append(a)
    )
    assert seen == [(k, len(src)) for k in range(1, len(src) + 1)]
    with h5py.File(path) as file:
        data = file[DATASET]
        assert data.shape == (len(src), *src.shape) and data.dtype == np.uint8
        assert data.chunks == (1, *src.shape) and data.compression == "gzip"
        for k in range(len(src)):
            expected = label_image(src.shape, table[table["frame"] == k], 2.0, src.frame(k).good)
            np.testing.assert_array_equal(data[k], expected)
        assert (data[0] == 1).any() and (data[0] == 255).any() and not (data[1] == 1).any()
        group = file["entry/data"]
        assert [e.decode() for e in group["event"][()]] == [i.event for i in src.ids]
        assert [e.decode() for e in group["file"][()]] == [i.file for i in src.ids]
        assert group["frame"][()].tolist() == list(range(len(src)))
        process = file["entry/process"]
        assert json.loads(process["parameters"][()]) == {"min_snr": 5}
        assert process["radius"][()] == 2.0 and process["version"][()]
        assert process["source_files"][0].decode() == src.files[0]
        assert json.loads(data.attrs["values"])["1"] == "peak"


def test_labels_anywhere_in_the_run_mean_that_only_confirmed_peaks_count(tmp_path):
    table = peaks(label=["peak", "not-peak", "unlabelled"])
    path = write_label_images(tmp_path / "labels.h5", (3, 40, 50), table, 0)
    with h5py.File(path) as file:
        assert file[DATASET][()].sum(axis=(1, 2)).tolist() == [1, 0, 0]
        assert file[DATASET][0, 10, 4] == 1
        assert "event" not in file["entry/data"]


def test_chosen_frames_in_their_order(tmp_path):
    path = write_label_images(tmp_path / "labels.h5", (3, 40, 50), peaks(), 0, frames=[2, 0])
    with h5py.File(path) as file:
        assert file[DATASET][()].sum(axis=(1, 2)).tolist() == [1, 2]
        assert file["entry/data/frame"][()].tolist() == [2, 0]


def test_a_frame_that_cannot_be_read_is_all_ignored(tmp_path):
    src = open_frames(make.eiger(tmp_path, drop=(1,)))
    bad = [k for k in range(len(src)) if not src.frame(k).ok]
    assert bad
    table = make_table(frame=np.array([bad[0]]), row=np.array([5.0]), col=np.array([5.0]))
    path = write_label_images(tmp_path / "labels.h5", src, table)
    with h5py.File(path) as file:
        assert (file[DATASET][bad[0]] == 255).all()


def test_nothing_is_overwritten_or_half_written(tmp_path, src):
    path = tmp_path / "labels.h5"
    write_label_images(path, (3, 40, 50), peaks())
    before = path.read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        write_label_images(path, (3, 40, 50), peaks(), 1)
    with pytest.raises(OutputError, match="cancelled"):
        write_label_images(path, src, peaks(), overwrite=True, cancel=lambda: True)
    assert path.read_bytes() == before
    with pytest.raises(OutputError, match="one of the frame files"):
        write_label_images(src.files[0], src, peaks(), overwrite=True)
    with pytest.raises(OutputError, match="does not exist"):
        write_label_images(tmp_path / "no" / "labels.h5", src, peaks())
    write_label_images(path, (3, 40, 50), peaks(), 1, overwrite=True)
    assert path.read_bytes() != before
    assert not list(tmp_path.glob(".labels*"))


def test_bad_input_is_named(tmp_path):
    path = tmp_path / "labels.h5"
    with pytest.raises(InputError, match="outside a frame"):
        write_label_images(path, (3, 15, 50), peaks())
    with pytest.raises(InputError, match="2 frames"):
        write_label_images(path, (2, 40, 50), peaks())
    with pytest.raises(InputError, match="n_frames, ss, fs"):
        write_label_images(path, (40, 50), peaks())
    with pytest.raises(InputError, match="frames must be"):
        write_label_images(path, (3, 40, 50), peaks(), frames=[3])
    with pytest.raises(ParameterError, match="radius"):
        write_label_images(path, (3, 40, 50), peaks(), -1)
    assert not path.exists()
