"""The folder under bad conditions: locks, damaged files, full disks, threads."""

from __future__ import annotations

import errno
import json
import os
import threading
import time

import pytest
from session_tables import found, same, stack_ids

from napari_xtal.errors import OutputError, ParameterError, SessionError, XtalError
from napari_xtal.session import files, journal
from napari_xtal.session.frames import pack_ids, unpack_ids
from napari_xtal.session.lock import process_start
from napari_xtal.session.peaks import PeakStore
from napari_xtal.session.store import Session, is_session


def write_lock(folder, **changes):
    owner = {"pid": os.getpid(), "host": os.uname().nodename, "user": "bob", "time": "today"}
    owner["start"] = process_start(os.getpid())
    (folder / "lock").write_text(json.dumps({**owner, "token": "x", **changes}))


def test_create_makes_a_session_and_close_frees_it(tmp_path, source):
    folder = tmp_path / "deep" / "run.xtal"
    with Session.create(folder, source) as session:
        assert is_session(folder)
        assert session.files == [str(source)]
        assert session.recovered is None
        assert (folder / "lock").exists()
    session.close()
    assert not (folder / "lock").exists()
    assert json.loads((folder / "session.json").read_text())["format"] == 1
    with pytest.raises(SessionError, match="the session is closed"):
        session.add_peaks(found(0, (1, 1)))


def test_create_overwrites_nothing(tmp_path, session):
    with pytest.raises(SessionError, match="holds a session already"):
        Session.create(session.folder, [])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    with pytest.raises(SessionError, match="is not empty"):
        Session.create(tmp_path / "full", [])
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SessionError, match="is a file"):
        Session.create(tmp_path / "file", [])
    with pytest.raises(SessionError, match="folder is missing"):
        Session.create(tmp_path / "file" / "below", [])
    with pytest.raises(SessionError, match="holds no session"):
        Session.open(tmp_path / "full")
    with pytest.raises(ParameterError, match="option 'idx'"):
        Session.create(tmp_path / "new", [], options={"idx": []})
    assert sorted(p.name for p in (tmp_path / "full").iterdir()) == ["thesis.tex"]


def test_open_or_create(tmp_path, source):
    ids = stack_ids(source, 3)
    with Session.open_or_create(tmp_path / "s", [source], ids=ids) as session:
        session.add_peaks(found(2, (1, 1)))
    with Session.open_or_create(tmp_path / "s", [source, "b.h5"], options={"ids": ids}) as session:
        assert session.n_peaks == 1
        assert len(session.files) == 2


def test_a_living_owner_is_named_and_can_be_overruled(session):
    with pytest.raises(SessionError, match=f"in use by ada .process {os.getpid()}"):
        Session.open(session.folder)
    session.add_peaks(found(0, (1, 1)))
    other = Session.open(session.folder, user="bob", take_over=True)
    assert "taken over from ada" in other.recovered
    assert other.n_peaks == 1
    with pytest.raises(SessionError, match="taken over by bob"):
        session.add_peaks(found(0, (5, 5)))
    assert "taken over" in session.problem
    session.set_view({"frame": 9})
    with pytest.raises(SessionError, match="taken over"):
        session.close()
    assert session.closed
    other.add_peaks(found(0, (9, 9)))
    other.close()
    with Session.open(session.folder) as again:
        assert again.peaks["row"].tolist() == [1, 9]
        assert again.view == {}


@pytest.mark.parametrize(
    ("owner", "is_free"),
    [
        ({"pid": 2**22 + 5}, True),
        ({"start": "another-boot:1"}, True),
        ({"pid": "none"}, True),
        ({}, False),
        ({"host": "other-host", "pid": 1}, False),
    ],
)
def test_stale_locks_are_recovered(session, owner, is_free):
    session.close()
    write_lock(session.folder, **owner)
    if not is_free:
        with pytest.raises(SessionError, match="in use by bob"):
            Session.open(session.folder)
        return
    with Session.open(session.folder) as again:
        assert "not closed by bob" in again.recovered


def test_an_unreadable_lock_is_the_remains_of_a_crash(session):
    session.close()
    (session.folder / "lock").write_text("")
    with Session.open(session.folder) as again:
        assert "not closed by an unknown process" in again.recovered


