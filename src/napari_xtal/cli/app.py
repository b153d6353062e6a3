"""The commands of ``napari-xtal``: thin calls of the functions that Python users call."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

import napari_xtal as xtal
from napari_xtal.cli.options import (
    Dataset,
    Files,
    Mask,
    Overwrite,
    Quiet,
    frame_numbers,
    read_parameters,
    with_parameters,
)
from napari_xtal.cli.running import (
    check_outputs,
    has_screen,
    interruptible,
    progress_bar,
    restart_on_virtual_screen,
)
from napari_xtal.cli.verify import accepted, commands, load_for
from napari_xtal.errors import ParameterError, XtalError
from napari_xtal.peaks.parameters import PRESETS, PeakFinderParams

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".cxi", ".csv", ".lst")


class _Commands(TyperGroup):
    """Turns the package's exceptions into one line on stderr and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (XtalError, OSError) as error:
            typer.echo(f"napari-xtal: {error}", err=True)
            raise typer.Exit(2) from error


app = typer.Typer(
    name="napari-xtal",
    cls=_Commands,
    help="Find, verify and classify X-ray detector frames.",
    epilog="Exit codes: 0 done, 1 failed for some frames (listed), 2 bad arguments or input.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its columns cut long option names off
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"napari-xtal {xtal.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
) -> None:
    """Find, verify and classify X-ray detector frames."""


def _write(path: Path, source: Any, table: pd.DataFrame, frames: list[int], link: bool) -> None:
    """Write a peak list in the format that the suffix names; `path` may be replaced."""
    suffix = path.suffix.lower()
    if suffix == ".cxi":
        mode = "virtual" if link else "copy"
        xtal.write_cxi(path, source, table, mode, frames=frames, overwrite=True)
    elif suffix == ".csv":
        xtal.write_csv(path, source, table, overwrite=True)
    else:
        ids = [source.ids[int(i)] for i in sorted(table["frame"].unique())]
        xtal.write_lst(path, ids, overwrite=True)


@app.command()
def info(files: Files, dataset: Dataset = None, mask: Mask = None) -> None:
    """Say what is in the files: frames, shape, geometry, units."""
    source = xtal.open_frames(files, mask=mask, dataset=dataset)
    facts = source.metadata
    rows, cols = source.shape
    bad = 100 * (1 - source.good.mean())

    def value(number: float | None, scale: float, unit: str) -> str:
        return "unknown" if number is None else f"{number * scale:g} {unit}"

    lines = {
        "layout": source.layout,
        "files": str(len(source.files)),
        "frames": str(len(source)),
        "shape": f"{rows} x {cols} px (ss x fs)",
        "data type": str(source.dtype),
        "masked": f"{bad:.2f} % of the pixels",
        "photon energy": value(facts.photon_energy_ev, 1, "eV"),
        "distance": value(facts.distance_m, 1e3, "mm"),
        "pixel size": value(facts.pixel_size_m, 1e6, "um"),
        "beam centre": "unknown"
        if facts.beam_centre is None
        else "row {:.2f}, col {:.2f} px".format(*facts.beam_centre),
    }
    for name, text in lines.items():
        typer.echo(f"{name + ':':<15}{text}")
    for candidate in source.candidates:
        typer.echo(f"{'dataset:':<15}{candidate}")
    for warning in source.warnings:
        typer.echo(f"note: {warning}", err=True)
    typer.echo(f"{len(source)} frames of {rows} x {cols} px in {len(source.files)} file(s)")


@app.command()
def view(files: Files) -> None:
    """Open the files in napari with the peak finder beside them."""
    from napari_xtal.widgets import demo as window

    window.view(files)


