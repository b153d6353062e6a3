"""The benchmark's labels of real candidates, on frames made by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module", autouse=True)
def repository_on_path():
    """The benchmarks are no part of the installed package."""
    if not (REPOSITORY / "benchmarks").is_dir():
        pytest.skip("no benchmarks here")
    sys.path.insert(0, str(REPOSITORY))
    yield
    sys.path.remove(str(REPOSITORY))


def real_frame(index=0, spots=(), truth=(), seed=0, **rest):
    """A frame of the set 'jungfrau' with 100 counts on each of the `spots`."""
    from benchmarks.real_data import RealFrame

    image = np.random.default_rng([seed, index]).poisson(2.0, (80, 80)).astype(np.int32)
    for row, col in spots:
        image[row - 1 : row + 2, col - 1 : col + 2] += 11
    columns = ["row", "col", "row_obs", "col_obs", "snr"]
    table = pd.DataFrame(truth, columns=columns, dtype=float).assign(isolated=True)
    good = np.ones(image.shape, bool)
    return RealFrame("jungfrau", index, image, good, None, table, **rest)


def labels(frame, where, frames=None):
    from benchmarks.labelled_candidates import _labels

    return _labels(frame, frames or (frame,), np.array(where, float)).tolist()


def test_near_an_observed_or_predicted_position_is_a_peak():
    # Predicted at 20, 20 and observed 1.5 px away; too weak for a truth at 60, 60.
    frame = real_frame(
        truth=[(20, 20, 20, 21.5, 9.0), (60, 60, 60, 60, 3.0)],
        known=np.array([[20.0, 20.0], [60.0, 60.0]]),
    )
    found = [(20, 23.9), (20, 18.1), (23.5, 20), (60, 60), (40, 40)]
    assert labels(frame, found) == [1, 1, -1, -1, 0]


def test_on_a_blank_frame_all_is_wrong_but_what_the_scans_lattice_explains():
    blank = real_frame(1, blank=True)
    crystal = real_frame(0, known=np.array([[20.0, 20.0]]))
    assert labels(blank, [(20.5, 20), (22, 20), (50, 50)], (crystal, blank)) == [-1, 0, 0]
    assert labels(blank, [(20.5, 20)]) == [0]


def test_what_is_on_the_neighbouring_frame_too_is_doubtful_unless_it_is_everywhere():
    from benchmarks.labelled_candidates import _doubtful

    hot, drifting = (30, 30), (50, 20)
    frames = tuple(
        real_frame(
            k, spots=[hot, drifting] if k in (2, 3) else [hot], unsure=np.array([[70.0, 70]])
        )
        for k in range(6)
    )
    table = pd.DataFrame([hot, drifting, (60, 60), (70, 71)], columns=["row", "col"], dtype=float)
    table["label"] = 0
    assert _doubtful(frames[2], frames, table).tolist() == [False, True, False, True]


def test_an_excess_is_measured_against_its_ring():
    from benchmarks.labelled_candidates import excess

    frame = real_frame(spots=[(30, 30)])
    spot, empty = excess(frame, np.array([[31.0, 30.0], [60.0, 60.0]]))
    assert spot > 15
    assert abs(empty) < 4


def test_methods_are_compared_at_the_strictest_cut_that_reaches_a_recall():
    from benchmarks.verification_scores import at_recall

    curve = pd.DataFrame({"cut": [9.0, 7.0, 5.0], "recall": [0.2, 0.6, 0.8], "off": [0, 1, 4]})
    assert at_recall(curve, 0.6)["off"] == 1
    assert at_recall(curve, 0.61)["off"] == 4
    assert at_recall(curve, 0.9).isna().all()
