"""Controlled frames: truth, reproducibility, and what each kind contains."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from napari_xtal.errors import ParameterError
from napari_xtal.simulate import ladder_frame, make_detector
from napari_xtal.simulate.scenes import CENTRE_ERROR, KINDS, N_HOT, SNR_LEVELS, kept_after_thinning


def box_sums(frame, half=5):
    image = np.where(frame.good, frame.image, 0).astype(float) - np.where(
        frame.good, frame.background, 0
    )
    rows, cols = (np.rint(frame.peaks[name]).astype(int) for name in ("row", "col"))
    return np.array(
        [
            image[r - half : r + half + 1, c - half : c + half + 1].sum()
            for r, c in zip(rows, cols, strict=True)
        ]
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("detector", ["demo", "xfel1m"])
def test_same_seed_same_frame(detector, kind):
    first, second = (ladder_frame(detector, kind, 5) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    assert first.peaks.equals(second.peaks)
    other = ladder_frame(detector, kind, 6)
    assert (first.image != other.image).any()


@pytest.mark.parametrize("kind", ["ctrl", "sharp"])
def test_ladder_levels_share_the_peaks_equally(kind):
    frame = ladder_frame("demo", kind, 0, n_peaks=96)
    levels, counts = np.unique(frame.peaks["snr"].round(6), return_counts=True)
    np.testing.assert_allclose(levels, SNR_LEVELS)
    assert (counts == 8).all()
    low, high = (0.25, 0.55) if kind == "sharp" else (0.6, 1.1)
    assert frame.peaks["sigma"].between(low, high).all()


@pytest.mark.parametrize("detector", ["demo", "eiger4m", "xfel1m"])
def test_peaks_keep_their_distances(detector):
    frame = ladder_frame(detector, "ctrl", 1)
    points = frame.peaks[["row", "col"]].to_numpy()
    assert len(points) == 100
    nearest = cKDTree(points).query(points, k=2)[0][:, 1]
    assert nearest.min() >= 12
    for row, col in np.rint(points).astype(int):
        block = (slice(row - 5, row + 6), slice(col - 5, col + 6))
        assert frame.good[block].shape == (11, 11)
        assert frame.good[block].all()
        assert (frame.panels[block] == frame.panels[row, col]).all()


@pytest.mark.parametrize("kind", ["ctrl", "real", "sharp"])
def test_box_sums_agree_with_the_expected_counts(kind):
    frames = [ladder_frame("demo", kind, seed) for seed in range(6)]
    sums = np.concatenate([box_sums(frame) for frame in frames])
    counts = np.concatenate([frame.peaks["counts"] for frame in frames])
    around = np.concatenate(
        [
            frame.background[
                np.rint(frame.peaks["row"]).astype(int), np.rint(frame.peaks["col"]).astype(int)
            ]
            for frame in frames
        ]
    )
    z = (sums - counts) / np.sqrt(counts + 121 * around)
    assert abs(z.mean()) < 4 / np.sqrt(len(z))
    assert z.std() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_hot_pixels_are_single_bright_good_pixels(kind):
    frame = ladder_frame("demo", kind, 2)
    hot = frame.hot_pixels
    assert len(hot) == N_HOT
    assert frame.good[tuple(hot.T)].all()
    excess = frame.image[tuple(hot.T)] - frame.background[tuple(hot.T)]
    assert (excess >= 4.9 * np.sqrt(frame.background[tuple(hot.T)])).all()
    if len(frame.peaks):
        apart = cKDTree(frame.peaks[["row", "col"]].to_numpy()).query(hot)[0]
        assert apart.min() >= 12


def test_blank_frames_are_background_and_hot_pixels_only():
    frame = ladder_frame("demo", "blank", 3)
    assert frame.peaks.empty
    clean = frame.good.copy()
    clean[tuple(frame.hot_pixels.T)] = False
    z = (frame.image[clean] - frame.background[clean]) / np.sqrt(frame.background[clean])
    assert abs(z.mean()) < 0.01
    assert z.std() == pytest.approx(1.0, abs=0.01)


def test_eiger_background_spans_a_water_ring_and_a_fall_off():
    frame = ladder_frame("eiger4m", "blank", 0)
    values = frame.background[frame.good]
    assert 0.15 < values.min() < 0.4
    assert 5 < values.max() < 8.5
    detector = make_detector("eiger4m")
    ring = values[np.abs(detector.inv_d[frame.good] - 3.1) < 0.1].mean()
    inside = values[np.abs(detector.inv_d[frame.good] - 2.0) < 0.1].mean()
    assert ring > 1.3 * inside


def test_masked_pixels_hold_no_measurement():
    frame = ladder_frame("demo", "ctrl", 0)
    assert (frame.image[frame.panels < 0] == 65535).all()
    assert frame.image[frame.good].max() < 65535


def test_hard_scenes_report_a_wrong_centre():
    detector = make_detector("eiger4m")
    frame = ladder_frame(detector, "hard", 4)
    offset = np.abs(frame.radius - detector.radius)
    assert offset.max() == pytest.approx(CENTRE_ERROR, abs=0.5)


def test_hard_scenes_are_harder_than_controlled_ones():
    def outliers(kind):
        frame = ladder_frame("demo", kind, 7)
        smooth = ladder_frame("demo", "blank", 7).background
        z = (frame.image - smooth) / np.sqrt(smooth)
        return np.count_nonzero(z[frame.good] > 6)

    assert outliers("hard") > 1.5 * outliers("ctrl")


def test_exponential_intensities():
    counts = np.concatenate([ladder_frame("demo", "real", s).peaks["counts"] for s in range(10)])
    # Mean and standard deviation of an exponential distribution are equal.
    assert np.std(counts) == pytest.approx(np.mean(counts), rel=0.1)


def test_thinning_keeps_the_earlier_point():
    points = np.array([[0.0, 0.0], [0.0, 5.0], [0.0, 14.0], [0.0, 40.0]])
    np.testing.assert_array_equal(kept_after_thinning(points, 12), [True, False, True, True])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"kind": "easy"}, "easy"),
        ({"snr_levels": (5, -1)}, "snr_levels"),
        ({"snr_levels": ()}, "snr_levels"),
        ({"n_peaks": -1}, "n_peaks"),
        ({"seed": -1}, "seed"),
        ({"n_peaks": 5000}, "do not fit"),
    ],
)
def test_bad_parameters_are_named(arguments, named):
    with pytest.raises(ParameterError, match=named):
        ladder_frame("demo", **arguments)
