"""Train the weights that the package ships, and say what they are worth."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_xtal.errors import InputError
from napari_xtal.peaks.verify.cnn import PeakVerifier, versions
from napari_xtal.peaks.verify.fit import FitParams, LabelledPatches, calibrate, fit_network
from napari_xtal.peaks.verify.metrics import evaluate
from napari_xtal.peaks.verify.networks import make_network
from napari_xtal.peaks.verify.normalisation import WIDTHS, foveate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_xtal.peaks.training.candidates import LabelledCandidates
    from napari_xtal.peaks.verify.patches import Patches
    from napari_xtal.peaks.verify.report import VerifierReport

#: How much rarer faint peaks are among the faint candidates of a real frame than in the
#: scenes, which are small and dense: `PRIOR` times at a significance of `FAINT[0]` and below,
#: not at all from `FAINT[1]` on.
PRIOR, FAINT = 32.0, (5.0, 7.0)
#: Significant broad structures of the scenes, which nobody could tell from a wide spot,
#: count this much.
BROAD = 0.6
#: Share of the training weight of the real candidates.
REAL_SHARE = 0.25
#: No candidate counts more than this many times the average.
MOST_WEIGHT = 10.0
#: Shares of simulated scenes and real frames for training, validation and test.
SHARES = (0.8, 0.1, 0.1)
#: Fewest frames of a real source of which some are kept from training.
FEWEST_FRAMES = 10
_CHUNK = 4096


@dataclass(frozen=True)
class Shipped:
    """A trained verifier and how it did.

    Attributes
    ----------
    verifier : PeakVerifier
        With the report on the test frames.
    by_source : DataFrame
        Average precision of the verifier and of the finder's SNR per source, on frames
        that were not learnt from.
    seconds : float
        Time of the training.
    """

    verifier: PeakVerifier
    by_source: pd.DataFrame
    seconds: float


@dataclass(frozen=True)
class Recipe:
    """How the weights are made.

    Attributes
    ----------
    architecture : str
        A key of `ARCHITECTURES`.
    seed : int
        Seed of the split, the first weights and the augmentation.
    exclude : tuple of str
        Sources that are kept from training and only scored.
    fit : FitParams
        The training loop.
    """

    architecture: str = "spot"
    seed: int = 0
    exclude: tuple[str, ...] = ()
    fit: FitParams = field(default_factory=lambda: FitParams(epochs=35, patience=35, balance=0.0))


def train_shipped(
    candidates: LabelledCandidates,
    recipe: Recipe | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Shipped:
    """Train a verifier on labelled candidates of simulated scenes and real frames.

    Parameters
    ----------
    candidates : LabelledCandidates
        Sources whose names begin with ``simulated`` are simulated.
    recipe : Recipe, optional
        How.
    progress : callable, optional
        Called with (done, total) steps.

    Returns
    -------
    Shipped

    Raises
    ------
    InputError
        When a source to be left out is not there, or nothing is left to learn from.
    """
    recipe = recipe or Recipe()
    candidates = candidates.take(candidates.patches.has_signal)
    missing = sorted(set(recipe.exclude) - set(candidates.source.tolist()))
    if missing:
        raise InputError(
            f"source '{missing[0]}' is not among {', '.join(sorted(set(candidates.source)))}"
        )
    started = time.perf_counter()
    weight = balanced_weights(candidates)
    train, validation, test = split(candidates, recipe.exclude, recipe.seed)
    parts = [
        LabelledPatches(candidates.patches.take(r), candidates.is_peak[r], weight[r])
        for r in (train, validation)
    ]
    network = make_network(recipe.architecture, recipe.seed)
    fit = fit_network(network, parts[0], parts[1], recipe.fit, seed=recipe.seed, progress=progress)
    temperature, bias = calibrate(fit.network, parts[1])
    metadata = {
        "seed": recipe.seed,
        "versions": versions(),
        "sources": sorted(set(candidates.source[train].tolist())),
        "n_training": len(train),
        "training_hash": training_hash(candidates.take(train)),
    }
    verifier = PeakVerifier(fit.network, temperature=temperature, bias=bias, metadata=metadata)
    seconds = time.perf_counter() - started
    probability = verifier.predict_patches(candidates.patches.take(test))
    verifier.report = _report(candidates.take(test), probability, verifier, fit.loss)
    by_source = scores_by_source(candidates.take(test), probability, recipe.exclude)
    return Shipped(verifier, by_source, seconds)


def is_simulated(source: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Return which candidates come from simulated scenes."""
    return np.char.startswith(source, "simulated")


