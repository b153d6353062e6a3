r"""Make the shipped weights: ``python -m napari_xtal.peaks.training --out weights.safetensors``.

Simulated candidates are made here. Candidates of real frames come from files, since no
real frame is part of the package::

    python -m benchmarks.labelled_candidates --out real.npz \
        --sets thaumatin rayonix lcysteine cspad powder
    python -m napari_xtal.peaks.training --candidates real.npz --out weights.safetensors

With ``--exclude-source NAME`` that source is kept from training and only scored. The
shipped weights took 10 minutes on two processor cores: 2 for 1000 scenes, 8 for learning.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_xtal.errors import InputError, XtalError
from napari_xtal.peaks.training.candidates import LabelledCandidates
from napari_xtal.peaks.training.labelling import simulated_candidates
from napari_xtal.peaks.training.shipped import Recipe, train_shipped
from napari_xtal.peaks.training.svm import train_default_svm
from napari_xtal.peaks.verify.networks import ARCHITECTURES

if TYPE_CHECKING:
    from collections.abc import Callable


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m napari_xtal.peaks.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="file to make (.safetensors)")
    parser.add_argument("--overwrite", action="store_true", help="replace that file")
    parser.add_argument("--candidates", type=Path, nargs="+", default=[], help=".npz files")
    parser.add_argument("--simulated", type=int, default=1000, help="scenes to simulate; 0: none")
    parser.add_argument("--exclude-source", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--kind", choices=("cnn", "svm"), default="cnn",
                        help="network, or support vector machine (--out .skops)")  # fmt: skip
    parser.add_argument("--architecture", choices=list(ARCHITECTURES), default="spot")
    parser.add_argument("--epochs", type=int, default=None, help="most passes over the data")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def _candidates(options: argparse.Namespace) -> LabelledCandidates:
    parts = [LabelledCandidates.load(path) for path in options.candidates]
    if options.simulated:
        parts.append(simulated_candidates(options.simulated, options.seed, _progress("scenes")))
    if not parts:
        raise InputError("nothing to learn from; give --candidates or --simulated")
    return LabelledCandidates.concat(parts)


def _progress(what: str) -> Callable[[int, int], None]:
    last = 0.0

    def show(done: int, total: int) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last > 10 or done == total:
            last = now
            print(f"{what} {done} / {total}", file=sys.stderr, flush=True)

    return show


def main(arguments: list[str] | None = None) -> int:
    """Train, write, and print what it is worth; returns the exit code."""
    options = _parser().parse_args(arguments)
    recipe = Recipe(options.architecture, options.seed, tuple(options.exclude_source))
    try:
        if options.epochs is not None:
            fit = dataclasses.replace(recipe.fit, epochs=options.epochs, patience=options.epochs)
            recipe = dataclasses.replace(recipe, fit=fit)
        started = time.perf_counter()
        candidates = _candidates(options)
        print(f"{len(candidates)} candidates, {time.perf_counter() - started:.0f} s")
        if options.kind == "svm":
            kept = candidates.take(~np.isin(candidates.source, options.exclude_source))
            machine = train_default_svm(kept, options.seed, _progress("settings"))
            machine.save(options.out, overwrite=options.overwrite)
            print(f"{options.out}: {machine.hash}, {time.perf_counter() - started:.0f} s in all")
            return 0
        result = train_shipped(candidates, recipe, _progress("steps"))
        result.verifier.save(options.out, overwrite=options.overwrite)
    except XtalError as error:
        print(error, file=sys.stderr)
        return 2
    print(result.by_source.round(4).to_string())
    print(f"{options.out}: {result.verifier.hash}, trained in {result.seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
