"""Commands about which peaks are real: train a verifier, compare peak lists."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

import napari_xtal as xtal
from napari_xtal.cli.options import Dataset, Files, Mask, Overwrite, Quiet
from napari_xtal.cli.running import check_outputs, interruptible, progress_bar
from napari_xtal.errors import InputError, ParameterError

if TYPE_CHECKING:
    import pandas as pd

    from napari_xtal.session.reading import SessionContent

#: Ending of the model file by kind of verifier.
SUFFIXES = {"cnn": ".safetensors", "svm": ".skops"}
REPORT_SUFFIXES = (".json", ".csv", ".png", ".pdf")


commands = typer.Typer()


@commands.command("train-peaks")
def train_peaks(
    files: Files,
    labels: Annotated[
        Path,
        typer.Option(
            help="Labelled peaks: a session folder (.xtal) made by the window, or a .csv peak "
            "list with a column label (peak, not-peak; others are ignored)."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="Model to write: .safetensors (cnn), .skops (svm)."),
    ],
    kind: Annotated[str, typer.Option(help="Verifier: cnn or svm.")] = "cnn",
    start: Annotated[
        str,
        typer.Option(
            help="Model to improve (cnn): default (the one we ship), scratch, or a .safetensors "
            "file."
        ),
    ] = "default",
    seed: Annotated[int, typer.Option(min=0, help="Seed; the same seed, the same weights.")] = 0,
    report: Annotated[
        list[Path] | None,
        typer.Option(
            help="Report to write: .json, .csv, .png or .pdf. May be given several times."
        ),
    ] = None,
    into_session: Annotated[
        bool, typer.Option("--into-session", help="Store the model in the session of --labels too.")
    ] = False,
    dataset: Dataset = None,
    mask: Mask = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Train a verifier on labelled peaks; its report comes from labels held out of training."""
    if kind not in SUFFIXES:
        raise ParameterError(f"--kind '{kind}': choose {' or '.join(SUFFIXES)}")
    reports = report or []
    check_outputs([output], overwrite, (SUFFIXES[kind],))
    check_outputs(reports, overwrite, REPORT_SUFFIXES)
    if into_session and not labels.is_dir():
        raise ParameterError("--into-session needs a session folder as --labels")
    source = xtal.open_frames(files, mask=mask, dataset=dataset)
    inputs = [Path(name) for name in source.files]
    check_outputs([output, *reports], True, (SUFFIXES[kind], *REPORT_SUFFIXES), [*inputs, labels])
    source, table, session = _labelled(source, files, labels, dataset)
    with progress_bar("training", quiet) as progress, interruptible() as interrupted:
        verifier = xtal.train_verifier(
            source, table, kind=kind, start=start, seed=seed, progress=progress, cancel=interrupted
        )
        stopped = interrupted()
    verifier.save(output, overwrite=overwrite)
    for path in reports:
        verifier.report.save(path, overwrite=overwrite)
    stored = ""
    if into_session and session is not None:
        from napari_xtal.peaks.verify.train import model_info

        name = session.models.add(
            verifier.save, SUFFIXES[kind], model_info(verifier), verifier.report.to_dict()
        )
        stored = f", {name} in {labels}"
    typer.echo(verifier.report.text())
    written = ", ".join(str(path) for path in [output, *reports])
    typer.echo(
        f"{kind} verifier {verifier.hash} trained on {verifier.report.n} labels; {written}{stored}"
        + ("; interrupted, the best model so far" if stopped else "")
    )
    if stopped:
        raise typer.Exit(1)


