"""Scores against numbers worked out by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from napari_xtal.errors import InputError, ParameterError
from napari_xtal.peaks.verify.curves import calibration_curve
from napari_xtal.peaks.verify.intervals import _Ranked
from napari_xtal.peaks.verify.metrics import (
    choose_threshold,
    evaluate,
    permutation_importance,
    pr_curve,
)


def toy(n=600, n_groups=40, seed=0, spread=0.0):
    """Labels, probabilities and SNR with a verifier better than the SNR."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, n_groups, n)
    truth = rng.random(n) < 0.3
    z = (
        np.where(truth, 1.5, -1.5)
        + rng.normal(0, 1, n)
        + spread * rng.normal(0, 1, n_groups)[groups]
    )
    snr = np.where(truth, rng.gamma(3, 3, n), rng.gamma(2, 2, n))
    return groups, truth, 1 / (1 + np.exp(-z)), snr


def test_worked_out_by_hand():
    truth = [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    probability = [0.9, 0.8, 0.2, 0.7, 0.4, 0.3, 0.1, 0.1, 0.1, 0.0]
    report = evaluate(truth, probability, threshold=0.5)
    assert report.confusion == ((6, 1), (1, 2))  # ((TN, FP), (FN, TP))
    assert report.precision.value == pytest.approx(2 / 3)
    assert report.recall.value == pytest.approx(2 / 3)
    assert report.f1.value == pytest.approx(2 / 3)
    assert report.accuracy.value == pytest.approx(0.8)
    # Hits at ranks 1, 2 and 6.
    assert report.ap.value == pytest.approx((1 + 1 + 3 / 6) / 3)
    assert (report.n, report.n_peaks, report.n_frames) == (10, 3, None)
    classes = report.classes.set_index("label")
    assert classes.loc["not-peak", ["precision", "recall", "n"]].tolist() == [6 / 7, 6 / 7, 7]
    # A threshold accepts what equals it.
    assert evaluate(truth, probability, threshold=0.8).confusion == ((7, 0), (1, 2))


def test_never_a_peak_shows_what_accuracy_is_worth():
    truth = np.arange(1000) < 10
    report = evaluate(truth, np.where(truth, 0.4, 0.1))
    never = report.baselines.set_index("name").loc["never a peak"]
    assert report.accuracy.value == never["accuracy"] == 0.99
    assert report.recall.value == never["recall"] == 0 and never["ap"] == pytest.approx(0.01)
    assert np.isnan(report.precision.value) and report.ap.value == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_equals_scikit_learn_with_ties_and_weights(seed, n_levels):
    rng = np.random.default_rng(seed)
    truth = np.append(rng.random(30) < 0.4, [True, False])
    score = rng.integers(0, n_levels, len(truth)) / n_levels
    report = evaluate(truth, score, n_resamples=2)
    assert report.ap.value == pytest.approx(sk.average_precision_score(truth, score))
    said = score >= 0.5
    assert report.confusion == tuple(map(tuple, sk.confusion_matrix(truth, said).tolist()))
    assert report.f1.value == pytest.approx(sk.f1_score(truth, said))
    order = np.argsort(-score, kind="stable")
    weight = rng.integers(0, 3, len(truth))
    ranked = _Ranked.of(truth[order], score[order])
    ours = ranked.average_precision(weight[order].astype(np.int32))
    if weight[truth].any():
        repeated = sk.average_precision_score(np.repeat(truth, weight), np.repeat(score, weight))
        assert ours == pytest.approx(repeated)
    else:
        assert np.isnan(ours)


def test_intervals_hold_the_value_and_follow_the_seed():
    groups, truth, probability, _ = toy()
    one, same, other = (evaluate(truth, probability, groups=groups, seed=s) for s in (0, 0, 1))
    for name in ("precision", "recall", "f1", "ap", "accuracy"):
        score = getattr(one, name)
        assert 0 <= score.low < score.value < score.high <= 1
    assert one.f1 == same.f1 and one.f1 != other.f1


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """Frames differ from each other: only resampling frames knows how much."""
    everything = evaluate(*toy(200_000, 20_000, 99, 1.5)[1:3], n_resamples=1).recall.value
    grouped = rows = 0
    for seed in range(40):
        groups, truth, probability, _ = toy(800, 20, seed, 1.5)
        for given_groups in (groups, None):
            score = evaluate(truth, probability, groups=given_groups, n_resamples=200).recall
            hit = score.low <= everything <= score.high
            grouped, rows = grouped + (given_groups is not None) * hit, rows + (given_groups is None) * hit  # fmt: skip
    assert grouped >= 34 > rows


def test_few_groups_fall_back_to_rows_and_say_so():
    groups, truth, probability, _ = toy(n_groups=3)
    report = evaluate(truth, probability, groups=groups)
    assert report.n_frames == 3
    assert any("3 frames only" in note for note in report.notes)
    assert any("not given" in note for note in evaluate(truth, probability).notes)
    groups, truth, probability, _ = toy(n_groups=5)
    assert not evaluate(truth, probability, groups=groups).notes


def test_a_perfect_score_on_few_labels_is_not_called_certain():
    truth = np.array([True, False] * 10)
    report = evaluate(truth, truth * 0.8 + 0.1)
    assert report.recall.value == 1
    # Clopper and Pearson for 10 of 10.
    assert report.recall.low == pytest.approx(0.6915, abs=1e-4)
    assert report.recall.high == 1 and report.f1.low < 0.75
    assert any("Clopper" in note for note in report.notes)
    none = evaluate(truth, 0.9 - truth * 0.8)
    assert none.recall.value == 0 and none.recall.high == pytest.approx(1 - 0.6915, abs=1e-4)


def test_baseline_threshold_is_chosen_on_training_rows():
    _, truth, probability, snr = toy(3000)
    _, train_truth, _, train_snr = toy(3000, seed=1)
    report = evaluate(truth, probability, baseline=snr, baseline_train=(train_snr, train_truth))
    rows = report.baselines.set_index("name")
    plain = rows.loc["plain threshold (SNR)"]
    assert plain["threshold"] == choose_threshold(train_truth, train_snr)
    said = snr >= plain["threshold"]
    assert plain["f1"] == pytest.approx(sk.f1_score(truth, said))
    assert plain["ap"] == pytest.approx(sk.average_precision_score(truth, snr))
    assert plain["ap"] < report.ap.value
    equal = rows.loc["plain threshold, equal recall"]
    assert equal["recall"] == pytest.approx(report.recall.value)
    assert equal["precision"] < report.precision.value
    assert report.baseline_curve is not None
    # Without training rows the only honest comparison is at the verifier's recall.
    alone = evaluate(truth, probability, baseline=snr).baselines.set_index("name")
    assert alone.loc["plain threshold (SNR)", "threshold_from"] == "verifier's recall"
    assert alone.loc["plain threshold (SNR)", "precision"] == equal["precision"]


def test_positions_without_snr_are_refused_by_the_baseline():
    _, truth, probability, snr = toy(200)
    snr[:20] = np.nan
    report = evaluate(truth, probability, baseline=snr)
    assert any("20 of 200 positions have no SNR" in note for note in report.notes)
    filled = np.where(np.isnan(snr), -1e9, snr)
    assert report.baselines["ap"][0] == pytest.approx(sk.average_precision_score(truth, filled))
    assert report.baseline_curve["recall"].max() < 1
    nothing = evaluate(truth, probability, baseline=np.full(200, np.nan))
    assert nothing.baseline_curve is None and np.isnan(nothing.baselines["threshold"][0])


def test_rows_without_a_probability_are_left_out_and_counted():
    groups, truth, probability, snr = toy()
    lost = probability.copy()
    lost[::10] = np.nan
    report = evaluate(truth, lost, groups=groups, baseline=snr)
    kept = ~np.isnan(lost)
    expected = evaluate(truth[kept], probability[kept], groups=groups[kept], baseline=snr[kept])
    assert report.n == 540 and report.ap.value == expected.ap.value
    assert report.notes == ["60 of 600 labelled positions have no probability; left out"]


@pytest.mark.parametrize(
    ("truth", "probability", "options", "message"),
    [
        ([], [], {}, "no labelled positions"),
        ([1, 1], [0.1, 0.2], {}, "all 2 labels are 'peak'.*'not-peak' too"),
        ([0, 0], [0.1, 0.2], {}, "all 2 labels are 'not-peak'"),
        ([1, 0], [np.nan, np.nan], {}, "no labelled positions"),
        ([1, 0], [0.1], {}, "2 labels but 1 values in 'probability'"),
        ([1, 0], [0.1, 0.2], {"groups": [1]}, "'groups'"),
        ([1, 0], [0.1, 0.2], {"baseline": [1, 2, 3]}, "'baseline'"),
        ([1, 0], [0.1, 1.2], {}, r"between 0.1 and 1.2; they must lie in \[0, 1\]"),
        (["peak", "not-peak"], [0.1, 0.2], {}, "list of True"),
        ([[1, 0]], [0.1, 0.2], {}, "list of True"),
    ],
)
def test_bad_input_is_named(truth, probability, options, message):
    with pytest.raises(InputError, match=message):
        evaluate(truth, probability, **options)


def test_bad_parameters_are_named():
    with pytest.raises(ParameterError, match="n_resamples"):
        evaluate([1, 0], [0.1, 0.2], n_resamples=0)
    with pytest.raises(ParameterError, match="threshold"):
        evaluate([1, 0], [0.1, 0.2], threshold=np.nan)
    with pytest.raises(ParameterError, match="goal 'best'"):
        choose_threshold([1, 0], [0.1, 0.2], "best")
    with pytest.raises(ParameterError, match="not in"):
        choose_threshold([1, 0], [0.1, 0.2], ("recall", 1.5))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([np.float32, np.float64]))