def test_a_partial_last_line_is_passed_over_and_repaired(session):
    session.add_peaks(found(0, (1, 1)))
    session.close()
    path = session.folder / "journal.jsonl"
    path.write_bytes(path.read_bytes() + b'{"seq": 2, "action": "add_pe')
    with Session.open(session.folder) as again:
        assert "line 2" in again.recovered
        again.add_peaks(found(0, (2, 2)))
    with Session.open(session.folder) as again:
        assert again.recovered is None
        assert again.peaks["row"].tolist() == [1, 2]
    lines = path.read_bytes().splitlines()
    assert lines[1] == b'{"seq": 2, "action": "add_pe'
    assert [json.loads(x)["seq"] for x in (lines[0], *lines[2:])] == [1, 2, 3]


def test_a_record_that_only_lacks_its_line_end_counts(session):
    session.add_peaks(found(0, (1, 1)))
    session.close()
    path = session.folder / "journal.jsonl"
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    with Session.open(session.folder) as again:
        again.add_peaks(found(0, (2, 2)))
    with Session.open(session.folder) as again:
        assert again.peaks["row"].tolist() == [1, 2]
        assert again.recovered is None


@pytest.mark.parametrize(
    "damage",
    [
        b"\x00\xff\x00",
        b"[1, 2]",
        b'{"seq": 1}',
        b'"text"',
        b'{"seq":2,"action":"undo","version":1}',
    ],
)
def test_a_damaged_line_costs_only_itself(session, damage):
    for k in range(3):
        session.add_peaks(found(k, (k, k)))
    session.label_peaks(session.peaks["peak_id"], "peak")
    session.close()
    path = session.folder / "journal.jsonl"
    lines = path.read_bytes().splitlines()
    lines[1] = damage
    path.write_bytes(b"\n".join(lines) + b"\n")
    with Session.open(session.folder) as again:
        assert again.recovered
        # The label holds the whole row of the peak whose own record is lost.
        assert again.peaks["row"].tolist() == [0, 1, 2]
        assert set(again.peaks["label"]) == {"peak"}
    assert damage in path.read_bytes()


def test_records_of_a_later_version_are_not_guessed_at(session):
    session.close()
    path = session.folder / "journal.jsonl"
    path.write_text('{"seq": 1, "action": "add_peaks", "version": 99}\n')
    with pytest.raises(SessionError, match="later napari-xtal"):
        Session.open(session.folder)
    path.write_text("")
    manifest = session.folder / "session.json"
    manifest.write_text(json.dumps({"format": 99}))
    with pytest.raises(SessionError, match="later napari-xtal"):
        Session.open(session.folder)
    assert not (session.folder / "lock").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", None])
def test_a_damaged_manifest_is_restored_from_its_backup(session, content):
    session.set_parameters("peak_finder", {"min_snr": 7})
    session.flush()
    session.set_view({"frame": 3})
    session.close()
    path = session.folder / "session.json"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with Session.open(session.folder) as again:
        assert "restored from its backup" in again.recovered
        assert again.parameters == {"peak_finder": {"min_snr": 7}}
    path.write_bytes(b"{")
    (session.folder / "session.json.bak").unlink()
    with Session.open(session.folder) as again:
        assert "parameters and view are the defaults" in again.recovered


def test_parameters_and_view_are_kept_as_copies(session):
    heard = []
    session.events.parameters_changed.connect(heard.append)
    session.set_parameters("peak_finder", {"min_snr": 5, "rings": (1, 2), "max": float("inf")})
    session.set_parameters("peak_finder", {"min_snr": 5, "rings": (1, 2), "max": float("inf")})
    assert heard == ["peak_finder"]
    assert session.parameters["peak_finder"] == {"min_snr": 5, "rings": [1, 2], "max": None}
    session.parameters["peak_finder"]["min_snr"] = 9
    assert session.parameters["peak_finder"]["min_snr"] == 5
    with pytest.raises(ParameterError, match=r"peak_finder\.what: a object cannot"):
        session.set_parameters("peak_finder", {"what": object()})
    session.set_view({"frame": 3})
    session.view["frame"] = 9
    assert session.view == {"frame": 3}


def test_a_full_disk_keeps_the_edit_and_the_next_one_writes_both(session, monkeypatch):
    session.add_peaks(found(0, (1, 1)))
    before = (session.folder / "journal.jsonl").read_bytes()
    real = os.write
    taken = []

    def full(handle, data):
        if taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken.append(1)
        return real(handle, data[:7])

    heard = []
    session.events.peaks_changed.connect(heard.append)
    monkeypatch.setattr(journal.os, "write", full)
    with pytest.raises(OutputError, match="the disk is full") as caught:
        session.add_peaks(found(0, (2, 2)))
    assert str(session.folder) in str(caught.value)
    assert session.peaks["row"].tolist() == [1, 2]
    assert len(heard) == 1
    assert "disk is full" in session.problem
    with pytest.raises(OutputError):
        session.flush()
    with pytest.raises(OutputError):
        session.close()
    assert not session.closed
    assert (session.folder / "journal.jsonl").read_bytes() == before
    monkeypatch.setattr(journal.os, "write", real)
    session.add_peaks(found(0, (3, 3)))
    assert session.problem is None
    session.close()
    with Session.open(session.folder) as again:
        assert again.peaks["row"].tolist() == [1, 2, 3]
        assert again.recovered is None


