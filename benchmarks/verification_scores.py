"""Scores of verifiers on the finder's candidates: real sources, simulated ladder, speed."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks.labelled_candidates import OTHER, PEAK, FrameCandidates, frames_of
from benchmarks.ladder import LIVE_PIXELS_PER_FALSE, Scene
from benchmarks.real_frames import FrameTruth
from napari_xtal.peaks.finder import PeakFinder
from napari_xtal.peaks.parameters import PeakFinderParams
from napari_xtal.peaks.verify.metrics import evaluate
from napari_xtal.peaks.verify.verifier import Verifier

#: Recalls of lattice-predicted reflections (snr > 5) at which methods are compared, beside
#: the recall that the finder reaches at its own defaults.
RECALLS = (0.6, 0.8, 0.9)
MIN_SNR = 5.0
#: SNR levels of the simulated ladder.
LEVELS = (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0)
#: Simulated frames: every candidate of a search that lets this many false peaks pass.
VERY_PERMISSIVE = PeakFinderParams(false_peaks_per_frame=1000, relative_snr=0, max_peaks=1_000_000)
FINDER, WITH_SNR = "finder", " x snr"
#: Power of the finder's SNR by which the odds of a verifier are multiplied in the rows "x snr".
SNR_POWER = 3.0
Scores = dict[str, NDArray[np.float64]]


@dataclass
class Source:
    """All reported candidates of a real source, with the scores of every method.

    Attributes
    ----------
    name : str
    table : DataFrame
        frame, blank, row, col, snr, default, label, doubtful, then one column per method.
    truths : dict
        Frame -> matching with its truth.
    """

    name: str
    table: pd.DataFrame
    truths: dict[int, FrameTruth]

    @classmethod
    def collect(cls, name: str, verifiers: dict[str, Verifier]) -> Source:
        """Search a set, and judge its candidates."""
        parts = [_judged(found, verifiers) for found in frames_of(name)]
        crystals = [found.frame for found in frames_of(name) if not found.frame.blank]
        table = pd.concat(parts, ignore_index=True)
        return cls(name, table, {frame.index: FrameTruth(frame) for frame in crystals})

    @property
    def crystals(self) -> pd.DataFrame:
        """Candidates of frames with a crystal."""
        return self.table[~self.table["blank"]]

    def precision(self, method: str, *, clean: bool) -> dict[str, float]:
        """Return the average precision with its interval over peaks and others.

        Parameters
        ----------
        method : str
        clean : bool
            Leave out *others* where another frame of the same crystal has a signal too.
        """
        table = self.table[self.table["label"].isin([PEAK, OTHER])]
        if clean:
            table = table[~table["doubtful"]]
        is_peak = table["label"].to_numpy() == PEAK
        if is_peak.all() or not is_peak.any():
            return {}
        score = rankdata(table[method]) / len(table)  # only the order counts
        ap = evaluate(is_peak, score, groups=table["frame"].to_numpy()).ap
        return {"ap": ap.value, "low": ap.low, "high": ap.high}

    def curve(self, method: str) -> pd.DataFrame:
        """Return cut, recall and off-lattice reports per frame, from strict to permissive."""
        table = self.crystals
        score = table[method].to_numpy(float)
        best = np.concatenate(
            [
                truth.best_scores(part[["row", "col"]].to_numpy(), part[method].to_numpy(float))
                for truth, part in self._by_frame()
            ]
        )
        best = np.sort(best[np.isfinite(best)])[::-1]
        n_truth = sum(len(truth.snr) for truth in self.truths.values())
        off = table["off"].to_numpy()
        clean = off & ~table["doubtful"].to_numpy()
        cuts = np.unique(best)[::-1]
        counts = {
            "reports": _at_least(score, cuts),
            "off": _at_least(score[off], cuts),
            "off_clean": _at_least(score[clean], cuts),
        }
        return pd.DataFrame(
            {"cut": cuts, "recall": _at_least(best, cuts) / n_truth}
            | {name: count / len(self.truths) for name, count in counts.items()}
        )

    def default_recall(self) -> dict[str, float]:
        """Return recall and off-lattice reports per frame of the finder at its defaults."""
        hits = total = 0
        for truth, part in self._by_frame():
            part = part[part["default"]]
            best = truth.best_scores(part[["row", "col"]].to_numpy(), part["snr"].to_numpy(float))
            hits, total = hits + int(np.isfinite(best).sum()), total + len(best)
        off = self.crystals[self.crystals["default"] & self.crystals["off"]]
        n = len(self.truths)
        return {
            "recall": hits / total,
            "off": len(off) / n,
            "off_clean": int((~off["doubtful"]).sum()) / n,
        }

    def _by_frame(self) -> list[tuple[FrameTruth, pd.DataFrame]]:
        return [(t, self.table[self.table["frame"] == i]) for i, t in self.truths.items()]


def _judged(found: FrameCandidates, verifiers: dict[str, Verifier]) -> pd.DataFrame:
    frame, table = found.frame, found.table[found.table["reported"]].reset_index(drop=True)
    where = table[["row", "col"]].to_numpy()
    off = np.ones(len(table), bool) if frame.blank else FrameTruth(frame).is_off(where)
    table = table.assign(frame=frame.index, blank=frame.blank, off=off)
    table[FINDER] = table["snr"]
    return table.assign(**_verdicts(verifiers, frame.image, table, frame.good))


def methods_of(verifiers: Iterable[str]) -> list[str]:
    """Return the ways to rank candidates: each verifier's probability, alone and with the SNR."""
    return [name + suffix for name in verifiers for suffix in ("", WITH_SNR)]


