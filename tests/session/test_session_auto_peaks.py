from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_tables import found, same

from napari_xtal.session.auto_peaks import SAME_PEAK_PX, near, pair
from napari_xtal.session.store import Session


def at(session, frame, row, col):
    """Return the id of the peak at a position."""
    table = session.peaks_of(frame)
    here = np.hypot(table["row"] - row, table["col"] - col) < 0.01
    (peak,) = table["peak_id"][here]
    return int(peak)


def test_a_new_search_replaces_the_machine_peaks_of_its_frames_only(session):
    session.set_auto_peaks(found([1, 2], (10, 10), (20, 20)), [1, 2], {"min_snr": 5})
    session.set_auto_peaks(found([1, 2], (50, 50), (60, 60)), [1], {"min_snr": 6})
    assert session.peaks_of(1)["row"].tolist() == [50]
    assert session.peaks_of(2)["row"].tolist() == [20]
    assert session.search_of(1)["parameters"] == {"min_snr": 6}
    assert session.search_of(2)["parameters"] == {"min_snr": 5}
    assert session.search_of(2)["version"]
    assert session.search_of(3) is None
    session.set_auto_peaks(found(1), [1])
    assert len(session.peaks_of(1)) == 0
    assert session.searched_frames == [1, 2]


def test_machine_labels_and_sources_are_not_the_users(session):
    session.set_auto_peaks(found(0, (1, 1), label="peak", source="manual"), [0])
    assert session.peaks[["label", "source"]].to_numpy().tolist() == [["unlabelled", "auto"]]


def test_a_peak_found_again_keeps_its_id(session):
    session.set_auto_peaks(found(0, (10, 10), (40, 40)), [0])
    kept = at(session, 0, 40, 40)
    heard = []
    session.events.peaks_changed.connect(heard.append)
    session.set_auto_peaks(found(0, (40.5, 40), (70, 70)), [0])
    assert at(session, 0, 40.5, 40) == kept
    (change,) = heard
    assert (len(change.added), len(change.removed), change.changed) == (1, 1, (kept,))
    assert change.reason == "auto"


def test_the_same_result_again_is_no_event(session):
    session.set_auto_peaks(found(0, (10, 10)), [0])
    session.events.peaks_changed.connect(lambda change: pytest.fail(str(change)))
    session.set_auto_peaks(found(0, (10, 10)), [0])


def test_a_labelled_peak_keeps_label_and_id_with_the_new_measurement(session):
    session.set_auto_peaks(found(0, (10, 10), (40, 40)), [0])
    peak = at(session, 0, 10, 10)
    session.label_peaks([peak], "not-peak")
    session.set_auto_peaks(found(0, (11, 11), (40, 40), snr=20.0), [0])
    row = session.peaks.loc[peak]
    assert (row["label"], row["row"], row["snr"], row["source"]) == ("not-peak", 11, 20, "auto")
    assert len(session.peaks) == 2


def test_a_labelled_peak_that_is_not_found_again_stays(session):
    session.set_auto_peaks(found(0, (10, 10)), [0])
    peak = at(session, 0, 10, 10)
    session.label_peaks([peak], "peak")
    session.set_auto_peaks(found(0, (13, 10)), [0])
    assert session.peaks.loc[peak, "row"] == 10
    assert len(session.peaks) == 2


def test_a_removed_machine_peak_does_not_come_back_until_undone(session):
    session.set_auto_peaks(found(0, (10, 10), (40, 40)), [0])
    before = session.peaks
    session.remove_peaks([at(session, 0, 10, 10)])
    session.set_auto_peaks(found(0, (10.5, 11), (40, 40)), [0])
    assert session.peaks["row"].tolist() == [40]
    session.undo()
    same(session.peaks, before)
    session.set_auto_peaks(found(0, (10.5, 11), (40, 40)), [0])
    assert sorted(session.peaks["row"]) == [10.5, 40]


