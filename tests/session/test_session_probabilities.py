"""What a verifier said: by peak and position, never in the journal, kept over reopening."""

from __future__ import annotations

import shutil
import time

import h5py
import numpy as np
import pandas as pd
import pytest
from session_tables import found, same, stack_ids

from napari_xtal.errors import ParameterError, SessionError
from napari_xtal.session.store import Session


def probabilities(session):
    return session.peaks["probability"].to_dict()


@pytest.fixture
def three(session):
    """Return ids of a machine peak, one by hand and a labelled machine peak, all in frame 0."""
    session.set_auto_peaks(found(0, (10, 10), (40, 40)), [0])
    auto, labelled = session.peaks["peak_id"].tolist()
    session.label_peaks([labelled], "peak")
    (manual,) = session.add_peaks(found(0, (70, 70)))
    return auto, manual, labelled


def test_probabilities_are_no_edit_and_tell_the_views_which(session, three):
    auto, manual, labelled = three
    journal = (session.folder / "journal.jsonl").read_bytes()
    undo = session.undo_text
    heard, undone = [], []
    session.events.peaks_changed.connect(heard.append)
    session.events.undo_changed.connect(lambda: undone.append(1))
    session.set_probabilities([manual, auto], [0.25, 0.75], "aaaa")
    session.set_probabilities(np.array([manual, auto]), np.array([0.25, 0.75]), "aaaa")
    (change,) = heard
    assert (change.reason, change.frames) == ("probability", {0})
    assert set(change.changed) == {auto, manual}
    assert (change.added, change.removed) == ((), ())
    assert not undone
    assert session.undo_text == undo
    assert (session.folder / "journal.jsonl").read_bytes() == journal
    got = probabilities(session)
    assert (got[auto], got[manual]) == (0.75, 0.25)
    assert np.isnan(got[labelled])
    assert session.verifier_of(0) == "aaaa"
    assert session.verifier_of(1) is None


def test_they_survive_reopening_also_for_peaks_of_the_user(session, three):
    (imported,) = session.add_peaks(found(3, (5, 5), source="import"))
    session.set_auto_peaks(found(4, (7, 7)), [4])
    session.set_probabilities([*three, imported], [0.1, 0.2, 0.3, 0.4], "aaaa")
    session.set_probabilities(session.peaks_of(4)["peak_id"], [0.5], "bbbb")
    before = session.peaks
    session.close()
    with Session.open(session.folder) as again:
        same(again.peaks, before)
        assert [again.verifier_of(f) for f in (0, 3, 4, 5)] == ["aaaa", "aaaa", "bbbb", None]
        again.move_peaks([imported], [6], [5])
        again.undo()
        same(again.peaks, before)


def test_they_follow_their_frames_when_files_are_joined(tmp_path):
    one, two = tmp_path / "one.h5", tmp_path / "two.h5"
    a, b = stack_ids(one, 3), stack_ids(two, 3)
    with Session.create(tmp_path / "s", [one, two], ids=a + b) as session:
        ids = session.add_peaks(found([1, 4], (1, 1), (2, 2)))
        session.set_probabilities(ids, [0.1, 0.4], "aaaa")
    with Session.open(tmp_path / "s", ids=b + a) as session:
        assert session.peaks.set_index("frame")["probability"].to_dict() == {1: 0.4, 4: 0.1}
        assert session.verifier_of(1) == "aaaa"
    with Session.open(tmp_path / "s", ids=b) as session:
        assert session.peaks["probability"].tolist() == [0.4]
    with Session.open(tmp_path / "s", ids=a + b) as session:
        assert session.peaks["probability"].tolist() == [0.1, 0.4]


def test_a_moved_peak_is_not_judged_and_undo_brings_its_probability_back(session, three):
    auto, manual, labelled = three
    session.set_probabilities(three, [0.1, 0.2, 0.3], "aaaa")
    before = session.peaks
    session.move_peaks([auto, manual], [11, 70], [10, 71])
    got = probabilities(session)
    assert np.isnan([got[auto], got[manual]]).all()
    assert got[labelled] == 0.3
    session.undo()
    same(session.peaks, before)
    session.redo()
    session.set_probabilities([auto], [0.9], "aaaa")
    session.undo()
    # What was said since is true of the other place.
    assert np.isnan(probabilities(session)[auto])


def test_removed_peaks_come_back_with_their_probability_while_the_verifier_is_the_same(
    session, three
):
    session.set_probabilities(three, [0.1, 0.2, 0.3], "aaaa")
    before = session.peaks
    session.remove_peaks(three[:2])
    session.undo()
    same(session.peaks, before)
    session.redo()
    session.set_probabilities(three[2:], [0.8], "bbbb")
    session.undo()
    got = probabilities(session)
    assert got[three[2]] == 0.8
    assert np.isnan([got[three[0]], got[three[1]]]).all()


def test_a_frame_shows_one_verifier(session, three):
    session.set_probabilities(three, [0.1, 0.2, 0.3], "aaaa")
    heard = []
    session.events.peaks_changed.connect(heard.append)
    session.set_probabilities(three[:1], [0.9], "bbbb")
    assert set(heard[0].changed) == set(three)
    got = probabilities(session)
    assert got[three[0]] == 0.9
    assert np.isnan([got[three[1]], got[three[2]]]).all()
    assert session.verifier_of(0) == "bbbb"


