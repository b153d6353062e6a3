"""Splits: no frame on both sides, both classes everywhere, clear refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_xtal.errors import InputError, ParameterError
from napari_xtal.peaks.verify.splits import grouped_folds, grouped_split, single_group_split


def labels(n_frames=60, per_frame=30, share=0.2, seed=0):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_frames), rng.integers(2, 2 * per_frame, n_frames))
    return groups, rng.random(len(groups)) < share


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(3, 12), st.integers(3, 12), st.integers(0, 4))
def test_every_row_once_no_group_twice_both_classes_everywhere(seed, n_peak, n_other, n_mixed):
    rng = np.random.default_rng(seed)
    kinds = [(1, 0)] * n_peak + [(0, 1)] * n_other + [(1, 1)] * n_mixed
    groups, truth = [], []
    for number, (peak, other) in enumerate(kinds):
        sizes = peak * int(rng.integers(1, 30)), other * int(rng.integers(1, 30))
        groups += [f"run{number}"] * sum(sizes)
        truth += [True] * sizes[0] + [False] * sizes[1]
    groups, truth = np.array(groups), np.array(truth)
    parts = grouped_split(groups, truth, seed=seed)
    assert sorted(np.concatenate(parts)) == list(range(len(truth)))
    for part in parts:
        assert truth[part].any() and not truth[part].all()
    homes = [set(groups[part]) for part in parts]
    assert sum(map(len, homes)) == len(set(groups))
    folds = grouped_folds(groups, truth, 3, seed)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(len(truth)))
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
        assert len(train) + len(test) == len(truth)
        assert truth[test].any() and not truth[test].all()


def test_shares_are_near_what_was_asked_and_classes_keep_their_shares():
    groups, truth = labels()
    for part, share in zip(grouped_split(groups, truth, seed=3), (0.7, 0.15, 0.15), strict=True):
        assert len(part) / len(truth) == pytest.approx(share, abs=0.03)
        assert truth[part].mean() == pytest.approx(truth.mean(), abs=0.04)


def test_the_seed_decides():
    groups, truth = labels()
    one, same, other = (grouped_split(groups, truth, seed=s)[2].tolist() for s in (1, 1, 2))
    assert one == same != other
    folds = [[t.tolist() for _, t in grouped_folds(groups, truth, 5, s)] for s in (1, 1, 2)]
    assert folds[0] == folds[1] != folds[2]


def test_a_share_of_zero_leaves_a_part_empty():
    groups, truth = labels(4)
    train, validation, test = grouped_split(groups, truth, (0.5, 0, 0.5))
    assert len(validation) == 0 and len(train) + len(test) == len(truth)


def test_many_groups_are_dealt_quickly():
    groups = np.arange(20_000) // 2
    parts = grouped_split(groups, groups % 3 == 0)
    assert len(parts[0]) == pytest.approx(14_000, rel=0.02)


@pytest.mark.parametrize(
    ("groups", "truth", "message"),
    [
        ([], [], "no labelled positions"),
        ([0, 1, 2], [1, 1, 1], "all 3 labels are 'peak'.*'not-peak' too"),
        ([0, 1, 2], [0, 0, 0], "all 3 labels are 'not-peak'.*'peak' too"),
        (
            [0, 0, 1, 1],
            [1, 0, 1, 0],
            "lie on 2 frames; for a split into 3 parts .* least 3: .*on 1 frame more",
        ),
        ([0, 0, 1, 2], [1, 0, 0, 0], "'peak' .1. lie on 1 frame; .*label 'peak' on 2 frames more"),
        ([0, 1], [1, 0, 1], "3 labels but 2 groups"),
        ([0, 1], [1, 7], "True"),
    ],
)
def test_what_cannot_be_split_says_what_to_label_next(groups, truth, message):
    with pytest.raises(InputError, match=message):
        grouped_split(groups, np.array(truth))


def test_fewer_groups_than_folds():
    with pytest.raises(InputError, match="lie on 3 runs; for 5 folds they must lie on at least 5"):
        grouped_folds([0, 0, 1, 1, 2, 2], [1, 0, 1, 0, 1, 0], 5, unit="run")
    with pytest.raises(ParameterError, match="n_folds"):
        grouped_folds([0, 1], [1, 0], 1)
    for shares in ((0, 0), (-1, 2), (np.nan, 1), 0.5):
        with pytest.raises(ParameterError, match="shares"):
            grouped_split([0, 1], [1, 0], shares)


def test_one_frame_is_split_by_blocks_that_do_not_touch():
    rng = np.random.default_rng(5)
    row, col, truth = rng.random(4000) * 2000, rng.random(4000) * 1500, rng.random(4000) < 0.3
    parts, note = single_group_split(row, col, truth, guard=27)
    assert "this frame only" in note and "left out" in note
    used = np.concatenate(parts)
    assert len(np.unique(used)) == len(used) > 2000
    for k, part in enumerate(parts):
        assert truth[part].any() and not truth[part].all()
        for other in parts[k + 1 :]:
            gap = np.maximum(
                np.abs(row[part][:, None] - row[other]), np.abs(col[part][:, None] - col[other])
            )
            assert gap.min() >= 27
    free, note = single_group_split(row, col, truth, guard=0)
    assert sum(map(len, free)) == 4000 and "left out" not in note


def test_one_frame_with_labels_in_one_spot_is_refused():
    rng = np.random.default_rng(6)
    row, col, truth = rng.random(200) * 20, rng.random(200) * 20, rng.random(200) < 0.5
    with pytest.raises(InputError, match="too close together"):
        single_group_split(row, col, truth)
    with pytest.raises(InputError, match="lie on 1 block of the frame; for a split into 3 parts"):
        single_group_split([1, 1, 1], [2, 2, 2], [True, False, True])
    with pytest.raises(InputError, match="no labelled positions"):
        single_group_split([], [], [])
    with pytest.raises(InputError, match="NaN"):
        single_group_split([np.nan, 1], [1, 1], [True, False])
    with pytest.raises(InputError, match="one value per position"):
        single_group_split([1, 2], [1, 1], [True])
