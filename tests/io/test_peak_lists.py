"""Peak lists: CXI as CrystFEL reads it, CSV without loss, event lists, safe writing."""

from __future__ import annotations

import json
import os

import h5py
import make_files as make
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_xtal.detector.frame import FrameId
from napari_xtal.errors import InputError, OutputError
from napari_xtal.io.peak_lists import read_peaks, write_csv, write_cxi, write_lst
from napari_xtal.io.source import open_frames
from napari_xtal.peaks.table import PEAK_COLUMNS, empty_table, make_table, validate


@pytest.fixture
def src(tmp_path):
    return open_frames(make.nxmx(tmp_path / "run.h5"))


def peaks() -> pd.DataFrame:
    return make_table(
        frame=np.array([0, 0, 2, 3]),
        row=np.array([10.25, 3.0, 20.5, 7.0]),
        col=np.array([4.75, 8.0, 30.0, 9.0]),
        intensity=np.array([100.0, 300.0, 50.0, 10.0]),
        snr=np.array([9.0, 20.0, 7.0, 5.0]),
        n_pixels=np.array([4, 9, 3, 2]),
        max_value=np.array([60.0, 120.0, 33.0, 11.0]),
    )


def test_cxi_holds_what_crystfel_reads(tmp_path, src):
    tab = peaks()
    tab.attrs["parameters"] = {"min_snr": 5}
    path = write_cxi(tmp_path / "out.cxi", src, tab)
    with h5py.File(path) as file:
        assert file["cxi_version"][()] == 160
        data = file["entry_1/data_1/data"]
        assert data.shape == (4, *make.SHAPE) and data.compression == "gzip"
        np.testing.assert_array_equal(data[2], src[2])
        result = file["entry_1/result_1"]
        assert result["nPeaks"][()].tolist() == [2, 0, 1, 1]
        assert result["nPeaks"].dtype.kind == "i"
        x, y = result["peakXPosRaw"][()], result["peakYPosRaw"][()]
        assert x.dtype == np.float32 and x.shape == (4, 2)
        # Strongest first; pixel index, no half pixel; unused places are zero.
        assert x[0].tolist() == [8.0, 4.75] and y[0].tolist() == [3.0, 10.25]
        assert not x[1].any() and x[2].tolist() == [30.0, 0.0]
        assert result["peakSNR"][0].tolist() == [20.0, 9.0]
        assert result["peakNPixels"][0].tolist() == [9, 4]
        assert json.loads(result.attrs["parameters"]) == {"min_snr": 5}
        names = file["entry_1/experiment_identifier"][()]
        assert names.dtype.kind == "S" and names[3].endswith(b"run.h5 //3")
        energy = file["entry_1/instrument_1/source_1/energy"][()]
        assert energy / 1.602176634e-19 == pytest.approx(12398.41984)
        assert (file["entry_1/data_1/mask"][5] == 1).all()


def test_cxi_opens_again_with_the_same_metadata(tmp_path, src):
    again = open_frames(write_cxi(tmp_path / "out.cxi", src, peaks()))
    np.testing.assert_array_equal(again.good, src.good)
    for name in ("photon_energy_ev", "distance_m", "pixel_size_m", "beam_centre"):
        assert getattr(again.metadata, name) == pytest.approx(getattr(src.metadata, name))


def test_cxi_peaks_read_back(tmp_path, src):
    tab = read_peaks(write_cxi(tmp_path / "out.cxi", src, peaks()))
    validate(tab, len(src))
    assert set(tab["source"]) == {"import"}
    expected = peaks().sort_values(["frame", "snr"], ascending=[True, False])
    for name in ("frame", "row", "col", "intensity", "snr", "n_pixels", "max_value"):
        np.testing.assert_allclose(tab[name], expected[name])


def test_subset_of_frames_renumbers_rows(tmp_path, src):
    path = write_cxi(tmp_path / "hits.cxi", src, peaks(), frames=[3, 0])
    again = open_frames(path)
    assert [int(again[k][0, 0]) for k in range(2)] == [3, 0]
    assert read_peaks(path)["frame"].tolist() == [0, 1, 1]


def test_no_peaks_at_all(tmp_path, src):
    path = write_cxi(tmp_path / "out.cxi", src, empty_table())
    with h5py.File(path) as file:
        assert file["entry_1/result_1/nPeaks"][()].tolist() == [0] * 4
        assert file["entry_1/result_1/peakXPosRaw"].shape == (4, 1)
    assert len(read_peaks(path)) == 0


