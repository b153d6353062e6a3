from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from session_tables import found, same

from napari_xtal.errors import InputError, ParameterError, SessionError
from napari_xtal.peaks import table as schema
from napari_xtal.session.peaks import COLUMNS


def positions(table):
    return sorted(zip(table["row"], table["col"], strict=True))


def test_columns_are_those_of_the_peak_table(session):
    assert {n: kind for n, (kind, _) in COLUMNS.items()} == schema.PEAK_COLUMNS
    default = schema.make_table(frame=[3], row=[1.0], col=[2.0])
    session.set_auto_peaks(found(3, (1, 2)).drop(columns="snr"), [3])
    ours = session.peaks.drop(columns="peak_id").reset_index(drop=True)
    pd.testing.assert_frame_equal(ours, default)
    pd.testing.assert_frame_equal(schema.validate(ours), ours)


def test_an_empty_session_has_an_empty_peak_table(session):
    assert len(session.peaks) == 0
    assert [*schema.PEAK_COLUMNS, "peak_id"] == list(session.peaks.columns)
    assert len(session.peaks_of(4)) == 0
    assert not session.undo()
    assert not session.redo()
    assert session.undo_text == ""


def test_add_peaks_returns_new_ids_and_marks_them_manual(session):
    ids = session.add_peaks(found([5, 2], (1, 2), (3, 4), source="auto", label="peak"))
    assert len(set(ids)) == 2
    table = session.peaks
    assert list(table["frame"]) == [2, 5]
    assert list(table["source"]) == ["manual", "manual"]
    assert list(table.loc[ids, "row"]) == [1, 3]
    assert table["peak_id"].dtype == "int64"
    assert list(session.get_peaks(ids[::-1])["peak_id"]) == ids[::-1]


def test_imported_peaks_stay_imported(session):
    session.add_peaks(found(0, (1, 2), source="import"))
    session.set_auto_peaks(found(0, (50, 50)), [0])
    assert sorted(session.peaks["source"]) == ["auto", "import"]


def test_each_edit_is_undone_as_one(session):
    session.set_auto_peaks(found(1, (10, 10), (20, 20), (30, 30)), [1])
    ids = list(session.peaks_of(1)["peak_id"])
    states = [session.peaks]
    session.label_peaks(ids[:2], "peak")
    states.append(session.peaks)
    session.move_peaks(ids[1:2], [21.0], [22.0])
    states.append(session.peaks)
    session.remove_peaks([ids[0], ids[2]])
    states.append(session.peaks)
    session.add_peaks(found(3, (1, 1)))
    states.append(session.peaks)
    assert session.undo_text == "Add 1 peak"
    for state in states[-2::-1]:
        assert session.undo()
        same(session.peaks, state)
    assert not session.can_undo
    assert session.redo_text == "Label 2 peaks “peak”"
    for state in states[1:]:
        assert session.redo()
        same(session.peaks, state)
    assert not session.can_redo


def test_a_new_edit_ends_redo(session):
    session.add_peaks(found(0, (1, 1)))
    session.undo()
    session.add_peaks(found(0, (2, 2)))
    assert not session.redo()
    assert positions(session.peaks) == [(2, 2)]


def test_ids_are_never_used_again(session):
    first = session.add_peaks(found(0, (1, 1), (2, 2)))
    session.remove_peaks(first)
    second = session.add_peaks(found(0, (1, 1)))
    assert not set(first) & set(second)


def test_extra_columns_are_kept(session):
    ids = session.add_peaks(found(0, (1, 1), (2, 2), score=[0.5, np.nan], note=["a", None]))
    session.add_peaks(found(1, (3, 3)))
    table = session.peaks
    assert table.loc[ids[0], "score"] == 0.5
    assert np.isnan(table.loc[ids[1], "score"])
    assert list(table["note"]) == ["a", "", ""]


def test_what_a_reader_does_to_a_table_changes_nothing(session):
    ids = session.add_peaks(found(0, (1, 1)))
    table = session.peaks
    table.loc[ids[0], "row"] = 99.0
    assert session.peaks.loc[ids[0], "row"] == 1.0


