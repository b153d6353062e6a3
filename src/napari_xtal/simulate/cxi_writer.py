"""Write simulated frames to a CXI file as they come, with the truth beside them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import h5py
import numpy as np

from napari_xtal.errors import MissingFileError, OutputError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from napari_xtal.simulate.detectors import Detector

#: One electron volt [J].
EV_JOULE = 1.602176634e-19
#: Bits of a CXI 1.6 mask.
_DEAD, _SHADOWED, _MISSING = 0x8, 0x10, 0x200

#: Columns of the truth tables, /truth/peaks/<name> and /truth/frames/<name>.
PEAK_TRUTH = {
    "frame": "int64",
    "row": "float64",
    "col": "float64",
    "h": "int32",
    "k": "int32",
    "l": "int32",
    "expected_counts": "float64",
    "snr": "float64",
    "lattice": "int64",
}
FRAME_CLASSES = ("blank", "single", "multiple")

COMPRESSIONS = ("gzip", "bitshuffle", "none")


class FrameWriter:
    """Open a temporary file, take frames one by one, and move it into place at the end.

    Parameters
    ----------
    path : path
        File to write.
    n_frames : int
        Number of frames.
    detector : Detector
        Shape, mask and geometry.
    compression : {"gzip", "bitshuffle", "none"}
        Each frame is one chunk; ``bitshuffle`` (with LZ4) needs the hdf5plugin to be read.
    overwrite : bool
        Replace a file that exists.
    events : sequence of str, optional
        Event id of each frame; default ``simulated-000000`` and so on.

    Raises
    ------
    OutputError
        When the file exists, or cannot be written.
    """

    def __init__(
        self,
        path: Path,
        n_frames: int,
        detector: Detector,
        compression: str,
        overwrite: bool,
        events: Sequence[str] | None = None,
    ) -> None:
        if compression not in COMPRESSIONS:
            raise ParameterError(
                f"compression '{compression}' is unknown; choose one of {', '.join(COMPRESSIONS)}"
            )
        if path.exists() and not overwrite:
            raise OutputError(f"{path}: exists; choose another name or pass overwrite=True")
        if not path.parent.is_dir():
            raise MissingFileError(f"{path}: the folder {path.parent} does not exist; create it")
        self.path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            self._file = h5py.File(self._temporary, "w")
        except OSError as error:
            raise OutputError(f"{path}: cannot be created ({error})") from error
        try:
            if events is None:
                events = [f"simulated-{frame:06d}" for frame in range(n_frames)]
            self._data = _create_layout(self._file, n_frames, detector, compression, events)
        except BaseException:
            self._abandon()
            raise

    def write_frame(self, frame: int, image: NDArray[Any]) -> None:
        """Store the image (ss, fs) of one frame."""
        self._data[frame] = image

    def write_truth(self, name: str, values: NDArray[Any]) -> None:
        """Store truth as /truth/<name>."""
        self._file.require_group("truth").create_dataset(name, data=values)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._abandon()
            if isinstance(error, OSError) and not isinstance(error, OutputError):
                raise OutputError(f"{self.path}: writing failed ({error})") from error
            return
        try:
            self._file.close()
            with open(self._temporary, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(self._temporary, self.path)
        except OSError as problem:
            self._temporary.unlink(missing_ok=True)
            raise OutputError(f"{self.path}: writing failed ({problem})") from problem

    def _abandon(self) -> None:
        # A full disk fails again while closing; the file is dropped anyway.
        with contextlib.suppress(OSError, RuntimeError):
            self._file.close()
        self._temporary.unlink(missing_ok=True)


class RunWriter(FrameWriter):
    """Writer of a run of Bragg frames: each with its peaks. Parameters as `FrameWriter`."""

    def __init__(
        self, path: Path, n_frames: int, detector: Detector, compression: str, overwrite: bool
    ) -> None:
        super().__init__(path, n_frames, detector, compression, overwrite)
        try:
            _create_truth(self._file)
        except BaseException:
            self._abandon()
            raise

    def write(
        self, frame: int, image: NDArray[Any], peaks: dict[str, NDArray[Any]], n_lattices: int
    ) -> None:
        """Store one frame and its truth (columns of `PEAK_TRUTH`)."""
        self.write_frame(frame, image)
        table = self._file["truth/peaks"]
        for name in PEAK_TRUTH:
            _append(table[name], peaks[name])
        frames = self._file["truth/frames"]
        _append(frames["n_lattices"], np.array([n_lattices]))
        _append(frames["class"], np.array([FRAME_CLASSES[min(n_lattices, 2)].encode()]))
        _append(frames["n_peaks"], np.array([len(peaks["frame"])]))


def _create_layout(
    file: h5py.File, n_frames: int, detector: Detector, compression: str, events: Sequence[str]
) -> h5py.Dataset:
    options: dict[str, Any] = {}
    if compression == "gzip":
        options = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    elif compression == "bitshuffle":
        import hdf5plugin

        options = dict(hdf5plugin.Bitshuffle())
    file.create_dataset("cxi_version", data=160)
    instrument = file.create_group("entry_1/instrument_1")
    part = instrument.create_group("detector_1")
    data = part.create_dataset(
        "data",
        shape=(n_frames, *detector.shape),
        dtype=detector.dtype,
        chunks=(1, *detector.shape),
        **options,
    )
    data.attrs["axes"] = "experiment_identifier:y:x"
    mask = np.zeros(detector.shape, dtype=np.uint32)
    mask[detector.radius < detector.beam_stop] |= np.uint32(_SHADOWED)
    mask[detector.dead] |= np.uint32(_DEAD)
    mask[detector.panel_map < 0] |= np.uint32(_MISSING)
    part.create_dataset("mask", data=mask, compression="gzip", shuffle=True)
    part.create_dataset("description", data=f"simulated {detector.name}")
    _quantity(part, "distance", detector.distance_m, "m")
    _quantity(part, "x_pixel_size", detector.pixel_size_m, "m")
    _quantity(part, "y_pixel_size", detector.pixel_size_m, "m")
    row, col = detector.beam_centre
    # Files count from the corner of the first pixel: centre of pixel 0 = 0.5.
    _quantity(part, "beam_center_x", col + 0.5, "pixel")
    _quantity(part, "beam_center_y", row + 0.5, "pixel")
    source = instrument.create_group("source_1")
    _quantity(source, "energy", detector.photon_energy_ev * EV_JOULE, "J")
    entry = file["entry_1"]
    entry.create_dataset("experiment_identifier", data=np.array(events, dtype="S"))
    group = entry.create_group("data_1")
    group["data"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/data")
    group["mask"] = h5py.SoftLink("/entry_1/instrument_1/detector_1/mask")
    group["experiment_identifier"] = h5py.SoftLink("/entry_1/experiment_identifier")
    return data


def _quantity(group: h5py.Group, name: str, value: float, units: str) -> None:
    group.create_dataset(name, data=float(value)).attrs["units"] = units


def _create_truth(file: h5py.File) -> None:
    for name, dtype in PEAK_TRUTH.items():
        _growing(file, f"truth/peaks/{name}", dtype)
    for name, dtype in (("n_lattices", "int64"), ("class", "S8"), ("n_peaks", "int64")):
        _growing(file, f"truth/frames/{name}", dtype)


def _growing(file: h5py.File, name: str, dtype: str) -> None:
    file.create_dataset(name, shape=(0,), maxshape=(None,), chunks=(4096,), dtype=dtype)


def _append(dataset: h5py.Dataset, values: NDArray[Any]) -> None:
    if len(values):
        n = dataset.shape[0]
        dataset.resize(n + len(values), axis=0)
        dataset[n:] = values