def test_edits_that_wait_are_written_by_themselves(session, monkeypatch):
    def full(handle, data):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    real = os.write
    monkeypatch.setattr(journal.os, "write", full)
    with pytest.raises(OutputError):
        session.add_peaks(found(0, (2, 2)))
    monkeypatch.setattr(journal.os, "write", real)
    end = time.monotonic() + 5
    while session.problem and time.monotonic() < end:
        time.sleep(0.05)
    assert session.problem is None
    assert (session.folder / "journal.jsonl").read_text().count("add_peaks") == 1


def test_files_that_cannot_be_replaced_keep_their_content(session, monkeypatch):
    session.set_auto_peaks(found(0, (1, 1)), [0])
    session.set_view({"frame": 1})
    session.flush()
    kept = {n: (session.folder / n).read_bytes() for n in ("derived.h5", "session.json")}
    monkeypatch.setattr(
        files.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EACCES, "denied"))
    )
    session.set_auto_peaks(found(0, (2, 2)), [0])
    session.set_view({"frame": 2})
    with pytest.raises(OutputError, match="no permission to write session.json"):
        session.flush()
    monkeypatch.undo()
    assert kept == {n: (session.folder / n).read_bytes() for n in kept}
    assert not [p for p in session.folder.iterdir() if p.name.startswith(".")]
    session.flush()
    assert kept != {n: (session.folder / n).read_bytes() for n in kept}


def test_derived_results_are_saved_without_being_asked(session):
    session.set_auto_peaks(found(0, (1, 1)), [0])
    start = time.monotonic()
    while not (session.folder / "derived.h5").exists():
        assert time.monotonic() - start < 10
        time.sleep(0.02)
    assert time.monotonic() - start > 0.5  # not at each frame


def test_edits_from_several_threads_are_all_kept(session):
    problems = []

    def work(frame):
        try:
            for k in range(30):
                ids = session.add_peaks(found(frame, (k * 5, 0)))
                session.label_peaks(ids, "peak")
                session.set_auto_peaks(found(frame, (k * 5, 90)), [frame])
                assert len(session.peaks_of(frame)) == k + 2
        except (XtalError, AssertionError) as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(f,)) for f in range(4)]
    for thread in threads:
        thread.start()
    while any(t.is_alive() for t in threads):
        session.flush()
    for thread in threads:
        thread.join()
    assert not problems
    assert session.n_peaks == 4 * 31
    before = session.peaks
    session.close()
    with Session.open(session.folder) as again:
        same(again.peaks, before)


def test_identities_are_packed_without_loss():
    ids = [
        *stack_ids("/a.h5", 1000),
        *stack_ids("/b.h5", 3)[::-1],
        *stack_ids("/b.h5", 2, "/other"),
        *(i._replace(event=e) for i, e in zip(stack_ids("/c.cbf", 4), ["", "//", "tag-7//", "//007"], strict=True)),
    ]  # fmt: skip
    packed = pack_ids(ids)
    assert unpack_ids(packed) == ids
    assert len(packed) < 12


def test_many_peaks_stay_quick(session):
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(1)
    n = 100_000
    table = pd.DataFrame(
        {
            "frame": np.repeat(np.arange(10), n // 10),
            "row": rng.uniform(0, 4000, n),
            "col": rng.uniform(0, 4000, n),
        }
    )
    session.set_auto_peaks(table, range(10))
    ids = session.peaks["peak_id"].tolist()
    session.remove_peaks(ids[: n // 2])
    session.label_peaks(ids[n // 2 :], "peak")
    session.undo()
    session.undo()
    assert session.n_peaks == n

    start = time.perf_counter()
    for k in range(20):
        session.label_peaks(ids[k : k + 1], "peak")
        session.peaks_of(k % 10)
    # Milliseconds on a quiet machine; a search through all peaks would take far longer.
    assert (time.perf_counter() - start) / 20 < 0.1


def test_the_store_finds_rows_of_any_frame():
    store = PeakStore()
    with pytest.raises(SessionError, match="peak -3, 5000"):
        store.rows([-3, 5000])