def test_chosen_threshold_is_the_best_of_all(seed, dtype):
    rng = np.random.default_rng(seed)
    truth = np.append(rng.random(20) < 0.4, [True, False])
    score = np.round(rng.random(len(truth)) + truth * 0.3, 1).astype(dtype)

    def rate(limit, goal):
        said = score >= limit
        whole = {
            "precision": said.sum(),
            "recall": truth.sum(),
            "f1": (said.sum() + truth.sum()) / 2,
        }
        return (said & truth).sum() / whole[goal]

    best = max(rate(value, "f1") for value in score)
    assert rate(choose_threshold(truth, score), "f1") == pytest.approx(best)
    for goal in ("recall", "precision"):
        reached = [v for v in score if rate(v, goal) >= 0.8]
        if not reached:
            with pytest.raises(InputError, match="no threshold has a precision of 0.8; the best"):
                choose_threshold(truth, score, (goal, 0.8))
            continue
        chosen = choose_threshold(truth, score, (goal, 0.8))
        edge = max(reached) if goal == "recall" else min(reached)
        np.testing.assert_array_equal(score >= chosen, score >= edge)


def test_thresholds_between_neighbouring_floats_and_beside_nan():
    low, high = 0.5, np.nextafter(0.5, 1)
    assert choose_threshold([1, 0], [high, low]) == high
    assert choose_threshold([1, 0, 1], [9.0, 5.0, np.nan]) == 7.0
    with pytest.raises(InputError, match="no score is a number"):
        choose_threshold([1, 0], [np.nan, np.nan])