def _verdicts(
    verifiers: dict[str, Verifier], image: NDArray[Any], table: pd.DataFrame, good: NDArray[Any]
) -> Scores:
    """Return the score of each candidate by `methods_of`; with SNR: log of odds x SNR^3."""
    out: Scores = {}
    for name, verifier in verifiers.items():
        probability = verifier.predict(image, table, good).astype(float)
        odds = np.clip(probability, 1e-6, 1 - 1e-6)
        out[name] = probability
        out[name + WITH_SNR] = np.log(odds / (1 - odds)) + SNR_POWER * np.log(
            table["snr"].to_numpy(float)
        )
    return out


def _at_least(score: NDArray[Any], cuts: NDArray[Any]) -> NDArray[np.intp]:
    """Return how many scores reach each cut."""
    return len(score) - np.searchsorted(np.sort(score), cuts, side="left")


def at_recall(curve: pd.DataFrame, recall: float) -> pd.Series:
    """Return the strictest point of a curve that reaches a recall; NaN when none does."""
    enough = curve[curve["recall"] >= recall - 1e-9]
    return enough.iloc[0] if len(enough) else pd.Series(np.nan, index=curve.columns)


def equal_recall(source: Source, methods: list[str]) -> pd.DataFrame:
    """Compare methods at equal recall, one row per recall and method.

    Columns: ``off`` and ``off_clean`` (off-lattice reports per frame; without those that
    another frame of the crystal confirms) and how many times fewer than by the finder's SNR.
    """
    curves = {method: source.curve(method) for method in [FINDER, *methods]}
    default = source.default_recall()
    rows = []
    for name, recall in [("defaults", default["recall"]), *((f"{r:g}", r) for r in RECALLS)]:
        plain = at_recall(curves[FINDER], recall)
        for method, curve in curves.items():
            point = at_recall(curve, recall)
            row = {"source": source.name, "at": name, "recall": recall, "method": method}
            row |= {key: point[key] for key in ("cut", "reports", "off", "off_clean")}
            for key in ("off", "off_clean"):
                row[f"fewer {key}"] = _times(plain[key], point[key])
            rows.append(row)
    rows.append(
        {"source": source.name, "at": "defaults", "method": "finder, all its rules", **default}
    )
    return pd.DataFrame(rows)


def _times(more: float, fewer: float) -> float:
    if not (np.isfinite(more) and np.isfinite(fewer)) or more == fewer == 0:
        return float("nan")
    return float(more / fewer) if fewer else float("inf")


@cache
def _ladder_scene(detector: str, kind: str, seed: int) -> tuple[Scene, pd.DataFrame]:
    scene = Scene(detector, kind, seed, snr_levels=LEVELS, n_peaks=20 * len(LEVELS))
    finder = PeakFinder(scene.good, scene.radius)
    table = finder.candidates(scene.image, VERY_PERMISSIVE, snr_min=3.5).filter(VERY_PERMISSIVE)
    return scene, table.reset_index(drop=True)