def test_labelling_alike_is_no_edit(session):
    ids = session.add_peaks(found(0, (1, 1)))
    assert session.label_peaks(ids, "peak") == ids
    assert session.label_peaks(ids, "peak") == ids
    session.undo()
    assert list(session.peaks["label"]) == ["unlabelled"]


def test_moving_can_bring_new_measurements(session):
    ids = session.add_peaks(found(0, (1, 1)))
    session.move_peaks(ids, [5], [6], {"snr": [30.0]})
    assert session.peaks.loc[ids[0], ["row", "col", "snr"]].tolist() == [5, 6, 30]
    session.undo()
    assert session.peaks.loc[ids[0], ["row", "col", "snr"]].tolist() == [1, 1, 8]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (found(0, (1, np.nan)), "'col' holds NaN"),
        (found(0, (np.inf, 1)), "'row' holds NaN"),
        (found(0, (1, 1)).drop(columns="row"), "'row' is missing"),
        (found(10, (1, 1)), "frame 10: no such frame; the run has 10"),
        (found(-1, (1, 1)), "frame -1"),
        ("peaks", "expected a peak table"),
    ],
)
def test_unusable_tables_are_refused_and_change_nothing(session, table, message):
    frames = table["frame"].tolist() if isinstance(table, pd.DataFrame) else [0]
    for change in (session.add_peaks, lambda t: session.set_auto_peaks(t, frames)):
        with pytest.raises((InputError, ParameterError), match=message):
            change(table)
    assert len(session.peaks) == 0
    assert not session.can_undo


def test_unknown_peaks_are_named(session):
    ids = session.add_peaks(found(0, (1, 1)))
    for edit in (
        lambda: session.remove_peaks([*ids, 77]),
        lambda: session.label_peaks([77], "peak"),
        lambda: session.move_peaks([77], [1], [1]),
    ):
        with pytest.raises(SessionError, match="peak 77: not in the session"):
            edit()
    assert len(session.peaks) == 1


def test_wrong_arguments_of_edits(session):
    ids = session.add_peaks(found(0, (1, 1), (5, 5)))
    with pytest.raises(ParameterError, match="2 ids and 1 positions"):
        session.move_peaks(ids, [1], [1])
    with pytest.raises(ParameterError, match="NaN"):
        session.move_peaks(ids, [1, np.nan], [1, 1])
    with pytest.raises(ParameterError, match="'label' cannot be given"):
        session.move_peaks(ids, [1, 2], [1, 1], {"label": ["peak", "peak"]})
    with pytest.raises(ParameterError, match="label ''"):
        session.label_peaks(ids, "")
    assert session.remove_peaks([]) == []
    assert session.add_peaks(found(0)) == []


def test_events_tell_what_changed(session):
    heard, undo = [], []
    session.events.peaks_changed.connect(heard.append)
    session.events.undo_changed.connect(lambda: undo.append(session.can_undo))
    ids = session.add_peaks(found([4, 6], (1, 1), (2, 2)))
    session.label_peaks(ids[:1], "peak")
    session.move_peaks(ids[1:], [3], [3])
    session.remove_peaks(ids[:1])
    session.undo()
    told = [(c.reason, c.frames, c.added, c.removed, c.changed) for c in heard]
    a, b = ids
    assert told == [
        ("add", {4, 6}, (a, b), (), ()),
        ("label", {4}, (), (), (a,)),
        ("move", {6}, (), (), (b,)),
        ("remove", {4}, (), (a,), ()),
        ("undo", {4}, (a,), (), ()),
    ]
    assert len(undo) == 5


def test_a_listener_may_flush_and_edit(session):
    def answer(change):
        session.flush()
        if change.reason == "add":
            session.label_peaks(change.added, "peak")

    session.events.peaks_changed.connect(answer)
    session.add_peaks(found(0, (1, 1)))
    assert list(session.peaks["label"]) == ["peak"]
