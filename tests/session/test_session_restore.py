"""What is on disk is what was in memory: reopening, crashes, re-ordered files."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from session_tables import found, same, stack_ids

from napari_xtal.errors import SessionError
from napari_xtal.session.store import Session


def crashed_copy(session, to, *, derived=True):
    """Return the folder as a killed process would leave it."""
    shutil.copytree(session.folder, to)
    (to / "lock").unlink()
    if not derived:
        (to / "derived.h5").unlink(missing_ok=True)
    return to


class Model:
    """The slow and plain truth: whole states on a stack."""

    def __init__(self):
        self.rows, self.undone, self.done = {}, [], []

    def edit(self, change):
        self.done.append({k: dict(v) for k, v in self.rows.items()})
        self.undone.clear()
        change(self.rows)

    def step(self, source, to):
        to.append({k: dict(v) for k, v in self.rows.items()})
        self.rows = source.pop()


def check(session, model):
    columns = ["frame", "row", "col", "label", "source"]
    table = session.peaks
    ours = dict(zip(table["peak_id"].tolist(), table[columns].to_dict("records"), strict=True))
    assert ours == model.rows
    assert (table["frame"].diff().dropna() >= 0).all()
    assert len(table) == session.n_peaks
    for frame in range(3):
        same(session.peaks_of(frame), table[table["frame"] == frame])


@pytest.mark.parametrize("seed", range(8))
def test_random_edits_agree_with_a_plain_model(session, tmp_path, seed):
    rng = random.Random(seed)
    model = Model()
    session.set_auto_peaks(found([0, 0, 1], (10, 10), (40, 40), (70, 70)), [0, 1])
    session.flush()
    for i, row in session.peaks.iterrows():
        model.rows[i] = {k: row[k] for k in ("frame", "row", "col", "label", "source")}
    first = session.peaks

    for step in range(60):
        ids = rng.sample(sorted(model.rows), min(len(model.rows), rng.randint(1, 3)))
        kind = rng.choice(["add", "remove", "move", "label", "undo", "redo", "undo", "reopen"])
        if kind == "add":
            frame, place = rng.randrange(3), (float(step), float(rng.randrange(100)))
            new = session.add_peaks(found(frame, place))
            row = {"frame": frame, "row": place[0], "col": place[1]}
            row |= {"label": "unlabelled", "source": "manual"}
            model.edit(lambda rows, i=new[0], r=row: rows.update({i: r}))
        elif kind == "remove" and ids:
            session.remove_peaks(ids)
            model.edit(lambda rows, ids=ids: [rows.pop(i) for i in ids])
        elif kind == "move" and ids:
            to = [float(rng.randrange(500)) for _ in ids]
            session.move_peaks(ids, to, to)
            new = {"source": "manual"}
            model.edit(
                lambda rows, ids=ids, to=to, new=new: [
                    rows[i].update(new, row=x, col=x) for i, x in zip(ids, to, strict=True)
                ]
            )
        elif kind == "label" and ids:
            label = rng.choice(["peak", "not-peak", "ice"])
            if any(model.rows[i]["label"] != label for i in ids):
                model.edit(
                    lambda rows, ids=ids, label=label: [rows[i].update(label=label) for i in ids]
                )
            session.label_peaks(ids, label)
        elif kind == "undo":
            assert session.undo() == bool(model.done)
            if model.done:
                model.step(model.done, model.undone)
        elif kind == "redo":
            assert session.redo() == bool(model.undone)
            if model.undone:
                model.step(model.undone, model.done)
        elif kind == "reopen":
            session.flush()
            ids_of_run = session._ids
            with Session.open(crashed_copy(session, tmp_path / f"c{step}"), ids=ids_of_run) as copy:
                same(copy.peaks, session.peaks)
                assert (copy.undo_text, copy.redo_text) == (session.undo_text, session.redo_text)
        check(session, model)

    folder, ids_of_run = session.folder, session._ids
    session.close()
    with Session.open(folder, ids=ids_of_run) as again:
        check(again, model)
        while again.undo():
            pass
        same(again.peaks, first)


@pytest.mark.parametrize("seed", range(6))
def test_edits_among_searches_survive_a_crash(session, tmp_path, seed):
    """With all on disk nothing differs; with an older derived.h5 the edits still stand."""
    rng = random.Random(seed)
    old = None
    for step in range(40):
        ids = session.peaks["peak_id"].tolist()
        some = rng.sample(ids, min(len(ids), 2))
        kind = rng.choice(["find", "find", "label", "remove", "move", "add", "undo", "redo"])
        if kind == "find":
            frames = rng.sample(range(3), 2)
            grid = [(f, 10 * k, 10 * k) for f in frames for k in range(8) if rng.random() < 0.6]
            f, r, c = np.array(grid, dtype=float).reshape(-1, 3).T
            jitter = rng.choice([0, 0, 0.5])
            table = found(f.astype(int), *zip(r + jitter, c, strict=True))
            session.set_auto_peaks(table, frames, {"step": step})
        elif kind == "label":
            session.label_peaks(some, rng.choice(["peak", "not-peak", "unlabelled"]))
        elif kind == "remove":
            session.remove_peaks(some[:1])
        elif kind == "move":
            session.move_peaks(some[:1], [200.0 + step] * len(some[:1]), [5.0] * len(some[:1]))
        elif kind == "add":
            session.add_peaks(found(rng.randrange(3), (300.0 + step, 7)))
        else:
            getattr(session, kind)()
        if step == 15:
            session.flush()
            old = (session.folder / "derived.h5").read_bytes()
    session.flush()
    ids = session._ids
    with Session.open(crashed_copy(session, tmp_path / "all"), ids=ids) as copy:
        same(copy.peaks, session.peaks)

    def users(table):
        mine = table[(table["source"] != "auto") | (table["label"] != "unlabelled")]
        return mine[["frame", "label", "source"]].sort_index()

    for name, content in (("old", old), ("none", None), ("broken", b"no HDF5")):
        folder = crashed_copy(session, tmp_path / name, derived=False)
        if content:
            (folder / "derived.h5").write_bytes(content)
        with Session.open(folder, ids=ids) as copy:
            assert users(copy.peaks).equals(users(session.peaks))
            assert copy.undo_text == session.undo_text
            assert ("search again" in (copy.recovered or "")) == (name == "broken")
            # No number that a peak had in the lost results is given to another one.
            assert min(copy.add_peaks(found(0, (1, 1)))) > session._state.peaks.next_id - 1


def test_labels_of_lost_results_return_with_the_next_search(session, tmp_path):
    session.set_auto_peaks(found(0, (10, 10), (40, 40), (70, 70)), [0])
    a, b, c = session.peaks["peak_id"].tolist()
    session.label_peaks([a], "peak")
    session.remove_peaks([b])
    session.move_peaks([c], [90], [90])
    folder = crashed_copy(session, tmp_path / "lost", derived=False)
    with Session.open(folder, ids=session._ids) as copy:
        copy.set_auto_peaks(found(0, (10.5, 10), (40, 40), (70, 70.5), (99, 9)), [0])
        told = sorted(copy.peaks[["row", "label", "source"]].itertuples(index=False, name=None))
    assert told == [
        (10.5, "peak", "auto"),
        (90, "unlabelled", "manual"),
        (99, "unlabelled", "auto"),
    ]


KILLED = """
import sys, time
import pandas as pd
from napari_xtal.session.store import Session

