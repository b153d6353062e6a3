"""Divide labelled positions so that no frame is on both sides.

Peaks of one frame share its background, its crystal and its detector's faults: a split
that cuts through frames lets a model be tested on what it has learnt by heart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from napari_xtal.errors import InputError, ParameterError
from napari_xtal.peaks.verify.patches import HALF

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

#: Training, validation and test.
SHARES = (0.7, 0.15, 0.15)
#: Random assignments of which the best balanced is taken, and placements in all of them.
_TRIES, _PLACEMENTS = 20, 20_000
#: Side of the blocks of `single_group_split`, counted over the labelled area.
BLOCKS = 8
#: Windows of the verifier nearer than this share pixels [px].
GUARD = 2.0 * HALF + 1


def grouped_split(
    groups: ArrayLike,
    is_peak: ArrayLike,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    *,
    unit: str = "frame",
) -> tuple[NDArray[np.int64], ...]:
    """Split rows into parts of whole groups.

    Groups are dealt out in random order, each to the part that lacks its kind of labels
    most; of several such deals the one nearest to the wished shares of both classes is
    taken. Rows are neither dropped nor repeated: each part keeps the class shares its
    frames have.

    Parameters
    ----------
    groups : (n,) array_like
        Frame, run or detector of each row.
    is_peak : (n,) array_like of bool
        Labels.
    shares : sequence of float
        Wished share of the rows per part; 0 leaves a part empty.
    seed : int
        Seed of the order.
    unit : str
        What a group is, for messages.

    Returns
    -------
    tuple of (k,) ndarray of int
        Row numbers of each part, rising. Every part has both classes.

    Raises
    ------
    InputError
        No labels, one class only, or a class on fewer groups than parts.
    ParameterError
        Shares that are negative or all zero.
    """
    wished = np.asarray(shares, dtype=np.float64)
    if wished.ndim != 1 or not np.isfinite(wished).all() or (wished < 0).any() or not wished.any():
        raise ParameterError(f"shares {shares}: give positive numbers such as {SHARES}")
    codes, counts = _per_group(groups, is_peak)
    used = np.flatnonzero(wished)
    _require_groups(counts, len(used), f"a split into {len(used)} parts", unit)
    part = _deal(counts, wished[used] / wished.sum(), np.random.default_rng(seed))
    return tuple(np.flatnonzero(used[part][codes] == k) for k in range(len(wished)))


def grouped_folds(
    groups: ArrayLike,
    is_peak: ArrayLike,
    n_folds: int = 5,
    seed: int = 0,
    *,
    unit: str = "frame",
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Divide rows into folds of whole groups for cross-validation.

    Parameters
    ----------
    groups, is_peak, seed, unit
        As for `grouped_split`.
    n_folds : int
        Number of folds, at least 2.

    Returns
    -------
    list of (train, test)
        Row numbers. Each row is tested once; every test part has both classes.

    Raises
    ------
    InputError
        No labels, one class only, or a class on fewer groups than folds.
    """
    if n_folds < 2:
        raise ParameterError(f"n_folds must be at least 2, not {n_folds}")
    codes, counts = _per_group(groups, is_peak)
    _require_groups(counts, n_folds, f"{n_folds} folds", unit)
    part = _deal(counts, np.full(n_folds, 1 / n_folds), np.random.default_rng(seed))[codes]
    return [(np.flatnonzero(part != k), np.flatnonzero(part == k)) for k in range(n_folds)]


def single_group_split(
    row: ArrayLike,
    col: ArrayLike,
    is_peak: ArrayLike,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    *,
    guard: float = GUARD,
) -> tuple[tuple[NDArray[np.int64], ...], str]:
    """Split the labels of one frame by square blocks, the only honest way without other frames.

    Parameters
    ----------
    row, col : (n,) array_like
        Positions [px].
    is_peak : (n,) array_like of bool
        Labels.
    shares, seed
        As for `grouped_split`.
    guard : float
        Rows nearer than this, along both axes [px], to a row of a later part are left out,
        so that no training window shows a pixel of a tested one.

    Returns
    -------
    parts : tuple of (k,) ndarray of int
        Row numbers of each part.
    note : str
        What a report must say about such a split.

    Raises
    ------
    InputError
        No labels, one class only, a class in too few blocks, or no rows of a class left.
    """
    rows, cols = np.asarray(row, np.float64), np.asarray(col, np.float64)
    if rows.shape != np.shape(is_peak) or cols.shape != rows.shape:
        raise InputError("labels: row, col and is_peak must have one value per position")
    if not (np.isfinite(rows).all() and np.isfinite(cols).all()):
        raise InputError("labels: row or col holds NaN or infinite values")
    blocks = np.zeros(len(rows), np.int64)
    for values in (rows, cols):
        if len(values):
            place = (values - values.min()) / max(float(np.ptp(values)), 1e-9) * BLOCKS
            blocks = blocks * BLOCKS + np.minimum(place.astype(np.int64), BLOCKS - 1)
    dealt = grouped_split(blocks, is_peak, shares, seed, unit="block of the frame")
    parts = _keep_apart(dealt, np.column_stack([rows, cols]), guard)
    truth = np.asarray(is_peak, bool)
    for before, after in zip(dealt, parts, strict=True):
        if len(before) and (truth[after].all() or not truth[after].any()):
            raise InputError(
                "all labels lie on one frame and too close together to keep training and test "
                "apart; label positions on other frames"
            )
    note = (
        f"all labels lie on one frame: it was divided into {BLOCKS} x {BLOCKS} blocks, so the "
        "figures hold for this frame only; label other frames too"
    )
    left_out = len(rows) - sum(len(part) for part in parts)
    if left_out:
        note += f" ({left_out} positions beside tested ones were left out)"
    return parts, note


