"""Simulated runs: the file, its truth, and what they say about each other."""

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

from napari_xtal.errors import MissingFileError, OutputError, ParameterError
from napari_xtal.simulate import BraggRun, bragg_run, make_detector
from napari_xtal.simulate.crystal import LYSOZYME, reciprocal_basis


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return bragg_run(tmp_path_factory.mktemp("run") / "run.cxi", 10, seed=1)


def test_file_has_the_documented_layout(run):
    with h5py.File(run.path) as file:
        assert file["cxi_version"][()] == 160
        data = file["entry_1/data_1/data"]
        assert data.shape == (10, 512, 512)
        assert data.dtype == np.uint16
        assert data.chunks == (1, 512, 512)
        assert data.compression == "gzip"
        assert file["entry_1/data_1/mask"].dtype == np.uint32
        detector = file["entry_1/instrument_1/detector_1"]
        assert detector["data"] == data
        assert detector["distance"][()] == pytest.approx(0.05)
        assert detector["x_pixel_size"][()] == detector["y_pixel_size"][()] == pytest.approx(75e-6)
        centre = make_detector("demo").beam_centre
        # Corner convention: the centre of the first pixel is 0.5.
        assert detector["beam_center_y"][()] == pytest.approx(centre[0] + 0.5)
        assert detector["beam_center_x"][()] == pytest.approx(centre[1] + 0.5)
        energy = file["entry_1/instrument_1/source_1/energy"]
        assert energy[()] == pytest.approx(12400 * 1.602176634e-19)
        assert energy.attrs["units"] == "J"
        assert file["entry_1/experiment_identifier"][3] == b"simulated-000003"


def test_mask_tells_gaps_dead_pixels_and_beam_stop(run):
    detector = make_detector("demo")
    with h5py.File(run.path) as file:
        mask = file["entry_1/data_1/mask"][:]
        image = file["entry_1/data_1/data"][0]
    np.testing.assert_array_equal(mask == 0, detector.good)
    assert (mask[detector.panel_map < 0] & 0x200).all()
    assert (mask[detector.dead] & 0x8).all()
    assert (image[detector.panel_map < 0] == 65535).all()
    assert image[mask == 0].max() < 65535


def test_truth_lies_on_good_pixels(run):
    rows, cols = (np.rint(run.peaks[name]).astype(int) for name in ("row", "col"))
    assert make_detector("demo").good[rows, cols].all()


def test_truth_tables_agree(run):
    assert list(run.peaks.columns) == [
        "frame", "row", "col", "h", "k", "l", "expected_counts", "snr", "lattice",
    ]  # fmt: skip
    assert len(run.frames) == 10
    counted = run.peaks.groupby("frame").size().reindex(range(10), fill_value=0)
    np.testing.assert_array_equal(counted, run.frames["n_peaks"])
    classes = run.frames["n_lattices"].map(lambda n: ("blank", "single", "multiple")[min(n, 2)])
    assert (classes == run.frames["class"]).all()
    assert (run.frames["class"] == "blank").sum() == 2
    assert (run.frames["class"] == "multiple").any()
    assert (
        run.peaks["lattice"] < run.frames["n_lattices"].loc[run.peaks["frame"]].to_numpy()
    ).all()
    again = BraggRun.open(run.path)
    pd.testing.assert_frame_equal(again.peaks, run.peaks)
    pd.testing.assert_frame_equal(again.frames, run.frames)


def test_positions_obey_braggs_law(run):
    detector = make_detector("demo")
    row, col = detector.beam_centre
    radius = np.hypot(run.peaks["row"] - row, run.peaks["col"] - col)
    theta = np.arctan(radius * detector.pixel_size_m / detector.distance_m) / 2
    inv_d = 2 * np.sin(theta) / detector.wavelength
    q = run.peaks[["h", "k", "l"]].to_numpy() @ reciprocal_basis(LYSOZYME).T
    np.testing.assert_allclose(inv_d, np.linalg.norm(q, axis=1), atol=1.5e-3)


def test_counts_in_the_frames_are_the_expected_ones(tmp_path):
    run = bragg_run(
        tmp_path / "bare.cxi", 4, background=0, hot_pixels=0, zingers=0, hit_fraction=1, seed=2
    )
    good = make_detector("demo").good
    with h5py.File(run.path) as file:
        frames = np.where(good, file["entry_1/data_1/data"][:], 0).astype(float)
    total = run.peaks.groupby("frame")["expected_counts"].sum()
    z = (frames.sum(axis=(1, 2)) - total) / np.sqrt(total)
    assert np.abs(z).max() < 4
    scores = []
    for number, peaks in run.peaks.groupby("frame"):
        points = peaks[["row", "col"]].to_numpy()
        alone = cKDTree(points).query(points, k=2)[0][:, 1] > 14
        for (r, c), counts in zip(
            np.rint(points[alone]).astype(int), peaks["expected_counts"][alone], strict=True
        ):
            box = frames[number, max(r - 5, 0) : r + 6, max(c - 5, 0) : c + 6]
            if counts > 10:
                scores.append((box.sum() - counts) / np.sqrt(counts))
    assert len(scores) > 100
    assert abs(np.mean(scores)) < 4 / np.sqrt(len(scores))
    assert np.std(scores) == pytest.approx(1.0, abs=0.15)