def test_curve_is_thinned_but_keeps_its_ends():
    _, truth, probability, _ = toy(20_000)
    full, thin = pr_curve(truth, probability, 10**6), pr_curve(truth, probability)
    assert len(full) > 15_000 and 400 < len(thin) <= 500
    assert thin.iloc[0].equals(full.iloc[0]) and thin.iloc[-1].equals(full.iloc[-1])
    assert thin["recall"].diff().max() < 0.005
    precision, recall, threshold = sk.precision_recall_curve(truth, probability)
    np.testing.assert_allclose(full["precision"], precision[-2::-1])
    np.testing.assert_allclose(full["recall"], recall[-2::-1])
    np.testing.assert_allclose(full["threshold"], threshold[::-1])


def test_calibration_of_honest_and_of_boasting_probabilities():
    rng = np.random.default_rng(2)
    probability = rng.random(20_000)
    truth = rng.random(20_000) < probability
    table, error = calibration_curve(truth, probability)
    assert len(table) == 10 and error < 0.02
    assert table["n"].tolist() == [2000] * 10
    np.testing.assert_allclose(table["predicted"], np.arange(0.05, 1, 0.1), atol=0.01)
    boasting = np.where(probability > 0.5, 1.0, 0.0)
    table, error = calibration_curve(truth, boasting)
    assert table["predicted"].tolist() == [0, 1]
    assert error == pytest.approx(0.25, abs=0.01)


def test_importance_ranks_the_informative_feature_first():
    rng = np.random.default_rng(0)
    truth = rng.random(400) < 0.4
    features = pd.DataFrame({"noise": rng.random(400), "snr": truth + rng.normal(0, 0.5, 400), "rest": 1.0})  # fmt: skip
    calls = []

    def predict(table):
        calls.append(list(table.columns))
        return table["snr"].to_numpy() + 0.01 * table["noise"].to_numpy()

    before = features.copy()
    table = permutation_importance(predict, features, truth, n_repeats=3)
    assert table["feature"][0] == "snr" and table["importance"][0] > 0.2
    assert abs(table.set_index("feature").loc["noise", "importance"]) < 0.02
    assert table.set_index("feature").loc["rest", "importance"] == 0
    assert len(calls) == 1 + 3 * 3
    pd.testing.assert_frame_equal(features, before)
    pd.testing.assert_frame_equal(
        table, permutation_importance(predict, features, truth, n_repeats=3)
    )


def test_importance_within_groups_exchanges_only_inside_them():
    groups = np.repeat([5, 3, 9], [10, 20, 30])
    rng = np.random.default_rng(1)
    order = rng.permutation(60)
    groups = groups[order]
    features = pd.DataFrame({"detector": groups * 1.0, "snr": rng.random(60)})
    truth = rng.random(60) < 0.5

    def predict(table):
        np.testing.assert_array_equal(table["detector"], groups)
        for group in np.unique(groups):
            own = groups == group
            assert sorted(table["snr"][own]) == sorted(features["snr"][own])
        return table["snr"].to_numpy()

    table = permutation_importance(predict, features, truth, groups)
    assert table.set_index("feature").loc["detector", "importance"] == 0
    with pytest.raises(InputError, match="do not go together"):
        permutation_importance(predict, features, truth[:5])