def balanced_weights(candidates: LabelledCandidates) -> NDArray[np.float32]:
    """Return how much each candidate counts in training.

    Simulated ones are brought to the class shares of real frames at low significance.
    Real sources count by the square root of their size, both classes of a source alike.
    """
    weight = candidates.weight.astype(np.float64)
    simulated = is_simulated(candidates.source)
    weight[simulated] *= _simulated_weights(candidates.take(simulated))
    total = weight[simulated].sum()
    sources = sorted(set(candidates.source[~simulated].tolist()))
    roots = {name: np.sqrt((candidates.source == name).sum()) for name in sources}
    share = REAL_SHARE / (1 - REAL_SHARE) * total if total else 1.0
    for name in sources:
        rows = candidates.source == name
        for label in (False, True):
            some = rows & (candidates.is_peak == label)
            wished = 0.5 * share * roots[name] / sum(roots.values())
            weight[some] *= wished / max(weight[some].sum(), 1e-12)
    return np.minimum(weight, MOST_WEIGHT * weight.mean()).astype(np.float32)


def _simulated_weights(candidates: LabelledCandidates) -> NDArray[np.float64]:
    significance, width = _in_window(candidates.patches)
    # The finder knows the ring a candidate lies on, the window its neighbourhood: a blend.
    blend = np.sqrt(np.clip(significance, 1, 50) * np.clip(candidates.snr, 1, 1000))
    faint = np.clip((FAINT[1] - blend) / (FAINT[1] - FAINT[0]), 0, 1)
    weight = np.where(candidates.is_peak, PRIOR ** (-0.25 * faint), PRIOR ** (0.75 * faint))
    broad = ~candidates.is_peak & (blend > FAINT[1]) & (width >= 1.6)
    return np.where(broad, BROAD * weight, weight)


def _in_window(patches: Patches) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the significance of a spot in the centre, and the width that fits best [px]."""
    parts = [
        foveate(patches.take(slice(start, start + _CHUNK)))[2][:, : len(WIDTHS)]
        for start in range(0, len(patches), _CHUNK)
    ] or [np.empty((0, len(WIDTHS)), np.float32)]
    found = np.concatenate(parts)
    best = np.maximum(found.max(axis=1, initial=0), 0).astype(np.float64)
    # The inverse of the compression in `patch_kernels`.
    return (1 + best / 2) ** 4 - 1, np.array(WIDTHS)[found.argmax(axis=1)]


def split(
    candidates: LabelledCandidates, exclude: Sequence[str] = (), seed: int = 0
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Split by scene and frame into training, validation and test.

    Real sources with few frames are learnt from as a whole; those in `exclude` are test
    as a whole.

    Returns
    -------
    train, validation, test : (k,) ndarray of int
        Row numbers.
    """
    rng = np.random.default_rng(seed)
    part = np.zeros(len(candidates), np.int8)
    for name in sorted(set(candidates.source.tolist())):
        rows = np.flatnonzero(candidates.source == name)
        groups = np.unique(candidates.group[rows])
        if name in exclude:
            part[rows] = 2
        elif len(groups) >= FEWEST_FRAMES:
            dealt = rng.permutation(np.arange(len(groups)) + 0.5) / len(groups)
            of_group = np.searchsorted(np.cumsum(SHARES)[:2], dealt, side="right")
            part[rows] = of_group[np.searchsorted(groups, candidates.group[rows])]
    train, validation, test = (np.flatnonzero(part == k) for k in range(3))
    return train, validation, test


def training_hash(candidates: LabelledCandidates) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of windows and labels."""
    digest = hashlib.sha256()
    for array in (candidates.patches.values, candidates.patches.usable, candidates.is_peak):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _report(
    test: LabelledCandidates,
    probability: NDArray[np.float32],
    verifier: PeakVerifier,
    loss: dict[str, list[float]],
) -> VerifierReport:
    names = np.char.add(np.char.add(test.source, "/"), test.group.astype(str))
    return evaluate(
        test.is_peak, probability, groups=names, baseline=test.snr, loss=loss,
        threshold=verifier.threshold,
        notes=["candidates of frames and simulated scenes that were not learnt from"],
    )  # fmt: skip


def scores_by_source(
    test: LabelledCandidates, probability: NDArray[np.float32], excluded: Sequence[str] = ()
) -> pd.DataFrame:
    """Return the average precision of probability and SNR per source.

    Returns
    -------
    DataFrame
        Index: source; columns n, n_peaks, ap, ap_snr (NaN where only one class is there),
        accepted_others (share of the others with a probability of at least 0.5), held_out
        (whether no frame of the source was learnt from).
    """
    from sklearn.metrics import average_precision_score

    rows: dict[str, dict[str, Any]] = {}
    for name in sorted(set(test.source.tolist())):
        some = test.source == name
        label, p, snr = test.is_peak[some], probability[some], test.snr[some]
        both = label.any() and not label.all()
        rows[name] = {
            "n": int(some.sum()),
            "n_peaks": int(label.sum()),
            "ap": average_precision_score(label, p) if both else np.nan,
            "ap_snr": average_precision_score(label, snr) if both else np.nan,
            "accepted_others": float((p[~label] >= 0.5).mean()) if not label.all() else np.nan,
            "held_out": name in excluded,
        }
    return pd.DataFrame.from_dict(rows, orient="index")