def _keep_apart(
    parts: tuple[NDArray[np.int64], ...], places: NDArray[np.float64], guard: float
) -> tuple[NDArray[np.int64], ...]:
    """Return the parts without rows nearer than `guard` to a row of a later part."""
    from scipy.spatial import cKDTree

    kept = list(parts)
    for k in range(len(parts) - 1):
        later = np.concatenate(parts[k + 1 :])
        if len(later) and len(parts[k]):
            gap, _ = cKDTree(places[later]).query(places[parts[k]], p=np.inf)
            kept[k] = parts[k][gap >= guard]
    return tuple(kept)


def _per_group(
    groups: ArrayLike, is_peak: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the group number of each row and the labels (not-peak, peak) of each group."""
    truth = np.asarray(is_peak)
    if not truth.size:
        raise InputError("no labelled positions; label some as peak and some as not-peak")
    if truth.ndim != 1 or not np.isin(truth, (0, 1)).all():
        raise InputError("labels must be one list of True (peak) and False")
    if np.shape(groups) != truth.shape:
        raise InputError(f"{truth.size} labels but {np.size(groups)} groups; give one per label")
    codes, names = pd.factorize(np.asarray(groups), use_na_sentinel=False)
    counts = np.bincount(2 * codes + truth.astype(np.int64), minlength=2 * len(names))
    return codes, counts.reshape(-1, 2)


def _require_groups(counts: NDArray[np.int64], n_parts: int, wish: str, unit: str) -> None:
    """Refuse when some part must lack a class, and say what to label next."""
    for column, label in ((1, "peak"), (0, "not-peak")):
        other = "not-peak" if column else "peak"
        n_rows, n_groups = int(counts[:, column].sum()), int((counts[:, column] > 0).sum())
        if n_rows == 0:
            raise InputError(
                f"all {int(counts.sum())} labels are '{other}'; training needs both classes, so "
                f"label some positions '{label}' too"
            )
        if n_groups < n_parts:
            missing = n_parts - n_groups
            raise InputError(
                f"the labels '{label}' ({n_rows}) lie on {_counted(n_groups, unit)}; for {wish} "
                f"they must lie on at least {n_parts}: label '{label}' on "
                f"{_counted(missing, unit)} more, or ask for fewer parts"
            )


def _counted(n: int, unit: str) -> str:
    head, *rest = unit.split(" ")
    return f"{n} {' '.join([head + 's' * (n != 1), *rest])}"


def _deal(
    counts: NDArray[np.int64], shares: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the part of each group; see `grouped_split`."""
    tries = max(1, min(_TRIES, _PLACEMENTS // len(counts)))
    mixed = np.asarray((counts > 0).all(axis=1))
    wished = np.outer(shares, counts.sum(axis=0)).tolist()
    best, best_cost = np.zeros(len(counts), np.int64), float("inf")
    for _ in range(tries):
        order = rng.permutation(len(counts))
        # Groups with both classes first: then every part can get both in the end.
        order = order[np.argsort(~mixed[order], kind="stable")]
        part, cost = _deal_once(counts, wished, order)
        if cost < best_cost:
            best, best_cost = part, cost
    return best


def _deal_once(
    counts: NDArray[np.int64], wished: list[list[float]], order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], float]:
    """Deal groups in the given order; return parts and the largest relative misfit."""
    content = [[0.0, 0.0] for _ in wished]
    part = np.zeros(len(counts), np.int64)
    labels = counts.tolist()
    for group in order.tolist():
        own = labels[group]

        def need(k: int, own: list[int] = own) -> tuple[int, float]:
            lacking = sum(own[c] > 0 and content[k][c] == 0 for c in (0, 1))
            room = sum((wished[k][c] - content[k][c]) / wished[k][c] for c in (0, 1) if own[c])
            return lacking, room

        k = max(range(len(wished)), key=need)
        part[group] = k
        content[k][0] += own[0]
        content[k][1] += own[1]
    misfit = max(
        abs(have / want - 1)
        for row, wish in zip(content, wished, strict=True)
        for have, want in zip(row, wish, strict=True)
    )
    return part, misfit
