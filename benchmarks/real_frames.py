"""Recall of lattice-predicted reflections against off-lattice reports, on real frames.

Rules (a distance in pixels):

* **Hit**: a truth row with ``isolated`` is found when a report lies within 4 of its
  predicted or 2.5 of its observed position (sets without prediction: 2.5 only).
* **Off-lattice**: a report that is neither within 4 of a predicted reflection of any
  strength nor within 2.5 of a reference peak on the lattice. JUNGFRAU: not within 2.5
  of a reference peak that is no hot pixel; L-cysteine: not near any row of DIALS.
* **Off, loose**: as before, but near *no* reference peak at all, on the lattice or not.
* **Precision**: reports that are not off-lattice over all reports (a lower bound: real
  spots outside the lattice model count as wrong).

Frames with crystals make the curve; blank and powder frames count reports only.

Examples
--------
>>> from benchmarks.real_frames import score
>>> print(score("thaumatin", "napari-xtal").table())
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from benchmarks.finders import FINDERS, Finder, FrameLike
from benchmarks.real_data import SETS, RealFrame, load

#: A cut that every report passes; a truth row without report has the score -inf.
ANY_REPORT = float(np.finfo(float).min)
NEAR_PREDICTED, NEAR_OBSERVED = 4.0, 2.5
SNR_LEVELS = (5, 10, 20)
BUDGETS = (1, 2, 5, 10, 20, 50, 100, 150, 200, 300, 500)
DEFAULT_FINDERS = ("napari-xtal", "om-pf8-2px", "om-pf8-3px", "matched-filter")
#: A function (image, good, radius or None) -> peak table with row, col and snr (or score).
FindFunction = Callable[[NDArray[Any], NDArray[np.bool_], Any], pd.DataFrame]


class _Wrapped:
    """A plain function as a finder."""

    def __init__(self, function: FindFunction) -> None:
        self.function = function
        self.name = getattr(function, "__name__", "function")

    def run(self, frame: FrameLike) -> pd.DataFrame:
        found = self.function(frame.image, frame.good, frame.radius)
        return found if "score" in found else found.rename(columns={"snr": "score"})

    run_default = run


@dataclass
class Curves:
    """The result of one finder on one set.

    Attributes
    ----------
    points : DataFrame
        One row per cut, from strict to permissive: ``cut, reports, off, off_loose`` (per frame),
        ``recall5, recall10, recall20``, ``precision``.
    default : dict
        The same numbers at the finder's own defaults.
    blank : dict
        Index of a frame without crystal -> reports at defaults.
    blank_known : dict
        The same -> how many of them lie within 1 px of what the crystal frames' lattice predicts.
    missed : DataFrame
        Truth rows not found at any cut: ``frame, row, col, snr``.
    false : DataFrame
        Off-lattice reports of the most permissive search: ``frame, row, col, score``.
    """

    set: str
    finder: str
    points: pd.DataFrame
    default: dict[str, float]
    blank: dict[int, int] = field(default_factory=dict)
    blank_known: dict[int, int] = field(default_factory=dict)
    missed: pd.DataFrame = field(default_factory=pd.DataFrame)
    false: pd.DataFrame = field(default_factory=pd.DataFrame)

    def at(self, off_per_frame: float, *, column: str = "recall10", off: str = "off") -> float:
        """Return `column` at a number of off-lattice reports per frame; NaN beyond the curve.

        Only cuts count that no stricter cut beats in recall (snr > 5): a finder whose
        recall falls again when its cut is lowered is judged by its best.
        """
        points = self.points.sort_values([off, "recall5"], kind="stable")
        best = points["recall5"].cummax()
        points = points[points["recall5"] >= best]
        if off_per_frame > self.points[off].max():
            return float("nan")
        return float(np.interp(off_per_frame, points[off], points[column]))

    def table(self, budgets: tuple[float, ...] = BUDGETS, off: str = "off") -> pd.DataFrame:
        """Return recall and precision at some numbers of off-lattice reports per frame.

        Precision belongs to the reports really made, which are fewer than the budget where
        a lower cut finds nothing more. The last rows are the most permissive cut and the
        finder's own defaults.
        """
        columns = [*(f"recall{n}" for n in SNR_LEVELS), "reports"]
        rows = [
            {c: self.at(b, column=c, off=off) for c in (off, *columns)}
            for b in budgets
            if b <= self.points[off].max()
        ]
        end = self.points.iloc[-1]
        rows.append({off: end[off], **{c: end[c] for c in columns}})
        names = [f"{b:g}" for b in budgets[: len(rows) - 1]] + ["end"]
        if self.default:
            rows.append({off: self.default[off], **{c: self.default[c] for c in columns}})
            names.append("defaults")
        table = pd.DataFrame(rows, index=pd.Index(names, name="budget"))
        table.insert(len(columns), "precision", 1 - table[off] / table["reports"])
        return table.round(3)


class FrameTruth:
    """Matching of reports with the truth of one frame."""

    def __init__(self, frame: RealFrame) -> None:
        self.frame = frame
        self.truth = frame.truth[frame.truth["isolated"] & (frame.truth["snr"] > min(SNR_LEVELS))]
        self.snr = self.truth["snr"].to_numpy()
        predicted = NEAR_PREDICTED if len(frame.known) else NEAR_OBSERVED
        self.targets = (
            (self.truth[["row", "col"]].to_numpy(), predicted),
            (self.truth[["row_obs", "col_obs"]].to_numpy(), NEAR_OBSERVED),
        )
        self.accepted = ((frame.known, NEAR_PREDICTED), (frame.seen, NEAR_OBSERVED))

    def best_scores(self, reports: NDArray[Any], scores: NDArray[Any]) -> NDArray[np.float64]:
        """Return the highest score near each truth row, -inf where there is no report."""
        best = np.full(len(self.truth), -np.inf)
        if len(reports) and len(best):
            tree = cKDTree(reports)
            for positions, distance in self.targets:
                for i, near in enumerate(tree.query_ball_point(positions, distance)):
                    if near:
                        best[i] = max(best[i], scores[near].max())
        return best

    def is_off(self, reports: NDArray[Any], *, loose: bool = False) -> NDArray[np.bool_]:
        """Return which reports are off the lattice."""
        off = np.ones(len(reports), bool)
        accepted = (*self.accepted, *([(self.frame.unsure, NEAR_OBSERVED)] if loose else []))
        for positions, distance in accepted:
            if len(positions) and len(reports):
                off &= np.isinf(cKDTree(positions).query(reports, distance_upper_bound=distance)[0])
        return off


def _recalls(best: NDArray[Any], snr: NDArray[Any], cut: float) -> dict[str, float]:
    found = best >= cut
    return {f"recall{n}": float(found[snr > n].mean()) if (snr > n).any() else np.nan
            for n in SNR_LEVELS}  # fmt: skip


@dataclass
class _Pooled:
    """Reports of all crystal frames together, matched once."""

    n_frames: int
    best: NDArray[Any]
    snr: NDArray[Any]
    scores: NDArray[Any]
    off: NDArray[Any]
    loose: NDArray[Any]

    @classmethod
    def match(cls, truths: list[FrameTruth], found: list[pd.DataFrame]) -> _Pooled:
        parts = []
        for truth, table in zip(truths, found, strict=True):
            where, scores = table[["row", "col"]].to_numpy(float), table["score"].to_numpy(float)
            parts.append(
                (truth.best_scores(where, scores), truth.snr, scores, truth.is_off(where),
                 truth.is_off(where, loose=True))
            )  # fmt: skip
        joined = [np.concatenate(p) for p in zip(*parts, strict=True)]
        return cls(len(truths), *joined)

    def at(self, cut: float) -> dict[str, float]:
        """Return all numbers for reports that score `cut` or more."""
        on = self.scores >= cut
        reports, off = int(on.sum()), int((on & self.off).sum())
        return {
            "cut": float(cut),
            "reports": reports / self.n_frames,
            "off": off / self.n_frames,
            "off_loose": int((on & self.loose).sum()) / self.n_frames,
            **_recalls(self.best, self.snr, cut),
            "precision": 1 - off / reports if reports else np.nan,
        }


def score(set_name: str, finder: str | Finder | FindFunction, *, default: bool = True) -> Curves:
    """Score a finder on one set.

    Parameters
    ----------
    set_name : str
        A key of `benchmarks.real_data.SETS`.
    finder : str, Finder or function
        A key of `benchmarks.finders.FINDERS`, an object with ``run`` and ``run_default``,
        or a function (image, good, radius or None) -> table with ``row, col`` and ``snr``.
    default : bool
        Also run the finder at its defaults, and on blank frames.

    Returns
    -------
    Curves
        `Curves.table` shows it; `Curves.missed` and `Curves.false` tell where it fails.
    """
    finder = _as_finder(finder)
    frames = load(set_name)
    crystal = [f for f in frames if not f.blank]
    truths = [FrameTruth(f) for f in crystal]
    curves = Curves(set_name, finder.name, pd.DataFrame(), {})
    if crystal:
        _score_crystals(curves, truths, [finder.run(f) for f in crystal])
    if default:
        if crystal:
            found = [finder.run_default(f) for f in crystal]
            curves.default = _Pooled.match(truths, found).at(ANY_REPORT)
        known = [f.known for f in crystal if len(f.known)]
        for frame in (f for f in frames if f.blank):
            reports = finder.run_default(frame)[["row", "col"]].to_numpy(float)
            curves.blank[frame.index] = len(reports)
            if known and len(reports):
                distance = cKDTree(np.vstack(known)).query(reports)[0]
                curves.blank_known[frame.index] = int((distance < 1).sum())
    return curves


def _as_finder(finder: str | Finder | FindFunction) -> Finder:
    if isinstance(finder, str):
        return FINDERS[finder]()
    return cast("Finder", finder) if hasattr(finder, "run") else _Wrapped(finder)


def _score_crystals(curves: Curves, truths: list[FrameTruth], found: list[pd.DataFrame]) -> None:
    """Fill `points`, `missed` and `false` from searches at permissive cuts."""
    if "cut" in found[0]:  # one search per cut
        cuts = sorted(found[0]["cut"].unique(), reverse=True)
        searches = [[t[t["cut"] == cut].reset_index(drop=True) for t in found] for cut in cuts]
        pooled = [_Pooled.match(truths, search) for search in searches]
        points = [p.at(ANY_REPORT) | {"cut": cut} for p, cut in zip(pooled, cuts, strict=True)]
        last, found = pooled[-1], searches[-1]
        best = np.max([p.best for p in pooled], axis=0)
    else:
        last = _Pooled.match(truths, found)
        best = last.best
        ranked = np.sort(last.scores)[::-1]
        n = len(ranked)
        steps = np.unique(np.geomspace(1, max(n, 1), 400).astype(int)) - 1
        points = [last.at(ranked[k]) for k in steps if n] or [last.at(np.inf)]
    curves.points = pd.DataFrame(points)
    curves.missed = _missed(truths, best)
    parts = [t.assign(frame=m.frame.index) for m, t in zip(truths, found, strict=True)]
    curves.false = pd.concat(parts)[last.off][["frame", "row", "col", "score"]]


def _missed(truths: list[FrameTruth], best: NDArray[Any]) -> pd.DataFrame:
    """Return the truth rows without a report, strongest first."""
    rows = pd.concat([t.truth.assign(frame=t.frame.index) for t in truths], ignore_index=True)
    rows = rows[np.isinf(best)].sort_values("snr", ascending=False)
    return rows[["frame", "row", "col", "snr", "row_obs", "col_obs"]]


def compare(results: list[Curves], *, off: str = "off") -> pd.DataFrame:
    """Return one row per set, finder: recall (snr > 5 / > 10 / > 20) at each budget."""
    rows = {}
    for curves in results:
        if len(curves.points):
            rows[curves.set, curves.finder] = {
                f"{b:g}": " ".join(
                    f"{curves.at(b, column=f'recall{n}', off=off):.2f}" for n in SNR_LEVELS
                )
                for b in BUDGETS[1:]
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def main(arguments: list[str] | None = None) -> None:
    """Print the curves of some finders on some sets."""
    parser = argparse.ArgumentParser("python -m benchmarks.real_frames", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--finders", nargs="+", default=DEFAULT_FINDERS, choices=list(FINDERS))
    parser.add_argument("--json", type=Path, help="also write all curves here")
    parser.add_argument("--loose", action="store_true", help="use the looser off-lattice rule")
    options = parser.parse_args(arguments)
    results = []
    for set_name in options.sets:
        for name in options.finders:
            try:
                curves = score(set_name, name)
            except ImportError as error:
                print(f"{set_name}, {name}: left out: {error}", file=sys.stderr)
                continue
            _show(curves, "off_loose" if options.loose else "off")
            results.append(curves)
    print(f"\nRecall of snr > {', > '.join(map(str, SNR_LEVELS))} at off-lattice reports per frame")
    print(compare(results, off="off_loose" if options.loose else "off").to_string())
    if options.json:
        options.json.write_text(json.dumps([_as_json(c) for c in results], indent=1))


def _show(curves: Curves, off: str) -> None:
    print(f"\n{curves.set}: {curves.finder}")
    if len(curves.points):
        print(curves.table(off=off).to_string())
        strong = curves.missed[curves.missed["snr"] > max(SNR_LEVELS)]
        print(f"snr > {max(SNR_LEVELS)} never found: {len(strong)}")
    if curves.blank:
        counts = ", ".join(f"frame {i}: {n}" for i, n in curves.blank.items())
        print(f"reports without crystal, at defaults: {counts}")
        if any(curves.blank_known.values()):
            print(f"of them within 1 px of the other frames' lattice: {curves.blank_known}")


def _as_json(curves: Curves) -> dict[str, Any]:
    return {"set": curves.set, "finder": curves.finder, "default": curves.default,
            "blank": curves.blank, "points": curves.points.to_dict("list")}  # fmt: skip


if __name__ == "__main__":
    main()
