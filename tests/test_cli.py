"""The command line: exit codes, one-line errors, outputs, options made from the parameters."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

import napari_xtal as xtal
from napari_xtal.cli import app
from napari_xtal.cli.options import frame_numbers
from napari_xtal.errors import ParameterError
from napari_xtal.peaks.parameters import PeakFinderParams

N_FRAMES = 3


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch):
    """Return a function that runs ``napari-xtal`` with arguments."""
    monkeypatch.setenv("COLUMNS", "100")
    runner = CliRunner()
    return lambda *words: runner.invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small run: bright spots on a flat Poisson background."""
    rng = np.random.default_rng(5)
    images = rng.poisson(10.0, (N_FRAMES, 96, 80)).astype(np.uint16)
    for frame in range(N_FRAMES):
        for row, col in ((20, 20), (50, 60), (75, 30)):
            images[frame, row - 1 : row + 2, col - 1 : col + 2] += np.uint16(120)
            images[frame, row, col] += np.uint16(300)
    path = tmp_path_factory.mktemp("run") / "run.h5"
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = images
    return path


def one_line(text: str) -> str:
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    return lines[0]


def test_help_names_every_command(cli) -> None:
    done = cli("--help")
    assert done.exit_code == 0
    for command in (
        "info", "view", "find-peaks", "train-peaks", "match-peaks", "simulate", "demo", "benchmark",
    ):  # fmt: skip
        assert command in done.output
        assert cli(command, "--help").exit_code == 0


def test_version(cli) -> None:
    assert xtal.__version__ in cli("--version").output


def test_every_parameter_is_an_option_with_unit_and_range(cli) -> None:
    text = re.sub(r"\s+", " ", cli("find-peaks", "--help").output)
    for field in dataclasses.fields(PeakFinderParams):
        assert "--" + field.name.replace("_", "-") in text
        assert f"default {str(field.default).lower()}" in text
    assert "0 to 100000 px" in text


def test_info_prints_shape_and_a_summary_last(cli, run_file: Path) -> None:
    done = cli("info", run_file)
    assert done.exit_code == 0, done.output
    assert "96 x 80 px" in done.output
    assert done.output.strip().splitlines()[-1] == "3 frames of 96 x 80 px in 1 file(s)"


def test_find_peaks_writes_all_formats(cli, run_file: Path, tmp_path: Path) -> None:
    cxi, csv, lst = (tmp_path / f"peaks{suffix}" for suffix in (".cxi", ".csv", ".lst"))
    done = cli("find-peaks", run_file, "-o", cxi, "-o", csv, "-o", lst, "--quiet")
    assert done.exit_code == 0, done.output
    assert re.match(r"\d+ peaks in 3 of 3 frames, .* ms per frame; ", one_line(done.stdout))
    with h5py.File(cxi) as file:
        counts = file["entry_1/result_1/nPeaks"][:]
    assert (counts >= 3).all()
    assert len(xtal.read_peaks(csv)) == counts.sum()
    assert len(lst.read_text().splitlines()) == N_FRAMES


def test_options_reach_the_finder(cli, run_file: Path, tmp_path: Path) -> None:
    toml, out = tmp_path / "p.toml", tmp_path / "peaks.csv"
    PeakFinderParams(method="threshold", threshold=1000).save(toml)
    arguments = ("find-peaks", run_file, "--params", toml, "-o", out, "-q")
    assert cli(*arguments).stdout.startswith("0 peaks")
    done = cli(*arguments, "--threshold", "200", "--frames", "1:", "--overwrite")
    assert done.exit_code == 0, done.output
    found = xtal.read_peaks(out)
    assert sorted(found["frame"].unique()) == [1, 2]
    rows = found.loc[found["frame"] == 1, "row"]
    assert np.allclose(sorted(rows), [20, 50, 75], atol=0.5)


def test_hot_pixels_are_counted_in_one_line(cli, tmp_path: Path) -> None:
    images = np.random.default_rng(5).poisson(10.0, (4, 96, 80)).astype(np.uint16)
    images[:, [10, 40], [60, 30]] = 900
    run = tmp_path / "run.h5"
    with h5py.File(run, "w") as file:
        file["entry/data/data"] = images
    note = one_line(cli("find-peaks", run, "-q").stderr)
    assert note.startswith("note: 2 single pixels fire in more than 5 % of the frames")
    assert "--mask" in note


