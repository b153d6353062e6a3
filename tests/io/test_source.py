"""Frame sources of every layout: values, masks, identities, metadata, laziness."""

from __future__ import annotations

import bz2
import os
import pickle
import threading
import tracemalloc

import h5py
import hdf5plugin
import make_files as make
import numpy as np
import pytest

from napari_xtal.detector.frame import FrameId, FrameStatus
from napari_xtal.errors import InputError
from napari_xtal.io.links import LinkPolicy
from napari_xtal.io.source import open_frames


def test_nxmx_values_mask_and_metadata(tmp_path):
    path = make.nxmx(tmp_path / "a.h5")
    src = open_frames(path)
    assert (src.layout, len(src), src.shape, src.dtype) == ("NXmx", 4, make.SHAPE, np.uint16)
    np.testing.assert_array_equal(src[2], make.frames()[2])
    assert not src.good[5].any() and not src.good[6, 0]
    assert src.good[7, 7], "bit 31 marks virtual pixels, not bad ones"
    assert src.good.sum() == src.good.size - make.SHAPE[1] - 1
    meta = src.metadata
    assert meta.distance_m == pytest.approx(0.1)
    assert meta.photon_energy_ev == pytest.approx(12398.41984)
    assert meta.beam_centre == (10.0, 20.0)
    assert src.radius()[10, 20] == 0 and src.radius()[13, 24] == 5
    assert src.radius() is src.radius()
    # One pixel at 75 um and 0.1 m: 1/d = 2 sin(atan(0.00075) / 2) / lambda.
    expected = 2 * np.sin(np.arctan(0.00075) / 2) / 0.1
    assert src.inv_d()[10, 21] == pytest.approx(expected, rel=1e-5)


def test_frame_ids_and_negative_index(tmp_path):
    path = make.nxmx(tmp_path / "a.h5")
    src = open_frames(str(path))
    assert src.ids[3] == FrameId(str(path), "/entry/data/data", "//3") == src.ids[-1]
    assert len(list(src.ids)) == 4 and len(src.ids[1:3]) == 2
    np.testing.assert_array_equal(src[-1], src[3])
    for index in (4, -5):
        with pytest.raises(IndexError):
            src[index]
    with pytest.raises(TypeError):
        src[0:2]


def test_eiger_blocks_in_numeric_order(tmp_path):
    src = open_frames(make.eiger(tmp_path, blocks=11))
    assert len(src) == 22
    assert [int(src[k][0, 0]) for k in range(22)] == list(range(22))
    assert src.ids[21].event == "data_000011//1"
    assert src.ids[21].dataset == "/entry/data/data_000011"


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_missing_eiger_block_keeps_the_numbering(tmp_path, lost):
    src = open_frames(make.eiger(tmp_path, drop=(lost,)))
    assert len(src) == 6
    for k in range(6):
        frame = src.frame(k)
        if k // 2 == lost:
            assert frame.status is FrameStatus.MISSING_SOURCE
            assert not frame.good.any() and not frame.image.any()
            assert f"run_data_{lost + 1:06d}.h5" in frame.meta["reason"]
            with pytest.raises(InputError, match="missing-source"):
                src[k]
        else:
            assert frame.ok and frame.image[0, 0] == k
    assert any(f"run_data_{lost + 1:06d}" in text for text in src.warnings)


def test_all_blocks_missing_is_one_message(tmp_path):
    path = make.eiger(tmp_path, blocks=2, drop=(0, 1))
    with pytest.raises(InputError, match="run_data_000001"):
        open_frames(path)


def test_virtual_dataset_with_missing_source(tmp_path):
    src = open_frames(make.virtual(tmp_path, 3, drop=(1,)))
    states = [src.frame(k).status for k in range(6)]
    assert [s == FrameStatus.OK for s in states] == [True, True, False, False, True, True]
    assert states[2] is FrameStatus.MISSING_SOURCE
    assert any("part_1.h5" in text for text in src.warnings)


