"""Real frames with truth, read straight from the files (independent of ``napari_xtal.io``).

The data are not part of the repository: ``XTAL_DATA`` names their folder
(default ``../shared/data`` beside the repository). Every set states its truth
(`RealFrame.truth`) and the positions that must not count as false
(`RealFrame.known`, `RealFrame.seen`); see `benchmarks.real_frames` for the rules.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

Positions = NDArray[np.float64]  # (n, 2) row, col
NO_POSITIONS: Positions = np.zeros((0, 2))


@dataclass(frozen=True)
class RealFrame:
    """One real frame and what is known about it.

    Attributes
    ----------
    set : str
        Name of the data set.
    index : int
        Frame number inside the file.
    image : (ss, fs) ndarray
        Pixel values in the file's dtype.
    good : (ss, fs) ndarray of bool
        The file's own mask; hot pixels that the file does not know stay good.
    centre : (float, float) or None
        Beam centre (row, col), integer = pixel centre; None when the file has none.
    truth : DataFrame
        Peaks that a finder should report: ``row, col`` (predicted, or observed where
        there is no prediction), ``row_obs, col_obs`` (observed), ``snr`` (box-summed,
        no peak search involved), ``isolated``.
    known : (n, 2) ndarray
        Row, col of everything the lattice predicts, of any strength.
    seen : (n, 2) ndarray
        Row, col of observed peaks that are accepted as real or neutral.
    unsure : (n, 2) ndarray
        Further peaks of the reference finder, accepted by the looser rule only.
    asics : (int, int)
        Panels along (ss, fs), all of one size.
    blank : bool
        Whether the frame holds no crystal diffraction: every report is false.
    """

    set: str
    index: int
    image: NDArray[Any]
    good: NDArray[np.bool_]
    centre: tuple[float, float] | None
    truth: pd.DataFrame
    known: Positions = field(default_factory=lambda: NO_POSITIONS)
    seen: Positions = field(default_factory=lambda: NO_POSITIONS)
    unsure: Positions = field(default_factory=lambda: NO_POSITIONS)
    asics: tuple[int, int] = (1, 1)
    blank: bool = False

    @property
    def radius(self) -> NDArray[np.float32] | None:
        """Distance from the beam centre in pixels, or None when the file has no centre."""
        return None if self.centre is None else _radius(self.image.shape, self.centre)

    @property
    def radius_or_middle(self) -> NDArray[np.float32]:
        """As `radius`; the distance from the middle of the frame when there is no centre.

        The stand-in of methods that need some centre (JUNGFRAU, L-cysteine, CSPAD, powder).
        """
        rows, cols = self.image.shape
        return _radius(self.image.shape, self.centre or ((rows - 1) / 2, (cols - 1) / 2))


@cache
def _radius(shape: tuple[int, int], centre: tuple[float, float]) -> NDArray[np.float32]:
    rows = np.arange(shape[0])[:, None] - centre[0]
    cols = np.arange(shape[1])[None, :] - centre[1]
    return np.hypot(rows, cols).astype(np.float32)


def data_folder() -> Path:
    """Return the folder of the real data; it need not exist."""
    default = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
    return Path(os.environ.get("XTAL_DATA", default)).resolve()


def _positions(table: pd.DataFrame, row: str = "y", col: str = "x") -> Positions:
    return table[[row, col]].to_numpy(dtype=float)


def _truth(table: pd.DataFrame, predicted: str, observed: str, snr: str) -> pd.DataFrame:
    """Return the truth columns; `predicted` and `observed` end the names of x and y."""
    isolated = table["isolated"].astype(bool) if "isolated" in table else True
    return pd.DataFrame(
        {
            "row": table[f"y{predicted}"].to_numpy(float),
            "col": table[f"x{predicted}"].to_numpy(float),
            "row_obs": table[f"y{observed}"].to_numpy(float),
            "col_obs": table[f"x{observed}"].to_numpy(float),
            "snr": table[snr].to_numpy(float),
            "isolated": isolated,
        }
    )


def _lattice_frame(
    name: str, index: int, predicted: pd.DataFrame, reference: pd.DataFrame, **rest: Any
) -> RealFrame:
    """Build a frame whose truth is a lattice: predictions and the reference finder's peaks."""
    predicted = predicted[predicted["index"] == index]
    reference = reference[reference["index"] == index]
    on_lattice = reference["on_lattice"] == 1
    return RealFrame(
        name,
        index,
        truth=_truth(predicted, "_pred", "_obs", "snr"),
        known=_positions(predicted, "y_pred", "x_pred"),
        seen=_positions(reference[on_lattice]),
        unsure=_positions(reference[~on_lattice]),
        **rest,
    )


def _thaumatin(folder: Path) -> Iterator[RealFrame]:
    """PILATUS 6M stills: 10 crystal frames; source frames 16, 18, 19 are blank."""
    folder /= "dials-thaumatin-grid"
    predicted = pd.read_csv(folder / "bragg_predicted.csv")
    reference = pd.read_csv(folder / "reference_peaks.csv")
    labels = pd.read_csv(folder / "labels.csv").set_index("index")["label"]
    with h5py.File(folder / "thaumatin_grid_13frames.h5") as file:
        detector = file["entry/instrument/detector"]
        good = detector["pixel_mask"][()] == 0
        # The file counts from the pixel's corner.
        centre = (detector["beam_center_y"][()] - 0.5, detector["beam_center_x"][()] - 0.5)
        for i, image in enumerate(file["entry/data/data"]):
            blank = labels[i] == "blank"
            yield _lattice_frame(
                "thaumatin", i, predicted, reference, image=image, good=good, centre=centre,
                blank=blank,
            )  # fmt: skip