def test_a_search_brings_its_own(session, three):
    auto, manual, labelled = three
    session.set_probabilities(three, [0.1, 0.2, 0.3], "aaaa")
    table = found([0, 0, 5], (10, 10), (40, 41), (9, 9), probability=[0.6, np.nan, 0.7])
    session.set_auto_peaks(table, [0, 5], verifier="bbbb")
    got = probabilities(session)
    assert got[auto] == 0.6
    assert np.isnan([got[manual], got[labelled]]).all()
    assert session.peaks_of(5)["probability"].tolist() == [0.7]
    assert [session.verifier_of(f) for f in (0, 5)] == ["bbbb", "bbbb"]
    session.set_auto_peaks(found(0, (10, 10)), [0])
    assert np.isnan(probabilities(session)[auto])
    before = session.peaks
    session.close()
    with Session.open(session.folder) as again:
        same(again.peaks, before)


def test_a_search_without_probabilities_leaves_those_of_the_users_peaks(session, three):
    session.set_probabilities(three, [0.1, 0.2, 0.3], "aaaa")
    session.set_auto_peaks(found(0, (10, 10)), [0])
    assert probabilities(session) == pytest.approx(
        dict(zip(three, [np.nan, 0.2, 0.3], strict=True)), nan_ok=True
    )
    assert session.verifier_of(0) == "aaaa"


def test_imported_probabilities_stay_until_a_verifier_judges_the_frame(session):
    ids = session.add_peaks(found(2, (1, 1), (9, 9), source="import", probability=[0.3, 0.4]))
    session.close()
    with Session.open(session.folder) as again:
        assert again.peaks["probability"].tolist() == [0.3, 0.4]
        assert again.verifier_of(2) is None
        again.set_probabilities(ids[:1], [0.9], "aaaa")
        assert again.peaks["probability"].iloc[0] == 0.9
        assert np.isnan(again.peaks["probability"].iloc[1])


def test_a_verifier_may_be_slower_than_the_user(session, three):
    auto, manual, labelled = three
    places = session.get_peaks(three)[["row", "col"]].to_numpy()
    session.move_peaks([auto], [20], [20])
    session.remove_peaks([manual])
    session.set_probabilities(three, [0.1, 0.2, 0.3], "aaaa", places)
    got = probabilities(session)
    assert np.isnan(got[auto])
    assert got[labelled] == 0.3
    session.undo()
    session.undo()
    assert probabilities(session) == dict(zip(three, [0.1, 0.2, 0.3], strict=True))


def test_nan_takes_a_probability_away(session, three):
    session.set_probabilities(three, [0.1, 0.2, 0.3], "aaaa")
    session.set_probabilities(three[:1], [np.nan], "aaaa")
    assert np.isnan(probabilities(session)[three[0]])
    session.close()
    with Session.open(session.folder) as again:
        assert np.isnan(probabilities(again)[three[0]])


def test_without_the_derived_file_only_the_probabilities_are_lost(session, three, tmp_path):
    session.set_probabilities(three, [0.1, 0.2, 0.3], "aaaa")
    session.close()
    copy = shutil.copytree(session.folder, tmp_path / "copy.xtal")
    (copy / "derived.h5").unlink()
    with Session.open(copy) as again:
        assert again.peaks["label"].tolist() == ["peak", "unlabelled"]
        assert again.peaks["probability"].isna().all()


def test_a_file_of_the_former_layout_opens(session, three):
    session.set_probabilities(three[:1], [0.1], "aaaa")
    session.close()
    with h5py.File(session.folder / "derived.h5", "r+") as file:
        for name in ("judged", "verifiers", "frames/verifier", "frames/n_judged"):
            del file[name]
    with Session.open(session.folder) as again:
        assert again.recovered is None
        assert probabilities(again)[three[0]] == 0.1
        assert again.verifier_of(0) is None


@pytest.mark.parametrize(
    ("ids", "values", "verifier", "places", "message"),
    [
        ([1, 2], [0.5], "a", None, "2 ids and 1 values"),
        ([1, 1], [0.5, 0.5], "a", None, "one each"),
        ([1], [1.5], "a", None, "from 0 to 1"),
        ([1], [-0.1], "a", None, "from 0 to 1"),
        ([1], [0.5], "", None, "no verifier"),
        ([1], [0.5], "a", np.zeros((2, 2)), "places have shape"),
    ],
)
def test_wrong_arguments_change_nothing(session, three, ids, values, verifier, places, message):
    before = session.peaks
    with pytest.raises(ParameterError, match=message):
        session.set_probabilities(ids, values, verifier, places)
    same(session.peaks, before)


def test_ids_that_never_were_are_named(session, three):
    with pytest.raises(SessionError, match="999999999"):
        session.set_probabilities([three[0], 999999999], [0.1, 0.2], "aaaa")
    session.set_probabilities([], [], "aaaa")
    session.close()
    with pytest.raises(SessionError, match="closed"):
        session.set_probabilities(three, [0.1, 0.2, 0.3], "aaaa")


def test_many_peaks_are_judged_at_once(session):
    n = 200_000
    table = pd.DataFrame({"frame": np.arange(n) % 10, "row": np.arange(n) / 7, "col": 1.0})
    session.set_auto_peaks(table, range(10))
    ids = session.peaks["peak_id"].to_numpy()[::-1]
    values = np.linspace(0, 1, n)
    start = time.perf_counter()
    session.set_probabilities(ids, values, "aaaa")
    # A tenth of a second on a quiet machine; a loop over peaks would take far longer.
    assert time.perf_counter() - start < 2
    assert (session.peaks.loc[ids, "probability"].to_numpy() == values).all()
    session.set_probabilities(ids[:5], np.zeros(5), "aaaa")
    assert session.peaks["probability"].gt(0).sum() == n - 5
