"""Pure functions between the peak table and the arrays of a Points layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_xtal.widgets import styles

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Columns shown as features (napari prints them in the status bar on hover), in this order.
FEATURE_COLUMNS = (
    "peak_id", "label", "snr", "intensity", "n_pixels", "max_value", "background", "sigma",
    "inv_d", "probability", "panel", "source",
)  # fmt: skip

_DIGITS = {"snr": 2, "intensity": 1, "background": 2, "sigma": 2, "inv_d": 4}


def positions(table: pd.DataFrame) -> NDArray[np.float64]:
    """Return (n_peaks, 3) float array, (frame, row, col), pixels."""
    return table[["frame", "row", "col"]].to_numpy(dtype=np.float64)


def features(table: pd.DataFrame) -> pd.DataFrame:
    """Return the feature table of a Points layer, rounded to what is worth reading."""
    columns = {name: table[name].array for name in FEATURE_COLUMNS if name in table.columns}
    for name, digits in _DIGITS.items():
        if name in columns:
            columns[name] = np.round(columns[name].to_numpy(), digits)
    return pd.DataFrame(columns)


def label_colours(table: pd.DataFrame) -> NDArray[np.float32]:
    """Return (n_peaks, 4) float array, RGBA of each peak's label."""
    codes, names = pd.factorize(table["label"].astype(str))
    palette = np.array(
        [_rgba(styles.LABEL_COLOURS.get(str(n), styles.OTHER_LABEL)) for n in names], np.float32
    ).reshape(-1, 4)
    return palette[codes]


def snr_colours(table: pd.DataFrame) -> NDArray[np.float32]:
    """Return (n_peaks, 4) float array, RGBA of log SNR; peaks without SNR are neutral grey."""
    from napari.utils.colormaps import ensure_colormap

    low, high = np.log(styles.SNR_COLOUR_RANGE)
    snr = np.clip(table["snr"].to_numpy(dtype=float), 1e-3, None)
    colours = ensure_colormap(styles.SNR_COLORMAP).map(
        np.clip((np.log(np.nan_to_num(snr, nan=1.0)) - low) / (high - low), 0, 1)
    )
    colours[np.isnan(snr)] = _rgba(styles.REJECTED_COLOUR)
    return np.asarray(colours, np.float32)


def probability_colours(table: pd.DataFrame) -> NDArray[np.float32]:
    """Return (n_peaks, 4) float array, RGBA of the probability; neutral grey without one."""
    probability = table["probability"].to_numpy(dtype=float)
    stops = np.array([_rgba(c) for c in styles.PROBABILITY_COLOURS], np.float32)
    at = np.linspace(0, 1, len(stops))
    known = np.nan_to_num(probability)
    colours = np.column_stack([np.interp(known, at, stops[:, k]) for k in range(4)])
    colours[np.isnan(probability)] = _rgba(styles.REJECTED_COLOUR)
    return colours.astype(np.float32)


#: Name in the dock -> colouring.
COLOUR_MODES = {"label": label_colours, "SNR": snr_colours, "probability": probability_colours}


def probability_limit(parameters: Any) -> float:
    """Return the least probability of shown peaks that a session's parameters name, else 0."""
    value = (parameters.get("verifier") or {}).get("min_probability", 0.0)
    usable = isinstance(value, (int, float)) and 0 <= value <= 1  # a hand-edited file
    return float(value) if usable else 0.0


def is_shown(table: pd.DataFrame, min_probability: float) -> NDArray[np.bool_]:
    """Return which peaks a limit of the probability leaves.

    Only machine-made peaks without a label are hidden: what a person placed, imported or
    labelled stays, and what no verifier has judged.

    Parameters
    ----------
    table : DataFrame
        Peak table.
    min_probability : float
        Least probability, 0 to 1.

    Returns
    -------
    (n_peaks,) ndarray of bool
    """
    low = table["probability"].to_numpy(dtype=np.float64) < min_probability  # False for NaN
    at = np.flatnonzero(low)
    shown = ~low
    if len(at):
        some = table.iloc[at]
        shown[at] = (some["label"] != "unlabelled") | (some["source"] != "auto")
    return shown


def near_frames(counts: NDArray[np.int64], frame: int, limit: int) -> tuple[int, int]:
    """Return the frame range [first, last) around one frame that holds at most `limit` peaks.

    Parameters
    ----------
    counts : (n_frames,) ndarray of int
        Peaks of each frame.
    frame : int
        The shown frame; it is always inside.
    limit : int
        Most peaks.

    Returns
    -------
    (int, int)
        First frame, and one past the last.
    """
    ends = np.concatenate([[0], np.cumsum(counts)])
    before = max(limit - int(counts[frame]), 0) // 2
    first = min(int(np.searchsorted(ends, ends[frame] - before)), frame)
    reach = max(ends[frame + 1], ends[first] + limit)
    return first, int(np.searchsorted(ends, reach, side="right")) - 1


def _rgba(colour: str) -> tuple[float, float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue, 1.0


def nearest(table: pd.DataFrame, frame: int, row: float, col: float, reach: float) -> Any:
    """Return the `peak_id` of the peak of one frame nearest to a position, or None.

    Parameters
    ----------
    table : DataFrame
        Peaks with `peak_id`.
    frame : int
        Frame index.
    row, col, reach : float
        Position and largest distance [px].
    """
    here = table[table["frame"] == frame]
    if here.empty:
        return None
    distance = np.hypot(here["row"].to_numpy() - row, here["col"].to_numpy() - col)
    best = int(distance.argmin())
    return here["peak_id"].iloc[best] if distance[best] <= reach else None
