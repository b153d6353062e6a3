"""Compare two peak lists: which peaks are common, which are only in one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_xtal.errors import InputError, ParameterError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Most pairs within the tolerance (some 2 GB); beyond it the tolerance makes no sense.
_MAX_PAIRS = 30_000_000
#: Cells of the largest cost matrix that is filled; larger ones are solved sparsely.
_DENSE = 250_000


@dataclass(frozen=True, eq=False)
class PeakMatch:
    """Result of `match_peaks`.

    Attributes
    ----------
    common : DataFrame
        One row per pair: frame, row, col (of the found peak), found_index and
        reference_index (row numbers of the inputs, for ``iloc``), distance [px].
    only_found, only_reference : DataFrame
        The rows of the inputs without a partner, index kept: false positives and misses,
        if the reference is the truth.
    precision : float
        Pairs / found; NaN when nothing was found.
    recall : float
        Pairs / reference; NaN when there was nothing to find.
    f1 : float
        2 pairs / (found + reference); NaN when both are empty.
    per_frame : DataFrame
        The same by frame: frame, n_found, n_reference, n_common, precision, recall, f1.
    """

    common: pd.DataFrame
    only_found: pd.DataFrame
    only_reference: pd.DataFrame
    precision: float
    recall: float
    f1: float
    per_frame: pd.DataFrame


def match_peaks(found: pd.DataFrame, reference: pd.DataFrame, tolerance: float = 2.0) -> PeakMatch:
    """Pair the peaks of two lists one to one, frame by frame.

    Of all ways to pair peaks that lie within the tolerance the one with most pairs is
    taken, and of these the one with the least sum of distances: the assignment problem,
    solved in each connected group of peaks by itself (Kuhn 1955; Jonker & Volgenant 1987,
    as in SciPy). Where several are equally good, one is taken.

    Parameters
    ----------
    found, reference : DataFrame
        Columns row, col [px] and frame; without a column frame all rows lie on frame 0.
    tolerance : float
        Largest distance of a pair [px], inclusive.

    Returns
    -------
    PeakMatch
        Pairs, rest, precision, recall, F1.

    Raises
    ------
    InputError
        When a column is missing or holds NaN, or only one of the lists has frames.
    ParameterError
        When the tolerance is negative, not finite, or so large that all pairs with all.

    Examples
    --------
    >>> import pandas as pd
    >>> found = pd.DataFrame({"row": [10.0, 11.0], "col": [10.0, 10.0]})
    >>> match = match_peaks(found, pd.DataFrame({"row": [10.2], "col": [10.0]}))
    >>> len(match.common), len(match.only_found), match.precision
    (1, 1, 0.5)
    """
    if not (np.isfinite(tolerance) and tolerance >= 0):
        raise ParameterError(f"tolerance must be a distance [px] of at least 0, not {tolerance}")
    ours, theirs = _places("found", found), _places("reference", reference)
    _require_same_frames(found, reference, ours[0], theirs[0])
    first, second, distance = _pairs_within(ours, theirs, float(tolerance))
    kept = _assign(first, second, distance, len(found), len(reference), float(tolerance))
    kept = kept[np.argsort(first[kept], kind="stable")]
    first, second, distance = first[kept], second[kept], distance[kept]
    common = pd.DataFrame(
        {
            "frame": ours[0][first],
            "row": ours[1][first],
            "col": ours[2][first],
            "found_index": first,
            "reference_index": second,
            "distance": distance,
        }
    )
    per_frame = _per_frame(ours[0], theirs[0], common["frame"].to_numpy())
    precision, recall, f1 = _rates(len(common), len(found), len(reference))
    return PeakMatch(
        common,
        found.iloc[_others(len(found), first)],
        reference.iloc[_others(len(reference), second)],
        float(precision),
        float(recall),
        float(f1),
        per_frame,
    )


def _others(n: int, taken: NDArray[np.int64]) -> NDArray[np.int64]:
    free = np.ones(n, bool)
    free[taken] = False
    return np.flatnonzero(free)


def _places(
    name: str, table: pd.DataFrame
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    if not isinstance(table, pd.DataFrame):
        raise InputError(
            f"match_peaks: {name} must be a DataFrame with row and col, not "
            f"{type(table).__name__}; use read_peaks for a file"
        )
    columns = {}
    for key in ("frame", "row", "col"):
        if key == "frame" and key not in table.columns:
            columns[key] = np.zeros(len(table))
            continue
        if key not in table.columns:
            raise InputError(f"match_peaks: {name} lacks the column '{key}'")
        try:
            columns[key] = table[key].to_numpy(dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"match_peaks: {name}, column '{key}': {error}") from error
        if not np.isfinite(columns[key]).all():
            raise InputError(f"match_peaks: {name}, column '{key}' holds NaN or infinite values")
    return columns["frame"].astype(np.int64), columns["row"], columns["col"]


def _require_same_frames(
    found: pd.DataFrame,
    reference: pd.DataFrame,
    ours: NDArray[np.int64],
    theirs: NDArray[np.int64],
) -> None:
    for name, table, other in (("found", found, theirs), ("reference", reference, ours)):
        if len(table) and "frame" not in table.columns and other.any():
            raise InputError(
                f"match_peaks: {name} has no column 'frame', but the other list has frames up to "
                f"{other.max()}; add the column"
            )


def _pairs_within(
    ours: tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]],
    theirs: tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]],
    tolerance: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return found row, reference row and distance of each pair within the tolerance."""
    from scipy.spatial import cKDTree

    none = np.zeros(0, np.int64)
    if not (len(ours[0]) and len(theirs[0])):
        return none, none, np.zeros(0)
    # One tree for all frames: a third axis keeps peaks of different frames out of reach.
    # Frames are numbered without gaps, so that this axis stays exact.
    codes = pd.factorize(np.concatenate([ours[0], theirs[0]]))[0]
    reach = tolerance * (1 + 1e-9) + 1e-12
    apart = 2 * reach + 1
    trees = [
        cKDTree(np.column_stack([code * apart, rows, cols]), balanced_tree=False)
        for code, (_, rows, cols) in zip(
            (codes[: len(ours[0])], codes[len(ours[0]) :]), (ours, theirs), strict=True
        )
    ]
    n_pairs = trees[0].count_neighbors(trees[1], reach)
    if n_pairs > _MAX_PAIRS:
        raise ParameterError(
            f"match_peaks: a tolerance of {tolerance:g} px allows {n_pairs} pairs; choose a "
            "tolerance smaller than the distance between neighbouring peaks"
        )
    pairs = trees[0].sparse_distance_matrix(trees[1], reach, output_type="ndarray")
    first, second = pairs["i"].astype(np.int64), pairs["j"].astype(np.int64)
    distance = np.hypot(ours[1][first] - theirs[1][second], ours[2][first] - theirs[2][second])
    inside = distance <= tolerance
    first, second, distance = first[inside], second[inside], distance[inside]
    order = np.lexsort((second, first))  # the tree's order is its own affair
    return first[order], second[order], distance[order]