def test_a_moved_machine_peak_leaves_nothing_behind(session):
    session.set_auto_peaks(found(0, (10, 10)), [0])
    peak = at(session, 0, 10, 10)
    session.move_peaks([peak], [25], [25])
    session.set_auto_peaks(found(0, (10, 10)), [0])
    assert session.peaks[["row", "source"]].to_numpy().tolist() == [[25, "manual"]]
    session.remove_peaks([peak])
    session.set_auto_peaks(found(0, (10, 10)), [0])
    assert len(session.peaks) == 0
    session.undo()
    session.undo()
    session.set_auto_peaks(found(0, (10, 10)), [0])
    assert session.peaks[["row", "source"]].to_numpy().tolist() == [[10, "auto"]]


def test_a_peak_that_the_user_placed_is_not_doubled(session):
    session.add_peaks(found(0, (10, 10)))
    session.set_auto_peaks(found(0, (10.4, 10.4), (14, 10)), [0])
    assert sorted(zip(session.peaks["row"], session.peaks["source"], strict=True)) == [
        (10, "manual"),
        (14, "auto"),
    ]


def test_redo_labels_a_peak_that_a_search_dropped(session):
    session.set_auto_peaks(found(0, (10, 10)), [0])
    peak = at(session, 0, 10, 10)
    session.label_peaks([peak], "peak")
    session.undo()
    session.set_auto_peaks(found(0, (90, 90)), [0])
    session.redo()
    assert session.peaks.loc[peak, "label"] == "peak"
    assert len(session.peaks) == 2


def test_redo_removes_a_peak_that_came_back_under_another_id(session):
    session.set_auto_peaks(found(0, (10, 10)), [0])
    session.remove_peaks([at(session, 0, 10, 10)])
    session.undo()
    session.set_auto_peaks(found(0), [0])
    session.set_auto_peaks(found(0, (10.3, 10)), [0])
    session.redo()
    assert len(session.peaks) == 0


def test_results_and_their_parameters_are_restored(session):
    session.set_auto_peaks(found([1, 2], (10, 10), (20, 20)), [1, 2, 3], {"min_snr": 5.0})
    session.set_auto_peaks(found(2, (30, 30)), [2], {"min_snr": float("nan")})
    before = session.peaks
    searches = [session.search_of(k) for k in range(5)]
    session.close()
    with Session.open(session.folder) as again:
        same(again.peaks, before)
        assert [again.search_of(k) for k in range(5)] == searches
        assert searches[3]["parameters"] == {"min_snr": 5.0}
        assert searches[2]["parameters"] == {"min_snr": None}
        assert again.recovered is None


def test_searches_that_nobody_needs_are_forgotten(session):
    for k in range(20):
        session.set_auto_peaks(found(0, (k * 5, 1)), [0], {"min_snr": k})
    session.flush()
    assert len(session._state.searches) == 1
    assert session.search_of(0)["parameters"] == {"min_snr": 19}


places = st.lists(
    st.tuples(st.floats(0, 12, width=32), st.floats(0, 12, width=32)), max_size=12
).map(lambda p: np.array(p, dtype=float).reshape(-1, 2))


@settings(deadline=None)
@given(places, places)
def test_pairs_are_one_to_one_nearest_first(one, other):
    distance = np.hypot(*(one[:, None] - other[None]).transpose(2, 0, 1))
    expected = set()
    d = distance.copy()
    while d.size and d.min() <= SAME_PEAK_PX:
        a, b = np.unravel_index(d.argmin(), d.shape)
        expected.add(d[a, b])
        d[a], d[:, b] = np.inf, np.inf
    at_one, at_other = pair(one, other)
    assert len(set(at_one.tolist())) == len(at_one) == len(set(at_other.tolist()))
    assert set(distance[at_one, at_other]) == expected
    assert near(one, other).tolist() == (distance <= SAME_PEAK_PX).any(axis=1).tolist()
