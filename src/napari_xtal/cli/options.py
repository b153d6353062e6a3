"""Arguments and options that commands share; peak finder options from the parameter model."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_xtal.errors import ParameterError
from napari_xtal.peaks.parameters import PRESETS, PeakFinderParams

if TYPE_CHECKING:
    from collections.abc import Callable

Files = Annotated[
    list[Path],
    typer.Argument(
        help="Frame files of one run: CXI, NeXus, HDF5, CBF, TIFF, EDF (also .gz, .bz2)."
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option(help="Path of the image dataset in an HDF5 file; found by itself when unique."),
]
Mask = Annotated[
    Path | None, typer.Option(help="Mask file (HDF5, TIFF, NPY …) used besides the file's own.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


def with_parameters(command: Callable[..., None]) -> Callable[..., None]:
    """Replace ``**parameters`` of a command by one option per peak finder parameter.

    The options take title, unit, range and meaning from the metadata of
    `PeakFinderParams`; None means "not given".
    """
    signature = inspect.signature(command, eval_str=True)
    kept = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    added = []
    for f in dataclasses.fields(PeakFinderParams):
        meta, flag = f.metadata, "--" + f.name.replace("_", "-")
        kind, metavar = type(f.default), None
        facts = [f"default {str(f.default).lower()}"]
        if "choices" in meta:
            metavar = "|".join(meta["choices"])
        elif kind is bool:
            flag = f"{flag}/--no-{flag[2:]}"
        else:
            facts.insert(0, f"{meta['min']:g} to {meta['max']:g} {meta['unit']}".rstrip())
        if f.name != "method":
            facts.append("for " + ", ".join(meta["methods"]))
        option = typer.Option(
            flag,
            metavar=metavar,
            help=f"{meta['doc']} ({'; '.join(facts)})",
        )
        annotation: Any = Annotated[kind | None, option]  # type: ignore[valid-type]
        added.append(
            inspect.Parameter(
                f.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
            )
        )
    command.__signature__ = signature.replace(parameters=[*kept, *added])  # type: ignore[attr-defined]
    return command


def read_parameters(
    file: Path | None, preset: str | None, options: dict[str, Any]
) -> PeakFinderParams:
    """Join defaults, preset or TOML file, and the options that were given, in this order."""
    if file is not None and preset is not None:
        raise ParameterError("give --params or --preset, not both")
    start = PeakFinderParams()
    if file is not None:
        start = PeakFinderParams.load(file)
    elif preset is not None:
        matches = [name for name in PRESETS if name.lower().startswith(preset.lower())]
        if len(matches) != 1:
            raise ParameterError(
                f"no single preset is called '{preset}'; known: {'; '.join(PRESETS)}"
            )
        start = PRESETS[matches[0]]
    return start.replace(**{name: value for name, value in options.items() if value is not None})


def frame_numbers(text: str, n_frames: int) -> list[int]:
    """Read a selection such as ``0,5,10:20`` or ``::100`` (Python's slices)."""
    chosen: list[int] = []
    for part in text.split(","):
        try:
            numbers = [int(n) if n.strip() else None for n in part.split(":")]
            if len(numbers) == 1:
                chosen.append(range(n_frames)[numbers[0]])  # type: ignore[index]
            else:
                chosen.extend(range(n_frames)[slice(*numbers)])
        except (ValueError, TypeError, IndexError):
            raise ParameterError(
                f"--frames '{text}': '{part}' selects nothing of {n_frames} frames; "
                "give numbers or start:stop[:step], e.g. 0,5,10:20"
            ) from None
    if not chosen:
        raise ParameterError(f"--frames '{text}' selects none of {n_frames} frames")
    return sorted(set(chosen))