def _assign(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    distance: NDArray[np.float64],
    n_found: int,
    n_reference: int,
    tolerance: float,
) -> NDArray[np.int64]:
    """Return which pairs to keep: most pairs, then the least sum of distances."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if not len(first):
        return np.zeros(0, np.int64)
    n = n_found + n_reference
    graph = coo_matrix((np.ones(len(first), bool), (first, n_found + second)), (n, n))
    component = connected_components(graph, directed=False)[1][first]
    # Where one side has a single peak, its nearest partner is the answer: nearly everywhere.
    alone = (np.bincount(first)[first] == np.bincount(component)[component]) | (
        np.bincount(second)[second] == np.bincount(component)[component]
    )
    simple = np.flatnonzero(alone)
    order = simple[np.lexsort((distance[simple], component[simple]))]
    kept = [order[np.flatnonzero(np.diff(component[order], prepend=-1))]]
    tangled = np.flatnonzero(~alone)
    tangled = tangled[np.argsort(component[tangled], kind="stable")]
    starts = np.flatnonzero(np.diff(component[tangled], prepend=-1))
    for edges in np.split(tangled, starts[1:]) if len(tangled) else []:
        kept.append(edges[_solve(first[edges], second[edges], distance[edges], tolerance)])
    return np.concatenate(kept)


def _solve(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    distance: NDArray[np.float64],
    tolerance: float,
) -> NDArray[np.int64]:
    """Return which edges of one connected group to keep."""
    from scipy.optimize import linear_sum_assignment

    rows, i = np.unique(first, return_inverse=True)
    cols, j = np.unique(second, return_inverse=True)
    # Leaving a pair out must cost more than any re-arrangement of the others can save.
    costly = (tolerance + 1) * (min(len(rows), len(cols)) + 1)
    if len(rows) * len(cols) > _DENSE:
        return _solve_sparse(i, j, distance, costly)
    cost = np.full((len(rows), len(cols)), costly)
    edge = np.full(cost.shape, -1)
    cost[i, j], edge[i, j] = distance, np.arange(len(first))
    chosen = edge[linear_sum_assignment(cost)]
    return chosen[chosen >= 0]


def _solve_sparse(
    i: NDArray[np.int64], j: NDArray[np.int64], distance: NDArray[np.float64], costly: float
) -> NDArray[np.int64]:
    """Solve a large group without filling its cost matrix."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    n, m = int(i.max()) + 1, int(j.max()) + 1
    # A dummy partner of its own makes it possible for every row to stay alone.
    rows = np.concatenate([i, np.arange(n)])
    cols = np.concatenate([j, m + np.arange(n)])
    # Weights of zero would be taken for missing edges.
    cost = np.concatenate([distance + 1, np.full(n, costly + 1)])
    left, right = min_weight_full_bipartite_matching(csr_matrix((cost, (rows, cols)), (n, m + n)))
    number = csr_matrix((np.arange(len(i)) + 1, (i, j)), (n, m))
    real = right < m
    found: Any = number[left[real], right[real]]
    return np.asarray(found).ravel().astype(np.int64) - 1


def _rates(n_common: Any, n_found: Any, n_reference: Any) -> tuple[Any, Any, Any]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return (
            np.divide(n_common, n_found),
            np.divide(n_common, n_reference),
            np.divide(2 * np.asarray(n_common), np.add(n_found, n_reference)),
        )


def _per_frame(
    ours: NDArray[np.int64], theirs: NDArray[np.int64], common: NDArray[np.int64]
) -> pd.DataFrame:
    frames = np.sort(pd.unique(np.concatenate([ours, theirs])))
    counts = []
    for values in (ours, theirs, common):
        counts.append(np.bincount(np.searchsorted(frames, values), minlength=len(frames)))
    precision, recall, f1 = _rates(counts[2], counts[0], counts[1])
    return pd.DataFrame(
        {
            "frame": frames, "n_found": counts[0], "n_reference": counts[1],
            "n_common": counts[2], "precision": precision, "recall": recall, "f1": f1,
        }
    )  # fmt: skip
