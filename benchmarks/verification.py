"""Finder alone, + SVM, + CNN: real sources, simulated ladder, powder and blanks, speed.

Every real source is judged by models trained without it; missing ones are made on the
way (minutes each) and kept. All methods rank the same candidates: what the finder
reports at 100 false peaks per frame. Labels, and what *off* means, are those of
`benchmarks.labelled_candidates` and `benchmarks.real_frames`; **clean** leaves out what
is off the predicted lattice but on another frame of the same crystal, or in the
reference list, as well, and so no error.

Tables: candidates and average precision (95 % interval over frames) per source;
off-lattice reports per frame at equal recall of predicted reflections with snr > 5, and
how many times fewer than by the finder's SNR; recall per SNR on simulated frames;
reports on frames without a crystal; candidates per second; with ``--fine-tuning`` what
50 and 200 labels of an unseen detector do. *x snr* ranks by the odds of the verifier times the
third power of the finder's SNR.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import pandas as pd

from benchmarks import verification_scores as scores
from benchmarks.labelled_candidates import OTHER, PEAK
from benchmarks.left_out_models import DEFAULT_KINDS, FOLDER, KINDS, Models
from benchmarks.real_data import SETS
from napari_xtal.peaks.verify.verifier import Verifier

DETECTORS, SCENES = ("eiger4m", "xfel1m"), ("ctrl", "sharp", "hard")
DEFAULT_CUT, EQUAL_CUT = "verifier's threshold", "equal recall"


def real_sources(sources: list[scores.Source], methods: list[str]) -> pd.DataFrame:
    """Return candidates and average precision of every source with both classes."""
    rows = []
    for source in sources:
        label, doubtful = source.table["label"], source.table["doubtful"]
        row: dict[str, object] = {
            "source": source.name,
            "frames": source.table["frame"].nunique(),
            "candidates": len(source.table),
            "peaks": int((label == PEAK).sum()),
            "others": int((label == OTHER).sum()),
            "others, clean": int(((label == OTHER) & ~doubtful).sum()),
        }
        for clean in (False, True):
            for method in [scores.FINDER, *methods]:
                ap = source.precision(method, clean=clean)
                name = f"{method}{' clean' if clean else ''}"
                row |= {f"AP {name}{key}": ap.get(k) for key, k in _AP_COLUMNS.items()}
        rows.append(row)
    return pd.DataFrame(rows)


_AP_COLUMNS = {"": "ap", " low": "low", " high": "high"}


def simulated(
    verifiers: dict[str, Verifier], n_frames: int
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return the ladder on all detectors and kinds, and cuts of equal recall (ctrl, eiger4m)."""
    parts, equal = [], {}
    for detector in DETECTORS:
        for kind in SCENES:
            table, cuts = scores.ladder(detector, kind, n_frames, verifiers)
            parts.append(table)
            equal = equal or cuts
    return pd.concat(parts, ignore_index=True), equal


def without_crystals(
    sources: list[scores.Source], models: Models, equal: dict[str, float]
) -> pd.DataFrame:
    """Count reports on powder and blank frames; equal recall is that of the finder's defaults."""
    parts = []
    for source in sources:
        if not source.table["blank"].any():
            continue
        cuts = equal
        if source.truths:
            recall = source.default_recall()["recall"]
            methods = [scores.FINDER, *models.shipped]
            cuts = {m: float(scores.at_recall(source.curve(m), recall)["cut"]) for m in methods}
        verifiers = models.verifiers(source.name)
        default = {name: verifier.threshold for name, verifier in verifiers.items()}
        by_method = {name: cuts[name] for name in verifiers}
        parts.append(scores.quiet(source, {DEFAULT_CUT: default, EQUAL_CUT: by_method}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def run(options: argparse.Namespace) -> dict[str, pd.DataFrame]:
    """Make all tables that the options ask for."""
    models = Models(options.left_out_models, options.kinds)
    methods = scores.methods_of(models.shipped)
    if not methods:
        raise SystemExit("no verifier to judge")
    tables: dict[str, pd.DataFrame] = {}
    sources = [scores.Source.collect(name, models.verifiers(name)) for name in options.sets]
    crystals = [source for source in sources if source.truths]
    if crystals:
        tables["real sources"] = real_sources(crystals, methods)
        curves = [scores.equal_recall(source, methods) for source in crystals]
        tables["off-lattice reports per frame at equal recall"] = pd.concat(curves)
    equal = {name: verifier.threshold for name, verifier in models.shipped.items()}
    if options.ladder_frames:
        table, equal = simulated(models.shipped, options.ladder_frames)
        tables["simulated frames: recall per SNR at equal wrong reports"] = table
    tables["reports on frames without a crystal"] = without_crystals(sources, models, equal)
    rates = {name: [round(scores.speed(verifier))] for name, verifier in models.shipped.items()}
    tables["candidates per second, windows included"] = pd.DataFrame(rates)
    if options.fine_tuning:
        from benchmarks import fine_tuning

        parts = [
            fine_tuning.study(name, verifier, options.fine_tuning)
            for name in fine_tuning.SETS
            if name in options.sets
            for verifier in models.verifiers(name).values()
        ]
        rows = pd.concat(parts, ignore_index=True)
        tables["fine-tuning"] = fine_tuning.summary(rows).reset_index()
    return tables


def _short(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table for print: a value and its interval in one column."""
    table = table.copy()
    for name in [c.removesuffix(" low") for c in table if c.endswith(" low")]:
        low, high = table.pop(f"{name} low"), table.pop(f"{name} high")
        values = zip(table[name], low, high, strict=True)
        table[name] = [f"{v:.3f} ({a:.3f}-{b:.3f})" for v, a, b in values]
    return table


def main(arguments: list[str] | None = None) -> None:
    """Print the tables, and write them."""
    parser = argparse.ArgumentParser("python -m benchmarks.verification", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--kinds", nargs="+", default=list(DEFAULT_KINDS), choices=list(KINDS))
    parser.add_argument("--left-out-models", type=Path, default=FOLDER, metavar="FOLDER",
                        help=f"<source>.safetensors and .skops made without that source ({FOLDER})")  # fmt: skip
    parser.add_argument("--ladder-frames", type=int, default=4, metavar="N",
                        help="simulated frames per detector and kind (0: none)")  # fmt: skip
    parser.add_argument("--fine-tuning", type=int, nargs="?", const=5, default=0, metavar="SEEDS",
                        help="also fine-tune on 50 and 200 labels, so many times (5)")  # fmt: skip
    parser.add_argument("--json", type=Path, help="write all tables here")
    parser.add_argument("--csv", type=Path, metavar="FOLDER", help="write each table into here")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    tables = run(options)
    for name, table in tables.items():
        print(f"\n{name}\n{_short(table).round(3).to_string(index=False, na_rep='')}")
    if options.json:
        # Through pandas, which turns infinity and NaN into what JSON knows.
        content = {name: json.loads(t.to_json(orient="records")) for name, t in tables.items()}
        options.json.write_text(json.dumps(content, indent=1))
    if options.csv:
        options.csv.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            file = f"{name.partition(':')[0].replace(', ', '-').replace(' ', '-')}.csv"
            table.to_csv(options.csv / file, index=False)
    print(f"\n{time.perf_counter() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
