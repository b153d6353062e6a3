"""The first call compiles in two processes and fills numba's cache."""

from __future__ import annotations

import os
import subprocess
import sys

from napari_xtal.peaks import compiling


def _run(code: str, cache: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "NUMBA_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def test_helper_fills_the_cache_that_the_next_process_reads(tmp_path):
    start = (
        "from napari_xtal.peaks import compiling\n"
        "helper = compiling.start_helper()\n"
        "assert helper is not None\n"
        "compiling.wait_for(helper)\n"
        "print(helper.returncode)\n"
    )
    assert _run(start, str(tmp_path)).strip() == "0"
    use = (
        "from napari_xtal.peaks import compiling, measure\n"
        "assert compiling.start_helper() is None\n"
        "compiling.compile_measure()\n"
        "print(sum(measure.measure.stats.cache_hits.values()))\n"
    )
    assert _run(use, str(tmp_path)).strip() == "1"


def test_no_helper_is_no_error():
    compiling.wait_for(None)