def test_virtual_source_behind_a_broken_link_of_its_own_file(tmp_path):
    path = tmp_path / "m.nxs"
    layout = h5py.VirtualLayout((3, *make.SHAPE), "i8")
    layout[:] = h5py.VirtualSource(".", "entry/data/data_000001", shape=(3, *make.SHAPE))
    with h5py.File(path, "w") as file:
        file.create_group("entry/instrument/detector")
        file["entry/data/data_000001"] = h5py.ExternalLink("gone_000001.h5", "/data")
        file["entry/data"].create_virtual_dataset("data", layout)
    src = open_frames(path)
    assert len(src) == 3
    assert {src.frame(k).status for k in range(3)} == {FrameStatus.MISSING_SOURCE}


def test_missing_module_masks_only_that_module(tmp_path):
    layout = h5py.VirtualLayout((2, 3, 32, 40), "f4")
    for module in range(3):
        layout[:, module] = h5py.VirtualSource(f"m{module}.h5", "d", shape=(2, 32, 40))
        if module != 1:
            with h5py.File(tmp_path / f"m{module}.h5", "w") as file:
                file["d"] = np.full((2, 32, 40), module + 1, "f4")
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("entry_1/data_1/data", layout)
    src = open_frames(tmp_path / "v.h5")
    frame = src.frame(1)
    assert frame.ok and src.shape == (96, 40)
    assert not frame.good[32:64].any() and frame.good[:32].all() and frame.good[64:].all()
    assert "m1.h5" in frame.meta["reason"]
    assert src.panels()[0, 0] == 0 and src.panels()[95, 39] == 2


def test_cxi_bits_and_per_frame_energy(tmp_path):
    mask = np.zeros(make.SHAPE, "u4")
    mask[0, 0], mask[0, 1], mask[0, 2], mask[0, 3] = 0x1, 0x1000, 0x200, 0x800
    src = open_frames(make.cxi(tmp_path / "a.cxi", mask=mask))
    assert src.layout == "CXI"
    assert src.good[0, :4].tolist() == [False, True, False, True]
    assert src.metadata.photon_energy_ev == pytest.approx(1e4)
    assert src.frame(1).meta["photon_energy_ev"] == pytest.approx(1e4)
    assert src.metadata.distance_m == 0.2


def test_cxi_mask_per_frame(tmp_path):
    mask = np.zeros((4, *make.SHAPE), "u2")
    mask[:, 1, 1] = 1
    mask[2, 3, 3] = 1
    src = open_frames(make.cxi(tmp_path / "a.cxi", mask=mask))
    assert not src.good[1, 1] and src.good[3, 3]
    assert not src.frame(2).good[3, 3] and src.frame(1).good[3, 3]


def test_cxi_negative_values_are_measurements(tmp_path):
    data = make.frames(dtype="i4")
    data[:, 2, 2] = -1
    assert open_frames(make.cxi(tmp_path / "a.cxi", data)).frame(0).good[2, 2]


@pytest.mark.parametrize(
    ("name", "shape"), [("imageseries/images", (3, 40, 48)), ("patterns", (3, 40, 48)),
                        ("deep/er/still", (40, 48))]
)  # fmt: skip
def test_generic_datasets_are_found(tmp_path, name, shape):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[name] = np.ones(shape, "f4")
        file["mask"] = np.eye(40, 48, dtype="u1")
        file["table"] = np.ones((500, 3))
    src = open_frames(tmp_path / "a.h5")
    assert src.candidates[0].name == "/" + name
    assert src.shape == (40, 48) and src.good.sum() == 40 * 48 - 40


