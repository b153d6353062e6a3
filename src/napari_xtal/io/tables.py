"""Peak tables as CSV: readable anywhere, lossless back.

The file begins with comment lines (``# ``) that state units and conventions, then a
header row, then one row per peak. Text that a spreadsheet would take for a formula is
written behind an apostrophe.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_xtal.errors import InputError
from napari_xtal.files import new_file
from napari_xtal.io.hdf5 import check_file
from napari_xtal.peaks.table import PEAK_COLUMNS, empty_table, validate

_MAGIC = "# napari-xtal peak table 1"
_UNITS = (
    "# frame: index into the run, from 0; file, event: identity of the frame (CrystFEL event)",
    "# row, col: pixels along slow and fast axis, integer = pixel centre",
    "# ss, fs: the same position as in CrystFEL streams, row + 0.5 and col + 0.5",
    "# inv_d_nm: 1/d in 1/nm; intensity, background, sigma, max_value: ADU; snr: no unit",
    "# n_pixels: pixels of the peak; probability: 0 to 1; empty = not known",
)
_FORMULA = ("=", "+", "-", "@", "'", "\t", "\r")
#: Name in the file of a column of the table, where it differs.
_RENAMED = {"inv_d": "inv_d_nm"}
_IDENTITY = ("file", "dataset", "event")


class _QuoteFew(csv.excel):
    lineterminator = "\n"


class _QuoteAll(_QuoteFew):
    quoting = csv.QUOTE_ALL


def write_csv(
    path: str | os.PathLike[str], src: Any, tab: pd.DataFrame, *, overwrite: bool = False
) -> None:
    """Write a peak table as CSV.

    Parameters
    ----------
    path : path-like
        File to make.
    src : FrameSource or None
        Where the frames came from, for the columns file and event.
    tab : DataFrame
        Peak table; extra columns of numbers or text are written too, and
        ``tab.attrs["parameters"]`` goes into the comment lines.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    OutputError
        When the file exists or cannot be written.
    InputError
        When the table is not a peak table.
    """
    parameters = tab.attrs.get("parameters")
    tab = validate(tab, None if src is None else len(src))
    extra = [c for c in tab.columns if c not in PEAK_COLUMNS and c not in (*_IDENTITY, "fs", "ss")]
    kinds = {str(c): _kind(tab[c]) for c in extra}
    identities = {int(f): src.ids[int(f)] for f in tab["frame"].unique()} if src is not None else {}
    names = ["frame", *_IDENTITY, "panel", "row", "col", "fs", "ss", "inv_d"]
    names += [c for c in PEAK_COLUMNS if c not in names] + [str(c) for c in extra]
    with (
        new_file(path, overwrite=overwrite) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        lines = [_MAGIC, *_UNITS, f"# extra columns: {json.dumps(kinds)}"]
        if parameters is not None:
            lines.append(f"# parameters: {json.dumps(parameters, default=str)}")
        file.write("\n".join(lines) + "\n")
        columns = [_column(tab, name, identities) for name in names]
        # The csv module leaves a lone carriage return unquoted, which ends the row on reading.
        unusual = any("\r" in text for column in columns for text in column)
        dialect = _QuoteAll if unusual else _QuoteFew
        writer = csv.writer(file, dialect)
        writer.writerow([_RENAMED.get(name, name) for name in names])
        writer.writerows(zip(*columns, strict=True))


def read_csv(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a peak table written by `write_csv`, or a CSV with frame, row and col (or fs, ss).

    Raises
    ------
    InputError
        When it is not such a table; the message names line and column.
    """
    path = os.fspath(check_file(path))
    parameters: Any = None
    kinds: Any = {}
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            position = 0
            for line in iter(file.readline, ""):
                if not line.startswith("#"):
                    break
                position = file.tell()
                if line.startswith("# parameters: "):
                    parameters = json.loads(line[14:])
                elif line.startswith("# extra columns: "):
                    kinds = json.loads(line[17:])
            file.seek(position)
            rows = list(csv.reader(file))
    except (csv.Error, ValueError, OSError) as error:
        raise InputError(f"{path}: not a CSV peak table ({error})") from error
    if not rows:
        raise InputError(f"{path}: no header row; expected columns such as frame, row, col")
    names, body = rows[0], [row for row in rows[1:] if row]
    for number, row in enumerate(body):
        if len(row) != len(names):
            raise InputError(
                f"{path}: row {number + 1} has {len(row)} values, the header {len(names)}"
            )
    columns = list(zip(*body, strict=True)) if body else [()] * len(names)
    texts = dict(zip(names, columns, strict=True))
    tab = _from_text(path, texts, kinds if isinstance(kinds, dict) else {})
    if parameters is not None:
        tab.attrs["parameters"] = parameters
    return tab


