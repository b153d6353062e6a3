"""Trained models of a session: named by their content, never half written, checked on use."""

from __future__ import annotations

import errno
import hashlib
import json

import pytest

from napari_xtal.errors import OutputError, ParameterError, SessionError
from napari_xtal.session import files
from napari_xtal.session.models import ModelStore
from napari_xtal.session.store import Session


def add(models, content=b"weights", suffix=".safetensors", **info):
    return models.add(lambda path: path.write_bytes(content), suffix, info, {"ap": 0.9})


def test_a_model_is_named_by_its_content_and_comes_back(session):
    assert session.models.list() == []
    name = add(session.models, kind="cnn", labels={"peak": 3, "not-peak": 4}, parent="default")
    assert name == hashlib.sha256(b"weights").hexdigest()[:16]
    assert session.models.path(name).read_bytes() == b"weights"
    session.set_parameters("verifier", {"model": name, "min_probability": 0.4})
    session.close()
    with Session.open(session.folder) as again:
        (entry,) = again.models.list()
        assert entry["hash"] == name
        assert entry["file"] == f"{name}.safetensors"
        assert (entry["kind"], entry["parent"], entry["report"]) == ("cnn", "default", {"ap": 0.9})
        assert entry["labels"] == {"peak": 3, "not-peak": 4}
        assert entry["time"].endswith("+00:00")
        assert again.models.path(again.parameters["verifier"]["model"]).suffix == ".safetensors"


def test_newest_first_and_the_same_model_once(session):
    one, two = add(session.models, b"1"), add(session.models, b"2", ".skops")
    assert [e["hash"] for e in session.models.list()] == [two, one]
    assert add(session.models, b"1", kind="again") == one
    assert [e["hash"] for e in session.models.list()] == [one, two]
    assert session.models.list()[0]["kind"] == "again"


def test_a_changed_file_is_not_used(session):
    name = add(session.models)
    path = session.models.path(name)
    path.write_bytes(b"weighty")
    with pytest.raises(SessionError, match="was changed since it was stored") as caught:
        session.models.path(name)
    assert str(path) in str(caught.value)
    session.models.remove(name)
    assert session.models.list() == []
    assert not path.exists()


@pytest.mark.parametrize("name", ["0" * 16, "default", "../session", "", "0" * 15 + "/"])
def test_unknown_names_are_refused(session, name):
    add(session.models)
    for act in (session.models.path, session.models.remove):
        with pytest.raises(SessionError, match="holds no model"):
            act(name)


def test_files_of_others_are_left_alone(session):
    name = add(session.models)
    folder = session.models.folder
    (folder / "notes.txt").write_text("mine")
    (folder / "thesis.json").write_text("{}")
    (folder / f"{'1' * 16}.json").write_text("not json")
    (folder / f"{'2' * 16}.json").write_text('{"info": {}, "report": null}')
    (folder / f"{'3' * 16}.safetensors").write_bytes(b"a crash came before the description")
    assert [e["hash"] for e in session.models.list()] == [name]
    session.models.remove(name)
    assert len(list(folder.iterdir())) == 5


def test_a_failure_leaves_no_half_model(session, monkeypatch):
    def broken(path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="the disk is full"):
        session.models.add(broken, ".skops", {})
    assert list(session.models.folder.iterdir()) == []
    with pytest.raises(ParameterError, match="a object cannot be stored"):
        add(session.models, kind=object())
    with pytest.raises(ParameterError, match="'.pkl'"):
        add(session.models, suffix=".pkl")
    real = files.os.replace

    def fail_on_description(source, target):
        if str(target).endswith(".json"):
            raise OSError(errno.EACCES, "denied")
        real(source, target)

    monkeypatch.setattr(files.os, "replace", fail_on_description)
    with pytest.raises(OutputError, match="no permission"):
        add(session.models)
    monkeypatch.undo()
    assert session.models.list() == []


def test_a_folder_can_be_read_without_its_session(session):
    name = add(session.models, kind="svm")
    other = ModelStore(session.folder / "models")
    assert other.list()[0]["kind"] == "svm"
    assert other.path(name).exists()
    assert ModelStore(session.folder / "nothing").list() == []


def test_a_session_that_is_not_ours_any_more_stores_nothing(session):
    name = add(session.models)
    other = Session.open(session.folder, user="bob", take_over=True)
    with pytest.raises(SessionError, match="taken over"):
        add(session.models, b"new")
    with pytest.raises(SessionError, match="taken over"):
        session.models.remove(name)
    assert session.models.path(name)
    other.close()
    with pytest.raises(SessionError, match="is closed"):
        add(other.models, b"new")


def test_the_description_is_plain_json(session):
    name = add(session.models, score=float("nan"), frames=(1, 2))
    known = json.loads((session.models.folder / f"{name}.json").read_text())
    assert known["format"] == 1
    assert known["info"]["score"] is None
    assert known["info"]["frames"] == [1, 2]