@app.command("find-peaks")
@with_parameters
def find_peaks(
    files: Files,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            help="Peak list to write: .cxi (with the frames searched, for CrystFEL), .csv, or .lst "
            "(frames with at least one peak). May be given several times.",
        ),
    ] = None,
    params: Annotated[Path | None, typer.Option(help="Parameters as TOML file.")] = None,
    preset: Annotated[
        str | None, typer.Option(help=f"Start from a preset: {'; '.join(PRESETS)}.")
    ] = None,
    dataset: Dataset = None,
    mask: Mask = None,
    frames: Annotated[
        str | None, typer.Option(help="Frames to search, e.g. 0,5,10:20 or ::100. Default: all.")
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="The .cxi links to the frames instead of copying them.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=0, help="Threads over frames; 0 = one per processor core.")
    ] = 0,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Judge every peak: column probability (peakProbability)."),
    ] = False,
    verifier: Annotated[
        str | None,
        typer.Option(
            help="With --verify: default, default-svm, or a model file (.safetensors, .skops). "
            "Default: default."
        ),
    ] = None,
    min_probability: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="With --verify: leave out peaks below this probability, 0 to 1."
        ),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    **parameters: Any,
) -> None:
    """Find Bragg peaks in every frame and write peak lists."""
    outputs = output or []
    chosen = read_parameters(params, preset, parameters)
    check_outputs(outputs, overwrite, SUFFIXES)
    model = load_for(verify, verifier, min_probability)
    source = xtal.open_frames(files, mask=mask, dataset=dataset)
    # Patterns and list files are known as files only now.
    check_outputs(outputs, overwrite, SUFFIXES, inputs=[Path(name) for name in source.files])
    for warning in source.warnings:
        typer.echo(f"note: {warning}", err=True)
    numbers = None if frames is None else frame_numbers(frames, len(source))
    n_frames = len(source) if numbers is None else len(numbers)
    start = time.perf_counter()
    with progress_bar("finding peaks", quiet) as progress, interruptible() as interrupted:
        table = xtal.find_peaks_in(
            source,
            chosen,
            frames=numbers,
            progress=progress,
            cancel=interrupted,
            workers=workers or None,
            verifier=model,
        )
    seconds = time.perf_counter() - start
    searched: list[int] = table.attrs["frames"]
    failed: dict[int, str] = table.attrs["failed"]
    hot = table.attrs["hot_pixels"]
    judged = "" if model is None else f"; judged by {model.kind} verifier {model.hash}"
    if model is not None:
        table, n_below = accepted(table, model.hash, min_probability)
        judged += f", {n_below} below {min_probability:g} left out" if min_probability else ""
    for path in outputs:
        _write(path, source, table, searched, link)
    for index in sorted(failed):
        typer.echo(f"frame {index} failed ({source.ids[index].event}): {failed[index]}", err=True)
    if hot:
        typer.echo(
            f"note: {len(hot)} single pixel{'s fire' if len(hot) > 1 else ' fires'} in more than "
            f"5 % of the frames (hot pixels); leave them out by --mask",
            err=True,
        )
    rate = f"{1000 * seconds / max(len(searched), 1):.1f} ms per frame"
    written = ", ".join(map(str, outputs)) or "nothing written (give -o)"
    stopped = len(searched) < n_frames
    typer.echo(
        f"{len(table)} peaks in {table['frame'].nunique()} of {n_frames} frames, {rate}; {written}"
        + judged
        + (f"; {len(failed)} frames failed" if failed else "")
        + (f"; interrupted after {len(searched)} frames" if stopped else "")
    )
    if failed or stopped:
        raise typer.Exit(1)


app.add_typer(commands)