s = Session.create(sys.argv[1], ["run.h5"], user="kim")
def table(frame, row):
    return pd.DataFrame({"frame": [frame], "row": [row], "col": [1.0]})
s.set_parameters("peak_finder", {"min_snr": 7.5})
s.set_view({"frame": 4})
s.set_auto_peaks(table(3, 50.0), [3], {"min_snr": 7.5})
print("ready", flush=True)
k = 0
while True:
    s.add_peaks(table(k % 10, float(k)))
    print(k, flush=True)
    k += 1
    time.sleep(0.01)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_process_loses_nothing(tmp_path):
    folder = tmp_path / "run.xtal"
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    started, seen = time.monotonic(), -1
    while time.monotonic() - started < 2.2:
        seen = int(child.stdout.readline())
    with pytest.raises(SessionError, match=f"in use by kim .process {child.pid}"):
        Session.open(folder)
    child.kill()
    child.wait()
    child.stdout.close()
    with Session.open(folder) as session:
        manual = session.peaks[session.peaks["source"] == "manual"]
        assert len(manual) >= seen + 1
        assert sorted(manual["row"]) == list(range(len(manual)))
        assert "not closed by kim" in session.recovered
        assert session.parameters == {"peak_finder": {"min_snr": 7.5}}
        assert session.view == {"frame": 4}
        assert session.search_of(3)["parameters"] == {"min_snr": 7.5}
        assert (session.peaks["source"] == "auto").sum() == 1
        assert session.undo()
    with Session.open(folder) as session:
        assert session.recovered is None


def test_edits_follow_frames_when_files_are_joined_in_another_order(tmp_path):
    one, two = tmp_path / "one.h5", tmp_path / "two.h5"
    for file in (one, two):
        file.write_text(file.name)
    with Session.create(tmp_path / "s.xtal", [one], ids=stack_ids(one, 5)) as session:
        session.set_auto_peaks(found([1, 4], (10, 10), (20, 20)), range(5), {"a": 1})
        session.label_peaks(session.peaks_of(4)["peak_id"], "peak")
        session.add_peaks(found(2, (30, 30)))
        session.remove_peaks(session.peaks_of(1)["peak_id"])
    joined = stack_ids(two, 3) + stack_ids(one, 5)[::-1]
    with Session.open(tmp_path / "s.xtal", ids=joined) as session:
        table = session.peaks
        assert list(zip(table["frame"], table["row"], table["label"], strict=True)) == [
            (3, 20, "peak"),
            (5, 30, "unlabelled"),
        ]
        assert session.searched_frames == [3, 4, 5, 6, 7]
        session.set_auto_peaks(found(6, (10, 10)), [6])
        assert len(session.peaks_of(6)) == 0
        assert session.undo()
        assert session.peaks_of(6)["row"].tolist() == [10]
        session.redo()
    # Frames that are not open are kept, not shown.
    with Session.open(tmp_path / "s.xtal", ids=stack_ids(two, 3)) as session:
        assert len(session.peaks) == session.n_peaks == 0
        assert "5 frames that the session knows are not open" in session.recovered
        session.add_peaks(found(0, (5, 5)))
        session.set_auto_peaks(found(1, (6, 6)), [1])
    with Session.open(tmp_path / "s.xtal", ids=joined[::-1]) as session:
        assert list(zip(session.peaks["frame"], session.peaks["row"], strict=True)) == [
            (2, 30),
            (4, 20),
            (6, 6),
            (7, 5),
        ]
        assert session.recovered is None


