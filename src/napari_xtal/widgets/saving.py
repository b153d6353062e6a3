"""Write the peaks of a run to the formats other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_xtal.errors import InputError, OutputError
from napari_xtal.widgets import peak_rows

if TYPE_CHECKING:
    import pandas as pd

FILTERS = "CXI with images, for CrystFEL (*.cxi);;Table (*.csv);;List of frames with peaks (*.lst)"
SUFFIXES = (".cxi", ".csv", ".lst")


def kept(table: pd.DataFrame) -> pd.DataFrame:
    """Return the peaks that are saved: all but those a person labelled not-peak."""
    return table[table["label"] != "not-peak"].drop(columns="peak_id", errors="ignore")


def shown_peaks(session: Any) -> tuple[pd.DataFrame, str]:
    """Return the peaks of a session that the probability filter leaves, for a file.

    Parameters
    ----------
    session : Session
        Peaks, and the limit among its parameters.

    Returns
    -------
    table : DataFrame
        Peak table; where peaks are left out, ``attrs["parameters"]`` tells the limit, how
        many they are, and the settings of the search.
    left_out : str
        The same for a message; empty when nothing is left out.
    """
    parameters, peaks = session.parameters, session.peaks
    limit = peak_rows.probability_limit(parameters)
    shown = peak_rows.is_shown(peaks, limit)
    n_hidden = len(shown) - int(shown.sum())
    if not n_hidden:
        return peaks, ""
    table = peaks[shown]
    table.attrs["parameters"] = {
        **parameters.get("peak_finder", {}),
        "verifier": parameters["verifier"],
        "left_out_below_min_probability": n_hidden,
    }
    return table, f"{n_hidden} unlabelled peaks with a probability below {limit:g} left out"


def save_peaks(
    path: str | Path, source: Any, table: pd.DataFrame, *, overwrite: bool = False
) -> Path:
    """Write peaks to a file; the suffix tells the format.

    Parameters
    ----------
    path : path-like
        ``.cxi`` (frames and peaks), ``.csv`` (all columns, also peaks labelled not-peak) or
        ``.lst`` (frames with at least one peak).
    source : FrameSource
        The run.
    table : DataFrame
        Peak table.
    overwrite : bool
        Whether an existing file may be replaced, once the new one is complete.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OutputError
        When the suffix is unknown, or the file exists or cannot be written.
    InputError
        When the frames come from no file and the format needs them.
    """
    from napari_xtal.io.peak_lists import write_csv, write_cxi, write_lst

    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".csv":
        rows = table.drop(columns="peak_id", errors="ignore")
        write_csv(path, source, rows, overwrite=overwrite)
    elif suffix not in SUFFIXES:
        raise OutputError(f"{path}: unknown suffix '{suffix}'; use {', '.join(SUFFIXES)}")
    elif not source.files:
        raise InputError(f"{path}: the frames come from no file; save the peaks as .csv")
    elif suffix == ".cxi":
        write_cxi(path, source, kept(table), overwrite=overwrite)
    else:
        frames = sorted(set(kept(table)["frame"]))
        write_lst(path, [source.ids[int(f)] for f in frames], overwrite=overwrite)
    return path