@app.command()
def simulate(
    output: Annotated[Path, typer.Argument(help="CXI file to write, frames and truth.")],
    frames: Annotated[int, typer.Option(min=1, help="Number of frames.")] = 20,
    detector: Annotated[
        str, typer.Option(help="Detector: demo, eiger4m (4.5 Mpx) or xfel1m (1 Mpx).")
    ] = "demo",
    hit_fraction: Annotated[
        float, typer.Option(min=0, max=1, help="Share of frames with a crystal, 0 to 1.")
    ] = 0.8,
    snr_ladder: Annotated[
        str | None,
        typer.Option(
            help="Give every spot one of these matched-filter SNRs, e.g. 4,6,8,10,15,30; "
            "default: physical intensities."
        ),
    ] = None,
    background: Annotated[
        float, typer.Option(min=0, help="Scale of the background; 1 = 0.3 to 7 photons per px.")
    ] = 1.0,
    psf_sigma: Annotated[
        float, typer.Option(min=0, help="Standard deviation of a spot in px.")
    ] = 0.7,
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Simulate Bragg frames with known truth (positions in px, counts, SNR)."""
    check_outputs([output], overwrite, (".cxi", ".h5"))
    try:
        ladder = None if snr_ladder is None else [float(part) for part in snr_ladder.split(",")]
    except ValueError:
        raise ParameterError(
            f"--snr-ladder '{snr_ladder}': give numbers with commas between, e.g. 4,8,16"
        ) from None
    with progress_bar("simulating", quiet) as progress:
        run = xtal.simulate.bragg_run(
            output,
            frames,
            detector=detector,
            hit_fraction=hit_fraction,
            snr_ladder=ladder,
            background=background,
            psf_sigma=psf_sigma,
            seed=seed,
            overwrite=overwrite,
            progress=progress,
        )
    typer.echo(f"{frames} frames with {len(run.peaks)} true peaks in {run.path}")


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Folder for the run and its peaks.")] = Path(
        "demo-output"
    ),
    frames: Annotated[int, typer.Option(min=1, help="Number of frames to simulate.")] = 12,
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 0,
    screenshot: Annotated[
        Path | None,
        typer.Option(
            help="Write a picture (PNG) of the window and end. Done without a screen too."
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Simulate a small run, find its peaks, write them as CXI, show all in napari."""
    run_path, peaks_path = folder / "simulated_run.cxi", folder / "peaks.cxi"
    if not has_screen():
        picture = screenshot or folder / "screenshot.png"
        words = ["demo", "--folder", str(folder), "--frames", str(frames), "--seed", str(seed)]
        words += ["--screenshot", str(picture)] + ["--overwrite"] * overwrite
        restart_on_virtual_screen(words)
    folder.mkdir(parents=True, exist_ok=True)
    check_outputs([run_path, peaks_path], overwrite, SUFFIXES)
    run = xtal.simulate.bragg_run(run_path, frames, seed=seed, overwrite=overwrite)
    source = xtal.open_frames(run_path)
    with progress_bar("finding peaks", quiet=False) as progress:
        table = xtal.find_peaks_in(source, progress=progress)
    xtal.write_cxi(peaks_path, source, table, overwrite=True)
    typer.echo(
        f"{len(table)} peaks found in {frames} frames ({len(run.peaks)} simulated, the weakest "
        f"below the noise); run: {run_path}, peaks: {peaks_path}"
    )
    from napari_xtal.widgets import demo as window

    window.run(run_path, table, screenshot=screenshot)
    if screenshot is not None:
        typer.echo(f"window: {screenshot}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def benchmark(
    context: typer.Context,
    repeats: Annotated[int, typer.Option(min=1, help="Frames to time (built-in timing).")] = 20,
) -> None:
    """Time the peak finder; in a checkout run the whole suite, which takes the other arguments."""
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "benchmarks" / "__main__.py").is_file():
        suite = [sys.executable, "-m", "benchmarks", *context.args]
        raise typer.Exit(min(subprocess.run(suite, cwd=checkout, check=False).returncode, 1))
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.cxi"
        xtal.simulate.bragg_run(path, 2, seed=0)
        source = xtal.open_frames(path)
        finder = xtal.PeakFinder(source.good, radius=source.radius(), panels=source.panels())
        images, parameters = [source[0], source[1]], PeakFinderParams()
        finder.candidates(images[0], parameters)  # compiles
        times = []
        for i in range(repeats):
            start = time.perf_counter()
            finder.candidates(images[i % 2], parameters).filter(parameters)
            times.append(time.perf_counter() - start)
    pixels = images[0].size / 1e6
    typer.echo(
        f"find_peaks: {1000 * sorted(times)[len(times) // 2]:.2f} ms per {pixels:.2f}-Mpx "
        f"{images[0].dtype} frame on one thread (median of {repeats})"
    )


def main() -> None:
    """Entry point of the command ``napari-xtal``."""
    app()
