"""Small files of every layout, good and bad, for the reader tests."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

SHAPE = (40, 48)


def frames(n: int = 4, shape: tuple[int, int] = SHAPE, dtype: str = "u2", seed: int = 0):
    """Return photon counts; pixel (0, 0) holds the frame's number."""
    data = np.random.default_rng(seed).poisson(5, (n, *shape)).astype(dtype)
    data[:, 0, 0] = np.arange(n)
    return data


def nxmx(path: Path, data: np.ndarray | None = None, **kw: object) -> Path:
    """Write an NXmx file; keywords add or replace detector members."""
    data = frames() if data is None else data
    with h5py.File(path, "w") as file:
        file["entry/definition"] = "NXmx"
        file.create_dataset("entry/data/data", data=data, chunks=(1, *data.shape[1:]),
                            compression="gzip")  # fmt: skip
        wave = file.create_dataset("entry/instrument/beam/incident_wavelength", data=1.0)
        wave.attrs["units"] = "angstrom"
        detector = file["entry/instrument"].create_group("detector")
        detector["distance"] = 100.0
        detector["distance"].attrs["units"] = "mm"
        detector["x_pixel_size"] = 75e-6
        detector["beam_center_x"] = 20.5
        detector["beam_center_y"] = 10.5
        mask = np.zeros(data.shape[-2:], "u4")
        mask[5] = 1
        mask[6, 0] = 2
        mask[7, 7] = 1 << 31
        detector["pixel_mask"] = mask
        for key, value in kw.items():
            if key in detector:
                del detector[key]
            if value is not None:
                detector[key] = value
    return path


def eiger(folder: Path, blocks: int = 3, per_block: int = 2, drop: tuple[int, ...] = ()) -> Path:
    """Write an Eiger master with external links; blocks in `drop` are missing."""
    path = folder / "run_master.h5"
    data = frames(blocks * per_block)
    with h5py.File(path, "w") as master:
        master.create_group("entry/instrument/detector")
        # Written in an order that is not the numeric one.
        for k in reversed(range(blocks)):
            name = f"run_data_{k + 1:06d}.h5"
            master[f"entry/data/data_{k + 1:06d}"] = h5py.ExternalLink(name, "/entry/data/data")
            if k in drop:
                continue
            with h5py.File(folder / name, "w") as file:
                part = data[k * per_block : (k + 1) * per_block]
                file["entry/data/data"] = part
                file["entry/data/data"].attrs["image_nr_low"] = k * per_block + 1
    return path


def cxi(path: Path, data: np.ndarray | None = None, mask: np.ndarray | None = None) -> Path:
    """Write a CXI file with soft-linked data."""
    data = frames(dtype="f4") if data is None else data
    with h5py.File(path, "w") as file:
        file["cxi_version"] = 160
        detector = file.create_group("entry_1/instrument_1/detector_1")
        detector["data"] = data
        detector["distance"] = 0.2
        detector["x_pixel_size"] = 100e-6
        file["entry_1/instrument_1/source_1/energy"] = np.full(len(data), 1.602176634e-15)
        file.create_group("entry_1/data_1")["data"] = h5py.SoftLink(detector.name + "/data")
        if mask is not None:
            file["entry_1/data_1/mask"] = mask
    return path


def virtual(folder: Path, n_files: int = 2, drop: tuple[int, ...] = ()) -> Path:
    """Write a virtual dataset over files of two frames; files in `drop` are missing."""
    layout = h5py.VirtualLayout((2 * n_files, *SHAPE), "u2")
    data = frames(2 * n_files)
    for k in range(n_files):
        name = f"part_{k}.h5"
        layout[2 * k : 2 * k + 2] = h5py.VirtualSource(name, "d", shape=(2, *SHAPE))
        if k not in drop:
            with h5py.File(folder / name, "w") as file:
                file["d"] = data[2 * k : 2 * k + 2]
    path = folder / "vds.h5"
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("images", layout)
    return path


def mini_cbf(path: Path, image: np.ndarray) -> Path:
    """Write a byte-offset CBF with a PILATUS header."""
    import fabio

    header = (
        "\r\n# Detector: PILATUS test\r\n# Pixel_size 172e-6 m x 172e-6 m\r\n"
        "# Wavelength 1.00000 A\r\n# Detector_distance 0.25000 m\r\n"
        "# Beam_xy (20.50, 10.50) pixels\r\n# Count_cutoff 1000 counts\r\n"
    )
    picture = fabio.cbfimage.CbfImage(
        data=image.astype("i4"),
        header={"_array_data.header_convention": "PILATUS_1.2",
                "_array_data.header_contents": header},
    )  # fmt: skip
    picture.write(str(path))
    return path
