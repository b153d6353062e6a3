"""Simulated scenes and labelled candidates for the training of verifiers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from napari_xtal.errors import InputError, ParameterError
from napari_xtal.peaks import spots as m
from napari_xtal.peaks.training.candidates import LabelledCandidates
from napari_xtal.peaks.training.labelling import (
    NEITHER,
    OTHER,
    PEAK,
    label_candidates,
    simulated_candidates,
)
from napari_xtal.peaks.training.scenes import TrainingScene, training_scene
from napari_xtal.peaks.training.spots import significance
from napari_xtal.peaks.verify.patches import Patches


def make_scene(*peaks: tuple[float, float, float, float]) -> TrainingScene:
    image = np.zeros((60, 60), np.float32)
    truth = pd.DataFrame(peaks, columns=["row", "col", "snr", "length"], dtype=float)
    return TrainingScene(image, np.ones((60, 60), bool), None, None, truth, "counter")


def make_values(*found: tuple[float, float, float, int]) -> np.ndarray:
    """Candidates: row, col, snr, number of the stronger one they are a part of (-1: none)."""
    values = np.zeros((len(found), m.N_COLUMNS), np.float32)
    for k, (row, col, snr, parent) in enumerate(found):
        values[k, [m.ROW, m.COL, m.SNR, m.PARENT]] = row, col, snr, parent
    return values


def labels_of(values, scene):
    return label_candidates(values, scene)[0].tolist()


def make_candidates(n=6, side=27, seed=0, source="a"):
    rng = np.random.default_rng(seed)
    return LabelledCandidates(
        Patches(rng.normal(size=(n, side, side)).astype("f4"), rng.random((n, side, side)) > 0.1),
        is_peak=rng.random(n) > 0.5,
        snr=rng.uniform(4, 20, n).astype("f4"),
        source=np.full(n, source, "U32"),
        group=np.arange(n) // 2,
        weight=np.ones(n, "f4"),
    )


def test_a_candidate_on_a_spot_is_a_peak_and_one_far_away_is_not():
    scene = make_scene((20, 20, 8, 1.0))
    assert labels_of(make_values((20.9, 19.5, 7, -1), (40, 40, 9, -1)), scene) == [PEAK, OTHER]


def test_a_candidate_between_two_and_six_pixels_away_is_left_out():
    scene = make_scene((20, 20, 50, 1.0))
    values = make_values((20, 20, 40, -1), (20, 24, 6, -1), (20, 27, 6, -1))
    assert labels_of(values, scene) == [PEAK, NEITHER, OTHER]


def test_a_piece_of_the_wing_of_a_strong_spot_is_wrong():
    strong = make_scene((20, 20, 50, 1.0))
    values = make_values((20, 20, 40, -1), (20, 24.5, 6, 0))
    assert labels_of(values, strong) == [PEAK, OTHER]
    # On a wide spot, it lies within.
    assert labels_of(values, make_scene((20, 20, 50, 3.0))) == [PEAK, NEITHER]
    # On a weak one, chance has made two of one.
    assert labels_of(values, make_scene((20, 20, 6, 1.0))) == [PEAK, NEITHER]


def test_one_spot_makes_one_peak():
    scene = make_scene((20, 20, 30, 1.0))
    values = make_values((20.5, 20, 12, -1), (20, 20.4, 28, -1))
    assert labels_of(values, scene) == [NEITHER, PEAK]


def test_a_close_neighbour_does_not_take_the_label_away():
    scene = make_scene((20, 20, 30, 1.0), (20, 24, 12, 1.0))
    values = make_values((20, 20, 30, -1), (20, 24, 11, -1))
    assert labels_of(values, scene) == [PEAK, PEAK]
    assert labels_of(values[::-1].copy(), scene) == [PEAK, PEAK]


def test_a_spot_too_faint_to_be_learnt_is_neither():
    scene = make_scene((20, 20, 3.0, 1.0))
    assert labels_of(make_values((20, 20, 5, -1)), scene) == [NEITHER]


def test_spots_without_a_candidate_are_reported_as_unseen():
    scene = make_scene((20, 20, 30, 1.0), (40, 40, 12, 1.0))
    seen = label_candidates(make_values((20, 20, 30, -1)), scene)[1]
    assert seen.tolist() == [True, False]
    assert label_candidates(make_values(), scene)[1].tolist() == [False, False]


def test_significance_is_the_matched_filter_snr_of_weak_spots():
    weight = np.array([[0.5, 0.3, 0.2]])
    variance = np.full((1, 3), 400.0)
    expected = 20 * np.sqrt((weight**2 / variance).sum())
    assert significance(np.array([20.0]), weight, variance)[0] == pytest.approx(expected, rel=0.02)
    # A photon over nearly nothing is no certainty.
    rare = significance(np.array([1.0]), weight, np.full((1, 3), 0.005))[0]
    assert rare < 0.5 * np.sqrt((weight**2 / 0.005).sum())


@pytest.fixture(scope="module")
def simulated():
    return simulated_candidates(24, seed=3)


def test_the_classes_have_sensible_shares(simulated):
    assert 0.3 <= simulated.is_peak.mean() <= 0.65
    assert len(simulated) > 24 * 40
    weak = (simulated.snr > 4) & (simulated.snr < 15)
    assert weak.mean() > 0.45
    assert 0.15 < simulated.is_peak[weak].mean() < 0.75


def test_the_windows_hold_what_the_labels_say(simulated):
    values, usable = simulated.patches.values, simulated.patches.usable
    assert np.isfinite(values).all()
    assert simulated.patches.has_signal.all()
    half = simulated.patches.half
    centre = values[:, half - 1 : half + 2, half - 1 : half + 2].max(axis=(1, 2))
    background = np.array([np.median(v[u]) for v, u in zip(values, usable, strict=True)])
    assert (centre > background)[simulated.is_peak].mean() > 0.95


def test_all_kinds_of_detectors_occur():
    scenes = [training_scene(1, k) for k in range(16)]
    assert {s.family for s in scenes} == {"counter", "integrating", "ccd"}
    assert {s.image.dtype.str for s in scenes} == {"<u2", "<i4", "<f4"}
    assert any(s.radius is None for s in scenes)
    assert any(len(s.peaks) == 0 for s in scenes)
    assert any(len(s.peaks) > 50 for s in scenes)


def test_the_same_seed_gives_the_same_candidates():
    first, again, other = (simulated_candidates(3, seed=s) for s in (5, 5, 6))
    np.testing.assert_array_equal(first.patches.values, again.patches.values)
    np.testing.assert_array_equal(first.is_peak, again.is_peak)
    assert first.patches.values.shape != other.patches.values.shape or not np.array_equal(
        first.patches.values, other.patches.values
    )
    np.testing.assert_array_equal(np.unique(first.group), [0, 1, 2])


def test_progress_is_told_and_cancel_keeps_what_is_there():
    told = []
    part = simulated_candidates(
        50, seed=5, progress=lambda done, total: told.append((done, total)), cancel=lambda: True
    )
    assert told == [(1, 50)]
    assert set(part.group) == {0}


@pytest.mark.parametrize("arguments", [(0, 0), (3, -1)])
def test_impossible_numbers_are_refused(arguments):
    with pytest.raises(ParameterError):
        simulated_candidates(*arguments)


def test_candidates_survive_a_file(tmp_path):
    made = make_candidates()
    made.save(tmp_path / "c.npz")
    read = LabelledCandidates.load(tmp_path / "c.npz")
    for name in ("is_peak", "snr", "source", "group", "weight"):
        np.testing.assert_array_equal(getattr(read, name), getattr(made, name))
    np.testing.assert_array_equal(read.patches.values, made.patches.values)
    np.testing.assert_array_equal(read.patches.usable, made.patches.usable)


class Boom:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def test_no_pickle_is_loaded(tmp_path):
    made = make_candidates()
    names = ("is_peak", "snr", "group", "weight")
    evil = {name: getattr(made, name) for name in names}
    evil["source"] = np.array([Boom()] * len(made), dtype=object)
    packed = np.packbits(made.patches.usable, axis=-1)
    np.savez(tmp_path / "evil.npz", values=made.patches.values, usable=packed, **evil)
    with pytest.raises(InputError, match=r"evil\.npz"):
        LabelledCandidates.load(tmp_path / "evil.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x80\x04N."])
def test_a_damaged_file_is_one_clear_message(tmp_path, content):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.npz"):
        LabelledCandidates.load(tmp_path / "bad.npz")


def test_a_file_of_another_kind_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", values=np.zeros(3))
    with pytest.raises(InputError, match="no array 'usable'"):
        LabelledCandidates.load(tmp_path / "other.npz")
    with pytest.raises(InputError, match=r"missing\.npz"):
        LabelledCandidates.load(tmp_path / "missing.npz")


def test_joined_sets_keep_their_frames_apart():
    joined = LabelledCandidates.concat([make_candidates(4), make_candidates(6, source="b")])
    assert joined.group.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert joined.source.tolist() == ["a"] * 4 + ["b"] * 6
    part = joined.take(joined.source == "b")
    assert len(part) == 6
    assert set(part.group) == {2, 3, 4}


def test_lengths_that_differ_are_refused():
    made = make_candidates()
    with pytest.raises(InputError, match="agree"):
        LabelledCandidates(
            made.patches, made.is_peak[:3], made.snr, made.source, made.group, made.weight
        )
    with pytest.raises(InputError):
        LabelledCandidates.concat([])