def _from_text(path: str, texts: dict[str, tuple[str, ...]], kinds: dict[str, str]) -> pd.DataFrame:
    back = {value: key for key, value in _RENAMED.items()}
    given = {back.get(name, name): values for name, values in texts.items()}
    if "row" not in given and "ss" in given and "col" not in given and "fs" in given:
        half = np.float64(0.5)
        given["row"] = tuple(str(v - half) for v in _floats(path, "ss", given["ss"]))
        given["col"] = tuple(str(v - half) for v in _floats(path, "fs", given["fs"]))
    for name in ("frame", "row", "col"):
        if name not in given:
            raise InputError(f"{path}: column '{name}' is missing; found {', '.join(texts)}")
    if not given["frame"]:
        return empty_table()  # pandas would guess types for columns without rows
    columns: dict[str, Any] = {}
    for name, values in given.items():
        if name in ("fs", "ss"):
            continue
        dtype = PEAK_COLUMNS.get(name) or kinds.get(name, "text")
        if dtype in ("int64", "int"):
            columns[name] = _integers(path, name, values)
        elif dtype in ("float64", "float"):
            columns[name] = _floats(path, name, values)
        elif dtype == "bool":
            columns[name] = np.array([v == "True" for v in values])
        else:
            columns[name] = pd.Series([_unguard(v) for v in values], dtype="str")
    if "source" not in columns:
        columns["source"] = "import"
    if "label" not in columns:
        columns["label"] = "unlabelled"
    for name in _IDENTITY:
        if name in columns and not any(columns[name]):
            del columns[name]
    return validate(pd.DataFrame(_full(columns)))


def _full(columns: dict[str, Any]) -> dict[str, Any]:
    n = len(columns["frame"])
    return {k: ([v] * n if isinstance(v, str) else v) for k, v in columns.items()}


def _kind(values: pd.Series) -> str:
    return {"i": "int", "u": "int", "f": "float", "b": "bool"}.get(values.dtype.kind, "text")


def _column(tab: pd.DataFrame, name: str, identities: dict[int, Any]) -> list[str]:
    if name in _IDENTITY:
        if identities:
            return [_guard(getattr(identities[f], name)) for f in tab["frame"].tolist()]
        if name not in tab.columns:
            return [""] * len(tab)
        return [_guard(v) for v in tab[name].tolist()]
    if name in ("fs", "ss"):
        return [repr(v + 0.5) for v in tab["col" if name == "fs" else "row"].tolist()]
    values = tab[name].tolist()
    kind = _kind(tab[name])
    if kind == "float":
        return ["" if v != v else repr(v) for v in values]
    return [str(v) for v in values] if kind in ("int", "bool") else [_guard(v) for v in values]


def _guard(value: Any) -> str:
    text = "" if value is None or value is pd.NA or value != value else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _unguard(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def _floats(path: str, name: str, values: tuple[str, ...]) -> np.ndarray:
    try:
        return np.array([float(v) if v else np.nan for v in values], dtype=np.float64)
    except ValueError as error:
        raise InputError(f"{path}: column '{name}': {error}") from None


def _integers(path: str, name: str, values: tuple[str, ...]) -> np.ndarray:
    try:
        return np.array([int(v) if v else 0 for v in values], dtype=np.int64)
    except (ValueError, OverflowError):
        numbers = _floats(path, name, values)
        if not np.isfinite(numbers).all() or (numbers != np.rint(numbers)).any():
            raise InputError(f"{path}: column '{name}' must hold whole numbers") from None
        return numbers.astype(np.int64)


def write_lst(path: str | os.PathLike[str], ids: Any, *, overwrite: bool = False) -> Path:
    """Write a CrystFEL event list: one line ``file event`` per frame.

    Parameters
    ----------
    path : path-like
        File to make.
    ids : iterable of FrameId
        The frames.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    OutputError
        When it cannot be written.
    InputError
        When a file name cannot stand in such a list.
    """
    lines = []
    for identity in ids:
        # CrystFEL takes the last field for an event only if it contains //.
        line = f"{identity.file} {identity.event or '//'}"
        if "\n" in line or "\r" in line:
            raise InputError(f"{identity.file!r}: a name with a line break cannot be listed")
        if len(os.fsencode(line)) > 1023:
            raise InputError(f"{identity.file}: CrystFEL reads lines of at most 1023 bytes")
        lines.append(line + "\n")
    with (
        new_file(path, overwrite=overwrite) as temporary,
        open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file,
    ):
        file.writelines(lines)
    return Path(path)
