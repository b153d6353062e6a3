"""Recall per SNR on simulated frames with exact truth, false peaks calibration, hard scenes.

The SNR of a peak is a property of the data, S * sqrt(sum(p_i^2 / var_i)). A report is a
**hit** within 2 px of a true peak, one to one (highest score first), else **hot** on an
injected hot pixel, else **split** within 6 px of a true peak, else **false**. The cut of
every finder is swept; recall is read at 1 false report per 4.2 million live pixels.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from benchmarks.finders import FINDERS, Finder, NapariXtal

LEVELS = (4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 30, 50)
HIT, SPLIT, HOT = 2.0, 6.0, 1.0
LIVE_PIXELS_PER_FALSE = 4.2e6
HARD_RECALLS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9)
CALIBRATION = (0.1, 1.0, 10.0, 100.0)
RATE_CUTS = (4.0, 4.25, 4.5, 4.75, 5.0, 5.25, 5.5, 5.75)
DEFAULT_FINDERS = ("napari-xtal", "om-pf8-2px", "om-pf8-3px", "matched-filter")


class Scene:
    """A simulated frame in the shape that finders take."""

    asics = (1, 1)

    def __init__(self, detector: str, kind: str, seed: int, **ladder: Any) -> None:
        from napari_xtal.simulate.scenes import ladder_frame

        made = ladder_frame(detector, kind, seed, **ladder)
        self.image: NDArray[Any] = made.image
        self.good: NDArray[np.bool_] = made.good
        self.radius: NDArray[np.float32] | None = made.radius
        self.peaks: pd.DataFrame = made.peaks
        self.hot = np.asarray(made.hot_pixels, float).reshape(-1, 2)

    @property
    def radius_or_middle(self) -> NDArray[np.float32]:
        """The scene's radius map (on hard scenes it is deliberately wrong)."""
        if self.radius is None:
            raise ValueError("a simulated scene needs a radius map")
        return self.radius

    def judge(self, reports: pd.DataFrame) -> pd.DataFrame:
        """Return the reports by falling score with what they are.

        Adds ``kind`` (hit, hot, split, false), and for hits ``snr`` and ``distance`` of the
        true peak.
        """
        reports = reports.sort_values("score", ascending=False, kind="stable")
        where = reports[["row", "col"]].to_numpy(float)
        truth = self.peaks[["row", "col"]].to_numpy(float)
        kind = np.full(len(where), "false", dtype=object)
        hit = _one_to_one(where, truth)
        kind[_near(where, truth, SPLIT)] = "split"
        kind[_near(where, self.hot, HOT)] = "hot"
        kind[hit >= 0] = "hit"
        snr, distance = np.full(len(where), np.nan), np.full(len(where), np.nan)
        on = hit >= 0
        snr[on] = self.peaks["snr"].to_numpy()[hit[on]]
        distance[on] = np.hypot(*(where[on] - truth[hit[on]]).T)
        return reports.assign(kind=kind, snr=snr, distance=distance)


def _near(where: NDArray[Any], targets: NDArray[Any], limit: float) -> NDArray[np.bool_]:
    if not len(where) or not len(targets):
        return np.zeros(len(where), bool)
    return np.isfinite(cKDTree(targets).query(where, distance_upper_bound=limit)[0])


def _one_to_one(where: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.intp]:
    """Return the true peak each report hits, -1 for none; earlier reports choose first."""
    hit = np.full(len(where), -1)
    if not len(where) or not len(truth):
        return hit
    free = np.ones(len(truth), bool)
    tree = cKDTree(truth)
    for i, near in enumerate(tree.query_ball_point(where, HIT)):
        near = [k for k in near if free[k]]
        if near:
            hit[i] = min(near, key=lambda k: np.hypot(*(truth[k] - where[i])))
            free[hit[i]] = False
    return hit


def level_of(snr: NDArray[Any]) -> NDArray[np.intp]:
    """Return the nearest SNR level (by ratio) as an index into `LEVELS`."""
    return np.abs(np.log(np.asarray(snr)[:, None] / np.array(LEVELS))).argmin(axis=1)


def sweep(finder: Finder, scenes: list[Scene]) -> pd.DataFrame:
    """Return one row per cut: recall per level, mean recall of SNR >= 8, bad reports per frame."""
    found = [finder.run(scene) for scene in scenes]
    truth_snr = np.concatenate([s.peaks["snr"].to_numpy(float) for s in scenes])
    if "cut" in found[0]:
        cuts = sorted(found[0]["cut"].unique(), reverse=True)
        searches = [
            pd.concat([s.judge(t[t["cut"] == c]) for s, t in zip(scenes, found, strict=True)])
            for c in cuts
        ]
        rows = [_numbers(search, truth_snr, len(scenes)) for search in searches]
    else:
        judged = pd.concat([s.judge(t) for s, t in zip(scenes, found, strict=True)])
        judged = judged.sort_values("score", ascending=False)
        steps = np.unique(np.geomspace(1, len(judged), 300).astype(int))
        rows = [_numbers(judged.iloc[:n], truth_snr, len(scenes)) for n in steps]
    return pd.DataFrame(rows)