def test_cap_keeps_the_strongest_and_warns(tmp_path, src):
    n = 30
    tab = make_table(frame=np.zeros(n, int), row=np.arange(n), col=np.arange(n),
                     snr=np.arange(n, dtype=float))  # fmt: skip
    with pytest.warns(UserWarning, match="1 frames have more than 10 peaks"):
        path = write_cxi(tmp_path / "out.cxi", src, tab, max_peaks=10)
    assert sorted(read_peaks(path)["snr"]) == list(range(20, 30))


@pytest.mark.parametrize("build", [make.nxmx, "eiger"])
def test_virtual_points_to_the_source(tmp_path, build):
    path = make.eiger(tmp_path) if build == "eiger" else build(tmp_path / "run.h5")
    source = open_frames(path)
    (tmp_path / "sub").mkdir()
    out = write_cxi(tmp_path / "virtual.cxi", source, peaks(), mode="virtual", frames=[3, 1, 2])
    with h5py.File(out) as file:
        data = file["entry_1/data_1/data"]
        assert data.is_virtual
        assert not any(os.path.isabs(s.file_name) for s in data.virtual_sources())
        assert data[:, 0, 0].tolist() == [3, 1, 2]
    assert open_frames(out).frame(2).image[0, 0] == 2


def test_virtual_needs_hdf5(tmp_path):
    np.save(tmp_path / "a.npy", make.frames())
    source = open_frames(tmp_path / "a.npy")
    with pytest.raises(InputError, match="mode='copy'"):
        write_cxi(tmp_path / "o.cxi", source, empty_table(), mode="virtual")
    assert not (tmp_path / "o.cxi").exists()


def test_unreadable_frames_are_written_as_zeros(tmp_path):
    source = open_frames(make.eiger(tmp_path, drop=(1,)))
    with pytest.warns(UserWarning, match="2 of 6 frames cannot be read"):
        path = write_cxi(tmp_path / "o.cxi", source, empty_table())
    with h5py.File(path) as file:
        assert not file["entry_1/data_1/data"][2:4].any()


def test_nothing_is_overwritten(tmp_path, src):
    path = tmp_path / "keep.cxi"
    path.write_text("precious")
    for write in (
        lambda **k: write_cxi(path, src, peaks(), **k),
        lambda **k: write_csv(path, src, peaks(), **k),
        lambda **k: write_lst(path, src.ids, **k),
    ):
        with pytest.raises(OutputError, match="exists already"):
            write()
        assert path.read_text() == "precious"
    write_cxi(path, src, peaks(), overwrite=True)
    assert h5py.is_hdf5(path)
    with pytest.raises(OutputError, match="one of the frame files"):
        write_cxi(src.files[0], src, peaks(), overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["keep.cxi", "run.h5"], "no temporary file is left"


def test_failure_leaves_the_old_file(tmp_path, src, monkeypatch):
    path = write_cxi(tmp_path / "o.cxi", src, peaks())
    before = path.read_bytes()

    def full(*_args, **_kw):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_xtal.io.cxi_peaks._write_peaks", full)
    with pytest.raises(OutputError, match="disk is full"):
        write_cxi(path, src, peaks(), overwrite=True)
    assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["o.cxi", "run.h5"]


def test_cancel_leaves_nothing(tmp_path, src):
    calls = []
    with pytest.raises(OutputError, match="cancelled"):
        write_cxi(tmp_path / "o.cxi", src, peaks(), cancel=lambda: len(calls) >= 2,
                  progress=lambda *a: calls.append(a))  # fmt: skip
    assert calls == [(1, 4), (2, 4)] and os.listdir(tmp_path) == ["run.h5"]


def test_bad_targets(tmp_path, src):
    with pytest.raises(OutputError, match="does not exist"):
        write_csv(tmp_path / "no" / "x.csv", src, peaks())
    with pytest.raises(OutputError, match="directory"):
        write_csv(tmp_path, src, peaks())
    with pytest.raises(InputError, match="mode"):
        write_cxi(tmp_path / "x.cxi", src, peaks(), mode="link")
    with pytest.raises(InputError, match="frame indices"):
        write_cxi(tmp_path / "x.cxi", src, peaks().assign(frame=[0, 1, 2, 99]))
    with pytest.raises(InputError, match="different numbers"):
        write_cxi(tmp_path / "x.cxi", src, peaks(), frames=[0, 0])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(tmp_path, src):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(OutputError, match="permission"):
        write_csv(folder / "x.csv", src, peaks())


def test_csv_states_units_and_identity(tmp_path, src):
    path = tmp_path / "p.csv"
    write_csv(path, src, peaks())
    lines = path.read_text().splitlines()
    comments = [line for line in lines if line.startswith("#")]
    assert "1/nm" in "".join(comments) and "pixel centre" in "".join(comments)
    header = lines[len(comments)].split(",")
    row = dict(zip(header, lines[len(comments) + 1].split(","), strict=True))
    assert row["file"].endswith("run.h5") and row["event"] == "//0"
    assert (row["row"], row["ss"], row["col"], row["fs"]) == ("10.25", "10.75", "4.75", "5.25")
    assert row["inv_d_nm"] == ""


_finite = st.floats(-1e6, 1e6)
_number = st.one_of(st.just(float("nan")), st.floats(allow_infinity=True))
_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)


