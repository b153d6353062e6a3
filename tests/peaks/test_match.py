"""One-to-one matching of peak lists against brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_xtal.errors import InputError, ParameterError
from napari_xtal.peaks import match as module
from napari_xtal.peaks.match import match_peaks


def table(*places, frame=None):
    rows = pd.DataFrame(list(places), columns=["row", "col"], dtype=float)
    return rows if frame is None else rows.assign(frame=frame)


def brute_force(found, reference, tolerance):
    """Return (pairs, least sum of distances) over every way to pair the peaks of one frame."""
    if len(found) > len(reference):
        found, reference = reference, found
    best = (0, 0.0)
    for partners in itertools.permutations(range(-len(found), len(reference)), len(found)):
        distances = [
            math.dist(a, reference[j])
            for a, j in zip(found, partners, strict=True)
            if j >= 0 and math.dist(a, reference[j]) <= tolerance
        ]
        if len(distances) > best[0] or (len(distances) == best[0] and sum(distances) < best[1]):
            best = (len(distances), sum(distances))
    return best


# A coarse grid gives ties and chains, where greedy matching goes wrong.
PLACES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=4)


@settings(max_examples=80, deadline=None)
@given(PLACES, PLACES, st.sampled_from([0.0, 1.0, 1.5, 2.0, 3.0]))
def test_agrees_with_brute_force_and_is_symmetric(ours, theirs, tolerance):
    one = match_peaks(table(*ours), table(*theirs), tolerance)
    pairs, total = brute_force(ours, theirs, tolerance)
    assert len(one.common) == pairs
    assert one.common["distance"].sum() == pytest.approx(total)
    other = match_peaks(table(*theirs), table(*ours), tolerance)
    assert len(other.common) == pairs
    assert other.common["distance"].sum() == pytest.approx(total)
    np.testing.assert_equal((one.precision, one.recall, one.f1), (other.recall, other.precision, other.f1))  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 6))
def test_pairs_are_one_to_one_within_the_tolerance_and_nothing_is_lost(seed, tolerance):
    rng = np.random.default_rng(seed)
    lists = [
        pd.DataFrame({"frame": rng.integers(0, 3, n), "row": rng.random(n) * 20, "col": rng.random(n) * 20})
        for n in rng.integers(0, 40, 2)
    ]  # fmt: skip
    found, reference = lists
    result = match_peaks(found, reference, tolerance)
    common = result.common
    assert common["found_index"].is_unique and common["reference_index"].is_unique
    ours, theirs = found.iloc[common["found_index"]], reference.iloc[common["reference_index"]]
    assert (ours["frame"].to_numpy() == theirs["frame"].to_numpy()).all()
    gap = np.hypot(ours["row"].to_numpy() - theirs["row"].to_numpy(), ours["col"].to_numpy() - theirs["col"].to_numpy())  # fmt: skip
    assert (gap <= tolerance).all()
    np.testing.assert_allclose(gap, common["distance"])
    assert sorted([*result.only_found.index, *common["found_index"]]) == list(range(len(found)))
    rest = [*result.only_reference.index, *common["reference_index"]]
    assert sorted(rest) == list(range(len(reference)))
    assert result.per_frame["n_common"].sum() == len(common)
    assert result.per_frame["n_found"].sum() == len(found)
    # No pair was left that both rests could still form.
    left = match_peaks(result.only_found, result.only_reference, tolerance)
    assert not len(left.common)


def test_two_candidates_near_one_truth_are_one_hit_and_one_false():
    result = match_peaks(table((10, 10), (11, 10)), table((10.2, 10)))
    assert len(result.common) == 1 and len(result.only_found) == 1
    assert result.common["found_index"].tolist() == [0]
    assert result.only_found["row"].tolist() == [11.0]
    assert (result.precision, result.recall) == (0.5, 1.0)
    assert result.f1 == pytest.approx(2 / 3)


def test_more_pairs_go_before_nearer_pairs():
    # Greedy by distance would pair 1.0 with 1.9 and leave two peaks alone.
    result = match_peaks(table((1.0, 0), (2.9, 0)), table((0.0, 0), (1.9, 0)), tolerance=1.0)
    assert result.common["reference_index"].tolist() == [0, 1]


def test_tolerance_is_inclusive_and_zero_means_the_same_place():
    assert len(match_peaks(table((0, 0)), table((0, 2)), 2.0).common) == 1
    assert len(match_peaks(table((0, 0)), table((0, 2)), np.nextafter(2, 0)).common) == 0
    assert len(match_peaks(table((3, 3), (3, 4)), table((3, 3)), 0).common) == 1


def test_peaks_of_different_frames_never_pair():
    result = match_peaks(table((5, 5), (5, 5), frame=[0, 7]), table((5, 5), frame=[7]))
    assert result.common["frame"].tolist() == [7]
    assert result.per_frame["frame"].tolist() == [0, 7]
    assert result.per_frame["n_found"].tolist() == [1, 1]
    assert np.isnan(result.per_frame["recall"][0]) and result.per_frame["recall"][1] == 1


def test_the_rest_keeps_its_columns_and_index():
    found = table((1, 1), (9, 9)).assign(snr=[5.0, 6.0]).set_index(np.array([40, 41]))
    result = match_peaks(found, table((1, 1)))
    assert result.only_found["snr"].tolist() == [6.0] and result.only_found.index.tolist() == [41]


def test_empty_lists_have_undefined_scores():
    none, some = table(), table((1, 1), (5, 5))
    nothing = match_peaks(none, none)
    assert np.isnan([nothing.precision, nothing.recall, nothing.f1]).all()
    missed = match_peaks(none, some)
    assert np.isnan(missed.precision) and missed.recall == 0 and missed.f1 == 0
    invented = match_peaks(some, none)
    assert invented.precision == 0 and np.isnan(invented.recall) and invented.f1 == 0
    assert len(invented.only_found) == 2 and list(invented.common.columns)[:2] == ["frame", "row"]


@pytest.mark.parametrize("limit", [0, 250_000])
def test_large_tangles_have_the_best_assignment(monkeypatch, limit):
    from scipy.optimize import linear_sum_assignment

    monkeypatch.setattr(module, "_DENSE", limit)
    rng = np.random.default_rng(4)
    found, reference = (
        pd.DataFrame(rng.random((n, 2)) * 10, columns=["row", "col"]) for n in (45, 60)
    )
    result = match_peaks(found, reference, 3.0)
    gap = np.hypot(
        *(found[k].to_numpy()[:, None] - reference[k].to_numpy() for k in ("row", "col"))
    )
    cost = np.where(gap <= 3, gap, 1e4)
    best = cost[linear_sum_assignment(cost)]
    assert len(result.common) == (best < 1e4).sum()
    assert result.common["distance"].sum() == pytest.approx(best[best < 1e4].sum())


@pytest.mark.parametrize("tolerance", [-1, np.nan, np.inf])
def test_a_senseless_tolerance_is_refused(tolerance):
    with pytest.raises(ParameterError, match="tolerance"):
        match_peaks(table((1, 1)), table((1, 1)), tolerance)


def test_bad_tables_are_named():
    good = table((1, 1))
    with pytest.raises(InputError, match="reference lacks the column 'col'"):
        match_peaks(good, good[["row"]])
    with pytest.raises(InputError, match="found, column 'row' holds NaN"):
        match_peaks(good.assign(row=np.nan), good)
    with pytest.raises(InputError, match="must be a DataFrame"):
        match_peaks([(1, 1)], good)
    with pytest.raises(InputError, match="reference has no column 'frame'.*up to 3"):
        match_peaks(good.assign(frame=3), good)


def test_a_tolerance_that_joins_everything_is_refused(monkeypatch):
    monkeypatch.setattr(module, "_MAX_PAIRS", 100)
    many = pd.DataFrame(np.random.default_rng(0).random((20, 2)), columns=["row", "col"])
    with pytest.raises(ParameterError, match="allows 400 pairs"):
        match_peaks(many, many, 50)