def test_existing_output_is_refused_before_any_work(cli, run_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "peaks.csv"
    out.write_text("mine")
    done = cli("find-peaks", run_file, "-o", out, "-q")
    assert done.exit_code == 2
    assert "--overwrite" in one_line(done.stderr)
    assert out.read_text() == "mine"


def test_an_input_is_never_overwritten(cli, run_file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run.cxi"
    copy.write_bytes(run_file.read_bytes())
    done = cli("find-peaks", copy, "-o", copy, "--overwrite", "-q")
    assert done.exit_code == 2
    assert "is an input" in done.stderr
    assert copy.read_bytes() == run_file.read_bytes()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("find-peaks", "absent.h5"), "absent.h5"),
        (("info", "absent.h5"), "absent.h5"),
        (("find-peaks", "RUN", "-o", "peaks.xls"), "peaks.xls"),
        (("find-peaks", "RUN", "-o", "/no/such/folder/peaks.csv"), "/no/such/folder"),
        (("find-peaks", "RUN", "--min-snr", "-3"), "min_snr"),
        (("find-peaks", "RUN", "--median-filter", "4"), "median_filter"),
        (("find-peaks", "RUN", "--method", "magic"), "magic"),
        (("find-peaks", "RUN", "--preset", "nobody's"), "nobody's"),
        (("find-peaks", "RUN", "--params", "absent.toml"), "absent.toml"),
        (("find-peaks", "RUN", "--frames", "7"), "--frames"),
        (("find-peaks", "RUN", "--dataset", "/entry/nothing"), "/entry/nothing"),
        (("simulate", "run.txt"), "run.txt"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_exit_2(
    cli, run_file: Path, words: tuple[str, ...], named: str
) -> None:
    done = cli(*(run_file if word == "RUN" else word for word in words), *_quiet(words))
    assert done.exit_code == 2, done.output
    assert named in one_line(done.stderr)


def _quiet(words: tuple[str, ...]) -> tuple[str, ...]:
    return ("-q",) if words[0] == "find-peaks" else ()


def test_text_for_a_number_exits_2(cli, run_file: Path) -> None:
    done = cli("find-peaks", run_file, "--min-snr", "much")
    assert done.exit_code == 2
    assert "--min-snr" in done.stderr


def test_broken_frames_are_listed_and_exit_1(cli, tmp_path: Path) -> None:
    path, out = tmp_path / "run.h5", tmp_path / "peaks.csv"
    image = np.full((3, 64, 64), 5, dtype=np.uint16)
    image[:, 30, 30:32] = 400
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "entry/data/data", data=image, chunks=(1, 64, 64), compression="gzip"
        )
        # Overwrite the compressed chunk of frame 1 by bytes that are no zlib stream.
        data.id.write_direct_chunk((1, 0, 0), b"not compressed data")
    done = cli("find-peaks", path, "-o", out, "-q")
    assert done.exit_code == 1, done.output
    assert "frame 1 failed" in one_line(done.stderr)
    assert "//1" in done.stderr
    assert out.exists()


def test_simulate_then_find(cli, tmp_path: Path) -> None:
    run = tmp_path / "sim.cxi"
    done = cli("simulate", run, "--frames", "1", "--seed", "3")
    assert done.exit_code == 0, done.output
    assert re.match(r"1 frames with \d+ true peaks", one_line(done.stdout))
    again = cli("simulate", run, "--frames", "1")
    assert again.exit_code == 2
    assert cli("find-peaks", run, "-q").exit_code == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", [0]), ("-1", [9]), ("3,1,3", [1, 3]), ("2:5", [2, 3, 4]), ("::4", [0, 4, 8])],
)
def test_frame_selection(text: str, expected: list[int]) -> None:
    assert frame_numbers(text, 10) == expected


@pytest.mark.parametrize("text", ["", "x", "10", "5:5", "1:2:3:4", "::0"])
def test_frame_selection_refuses_nothing_and_nonsense(text: str) -> None:
    with pytest.raises(ParameterError, match="--frames"):
        frame_numbers(text, 10)