@settings(max_examples=60, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 10**6), _finite, _finite, _number, _number, _text,
                  st.integers(-5, 5), _text), max_size=8),
    parameters=st.one_of(st.none(), st.dictionaries(_text, st.integers(), max_size=3)),
)  # fmt: skip
def test_csv_round_trip_loses_nothing(tmp_path, rows, parameters):
    columns = list(zip(*rows, strict=True)) if rows else [()] * 8
    tab = make_table(
        frame=np.array(columns[0], dtype="i8"), row=np.array(columns[1], dtype="f8"),
        col=np.array(columns[2], dtype="f8"), intensity=np.array(columns[3], dtype="f8"),
        inv_d=np.array(columns[4], dtype="f8"), label=list(columns[5]),
        panel=np.array(columns[6], dtype="i8"), note=list(columns[7]),
    ) if rows else empty_table()  # fmt: skip
    if parameters is not None:
        tab.attrs["parameters"] = parameters
    write_csv(tmp_path / "p.csv", None, tab, overwrite=True)
    back = read_peaks(tmp_path / "p.csv")
    assert back.attrs.get("parameters") == parameters
    if rows:
        for name in [*PEAK_COLUMNS, "note"]:
            pd.testing.assert_series_equal(back[name], tab[name], check_exact=True,
                                           check_dtype=name in PEAK_COLUMNS)  # fmt: skip
    else:
        assert len(back) == 0


def test_csv_text_is_no_formula(tmp_path):
    write_csv(tmp_path / "p.csv", None, peaks().assign(label="=1+1"))
    assert ",=1+1" not in (tmp_path / "p.csv").read_text()
    assert set(read_peaks(tmp_path / "p.csv")["label"]) == {"=1+1"}


@pytest.mark.parametrize(
    ("text", "match"),
    [("", "empty"), ("# only\n", "no header"), ("a,b\n1,2\n", "'frame' is missing"),
     ("frame,row,col\n0,1\n", "row 1 has 2 values"), ("frame,row,col\n0,x,2\n", "'row'"),
     ("frame,row,col\n0.5,1,2\n", "whole numbers"), ("frame,row,col\n0,nan,2\n", "NaN"),
     ("frame,row,col\n-1,1,2\n", "frame indices")],
)  # fmt: skip
def test_bad_csv(tmp_path, text, match):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputError, match=match):
        read_peaks(tmp_path / "p.csv")


def test_foreign_csv_in_stream_coordinates(tmp_path):
    (tmp_path / "p.csv").write_text("frame,fs,ss\n0,4.5,10.5\n")
    tab = read_peaks(tmp_path / "p.csv")
    assert (tab.loc[0, "row"], tab.loc[0, "col"], tab.loc[0, "source"]) == (10.0, 4.0, "import")


def test_entries_beyond_npeaks_are_ignored(tmp_path):
    with h5py.File(tmp_path / "a.cxi", "w") as file:
        group = file.create_group("entry_1/result_1")
        group["nPeaks"] = np.array([1, -1, 99])
        for name in ("peakXPosRaw", "peakYPosRaw"):
            group[name] = np.array([[1, np.nan], [7, 7], [2, 3]], "f4")
    assert read_peaks(tmp_path / "a.cxi")["frame"].tolist() == [0, 2, 2]


def test_list3_and_files_without_peaks(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["processing/hitfinder/peakinfo"] = np.array([[4.0, 10.0, 99.0, 5.0]])
    tab = read_peaks(tmp_path / "a.h5")
    assert (tab.loc[0, "row"], tab.loc[0, "col"], tab.loc[0, "n_pixels"]) == (10.0, 4.0, 5)
    make.nxmx(tmp_path / "b.h5")
    with pytest.raises(InputError, match="no CXI peak list"):
        read_peaks(tmp_path / "b.h5")
    with pytest.raises(InputError, match="no such file"):
        read_peaks(tmp_path / "c.cxi")


def test_lst(tmp_path):
    ids = [FrameId("a b.h5", "/d", "//3"), FrameId("c.cbf", "", "//")]
    write_lst(tmp_path / "x.lst", ids)
    assert (tmp_path / "x.lst").read_text() == "a b.h5 //3\nc.cbf //\n"
    with pytest.raises(InputError, match="line break"):
        write_lst(tmp_path / "y.lst", [FrameId("a\nb", "", "//")])
    assert not (tmp_path / "y.lst").exists()