def ladder(
    detector: str, kind: str, n_frames: int, verifiers: dict[str, Verifier], seed: int = 500
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return recall per SNR at equal wrong reports (false, hot, split) on simulated frames.

    Returns
    -------
    DataFrame
        Two rows per method, at 1 wrong report per 4.2 live Mpx and at as many as the finder
        makes at its defaults: recall of SNR >= 5 and of each level. ``bad at recall``: wrong
        reports per frame where the method has the recall of the finder at its defaults.
    dict
        Method -> cut at which it has that recall.
    """
    judged: dict[str, list[pd.DataFrame]] = {FINDER: []}
    judged |= {name: [] for name in methods_of(verifiers)}
    defaults, truths, live = [], [], 0
    for k in range(seed, seed + n_frames):
        scene, table = _ladder_scene(detector, kind, k)
        live += int(scene.good.sum())
        truths.append(scene.peaks["snr"].to_numpy(float))
        judged[FINDER].append(scene.judge(table.assign(score=table["snr"])))
        for name, score in _verdicts(verifiers, scene.image, table, scene.good).items():
            judged[name].append(scene.judge(table.assign(score=score)))
        found = PeakFinder(scene.good, scene.radius).find(scene.image)
        defaults.append(scene.judge(found.assign(score=found["snr"])))
    truth = np.concatenate(truths)
    usual = pd.concat(defaults)
    wanted = _recall(usual, truth) * (truth >= MIN_SNR).sum()
    budgets = {
        "1 per 4.2 Mpx": live / LIVE_PIXELS_PER_FALSE,
        "as the finder": int((usual["kind"] != "hit").sum()),
    }
    rows, cuts = [], {}
    for name, parts in judged.items():
        reports = pd.concat(parts).sort_values("score", ascending=False, kind="stable")
        hit = reports["kind"].eq("hit").to_numpy()
        found = np.flatnonzero((hit & (reports["snr"] >= MIN_SNR).to_numpy()).cumsum() >= wanted)
        at = int(found[0]) if len(found) else len(reports) - 1
        cuts[name] = float(reports["score"].iloc[at])
        equal = float((~hit[: at + 1]).sum()) / n_frames if len(found) else np.nan
        for budget, allowed in budgets.items():
            kept = reports[(~hit).cumsum() <= allowed]
            row: dict[str, Any] = {"detector": detector, "kind": kind, "method": name}
            row |= {"wrong": budget, "per frame": allowed / n_frames}
            row |= {"bad at recall": equal, "recall": _recall(kept, truth)}
            rows.append(row | _levels(kept, truth))
    return pd.DataFrame(rows), cuts


def _recall(reports: pd.DataFrame, truth: NDArray[Any]) -> float:
    return float((reports["snr"] >= MIN_SNR).sum() / max((truth >= MIN_SNR).sum(), 1))


def _levels(reports: pd.DataFrame, truth: NDArray[Any]) -> dict[str, float]:
    edges = np.sqrt(np.array(LEVELS[:-1]) * LEVELS[1:])
    total = np.bincount(np.searchsorted(edges, truth), minlength=len(LEVELS))
    snr = reports["snr"].dropna().to_numpy(float)
    hit = np.bincount(np.searchsorted(edges, snr), minlength=len(LEVELS))
    return {f"SNR {level:g}": h / t for level, h, t in zip(LEVELS, hit, total, strict=True)}


def quiet(source: Source, cuts: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Count the reports on frames without a crystal.

    Parameters
    ----------
    source : Source
    cuts : dict
        Name of the column -> method -> cut on its score.
    """
    table = source.table[source.table["blank"]]
    rows = []
    for frame, part in table.groupby("frame"):
        part = part[part["label"] == OTHER]
        default = part[part["default"]]
        for method in next(iter(cuts.values())):
            # A verifier judges what the finder reports at its defaults, or at any cut.
            row = {"source": source.name, "frame": frame, "method": method}
            row["finder at defaults"] = len(default)
            for name, by_method in cuts.items():
                chosen = default if name == "verifier's threshold" else part
                row[name] = int((chosen[method] >= by_method[method]).sum())
            rows.append(row)
    return pd.DataFrame(rows)


def speed(verifier: Verifier, n: int = 20_000, repeats: int = 3) -> float:
    """Return candidates per second, extraction of windows included, best of some runs."""
    scene, _ = _ladder_scene("eiger4m", "ctrl", 500)
    rng = np.random.default_rng(0)
    good = np.argwhere(scene.good)
    table = pd.DataFrame(good[rng.choice(len(good), n)], columns=["row", "col"]).astype(float)
    table["snr"] = rng.uniform(4, 20, n)
    verifier.predict(scene.image, table.iloc[:600], scene.good)  # compiled, threads started
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        verifier.predict(scene.image, table, scene.good)
        times.append(time.perf_counter() - started)
    return n / min(times)
