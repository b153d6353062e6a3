"""Sample data: a simulated run, written to a temporary folder and opened like a measured one."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from napari_xtal.widgets.reader import LayerData, read

#: Small enough to be simulated in seconds.
N_FRAMES = 12


def simulated_run() -> list[LayerData]:
    """Simulate a run of Bragg frames and return its layer (npe2 sample data).

    Returns
    -------
    list of (data, attributes, "image")
        The run, as the reader gives it. Its folder is deleted when napari ends.
    """
    from napari_xtal.simulate import bragg_run

    folder = Path(tempfile.mkdtemp(prefix="napari-xtal-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "simulated_run.cxi"
    bragg_run(path, N_FRAMES, seed=1)
    return read(str(path))