def test_named_dataset_and_candidates(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["big"] = np.zeros((5, 40, 48))
        file["small"] = np.ones((2, 33, 34))
    src = open_frames(tmp_path / "a.h5")
    assert len(src) == 5 and any("small" in text for text in src.warnings)
    assert open_frames(f"{tmp_path}/a.h5::/small").shape == (33, 34)
    assert open_frames(tmp_path / "a.h5", dataset="small").shape == (33, 34)
    with pytest.raises(InputError, match=r"no dataset 'nope'.*big.*small"):
        open_frames(tmp_path / "a.h5", dataset="nope")


def test_scalars_with_units_in_their_names(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = make.frames(1)
        detector = file.create_group("entry/instrument/detector")
        detector["distance_mm"], detector["pixel_size_mm"] = 120.0, 0.177
        detector["wavelength_A"] = 2.0
    meta = open_frames(path).metadata
    assert meta.distance_m == pytest.approx(0.12)
    assert meta.pixel_size_m == pytest.approx(177e-6)
    assert meta.photon_energy_ev == pytest.approx(6199.20992)


def test_marker_with_and_without_pixel_mask(tmp_path):
    data = make.frames()
    data[1, 20, 20] = 65535
    covered = open_frames(make.nxmx(tmp_path / "a.h5", data)).frame(1)
    assert covered.good[20, 20] and covered.saturated[20, 20]
    bare = open_frames(make.nxmx(tmp_path / "b.h5", data, pixel_mask=None)).frame(1)
    assert not bare.good[20, 20] and bare.saturated is None


def test_saturation_and_underload(tmp_path):
    data = make.frames(dtype="i4")
    data[0, 20, 20:23] = 999, 1000, 1001
    data[0, 21, 20] = -50
    src = open_frames(make.nxmx(tmp_path / "a.h5", data, saturation_value=1000, underload_value=-9))
    frame = src.frame(0)
    assert frame.saturated[20, 20:23].tolist() == [False, False, True]
    assert frame.good[20, 20:23].all() and not frame.good[21, 20]


def test_unknown_depth_saturation_of_form_2n_is_the_marker(tmp_path):
    data = make.frames(dtype="i8")
    data[0, 20, 20] = 65535
    path = make.nxmx(tmp_path / "a.h5", data, saturation_value=65535, pixel_mask=None)
    assert not open_frames(path).frame(0).good[20, 20]


def test_codes_of_signed_counts(tmp_path):
    data = make.frames(dtype="i4")
    data[0, 3, 3], data[0, 4, 4] = -1, -2
    data[1, 3, 3], data[1, 4, 4] = -1, -30
    src = open_frames(make.nxmx(tmp_path / "a.h5", data))
    assert not src.frame(0).good[3, 3] and not src.frame(0).good[4, 4]
    assert src.frame(1).good[3, 3], "values below -2 show that negatives are measurements"


def test_not_finite_pixels(tmp_path):
    data = make.frames(dtype="f4")
    data[0, 3, 3:6] = np.nan, np.inf, -np.inf
    data[1] = np.nan
    src = open_frames(make.cxi(tmp_path / "a.cxi", data))
    assert src.frame(0).good.sum() == data[0].size - 3
    assert src.frame(1).ok and not src.frame(1).good.any()


def test_equal_masks_are_one_object(tmp_path):
    src = open_frames(make.nxmx(tmp_path / "a.h5"))
    assert src.frame(0).good is src.frame(3).good


def test_cbf_tiff_and_compressed(tmp_path):
    import fabio

    image = make.frames(1, dtype="i4")[0]
    image[3], image[4, 4], image[9, 9] = -1, -2, 2000
    cbf = make.mini_cbf(tmp_path / "a.cbf", image)
    (tmp_path / "b.cbf.bz2").write_bytes(bz2.compress(cbf.read_bytes()))
    fabio.tifimage.TifImage(data=image).write(str(tmp_path / "c.tif"))
    for name in ("a.cbf", "b.cbf.bz2", "c.tif"):
        src = open_frames(tmp_path / name)
        np.testing.assert_array_equal(src[0], image)
        frame = src.frame(0)
        assert not frame.good[3].any() and not frame.good[4, 4] and frame.good[9, 9]
        assert src.ids[0].event == "//"
        np.testing.assert_array_equal(src.good, frame.good)
    src = open_frames(cbf)
    assert src.metadata.beam_centre == (10.0, 20.0)
    assert src.metadata.distance_m == 0.25 and src.metadata.pixel_size_m == 172e-6
    assert src.frame(0).saturated[9, 9]


def test_packed_cbf_names_the_remedy(tmp_path):
    (tmp_path / "p.cbf").write_bytes(b'###CBF: VERSION 1.5\r\n conversions="x-CBF_PACKED"\r\n\x0c')
    with pytest.raises(InputError, match="pycbf"):
        open_frames(tmp_path / "p.cbf")


def test_npy_and_pickled_npy(tmp_path):
    np.save(tmp_path / "a.npy", make.frames(3, dtype="f4"))
    src = open_frames(tmp_path / "a.npy")
    assert len(src) == 3 and src[2][0, 0] == 2
    np.save(tmp_path / "b.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="never loaded"):
        open_frames(tmp_path / "b.npy")


def test_many_files_are_joined_in_natural_order(tmp_path):
    for k in (10, 2, 1):
        make.nxmx(tmp_path / f"run_{k}.h5", make.frames(2) + np.uint16(100 * k))
    src = open_frames(str(tmp_path / "run_*.h5"))
    assert [int(src[k][0, 0]) for k in range(6)] == [100, 101, 200, 201, 1000, 1001]
    assert src.ids[5].file.endswith("run_10.h5") and src.ids[5].event == "//1"


def test_joined_files_keep_their_own_masks(tmp_path):
    make.nxmx(tmp_path / "a.h5")
    make.nxmx(tmp_path / "b.h5", pixel_mask=np.eye(*make.SHAPE, dtype="u1"))
    src = open_frames([tmp_path / "a.h5", tmp_path / "b.h5"])
    assert not src.frame(0).good[5].any() and src.frame(4).good.sum() == src.good.size - 40


def test_files_of_different_shape(tmp_path):
    make.nxmx(tmp_path / "a.h5")
    make.nxmx(tmp_path / "b.h5", make.frames(2, (33, 48)))
    with pytest.raises(InputError, match=r"a\.h5 has \(40, 48\).*b\.h5 has \(33, 48\)"):
        open_frames([tmp_path / "a.h5", tmp_path / "b.h5"])


def test_pickle_carries_paths_not_arrays(tmp_path):
    path = make.nxmx(tmp_path / "a.h5")
    src = open_frames(path, mask=np.eye(*make.SHAPE, dtype=bool))
    src[0]
    text = pickle.dumps(src)
    assert len(text) < 5000
    again = pickle.loads(text)
    np.testing.assert_array_equal(again[2], src[2])
    np.testing.assert_array_equal(again.good, src.good)


def test_reopened_source_reads_on_when_the_first_is_closed(tmp_path):
    src = open_frames(make.nxmx(tmp_path / "a.h5"), mask=np.eye(*make.SHAPE, dtype=bool))
    expected = src[1].copy()
    again = src.reopen()
    src.close()
    np.testing.assert_array_equal(again[1], expected)
    np.testing.assert_array_equal(again.good, src.good)
    assert list(again.ids) == list(src.ids)


def test_fork_opens_its_own_handles(tmp_path):
    src = open_frames(make.nxmx(tmp_path / "a.h5"))
    src[0]
    pid = os.fork()
    if pid == 0:
        os._exit(0 if int(src[3][0, 0]) == 3 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert src[3][0, 0] == 3


def test_threads_read_the_right_frames(tmp_path):
    src = open_frames(make.nxmx(tmp_path / "a.h5", make.frames(40)))
    wrong = []

    def read(seed):
        for k in np.random.default_rng(seed).integers(0, 40, 60):
            if src.frame(int(k)).image[0, 0] != k:
                wrong.append(k)

    threads = [threading.Thread(target=read, args=(s,)) for s in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_hundred_thousand_frames_cost_nothing(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("entry/data/data", (100_000, 2000, 2000), "u2", chunks=(1, 2000, 2000))
        file.create_group("entry/instrument/detector")
    tracemalloc.start()
    src = open_frames(tmp_path / "a.h5")
    assert len(src) == 100_000 and src.ids[99_999].event == "//99999"
    assert tracemalloc.get_traced_memory()[1] < 60e6
    tracemalloc.stop()
    frame = src.frame(50_000)
    assert frame.status is FrameStatus.NOT_YET_WRITTEN


def test_a_written_frame_of_zeros_is_a_frame(tmp_path):
    src = open_frames(make.nxmx(tmp_path / "a.h5", np.zeros((2, *make.SHAPE), "u2")))
    assert src.frame(1).ok


def test_chunks_that_group_frames_and_bitshuffle(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("d", data=make.frames(8), chunks=(8, *make.SHAPE),
                            **hdf5plugin.Bitshuffle())  # fmt: skip
    src = open_frames(tmp_path / "a.h5")
    assert [int(src[k][0, 0]) for k in range(8)] == list(range(8))


@pytest.mark.parametrize("kind", ["npy", "h5", "tif"])
def test_user_mask_files_nonzero_is_bad(tmp_path, kind):
    import fabio

    mask = np.zeros(make.SHAPE, "u1")
    mask[9] = 1
    path = tmp_path / f"m.{kind}"
    if kind == "npy":
        np.save(path, mask)
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file["bad_mask"] = mask
    else:
        fabio.tifimage.TifImage(data=mask).write(str(path))
    src = open_frames(make.nxmx(tmp_path / "a.h5"), mask=path)
    assert not src.good[9].any() and not src.good[5].any() and src.good[10].all()


def test_user_mask_boolean_true_is_good_and_shape_is_checked(tmp_path):
    path = make.nxmx(tmp_path / "a.h5", pixel_mask=None)
    good = np.ones(make.SHAPE, bool)
    good[9] = False
    assert (open_frames(path, mask=good).good == good).all()
    with pytest.raises(InputError, match=r"\(3, 3\).*\(40, 48\)"):
        open_frames(path, mask=np.ones((3, 3)))


def test_mostly_masked_is_a_warning(tmp_path):
    src = open_frames(make.nxmx(tmp_path / "a.h5", pixel_mask=np.ones(make.SHAPE, "u1")))
    assert any("masked" in text for text in src.warnings)
    assert src.frame(0).ok and not src.frame(0).good.any()


def test_links_out_of_the_folder_need_leave(tmp_path):
    inner, outer = tmp_path / "in", tmp_path / "raw"
    inner.mkdir()
    outer.mkdir()
    with h5py.File(outer / "d.h5", "w") as file:
        file["d"] = make.frames()
    with h5py.File(inner / "m.h5", "w") as file:
        file.create_group("entry/instrument/detector")
        file["entry/data/data_000001"] = h5py.ExternalLink("../raw/d.h5", "/d")
    with pytest.raises(InputError, match="outside its own folder"):
        open_frames(inner / "m.h5")
    src = open_frames(inner / "m.h5", policy=LinkPolicy(roots=(str(outer),)))
    assert len(src) == 4


def test_fingerprint_changes_with_the_file(tmp_path):
    path = make.nxmx(tmp_path / "a.h5")
    before = open_frames(path).fingerprint()[str(path)]
    make.nxmx(path, make.frames(seed=1))
    assert open_frames(path).fingerprint()[str(path)]["sha256_64k"] != before["sha256_64k"]


def test_corrupt_chunk_loses_one_frame(tmp_path):
    path = make.nxmx(tmp_path / "a.h5")
    with h5py.File(path) as file:
        info = file["entry/data/data"].id.get_chunk_info(2)
    raw = bytearray(path.read_bytes())
    raw[info.byte_offset : info.byte_offset + info.size] = b"\xff" * info.size
    path.write_bytes(raw)
    src = open_frames(path)
    states = [src.frame(k).status for k in range(4)]
    assert states.count(FrameStatus.CORRUPT) == 1 and states[2] is FrameStatus.CORRUPT
    with pytest.raises(InputError, match="frame 2 .*corrupt"):
        src[2]


def test_file_that_disappears(tmp_path):
    make.nxmx(tmp_path / "a.h5")
    np.save(tmp_path / "b.npy", make.frames(3))
    src = open_frames(tmp_path / "b.npy")
    (tmp_path / "b.npy").unlink()
    assert src.frame(1).status is FrameStatus.MISSING_SOURCE
