"""Milliseconds per 4.49-Mpx frame, ours and OM's peakfinder8 in one run.

``python -m pytest benchmarks/test_speed.py``; a summary with the ratios ends the run.
Raw frame in, peak table out, casts included; frames rotate so that they come from memory.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("pytest_benchmark")
peaks = pytest.importorskip("napari_xtal.peaks.find")
scenes_module = pytest.importorskip("napari_xtal.simulate.scenes")

from benchmarks.finders import OMPeakfinder8  # noqa: E402
from benchmarks.ladder import Scene  # noqa: E402
from napari_xtal.peaks.parameters import PeakFinderParams  # noqa: E402

N_FRAMES = 4
PARAMS = PeakFinderParams()
#: name -> fastest round in ms per frame, filled by the tests, read by the summary
FASTEST: dict[str, float] = {}
FIRST_CALL = """
import time, numpy as np
t0 = time.perf_counter()
from napari_xtal.peaks.find import PeakFinder
from napari_xtal.peaks.parameters import PeakFinderParams
t1 = time.perf_counter()
rng = np.random.default_rng(0)
image = rng.poisson(2, (512, 512)).astype(np.uint16)
radius = np.hypot(*np.mgrid[-256:256, -256:256]).astype(np.float32)
params = PeakFinderParams()
PeakFinder(np.ones(image.shape, bool), radius).candidates(image, params).filter(params)
print(t1 - t0, time.perf_counter() - t1)
"""


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [Scene("eiger4m", "ctrl", seed) for seed in range(N_FRAMES)]


@pytest.fixture(scope="module")
def finder(scenes: list[Scene]) -> Any:
    # The scenes share their geometry, not their dead pixels: close enough for timing.
    return peaks.PeakFinder(scenes[0].good, scenes[0].radius)


@pytest.fixture(scope="module", autouse=True)
def summary(request: pytest.FixtureRequest) -> Iterator[None]:
    """Print ratios and goals after the last test."""
    yield
    ours = FASTEST.get("ours uint16")
    if not ours:
        return
    lines = ["", "fastest round:"]
    lines += [f"  {name:22} {ms:8.2f} ms" for name, ms in FASTEST.items()]
    goals = (
        ("peakfinder8 / ours", "peakfinder8", 10),
        ("fast peakfinder8 / ours", "peakfinder8 fast", 2.5),
    )
    lines += [
        f"  {text:26} {FASTEST[name] / ours:6.1f}  (goal {goal})"
        for text, name, goal in goals
        if name in FASTEST
    ]
    if "ours 2 threads" in FASTEST:
        gain = ours / FASTEST["ours 2 threads"]
        lines.append(f"  {'gain of two threads':26} {gain:6.2f}  (goal 1.7)")
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\n".join(lines))


def _measure(benchmark: Any, name: str, function: Any, inputs: list[Any], per_call: int = 1) -> Any:
    """Time `function` over rotating inputs; return its last result."""
    rotation = itertools.cycle(inputs)
    result = benchmark.pedantic(
        lambda *a: function(*a),
        setup=lambda: ((next(rotation),), {}),
        rounds=5 * len(inputs),
        warmup_rounds=len(inputs),
    )
    FASTEST[name] = 1e3 * benchmark.stats.stats.min / per_call
    return result


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.benchmark(group="one 4.49-Mpx frame, one thread")
def test_ours(benchmark: Any, finder: Any, scenes: list[Scene], dtype: str) -> None:
    images = [s.image.astype(dtype) for s in scenes]
    table = _measure(benchmark, f"ours {dtype}",
                     lambda im: finder.find(im, PARAMS), images)  # fmt: skip
    assert len(table) > 30


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.benchmark(group="one 4.49-Mpx frame, one thread")
def test_om_peakfinder8(benchmark: Any, scenes: list[Scene], fast: bool) -> None:
    pytest.importorskip("om.algorithms._crystallography")
    om, first = OMPeakfinder8(2, fast=fast), scenes[0]
    name = "peakfinder8 fast" if fast else "peakfinder8"
    table = _measure(
        benchmark, name,
        lambda im: om.search(im, first.good, first.radius_or_middle, 6.0),
        [s.image for s in scenes],
    )  # fmt: skip
    assert len(table) > 10


@pytest.mark.benchmark(group="8 frames, two threads")
def test_ours_two_threads(benchmark: Any, finder: Any, scenes: list[Scene]) -> None:
    images = [s.image for s in scenes] * 2
    with ThreadPoolExecutor(2) as pool:

        def all_frames(_: int) -> list[Any]:
            return list(pool.map(lambda im: finder.find(im, PARAMS), images))

        tables = _measure(benchmark, "ours 2 threads", all_frames, [0, 1], per_call=len(images))
    assert len(tables) == len(images)


@pytest.mark.benchmark(group="slider: filter only")
def test_filter_only(benchmark: Any, finder: Any, scenes: list[Scene]) -> None:
    candidates = finder.candidates(scenes[0].image, PARAMS)
    cuts = [PARAMS.replace(false_peaks_per_frame=n) for n in (0.01, 0.1, 1, 10)]
    _measure(benchmark, "filter only", candidates.filter, cuts)


@pytest.mark.benchmark(group="first call in a new process")
def test_first_call(benchmark: Any, tmp_path: Any) -> None:
    """Cold: compiled; warm: from numba's cache. Importing is listed apart."""

    def start() -> list[float]:
        done = subprocess.run(
            [sys.executable, "-c", FIRST_CALL], check=True, capture_output=True, text=True,
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
        )  # fmt: skip
        return [1e3 * float(t) for t in done.stdout.split()]

    _, FASTEST["first call, cold"] = start()
    FASTEST["import, warm"], FASTEST["first call, warm"] = benchmark.pedantic(start, rounds=1)
