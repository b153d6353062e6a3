"""The peak table: one schema for every finder, reader, writer and view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_xtal.errors import InputError
from napari_xtal.peaks import spots

if TYPE_CHECKING:
    from collections.abc import Iterable

LABELS = ("unlabelled", "peak", "not-peak", "unsure")
SOURCES = ("auto", "manual", "import")

#: Column name -> dtype. Positions are pixel-centre indices, (row, col) = (ss, fs).
PEAK_COLUMNS: dict[str, str] = {
    "frame": "int64",  # index into the frame source
    "row": "float64",  # sub-pixel slow-scan position [px]
    "col": "float64",  # sub-pixel fast-scan position [px]
    "panel": "int64",  # panel number, 0 without geometry
    "intensity": "float64",  # background-subtracted sum [ADU]
    "background": "float64",  # local background per pixel [ADU]
    "sigma": "float64",  # noise of the background per pixel [ADU]
    "snr": "float64",  # significance of the peak
    "n_pixels": "int64",  # pixels that belong to the peak
    "max_value": "float64",  # highest raw pixel value [ADU]
    "inv_d": "float64",  # 1/d [1/nm], NaN without geometry
    "probability": "float64",  # verifier, NaN if not run
    "label": "str",  # see LABELS; further names are allowed
    "source": "str",  # see SOURCES
}

_DEFAULTS: dict[str, object] = {
    "panel": 0,
    "intensity": np.nan,
    "background": np.nan,
    "sigma": np.nan,
    "snr": np.nan,
    "n_pixels": 0,
    "max_value": np.nan,
    "inv_d": np.nan,
    "probability": np.nan,
    "label": "unlabelled",
    "source": "auto",
}


def empty_table() -> pd.DataFrame:
    """Return a peak table with no rows and every column in its dtype."""
    return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in PEAK_COLUMNS.items()})


def make_table(**columns: Any) -> pd.DataFrame:
    """Build a peak table from columns; the ones not given take their default.

    Parameters
    ----------
    **columns
        Arrays of equal length (or scalars) by column name. ``frame``, ``row`` and
        ``col`` are needed; names outside the schema are kept as extra columns.

    Returns
    -------
    DataFrame
        A valid peak table.

    Raises
    ------
    InputError
        When a needed column is missing or the lengths differ.
    """
    for name in ("frame", "row", "col"):
        if name not in columns:
            raise InputError(f"peak table: column '{name}' is missing; give frame, row and col")
    # The first per-peak array fixes the length, so that scalars can stand for whole columns.
    n = max((len(v) for v in columns.values() if np.ndim(v) == 1), default=1)
    data: dict[str, Any] = {}
    for name, dtype in PEAK_COLUMNS.items():
        value = columns.get(name, _DEFAULTS.get(name))
        if np.ndim(value) == 0:
            value = [value] * n
        if len(value) != n:
            raise InputError(f"peak table: column '{name}' has another length than the others")
        data[name] = pd.Series(value, dtype=dtype)  # type: ignore[call-overload]
    for name, value in columns.items():
        if name not in PEAK_COLUMNS:
            data[name] = value
    return pd.DataFrame(data)


def validate(table: pd.DataFrame, n_frames: int | None = None) -> pd.DataFrame:
    """Check a peak table against the schema and return it with exact dtypes.

    Parameters
    ----------
    table : DataFrame
        Peak table; missing optional columns are filled with their defaults.
    n_frames : int, optional
        Number of frames of the source; frame indices must lie below it.

    Returns
    -------
    DataFrame
        The table with all columns of the schema, extra columns kept behind them.

    Raises
    ------
    InputError
        When frame, row or col are missing, not finite, or out of range.
    """
    if not isinstance(table, pd.DataFrame):
        raise InputError(f"peak table: expected a pandas DataFrame, got {type(table).__name__}")
    for name in ("frame", "row", "col"):
        if name not in table.columns:
            raise InputError(f"peak table: column '{name}' is missing; give frame, row and col")
        if len(table) and not np.isfinite(table[name].to_numpy(dtype=float)).all():
            raise InputError(f"peak table: column '{name}' holds NaN or infinite values")
    frames = table["frame"].to_numpy()
    if len(table) and (frames.min() < 0 or (n_frames is not None and frames.max() >= n_frames)):
        raise InputError(
            f"peak table: frame indices {frames.min()}..{frames.max()} do not fit a source of "
            f"{n_frames} frames"
        )
    columns: dict[str, object] = {name: table[name].to_numpy() for name in table.columns}
    return make_table(**columns).set_index(table.index)


def concat(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Join peak tables, row order kept; an empty list gives an empty table."""
    parts = [t for t in tables if len(t)]
    if not parts:
        return empty_table()
    return pd.concat(parts, ignore_index=True)


_UNLABELLED = pd.array(["unlabelled"], dtype="str")
_AUTO = pd.array(["auto"], dtype="str")


def peak_frame(values: Any, frame: int, panel: Any, inv_d: Any) -> pd.DataFrame:
    """Return the peak table of one frame from what a finder measured.

    The general `make_table` costs ten times as much, too much for a preview.

    Parameters
    ----------
    values : (n, 8 or more) ndarray
        Columns in the order of `napari_xtal.peaks.spots`.
    frame : int
        Index of the frame.
    panel, inv_d : (n,) array_like
        Panel number and 1/d [1/nm] of each peak.

    Returns
    -------
    DataFrame
        A valid peak table.
    """
    n = len(values)
    columns = np.asarray(values[:, : spots.MAXIMUM + 1], np.float64)
    take = np.zeros(n, np.int64)
    return pd.DataFrame(
        {
            "frame": np.full(n, frame, np.int64),
            "row": columns[:, spots.ROW],
            "col": columns[:, spots.COL],
            "panel": np.asarray(panel, np.int64),
            "intensity": columns[:, spots.INTENSITY],
            "background": columns[:, spots.BACKGROUND],
            "sigma": columns[:, spots.SIGMA],
            "snr": columns[:, spots.SNR],
            "n_pixels": columns[:, spots.N_PIXELS].astype(np.int64),
            "max_value": columns[:, spots.MAXIMUM],
            "inv_d": inv_d,
            "probability": np.full(n, np.nan),
            "label": _UNLABELLED.take(take),
            "source": _AUTO.take(take),
        },
        copy=False,
    )
