"""A session can be read while another process works on it, and is not changed by that."""

from __future__ import annotations

import pytest
from session_tables import found, same, stack_ids

from napari_xtal.errors import SessionError
from napari_xtal.session.reading import read_session


def content(folder):
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_open_session_is_read_without_touching_it(session, source):
    session.set_auto_peaks(found(0, (1, 1), (9, 9)), [0])
    session.set_parameters("verifier", {"model": "default", "min_probability": 0.3})
    session.flush()
    session.label_peaks(session.peaks["peak_id"], "peak")
    before = content(session.folder)
    read = read_session(session.folder)
    same(read.peaks, session.peaks)
    assert read.parameters["verifier"]["min_probability"] == 0.3
    assert read.notices == []
    assert read.models.list() == []
    name = read.models.add(lambda path: path.write_bytes(b"w"), ".skops", {"kind": "svm"})
    assert session.models.list()[0]["hash"] == name
    assert content(session.folder).items() >= before.items()


def test_frames_are_those_of_the_run_it_is_read_for(session, source):
    session.add_peaks(found(7, (1, 1)))
    session.add_peaks(found(2, (2, 2)))
    read = read_session(session.folder, stack_ids(source, 10)[::-1])
    assert read.peaks["frame"].tolist() == [2, 7]
    assert read.peaks["row"].tolist() == [1, 2]


def test_what_is_no_session_is_refused(tmp_path):
    for place in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(SessionError, match="holds no session"):
            read_session(place)