def _rayonix(folder: Path) -> Iterator[RealFrame]:
    """Rayonix MX340, one XFEL frame with two lattices, water ring and shadow edge."""
    folder /= "dials-rayonix-kapton"
    predicted = pd.read_csv(folder / "bragg_predicted.csv")
    reference = pd.read_csv(folder / "reference_peaks.csv")
    with h5py.File(folder / "rayonix_mx340_hit.h5") as file:
        detector = file["entry/instrument/detector"]
        yield _lattice_frame(
            "rayonix", 0, predicted, reference,
            image=file["entry/data/data"][0],
            good=detector["pixel_mask"][()] == 0,
            centre=(float(detector["beam_center_y"][()]), float(detector["beam_center_x"][()])),
        )  # fmt: skip


def _jungfrau(folder: Path) -> Iterator[RealFrame]:
    """One JUNGFRAU module: truth by persistence over neighbouring frames, no beam centre.

    Confirmed: on the previous or next frame as well, but not on all 20 (a hot pixel,
    which counts as false). Reference peaks seen on one frame only are neutral.
    """
    folder /= "jungfraujoch-module"
    reference = pd.read_csv(folder / "reference_peaks.csv")
    reference["box_snr"] = reference["box_snr"].fillna(reference["max_snr"])
    with h5py.File(folder / "jungfrau_module_13frames.cxi") as file:
        good = file["entry_1/data_1/mask"][()] == 0
        for i, image in enumerate(file["entry_1/data_1/data"]):
            peaks = reference[(reference["index"] == i) & (reference["n_other_frames_seen"] < 19)]
            confirmed = peaks[peaks["n_adjacent_frames_seen"] >= 1]
            yield RealFrame(
                "jungfrau", i, image, good, None,
                truth=_truth(confirmed, "", "", "box_snr"),
                seen=_positions(peaks),
            )  # fmt: skip


def _lcysteine(folder: Path) -> Iterator[RealFrame]:
    """PILATUS 2M at 2theta 30 degrees, nearly no background; DIALS's reflections as truth.

    A reflection listed twice on a frame (or two within 2 px) counts once, as its
    strongest row. The file has no beam centre.
    """
    folder /= "dials-lcysteine"
    table = pd.read_csv(folder / "dials_reflections_01.csv")
    table = table.sort_values("frame_box_snr", ascending=False)
    with h5py.File(folder / "lcyst_01_10frames.h5") as file:
        good = file["entry/instrument/detector/pixel_mask"][()] == 0
        for i, image in enumerate(file["entry/data/data"]):
            rows = table[table["index"] == i]
            observed = _positions(rows, "y_obs", "x_obs")
            distance = np.hypot(*(observed[:, None] - observed[None]).transpose(2, 0, 1))
            repeated = (np.tril(distance < 2, -1)).any(axis=1)
            yield RealFrame(
                "lcysteine", i, image, good, None,
                truth=_truth(rows[~repeated], "_cal", "_obs", "frame_box_snr"),
                known=_positions(rows, "y_cal", "x_cal"),
                seen=observed,
            )  # fmt: skip


def _cspad(folder: Path) -> Iterator[RealFrame]:
    """One CSPAD 2x1 sensor; 16 peaks checked by eye, so real weaker ones count as false."""
    folder /= "lcls2-cspad-sensor"
    image = np.load(folder / "cxitut13_r10_32_cspadAsic.npy")
    peaks = pd.read_csv(folder / "reference_peaks.csv")
    border_spot = np.array([[167.0, 193.0]])  # left out of the reference on purpose
    yield RealFrame(
        "cspad", 0, image, np.ones(image.shape, bool), None,
        truth=_truth(peaks, "", "", "max_snr"),
        seen=np.concatenate([_positions(peaks), border_spot]),
        asics=(1, 2),
    )  # fmt: skip


def _powder(folder: Path) -> Iterator[RealFrame]:
    """Powder rings (0: CeO2, smooth; 1: magnetite, spotty): a Bragg finder should stay quiet."""
    import fabio

    folder /= "powder-rings"
    with h5py.File(folder / "ceria_50x30_740mm_000005_Pilatus2M.hdf5") as file:
        images = [file["imageseries/images"][0]]
    images.append(fabio.open(str(folder / "Fe3O4C_M1_map_1_P1_E1_001.tif")).data)
    none = pd.DataFrame(columns=["row", "col", "row_obs", "col_obs", "snr", "isolated"])
    for i, image in enumerate(images):
        yield RealFrame("powder", i, image, image >= 0, None, none.astype(float), blank=True)


SETS: dict[str, Callable[[Path], Iterator[RealFrame]]] = {
    "thaumatin": _thaumatin,
    "jungfrau": _jungfrau,
    "rayonix": _rayonix,
    "lcysteine": _lcysteine,
    "cspad": _cspad,
    "powder": _powder,
}


@cache
def load(name: str) -> tuple[RealFrame, ...]:
    """Return all frames of a set; kept in memory after the first call.

    Raises
    ------
    FileNotFoundError
        When the data folder is missing; the message names ``XTAL_DATA``.
    """
    folder = data_folder()
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no real data here; set XTAL_DATA to their folder")
    return tuple(SETS[name](folder))