def test_ladder_runs_hold_only_the_asked_levels(tmp_path):
    levels = (5.0, 8.0, 12.0, 30.0)
    run = bragg_run(tmp_path / "ladder.cxi", 4, snr_ladder=levels, hit_fraction=0.75, seed=3)
    np.testing.assert_allclose(np.unique(run.peaks["snr"].round(6)), levels)
    good = make_detector("demo").good
    for _, peaks in run.peaks.groupby("frame"):
        points = peaks[["row", "col"]].to_numpy()
        assert cKDTree(points).query(points, k=2)[0][:, 1].min() >= 12
        for r, c in np.rint(points).astype(int):
            assert good[r - 5 : r + 6, c - 5 : c + 6].all()


def test_hot_pixels_and_zingers_are_in_the_truth(tmp_path):
    run = bragg_run(tmp_path / "hot.cxi", 6, hot_pixels=5, zingers=3, hit_fraction=0, seed=4)
    with h5py.File(run.path) as file:
        hot, zingers = file["truth/hot_pixels"][:], file["truth/zingers"][:]
        frames = file["entry_1/data_1/data"][:].astype(float)
    assert hot.shape == (5, 2)
    assert np.unique(zingers[:, 0], return_counts=True)[1].tolist() == [3] * 6
    typical = np.median(frames, axis=0)
    good = make_detector("demo").good
    assert good[tuple(hot.T)].all()
    # Hot pixels fire in most frames, so that their median stands out of their surroundings.
    around = [np.median(typical[r - 3 : r + 4, c - 3 : c + 4]) for r, c in hot]
    assert (typical[tuple(hot.T)] > np.array(around) + 5).all()


def test_same_seed_same_run(tmp_path):
    runs = [bragg_run(tmp_path / f"{k}.cxi", 3, seed=9, hit_fraction=1) for k in range(2)]
    frames = []
    for run in runs:
        with h5py.File(run.path) as file:
            frames.append(file["entry_1/data_1/data"][:])
    np.testing.assert_array_equal(*frames)
    pd.testing.assert_frame_equal(runs[0].peaks, runs[1].peaks)
    other = bragg_run(tmp_path / "other.cxi", 3, seed=10, hit_fraction=1)
    assert not other.peaks.equals(runs[0].peaks)


def test_integrating_detector_and_bitshuffle(tmp_path):
    import hdf5plugin  # noqa: F401  (registers the filter)

    run = bragg_run(
        tmp_path / "xfel.cxi", 1, detector="xfel1m", hit_fraction=1, compression="bitshuffle"
    )
    with h5py.File(run.path) as file:
        data = file["entry_1/data_1/data"]
        assert data.dtype == np.float32
        assert np.isfinite(data[0]).all()
        assert data.id.get_create_plist().get_filter(0)[0] == 32008
    assert len(run.peaks) > 20
    strong = run.peaks[run.peaks["snr"] > 50]
    assert len(strong)


def test_progress_is_reported(tmp_path):
    calls = []
    bragg_run(tmp_path / "p.cxi", 3, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_existing_file_is_kept_unless_told(tmp_path):
    path = tmp_path / "run.cxi"
    path.write_text("precious")
    with pytest.raises(OutputError, match="overwrite"):
        bragg_run(path, 1)
    assert path.read_text() == "precious"
    bragg_run(path, 1, overwrite=True)
    assert h5py.is_hdf5(path)


def test_an_interrupted_run_leaves_nothing_behind(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bragg_run(tmp_path / "run.cxi", 3, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(MissingFileError, match="nowhere"):
        bragg_run(tmp_path / "nowhere" / "run.cxi", 1)


def test_a_file_without_truth_is_named(tmp_path):
    path = tmp_path / "other.h5"
    h5py.File(path, "w").close()
    with pytest.raises(ParameterError, match=r"other\.h5"):
        BraggRun.open(path)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"n_frames": 0}, "n_frames"),
        ({"seed": -1}, "seed"),
        ({"hit_fraction": 1.5}, "hit_fraction"),
        ({"n_lattices": 0}, "n_lattices"),
        ({"n_lattices": {1: 0.0}}, "n_lattices"),
        ({"snr_ladder": (0.0,)}, "snr_ladder"),
        ({"background": -1}, "background"),
        ({"psf_sigma": 0}, "psf_sigma"),
        ({"detector": "unknown"}, "unknown"),
        ({"compression": "zip"}, "compression"),
        ({"photons": float("nan")}, "photons"),
    ],
)
def test_bad_parameters_are_named_and_nothing_is_written(tmp_path, arguments, named):
    with pytest.raises(ParameterError, match=named):
        bragg_run(tmp_path / "run.cxi", **{"n_frames": 1, **arguments})
    assert list(tmp_path.iterdir()) == []
