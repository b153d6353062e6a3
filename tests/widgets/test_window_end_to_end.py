"""Open, tune, search, correct, save, be killed, and find everything again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest

from napari_xtal.io.peak_lists import read_peaks
from napari_xtal.io.source import open_frames

DATA = Path(os.environ.get("XTAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
#: One frame with a water ring, 1000 to 5000 ADU of background and peaks of two lattices.
REAL = DATA / "dials-rayonix-kapton" / "rayonix_mx340_hit.h5"
SCRIPT = Path(__file__).with_name("window_script.py")


def run_and_kill(role: str, run: Path, output: Path) -> dict:
    """Run a role of the script in its own process and SIGKILL it when its result is there."""
    with (output.with_suffix(".log")).open("w") as log:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), role, str(run), str(output)], stdout=log, stderr=log
        )
        try:
            end = time.monotonic() + 150
            while not output.exists():
                if process.poll() is not None or time.monotonic() > end:
                    pytest.fail(f"{role}: " + output.with_suffix(".log").read_text()[-3000:])
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
            process.wait()
    return json.loads(output.read_text())


@pytest.fixture(params=["simulated", "real"])
def any_run(request, tmp_path) -> Path:
    """A run in a folder of its own: the window keeps its session beside it."""
    if request.param == "simulated":
        return request.getfixturevalue("run_file")
    if not REAL.exists():
        pytest.skip("no real data here; set XTAL_DATA")
    return Path(shutil.copy(REAL, tmp_path / "run.h5"))


@pytest.mark.slow
def test_a_killed_window_loses_nothing(any_run, tmp_path):
    run_file, n_frames = any_run, len(open_frames(any_run))
    before = hashlib.sha256(run_file.read_bytes()).hexdigest()
    first = run_and_kill("work", run_file, tmp_path / "first.json")
    seen = first["seen"]
    assert 0 < seen["slider"] < seen["default"]
    assert seen["all"] > seen["slider"] or n_frames == 1
    assert seen["labelled"] == 2
    assert seen["after undo"] == seen["before undo"] - 1
    assert {p["source"] for p in first["peaks"]} == {"auto", "manual"}

    saved = read_peaks(run_file.with_name("saved.cxi"))
    assert len(saved) == len(first["peaks"]) - 2  # all but those labelled not-peak
    with h5py.File(run_file.with_name("saved.cxi")) as file:
        assert file["entry_1/result_1/nPeaks"].shape == (n_frames,)

    second = run_and_kill("look", run_file, tmp_path / "second.json")
    assert any("Peak finder" in name for name in second["docks"])
    assert second["redone"] == seen["before undo"]
    for part in ("peaks", "layer", "labels", "parameters", "frame", "contrast", "undo"):
        assert second[part] == first[part], part
    assert second["zoom"] == pytest.approx(first["zoom"])
    assert second["center"] == pytest.approx(first["center"])
    assert hashlib.sha256(run_file.read_bytes()).hexdigest() == before
