"""Every way a file can be wrong gives one clear message, never a crash or a hang."""

from __future__ import annotations

import os
import struct

import h5py
import make_files as make
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_xtal.detector.frame import FrameStatus
from napari_xtal.errors import (
    FilterMissingError,
    InputError,
    MissingFileError,
    UnsafeLinkError,
)
from napari_xtal.io.links import LinkPolicy
from napari_xtal.io.source import open_frames


def fails(path, match, **kw):
    with pytest.raises(InputError, match=match) as caught:
        open_frames(path, **kw)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 1500
    return caught.value


def test_missing_empty_text_directory(tmp_path):
    assert isinstance(fails(tmp_path / "no.h5", "no such file"), MissingFileError)
    assert isinstance(fails(f"{tmp_path}/no_*.h5", "no file matches"), MissingFileError)
    (tmp_path / "e.h5").touch()
    fails(tmp_path / "e.h5", "empty")
    (tmp_path / "t.h5").write_text("not a detector frame\n" * 50)
    fails(tmp_path / "t.h5", "text file")
    fails(tmp_path, "directory")
    fails([], "no file")
    fails(3, "expected a path")
    fails([None], "expected a path")
    fails("a\0b", "usable path")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path):
    path = make.nxmx(tmp_path / "a.h5")
    path.chmod(0)
    fails(path, "permission")


def test_truncated(tmp_path):
    path = make.nxmx(tmp_path / "a.h5")
    path.write_bytes(path.read_bytes()[:-500])
    fails(path, "truncated")


@pytest.mark.parametrize("name", ["a.cbf", "a.tif", "a.edf", "a.npy", "a.cbf.gz", "a.cbf.bz2"])
def test_damaged_image_files(tmp_path, name):
    (tmp_path / name).write_bytes(bytes(range(256)) * 10)
    fails(tmp_path / name, "damaged|unknown")


def test_truncated_cbf(tmp_path):
    path = make.mini_cbf(tmp_path / "a.cbf", make.frames(1)[0])
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(InputError):
        open_frames(path)[0]