def test_without_identities_those_of_the_last_time_hold(session):
    session.add_peaks(found(7, (1, 1)))
    session.close()
    with Session.open(session.folder) as again:
        again.add_peaks(found(8, (2, 2)))
    with Session.open(session.folder, ids=session._ids[::-1]) as again:
        assert again.peaks["frame"].tolist() == [1, 2]


def test_a_session_of_plain_numbers(tmp_path):
    with Session.create(tmp_path / "s", []) as session:
        session.add_peaks(found(123, (1, 1)))
    with Session.open(tmp_path / "s") as session:
        assert session.peaks["frame"].tolist() == [123]
    with Session.open(tmp_path / "s", ids=stack_ids("x.h5", 200)) as session:
        assert session.peaks["frame"].tolist() == [123]


def test_a_folder_moved_with_its_data_is_recognised(session, source, tmp_path):
    session.add_peaks(found(7, (1, 1)))
    session.close()
    new = tmp_path / "elsewhere"
    new.mkdir()
    folder = shutil.move(session.folder, new / "run.xtal")
    file = shutil.move(source, new / "run.h5")
    with Session.open(folder, ids=stack_ids(file, 10)) as again:
        assert again.peaks["frame"].tolist() == [7]
        assert again.check_sources() == {str(source): "missing"}


def test_relocate_checks_the_file_and_edits_follow(session, source, tmp_path):
    session.add_peaks(found(7, (1, 1)))
    session.close()
    other = tmp_path / "other.h5"
    other.write_text("something else")
    renamed = tmp_path / "renamed.h5"
    source.rename(renamed)
    with Session.open(session.folder, ids=stack_ids(renamed, 10)) as again:
        assert len(again.peaks) == 0
        heard = []
        again.events.peaks_changed.connect(heard.append)
        with pytest.raises(SessionError, match="is not the file that"):
            again.relocate({source: other})
        with pytest.raises(SessionError, match="cannot be read"):
            again.relocate({source: tmp_path / "none.h5"})
        with pytest.raises(SessionError, match="is no source"):
            again.relocate({other: renamed})
        with pytest.raises(SessionError, match=r"holds no run\.h5"):
            again.relocate(tmp_path)
        assert again.relocate({source: renamed}) == {str(source): str(renamed)}
        assert again.peaks["frame"].tolist() == [7]
        assert again.files == [str(renamed)]
        assert [c.frames for c in heard] == [None]
        assert again.undo()
        assert again.redo()
    with Session.open(session.folder, ids=stack_ids(renamed, 10)) as again:
        assert again.peaks["frame"].tolist() == [7]
        assert again.check_sources() == {}
    renamed.rename(source)
    with Session.open(session.folder, ids=stack_ids(source, 10)) as again:
        again.relocate({renamed: source})
        assert again.peaks["frame"].tolist() == [7]


def test_changed_sources_are_told(session, source):
    assert session.check_sources() == {}
    os.utime(source, (1, 1))
    assert session.check_sources() == {}
    source.write_bytes(b"another run")
    assert session.check_sources() == {str(source): "changed"}


def test_journal_records_say_who_did_what(session):
    ids = session.add_peaks(found(3, (1.5, 2.5), inv_d=np.inf))
    session.label_peaks(ids, "peak", confidence=0.8)
    session.undo()
    lines = (session.folder / "journal.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [r["seq"] for r in records] == [1, 2, 3]
    add, label, undo = records
    assert set(add) == {
        "seq", "time", "user", "action", "target", "old", "new", "source", "confidence", "version",
    }  # fmt: skip
    assert (add["user"], add["action"], add["version"]) == ("ada", "add_peaks", 1)
    assert add["time"].endswith("+00:00")
    assert add["target"]["frames"] == [[*session._ids[3], 3]]
    assert add["new"]["sigma"] == [None]
    assert add["new"]["inv_d"] == ["inf"]
    assert (label["new"], label["confidence"]) == ({"label": "peak"}, 0.8)
    assert label["old"]["label"] == ["unlabelled"]
    assert (undo["action"], undo["target"]) == ("undo", {"seq": 2})
    session.close()
    with Session.open(session.folder) as again:
        same(again.peaks, session.peaks)