def _numbers(judged: pd.DataFrame, truth_snr: NDArray[Any], n_frames: int) -> dict[str, float]:
    hits = judged[judged["kind"] == "hit"]
    counts = judged["kind"].value_counts()
    row = {k: counts.get(k, 0) / n_frames for k in ("false", "hot", "split")}
    if len(truth_snr):
        total = np.bincount(level_of(truth_snr), minlength=len(LEVELS))
        hit = np.bincount(level_of(hits["snr"].to_numpy(float)), minlength=len(LEVELS))
        row |= {f"{lev}": h / t for lev, h, t in zip(LEVELS, hit, total, strict=True) if t}
        row["recall8"] = (hits["snr"] >= 8).sum() / max((truth_snr >= 8).sum(), 1)
    middle = hits[hits["snr"].between(9, 16)]["distance"]
    row["rms"] = float(np.sqrt((middle**2).mean())) if len(middle) else np.nan
    row["bad"] = row["false"] + row["hot"] + row["split"]
    return row


def at(points: pd.DataFrame, column: str, value: float) -> pd.Series:
    """Return all numbers interpolated where `column` (false, or recall8) reaches `value`.

    Cuts that find no more than a cut with fewer false reports are left out; NaN beyond the
    last cut.
    """
    points = points.sort_values(["false", "recall8"], kind="stable")
    points = points[points["recall8"] >= points["recall8"].cummax()]
    x = points[column].to_numpy()
    if value > x.max():
        return pd.Series(np.nan, index=points.columns)
    return pd.Series({c: np.interp(value, x, points[c]) for c in points.columns})


def ladder(finder: Finder, scenes: list[Scene]) -> pd.Series:
    """Return recall per level and the other numbers at 1 false report per 4.2 live Mpx."""
    live = np.mean([s.good.sum() for s in scenes])
    return at(sweep(finder, scenes), "false", live / LIVE_PIXELS_PER_FALSE)


def calibration(scenes: list[Scene]) -> pd.DataFrame:
    """Return reports per blank frame against the number of false peaks asked for."""
    rows = {}
    for asked in CALIBRATION:
        finder = NapariXtal(false_peaks_per_frame=asked)
        kinds = pd.concat([s.judge(finder.run_default(s)) for s in scenes])["kind"]
        rows[asked] = {"false": (kinds == "false").sum() / len(scenes),
                       "hot": (kinds == "hot").sum() / len(scenes)}  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("asked for")


def rates(scenes: list[Scene]) -> pd.Series:
    """Return false reports per million live pixels by SNR cut: the calibration's own table."""
    live = sum(s.good.sum() for s in scenes) * 1e-6
    rows = {}
    for cut in RATE_CUTS:
        finder = NapariXtal(min_snr=cut, max_peaks=1_000_000)
        kinds = pd.concat([s.judge(finder.run_default(s)) for s in scenes])["kind"]
        rows[cut] = (kinds == "false").sum() / live
    return pd.Series(rows, name="false per Mpx").rename_axis("SNR cut")


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser("python -m benchmarks.ladder", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--detector", default="eiger4m", choices=["eiger4m", "xfel1m"])
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--finders", nargs="+", default=DEFAULT_FINDERS, choices=list(FINDERS))
    parser.add_argument("--kinds", nargs="+", default=["ctrl", "hard", "blank"],
                        help="ctrl, sharp, real: recall per SNR; hard: false reports at equal "
                        "recall; blank: calibration; rates: false reports per Mpx by cut")  # fmt: skip
    options = parser.parse_args(arguments)
    for kind in options.kinds:
        seeds = range(options.seed, options.seed + options.frames)
        scene = "blank" if kind == "rates" else kind
        scenes = [Scene(options.detector, scene, seed) for seed in seeds]
        print(f"\n{options.detector} {kind}, {len(scenes)} frames")
        if kind == "blank":
            print(calibration(scenes).round(2).to_string())
            continue
        if kind == "rates":
            print(rates(scenes).round(3).to_string())
            continue
        table: dict[str, Any] = {}
        for name in options.finders:
            try:
                points = sweep(FINDERS[name](), scenes)
            except ImportError as error:
                print(f"{name}: left out: {error}", file=sys.stderr)
                continue
            if kind == "hard":
                table[name] = {r: at(points, "recall8", r)["bad"] for r in HARD_RECALLS}
            else:
                live = np.mean([s.good.sum() for s in scenes])
                table[name] = at(points, "false", live / LIVE_PIXELS_PER_FALSE)
        if kind == "hard":
            print("false + hot + split reports per frame at recall (SNR >= 8) of")
        result = pd.DataFrame(table).T.dropna(axis=1, how="all")
        print(result.drop(columns="bad", errors="ignore").round(3).to_string())


if __name__ == "__main__":
    main()