def test_hdf5_without_images(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["spectrum"] = np.zeros(100)
        file["words"] = "nothing to see"
    fails(tmp_path / "a.h5", r"no images.*spectrum \(100,\)")


@pytest.mark.parametrize(
    ("shape", "match"),
    [((100,), "1 axes"), ((2, 2, 2, 40, 40), "5 axes"), ((3, 0, 40), "without pixels"),
     ((0, 40, 40), "no frames")],
)  # fmt: skip
def test_wrong_rank(tmp_path, shape, match):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["d"] = np.zeros(shape)
    fails(tmp_path / "a.h5", match, dataset="/d")


def test_named_group_and_text_dataset(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["g/x"] = np.zeros((2, 40, 40))
        file["words"] = ["a", "b"]
    fails(tmp_path / "a.h5", "is a group", dataset="/g")
    fails(tmp_path / "a.h5", "not numbers", dataset="/words")
    fails(tmp_path / "a.h5", r"no dataset", dataset="/g/x/y")


def test_dataset_of_an_image_file(tmp_path):
    np.save(tmp_path / "a.npy", make.frames())
    fails(tmp_path / "a.npy", "only HDF5", dataset="/d")


def test_missing_filter_is_named(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1, 40, 48))
        plist.set_filter(32099, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((2, 40, 48))
        h5py.h5d.create(file.id, b"images", h5py.h5t.NATIVE_UINT16, space, plist)
    error = fails(tmp_path / "a.h5", "32099.*HDF5_PLUGIN_PATH")
    assert isinstance(error, FilterMissingError)


def test_external_link_to_nowhere(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["scan"] = h5py.ExternalLink("gone.h5", "/x")
    fails(tmp_path / "a.h5", r"scan -> gone\.h5")
    fails(tmp_path / "a.h5", r"gone\.h5.*does not exist", dataset="/scan")


def test_links_in_a_circle_and_to_text(tmp_path):
    (tmp_path / "t.txt").write_text("text " * 100)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = h5py.SoftLink("/b")
        file["b"] = h5py.SoftLink("/a")
        file["me"] = h5py.ExternalLink("a.h5", "/me")
        file["text"] = h5py.ExternalLink("t.txt", "/x")
    for name in ("/a", "/me", "/text"):
        with pytest.raises(InputError):
            open_frames(tmp_path / "a.h5", dataset=name)
    fails(tmp_path / "a.h5", "no images")


def test_external_storage_is_refused(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 40 * 48)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("d", (1, 40, 48), "u1", external=[(str(secret), 0, 40 * 48)])
    error = fails(tmp_path / "a.h5", "external storage")
    assert isinstance(error, UnsafeLinkError)


def test_external_links_can_be_forbidden(tmp_path):
    path = make.eiger(tmp_path)
    with pytest.raises(InputError, match="does not allow"):
        open_frames(path, policy=LinkPolicy(allow_external_links=False))
    with pytest.raises(InputError, match="does not allow"):
        open_frames(make.virtual(tmp_path), policy=LinkPolicy(allow_vds=False))


def test_symbolic_link_out_of_the_folder(tmp_path):
    (tmp_path / "in").mkdir()
    with h5py.File(tmp_path / "out.h5", "w") as file:
        file["d"] = make.frames()
    (tmp_path / "in" / "x.h5").symlink_to(tmp_path / "out.h5")
    with h5py.File(tmp_path / "in" / "m.h5", "w") as file:
        file["d"] = h5py.ExternalLink("x.h5", "/d")
    error = fails(tmp_path / "in" / "m.h5", "outside", dataset="/d")
    assert isinstance(error, UnsafeLinkError)


def test_virtual_source_out_of_the_folder(tmp_path):
    (tmp_path / "in").mkdir()
    with h5py.File(tmp_path / "out.h5", "w") as file:
        file["d"] = make.frames()
    layout = h5py.VirtualLayout((4, *make.SHAPE), "u2")
    layout[:] = h5py.VirtualSource(str(tmp_path / "out.h5"), "d", shape=(4, *make.SHAPE))
    with h5py.File(tmp_path / "in" / "v.h5", "w") as file:
        file.create_virtual_dataset("d", layout)
    fails(tmp_path / "in" / "v.h5", "outside")


def test_frame_too_large_but_not_dataset_too_large(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("d", (2, 10**6, 10**6), "f4", chunks=(1, 1000, 1000))
    fails(tmp_path / "a.h5", "GiB")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("d", (10**7, 1000, 1000), "f4", chunks=(1, 1000, 1000))
    assert len(open_frames(tmp_path / "b.h5")) == 10**7


def test_huge_cbf_and_npy_headers(tmp_path):
    (tmp_path / "a.cbf").write_bytes(
        b"###CBF\r\n--CIF-BINARY-FORMAT-SECTION--\r\nX-Binary-Size: 10\r\nX-Binary-Size-Fastest-Dimension: 999999\r\n"
        b"X-Binary-Size-Second-Dimension: 999999\r\n\x0c\x1a\x04\xd5"
    )
    fails(tmp_path / "a.cbf", "larger than the limit")
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (9999999, 9999999), }"
    header += b" " * (117 - len(header)) + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    fails(tmp_path / "a.npy", "damaged|limit")


def test_search_is_bounded(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        group = file
        for _ in range(40):
            group = group.create_group("g")
        group["d"] = np.zeros((2, 40, 40))
        file["loop"] = file
    fails(tmp_path / "a.h5", "no images")


def test_constant_and_all_masked_frames_open(tmp_path):
    path = make.nxmx(tmp_path / "a.h5", np.full((2, *make.SHAPE), 7, "u2"))
    src = open_frames(path, mask=np.zeros(make.SHAPE, bool))
    assert src.frame(0).ok and not src.frame(0).good.any()


def test_damaged_mask_still_opens(tmp_path):
    path = make.nxmx(tmp_path / "a.h5", pixel_mask=np.zeros((3, 3), "u1"))
    src = open_frames(path)
    assert src.good.all() and any("does not fit" in text for text in src.warnings)


def _survives(path) -> None:
    try:
        with open_frames(path) as src:
            for k in range(min(len(src), 6)):
                frame = src.frame(k)
                assert isinstance(frame.status, FrameStatus)
                assert frame.image.shape == src.shape == frame.good.shape
    except InputError:
        pass


_ENDINGS = {"nxmx": "h5", "cxi": "cxi", "cbf": "cbf", "npy": "npy", "tiff": "tif", "edf": "edf"}


def _write(path, layout) -> None:
    import fabio

    if layout == "nxmx":
        make.nxmx(path)
    elif layout == "cxi":
        make.cxi(path, mask=np.zeros(make.SHAPE, "u4"))
    elif layout == "cbf":
        make.mini_cbf(path, make.frames(1)[0])
    elif layout == "npy":
        np.save(path, make.frames())
    else:
        kind = fabio.tifimage.TifImage if layout == "tiff" else fabio.edfimage.EdfImage
        kind(data=make.frames(1)[0]).write(str(path))


# Always the same examples: a crash inside a C library would take the whole run with it.
@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    layout=st.sampled_from(sorted(_ENDINGS)),
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=12),
    truncate=st.booleans(),
)
def test_damaged_files_never_crash(tmp_path, layout, cut, flips, truncate):
    path = tmp_path / f"fuzz.{_ENDINGS[layout]}"
    _write(path, layout)
    raw = bytearray(path.read_bytes())
    for place, value in flips:
        raw[int(place * len(raw))] = value
    path.write_bytes(raw[: int(cut * len(raw))] if truncate else raw)
    _survives(path)
