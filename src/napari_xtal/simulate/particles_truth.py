"""The truth of a simulated run of single particles: its tables in memory and in the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd

from napari_xtal.errors import ParameterError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from napari_xtal.simulate.cxi_writer import FrameWriter
    from napari_xtal.simulate.particles_scene import Body

_BODY = ("size_nm", "q_w", "q_x", "q_y", "q_z", "x_nm", "y_nm", "z_nm", "fluence")
#: Columns of the truth, /truth/<table>/<column>.
_TABLES = {
    "frames": (
        "event_id", "label", "kind", "n_particles", "photons", "background", "pulse", *_BODY,
    ),
    "particles": ("frame", "kind", *_BODY),
}  # fmt: skip


@dataclass(frozen=True)
class ParticleRun:
    """A simulated run and its truth.

    Attributes
    ----------
    path : Path
        The CXI file; the same tables stand in it under /truth.
    frames : DataFrame
        Indexed by frame: event_id; label (single, multiple, water); kind (bare, coated;
        aggregate, separate; drop, oval, drops, mist, buried); n_particles (droplets not
        counted); photons (expected on the good pixels, scattered by particles and water);
        background (expected photons per good pixel); pulse (energy relative to the mean);
        and of the first body: fluence (relative to a mean pulse in the middle of the focus),
        size_nm, q_w, q_x, q_y, q_z (orientation, from the particle's axes into the
        laboratory; NaN of a droplet), x_nm, y_nm, z_nm (place in the focus).
    particles : DataFrame
        One row per body, droplets included: frame, kind (particle, droplet), size_nm,
        q_w … q_z, x_nm, y_nm, z_nm, fluence.
    """

    path: Path
    frames: pd.DataFrame
    particles: pd.DataFrame

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ParticleRun:
        """Read the truth of a run that `particle_run` wrote.

        Raises
        ------
        ParameterError
            When the file holds no truth of particles.
        """
        path = Path(path)
        with h5py.File(path, "r") as file:
            if "truth/particles" not in file:
                raise ParameterError(
                    f"{path}: no /truth/particles; the file was not written by particle_run"
                )
            frames, particles = (_read_table(file, name) for name in _TABLES)
        frames.index.name = "frame"
        return cls(path, frames, particles)


def body_row(body: Body, pulse: float) -> dict[str, Any]:
    """Return the row of a body; `pulse` is the energy of the pulse relative to the mean."""
    turn = body.quaternion if body.kind == "particle" else np.full(4, np.nan)
    return {
        "kind": body.kind,
        "size_nm": float(body.size),
        **{f"q_{axis}": float(part) for axis, part in zip("wxyz", turn, strict=True)},
        **{f"{axis}_nm": float(part) for axis, part in zip("xyz", body.position, strict=True)},
        "fluence": float(body.light * pulse),
    }


def write_tables(
    writer: FrameWriter, frames: Sequence[dict[str, Any]], bodies: Sequence[dict[str, Any]]
) -> None:
    """Store the rows of both tables under /truth, one dataset per column."""
    for name, rows in zip(_TABLES, (frames, bodies), strict=True):
        for column in _TABLES[name]:
            values = np.array([row[column] for row in rows])
            text = values.dtype.kind == "U"
            writer.write_truth(f"{name}/{column}", values.astype("S") if text else values)


def _read_table(file: h5py.File, name: str) -> pd.DataFrame:
    columns = {}
    for column in _TABLES[name]:
        values = file[f"truth/{name}/{column}"][:]
        columns[column] = values.astype(str) if values.dtype.kind == "S" else values
    return pd.DataFrame(columns)
