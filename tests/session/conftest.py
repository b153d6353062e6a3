"""Fixtures of the session tests."""

from __future__ import annotations

import pytest
from session_tables import stack_ids

from napari_xtal.session.store import Session


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "run.h5"
    file.write_bytes(b"frames of run 1" * 1000)
    return file


@pytest.fixture
def session(tmp_path, source):
    made = Session.create(tmp_path / "run.xtal", [source], user="ada", ids=stack_ids(source, 10))
    yield made
    made.close()
