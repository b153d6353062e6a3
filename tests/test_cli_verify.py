"""Verification on the command line: the same numbers as Python, models and reports written."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

import napari_xtal as xtal
from napari_xtal.cli import app
from napari_xtal.cli import verify as commands
from napari_xtal.peaks.table import make_table
from napari_xtal.peaks.verify import finetune
from napari_xtal.peaks.verify.cnn import PeakVerifier
from napari_xtal.peaks.verify.networks import make_network
from napari_xtal.peaks.verify.report import VerifierReport
from napari_xtal.session.reading import read_session

N_FRAMES = 4
SPOTS = [(20, 20), (20, 60), (45, 40), (70, 20), (70, 60)]
NOISE = [(33, 20), (33, 60), (57, 20), (57, 60), (84, 40)]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch):
    """Return a function that runs ``napari-xtal`` with arguments."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(finetune, "TUNING", replace(finetune.TUNING, epochs=2, patience=2))
    runner = CliRunner()
    return lambda *words: runner.invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small run: five spots a frame on a flat Poisson background."""
    rng = np.random.default_rng(5)
    rows, cols = np.indices((96, 80))
    expected = np.full((96, 80), 8.0)
    for row, col in SPOTS:
        expected += 60 * np.exp(-0.5 * ((rows - row) ** 2 + (cols - col) ** 2))
    path = tmp_path_factory.mktemp("run") / "run.h5"
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = rng.poisson(expected, (N_FRAMES, 96, 80)).astype(np.uint16)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model that has learnt nothing."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    PeakVerifier(make_network("spot", seed=2), temperature=0.05, device="cpu").save(path)
    return path


def labelled():
    places = [(f, *p, k) for f in range(N_FRAMES) for k, some in enumerate((SPOTS, NOISE))
              for p in some]  # fmt: skip
    frames, rows, cols, kinds = np.array(places, float).T
    return make_table(
        frame=frames.astype(int), row=rows, col=cols, snr=10 - 5 * kinds,
        label=["peak" if k == 0 else "not-peak" for k in kinds], source="manual",
    )  # fmt: skip


@pytest.fixture
def session_folder(run_file: Path, tmp_path: Path) -> Path:
    """Return a session with labels as the window makes them."""
    folder = tmp_path / "labels.xtal"
    table = labelled()
    with xtal.Session.create(folder, [run_file], ids=xtal.open_frames(run_file).ids) as session:
        session.set_auto_peaks(table, range(N_FRAMES))
        peaks = session.peaks.sort_values("snr")
        half = len(peaks) // 2
        session.label_peaks(peaks["peak_id"].iloc[:half], "not-peak")
        session.label_peaks(peaks["peak_id"].iloc[half:], "peak")
    return folder


@pytest.fixture
def csv(run_file: Path, tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    xtal.write_csv(path, xtal.open_frames(run_file), labelled())
    return path


def one_line(text: str) -> str:
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    return lines[0]


# find-peaks --verify ---------------------------------------------------------------------


@pytest.mark.parametrize("which", ["MODEL", "default"])
def test_probabilities_are_those_of_predict(cli, run_file, model, tmp_path, which) -> None:
    name = model if which == "MODEL" else which
    csv, cxi = tmp_path / "peaks.csv", tmp_path / "peaks.cxi"
    choice = ("--verifier", name) if which == "MODEL" else ()
    done = cli("find-peaks", run_file, "--verify", *choice, "-o", csv, "-o", cxi, "-q")
    assert done.exit_code == 0, done.output
    verifier = PeakVerifier.load(name)
    assert f"judged by cnn verifier {verifier.hash}" in one_line(done.stdout)
    source, table = xtal.open_frames(run_file), xtal.read_peaks(csv)
    assert table["probability"].notna().all() and len(table) >= N_FRAMES * len(SPOTS)
    for index, part in table.groupby("frame"):
        frame = source.frame(index)
        expected = verifier.predict(frame.image, part, frame.good)
        assert (part["probability"].to_numpy() == expected).all()
    assert table.attrs["parameters"]["verifier"] == verifier.hash
    written = xtal.read_peaks(cxi)
    assert sorted(written["probability"]) == sorted(table["probability"])
    with h5py.File(cxi) as file:
        assert file["entry_1/result_1/peakProbability"].shape == file[
            "entry_1/result_1/peakSNR"].shape  # fmt: skip
    # A second trip changes nothing.
    again = tmp_path / "again.csv"
    xtal.write_csv(again, source, table)
    assert (xtal.read_peaks(again)["probability"] == table["probability"]).all()


def test_peaks_below_a_probability_are_left_out(cli, run_file, model, tmp_path) -> None:
    every, some = tmp_path / "every.csv", tmp_path / "some.csv"
    words = ("find-peaks", run_file, "--verify", "--verifier", model, "-q", "-o")
    assert cli(*words, every).exit_code == 0
    table = xtal.read_peaks(every)
    limit = float(np.sort(table["probability"])[len(table) // 2])
    done = cli(*words, some, "--min-probability", limit)
    kept = xtal.read_peaks(some)
    assert (kept["probability"] >= limit).all()
    below = int((table["probability"] < limit).sum())
    assert len(kept) == len(table) - below > 0
    assert f"{below} below {limit:g} left out" in done.stdout
    assert kept.attrs["parameters"]["min_probability"] == limit


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--min-probability", "0.5"), "--verify"),
        (("--verifier", "default"), "--verify"),
        (("--verify", "--verifier", "absent.safetensors"), "absent.safetensors"),
        (("--verify", "--verifier", "model.pkl"), "model.pkl"),
    ],
)
def test_options_that_do_not_go_together(cli, run_file, words, named) -> None:
    done = cli("find-peaks", run_file, "-q", *words)
    assert done.exit_code == 2
    assert named in one_line(done.stderr)


# train-peaks -----------------------------------------------------------------------------


def test_labels_made_in_the_window_become_a_model(cli, run_file, session_folder, model, tmp_path):
    before = {p.name: p.read_bytes() for p in session_folder.iterdir() if p.is_file()}
    words = ("train-peaks", run_file, "--labels", session_folder, "--start", model, "-q")
    reports = [tmp_path / f"report{suffix}" for suffix in (".json", ".csv", ".png")]
    options = [word for path in reports for word in ("--report", path)]
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    done = cli(*words, "-o", one, *options, "--into-session")
    assert done.exit_code == 0, done.output
    verifier = xtal.load_verifier(one)
    report = VerifierReport.load(reports[0])
    assert (report.n, report.n_peaks) == (40, 20) == (verifier.report.n, verifier.report.n_peaks)
    assert "before training" in done.stdout
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith(f"cnn verifier {verifier.hash} trained on 40 labels; {one}")
    assert reports[1].stat().st_size and reports[2].read_bytes().startswith(b"\x89PNG")
    (entry,) = read_session(session_folder).models.list()
    assert entry["hash_of_weights"] == verifier.hash
    assert entry["labels"] == {"peak": 20, "not-peak": 20}
    assert entry["report"] == report.to_dict()
    assert read_session(session_folder).models.path(entry["hash"]).read_bytes() == one.read_bytes()
    assert {p.name: p.read_bytes() for p in session_folder.iterdir() if p.is_file()} == before
    # The same seed gives the same weights.
    assert cli(*words, "-o", two).exit_code == 0
    assert two.read_bytes() == one.read_bytes()
    assert cli(*words, "-o", two, "--seed", "1", "--overwrite").exit_code == 0
    assert two.read_bytes() != one.read_bytes()


def test_labels_from_a_list_follow_their_frames(cli, run_file, csv, model, tmp_path) -> None:
    out = tmp_path / "svm.skops"
    moved = tmp_path / "moved" / run_file.name
    moved.parent.mkdir()
    moved.write_bytes(run_file.read_bytes())
    other = tmp_path / "other.h5"
    other.write_bytes(run_file.read_bytes())
    with h5py.File(other, "r+") as file:
        file["entry/data/data"][...] = 8
    # Another file comes first, so that the numbers of the frames differ.
    words = ("train-peaks", other, moved, "--labels", csv, "--kind", "svm", "--start", "scratch")
    done = cli(*words, "-o", out, "-q")
    assert done.exit_code == 0, done.output
    assert xtal.load_verifier(out).report.ap.value > 0.9
    done = cli("train-peaks", other, "--labels", csv, "-o", tmp_path / "no.safetensors", "-q")
    assert done.exit_code == 2
    assert "none of its frames" in one_line(done.stderr)


def test_pixels_masked_in_the_window_are_not_learnt_from(
    cli, run_file, session_folder, model, tmp_path
) -> None:
    with xtal.Session.open(session_folder) as session:
        (row, col) = SPOTS[0]
        square = [[row + r, col + c] for r in range(-2, 3) for c in range(-2, 3)]
        session.set_parameters("mask", {"pixels": square})
    out, report = tmp_path / "m.safetensors", tmp_path / "r.json"
    done = cli("train-peaks", run_file, "--labels", session_folder, "--start", model,
               "-o", out, "--report", report, "-q")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert VerifierReport.load(report).n == 36
    assert "4 of 40 labels lie on masked pixels" in done.stdout


def test_ctrl_c_keeps_the_best_so_far(cli, run_file, csv, model, tmp_path, monkeypatch) -> None:
    @contextlib.contextmanager
    def pressed_soon():
        asked = []
        yield lambda: asked.append(1) or len(asked) > 8

    monkeypatch.setattr(commands, "interruptible", pressed_soon)
    out = tmp_path / "m.safetensors"
    done = cli("train-peaks", run_file, "--labels", csv, "--start", model, "-o", out, "-q")
    assert done.exit_code == 1, done.output
    assert "interrupted" in done.stdout.strip().splitlines()[-1]
    assert any("cancelled" in note for note in xtal.load_verifier(out).report.notes)


def test_bad_labels_are_one_line_and_nothing_is_written(cli, run_file, model, tmp_path) -> None:
    source, table = xtal.open_frames(run_file), labelled()
    out, path = tmp_path / "m.safetensors", tmp_path / "labels.csv"
    words = ("train-peaks", run_file, "--labels", path, "--start", model, "-o", out, "-q")
    for some, named in (
        (table.assign(label="unlabelled"), "no labelled peaks"),
        (table.assign(label="peak"), "40 'peak' and 0 'not-peak'"),
        (table.groupby("label").head(3), "3 'peak' and 3 'not-peak'"),
        (table.assign(frame=0), "lie on 1 frame"),
    ):
        xtal.write_csv(path, source, some, overwrite=True)
        done = cli(*words)
        assert done.exit_code == 2
        assert named in one_line(done.stderr)
        assert not out.exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--kind", "forest"), "--kind 'forest'"),
        (("--kind", "svm"), ".skops"),
        (("--into-session",), "--into-session"),
        (("--report", "report.docx"), "report.docx"),
        (("--labels", "absent.csv"), "absent.csv"),
        (("--labels", "FOLDER"), "holds no session"),
        (("--start", "absent.safetensors"), "absent.safetensors"),
    ],
)
def test_wrong_arguments(cli, run_file, csv, tmp_path, words, named) -> None:
    words = [tmp_path if word == "FOLDER" else word for word in words]
    out = tmp_path / "m.safetensors"
    done = cli("train-peaks", run_file, "--labels", csv, "-o", out, "-q", *words)
    assert done.exit_code == 2, done.output
    assert named in one_line(done.stderr)
    assert not out.exists()


def test_nothing_is_overwritten_unasked(cli, run_file, csv, tmp_path) -> None:
    out, report = tmp_path / "m.safetensors", tmp_path / "r.json"
    for path in (out, report):
        path.write_text("mine")
        done = cli("train-peaks", run_file, "--labels", csv, "-q", "-o", out, "--report", report)
        assert done.exit_code == 2
        assert "--overwrite" in one_line(done.stderr)
        assert path.read_text() == "mine"
        out.unlink(missing_ok=True)


# match-peaks -----------------------------------------------------------------------------


def test_match_peaks_counts_three_sets(cli, tmp_path) -> None:
    found, truth = tmp_path / "found.csv", tmp_path / "truth.csv"
    xtal.write_csv(found, None, make_table(frame=[0, 0, 1], row=[10.0, 11, 5], col=[10.0, 10, 5]))
    xtal.write_csv(truth, None, make_table(frame=[0, 1], row=[10.5, 9], col=[10.0, 5]))
    done = cli("match-peaks", found, truth)
    assert done.exit_code == 0, done.output
    assert [line.split()[-1] for line in done.stdout.splitlines()[:3]] == ["1", "2", "1"]
    assert "precision 0.333, recall 0.500, F1 0.400 on 2 frames" in done.stdout
    assert "precision 0.667, recall 1.000" in cli("match-peaks", found, truth,
                                                  "--tolerance", "4").stdout  # fmt: skip
    empty = tmp_path / "empty.csv"
    xtal.write_csv(empty, None, make_table(frame=[], row=[], col=[]))
    assert "precision undefined, recall 0.000" in cli("match-peaks", empty, truth).stdout
    assert cli("match-peaks", found, tmp_path / "absent.csv").exit_code == 2


def test_match_peaks_joins_frames_by_file_and_event(cli, run_file, tmp_path) -> None:
    moved = tmp_path / "moved" / run_file.name
    moved.parent.mkdir()
    moved.write_bytes(run_file.read_bytes())
    paths = tmp_path / "one.csv", tmp_path / "two.csv"
    other = tmp_path / "first.h5"
    other.write_bytes(run_file.read_bytes())
    xtal.write_csv(
        paths[0], xtal.open_frames(run_file), make_table(frame=[1], row=[5.0], col=[5.0])
    )
    both = xtal.open_frames([other, moved])
    xtal.write_csv(paths[1], both, make_table(frame=[1 + N_FRAMES], row=[5.0], col=[5.0]))
    assert "F1 1.000" in cli("match-peaks", *paths).stdout


def test_a_report_is_plain_json(cli, run_file, csv, model, tmp_path) -> None:
    out, report = tmp_path / "m.safetensors", tmp_path / "r.json"
    done = cli("train-peaks", run_file, "--labels", csv, "--start", model, "-o", out,
               "--report", report, "-q")  # fmt: skip
    assert done.exit_code == 0, done.output
    content = json.loads(report.read_text())
    training = content["parameters"]["training"]
    assert training["started_from"] == PeakVerifier.load(model).hash
    assert training["labels"] == {"peak": 20, "not-peak": 20}