@commands.command("match-peaks")
def match_peaks(
    found: Annotated[Path, typer.Argument(help="Peak list: .cxi, .h5 or .csv.")],
    reference: Annotated[Path, typer.Argument(help="Peak list taken for the truth.")],
    tolerance: Annotated[
        float, typer.Option(min=0, help="Largest distance of a pair [px], inclusive.")
    ] = 2.0,
) -> None:
    """Compare two peak lists: common peaks, peaks only in one, precision, recall, F1."""
    ours, theirs = _same_frames(xtal.read_peaks(found), xtal.read_peaks(reference))
    match = xtal.match_peaks(ours, theirs, tolerance)
    for name, number in (
        ("common", len(match.common)),
        ("only found", len(match.only_found)),
        ("only reference", len(match.only_reference)),
    ):
        typer.echo(f"{name + ':':<16}{number}")
    rates = (f"{n} {_rate(getattr(match, n.lower()))}" for n in ("precision", "recall", "F1"))
    n_frames = len(match.per_frame)
    typer.echo(f"{', '.join(rates)} on {n_frames} frames (pairs up to {tolerance:g} px)")


def load_for(verify: bool, name: str | None, least: float | None) -> Any:
    """Return the verifier that ``find-peaks`` was asked for, None when for none.

    Raises
    ------
    ParameterError
        When options of the verifier are given without ``--verify``.
    InputError
        When it cannot be loaded.
    """
    if not verify:
        for option, value in (("--verifier", name), ("--min-probability", least)):
            if value is not None:
                raise ParameterError(f"{option} needs --verify; give it too")
        return None
    return xtal.load_verifier(name or "default")


def accepted(table: pd.DataFrame, model: str, least: float | None) -> tuple[pd.DataFrame, int]:
    """Return the peaks that are not below a probability, and how many are."""
    parameters = {**table.attrs["parameters"], "verifier": model, "min_probability": least}
    keep = ~(table["probability"] < (least or 0.0))
    kept = table[keep]
    kept.attrs["parameters"] = parameters
    return kept, int((~keep).sum())


def _labelled(
    source: Any, files: list[Path], labels: Path, dataset: str | None
) -> tuple[Any, pd.DataFrame, SessionContent | None]:
    """Return frames, labelled peaks, and the session these come from."""
    from napari_xtal.session.reading import read_session

    if not labels.is_dir():
        return source, _in_run(xtal.read_peaks(labels), source, labels), None
    session = read_session(labels, source.ids)
    for notice in session.notices:
        typer.echo(f"note: {notice}", err=True)
    pixels = session.parameters.get("mask", {}).get("pixels", [])
    if pixels:
        # What the user masked in the window must not be learnt from.
        good = source.good.copy()
        good[tuple(np.array(pixels).T)] = False
        source = xtal.open_frames(files, mask=good, dataset=dataset)
    return source, session.peaks, session


def _in_run(table: pd.DataFrame, source: Any, path: Path) -> pd.DataFrame:
    """Let frame numbers of a list count in this run, by the frames' identities."""
    from napari_xtal.session.frames import FrameIndex

    if not {"file", "event"} <= set(table.columns):
        return table
    dataset = table["dataset"] if "dataset" in table else [""] * len(table)
    index = FrameIndex(source.ids)
    known = [
        index.index([str(part) for part in identity])
        for identity in zip(table["file"], dataset, table["event"], strict=True)
    ]
    table = table.assign(frame=known)
    lost = int((table["frame"] < 0).sum())
    if lost and lost == len(table):
        raise InputError(f"{path}: none of its frames is in the run; name the run's own files")
    if lost:
        typer.echo(f"note: {lost} peaks of {path} lie on frames of other files", err=True)
    return table[table["frame"] >= 0]


def _same_frames(one: pd.DataFrame, other: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give frames the same numbers in two lists, by file and event where both name them."""
    if any(not {"file", "event"} <= set(table.columns) for table in (one, other)):
        return one, other
    numbers: dict[tuple[str, str, str], int] = {}
    renamed = []
    for table in (one, other):
        dataset = table["dataset"] if "dataset" in table else [""] * len(table)
        names = [Path(str(f)).name for f in table["file"]]
        identities = zip(names, map(str, dataset), map(str, table["event"]), strict=True)
        renamed.append(
            table.assign(frame=[numbers.setdefault(i, len(numbers)) for i in identities])
        )
    return renamed[0], renamed[1]


def _rate(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"
