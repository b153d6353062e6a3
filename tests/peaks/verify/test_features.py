from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_xtal.errors import InputError
from napari_xtal.peaks.verify.features import FEATURES, candidate_features
from napari_xtal.peaks.verify.patches import HALF, Patches, extract_patches

SIDE = 2 * HALF + 1
Y, X = np.mgrid[-HALF : HALF + 1, -HALF : HALF + 1]
DEFAULTS = {name: value for name, (_, value) in FEATURES.items()}
MASK_FEATURES = ("edge_distance", "masked_share", "masked_core")


def spot(height=40.0, sigma=1.0, row=0.0, col=0.0, sigma_col=None):
    sigma_col = sigma if sigma_col is None else sigma_col
    return height * np.exp(-0.5 * (((Y - row) / sigma) ** 2 + ((X - col) / sigma_col) ** 2))


def noisy(expected, seed=0, level=8.0):
    return np.random.default_rng(seed).poisson(level + expected).astype(np.float32)


def features_of(*windows, usable=None):
    values = np.stack(windows).astype(np.float32)
    usable = np.ones(values.shape, bool) if usable is None else usable
    return candidate_features(Patches(values, usable))


def mean_of(name, make, n=12):
    return features_of(*(noisy(make, seed) for seed in range(n)))[name].mean()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    gain=st.sampled_from([0.125, 0.5, 2.0, 4.0, 32.0]),
    offset=st.integers(-1000, 1000),
    level=st.sampled_from([0.05, 2.0, 50.0]),
    n_masked=st.integers(0, 300),
)
def test_gain_and_offset_do_not_matter(seed, gain, offset, level, n_masked):
    rng = np.random.default_rng(seed)
    window = noisy(spot(30), seed, level)
    usable = np.ones(SIDE * SIDE, bool)
    usable[rng.choice(usable.size, n_masked, replace=False)] = False
    usable = usable.reshape(1, SIDE, SIDE)
    before = features_of(window, usable=usable)
    after = features_of(gain * window + offset, usable=usable)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    level=st.sampled_from([0.0, 0.001, 0.05, 1.0, 1e3, 1e8]),
    share=st.sampled_from([0.0, 0.2, 0.9, 0.99, 1.0]),
    bad=st.sampled_from([0.0, np.nan, np.inf, -np.inf, 3e38]),
)
def test_every_window_gets_finite_numbers(seed, level, share, bad):
    rng = np.random.default_rng(seed)
    window = rng.poisson(level, (3, SIDE, SIDE)).astype(np.float32)
    window[rng.random(window.shape) < 0.05] = bad
    usable = rng.random(window.shape) >= share
    features = candidate_features(Patches(window, usable))
    assert list(features.columns) == list(FEATURES)
    assert np.isfinite(features.to_numpy()).all()


@pytest.mark.parametrize("case", ["all masked", "constant", "nan", "centre masked", "few pixels"])
def test_windows_in_which_nothing_can_be_measured_get_the_documented_defaults(case):
    window, usable = noisy(spot()), np.ones((1, SIDE, SIDE), bool)
    if case == "all masked":
        usable[:] = False
    elif case == "constant":
        window[:] = 7
    elif case == "nan":
        window[:] = np.nan
    elif case == "centre masked":
        usable[0, HALF - 1 : HALF + 2, HALF - 1 : HALF + 2] = False
    else:
        usable[:] = False
        usable[0, HALF, HALF - 3 : HALF + 4] = True
    row = features_of(window, usable=usable).iloc[0]
    for name, default in DEFAULTS.items():
        if name not in MASK_FEATURES:
            assert row[name] == default, name


def test_mask_features_count_pixels():
    usable = np.ones((1, SIDE, SIDE), bool)
    usable[0, :, HALF + 2] = False
    row = features_of(noisy(spot()), usable=usable).iloc[0]
    assert row["edge_distance"] == 2
    assert row["masked_share"] == pytest.approx(1 / SIDE)
    assert row["masked_core"] == pytest.approx(5 / 25)
    assert features_of(noisy(spot())).iloc[0]["edge_distance"] == HALF + 1


def test_significance_rises_with_the_spot_and_is_that_of_the_noise_without():
    heights = [0, 4, 8, 16, 64]
    means = [mean_of("matched_12", spot(h, 1.2)) for h in heights]
    assert np.all(np.diff(means) > 0)
    noise = features_of(*(noisy(0 * X, seed) for seed in range(300)))
    # Undo asinh: a matched filter over pure noise has variance 1.
    assert np.sinh(noise["matched_12"]).std() == pytest.approx(1, abs=0.15)
    assert np.exp(noise["texture"]).mean() == pytest.approx(1, abs=0.1)


def test_width_and_elongation_follow_the_spot():
    widths = [mean_of("gyration", spot(60, s)) for s in (0.7, 1.2, 2.0)]
    assert np.all(np.diff(widths) > 0.2)
    assert mean_of("elongation", spot(60, 1.2)) < 1.4
    assert mean_of("elongation", spot(60, 0.8, sigma_col=3)) > 2


def test_single_pixels_lines_neighbours_and_slopes_are_told_apart():
    hot = np.where((Y == 0) & (X == 0), 300.0, 0)
    line = 20 * np.exp(-0.5 * Y**2)
    two = spot(60) + spot(60, row=0, col=9)
    round_spot = spot(60)
    assert mean_of("single_3", hot) > 0.85 > mean_of("single_3", round_spot) + 0.3
    assert mean_of("neighbours", hot) < 1 < mean_of("neighbours", round_spot)
    assert mean_of("line", line) > mean_of("line", round_spot) + 1
    assert mean_of("ridge", line) > mean_of("ridge", round_spot) + 0.2
    assert mean_of("n_maxima", two) > mean_of("n_maxima", round_spot) + 0.3
    assert mean_of("slope", round_spot + 0.8 * (X + HALF)) > mean_of("slope", round_spot) + 0.5
    assert mean_of("quadrants", spot(60, row=2, col=2)) > mean_of("quadrants", round_spot) + 0.2
    # The founding features: dilation and maximum minus centre, gradient, share above.
    beside = spot(60, row=0, col=2)
    for name in ("dilation_minus_centre", "max_minus_centre", "gradient", "off_centre"):
        assert mean_of(name, beside) > mean_of(name, round_spot), name
    assert mean_of("share_above", two) > mean_of("share_above", round_spot) > 0


def test_order_and_number_of_windows_do_not_matter():
    rng = np.random.default_rng(0)
    image = rng.poisson(3, (200, 210)).astype(np.uint16)
    patches = extract_patches(image, rng.uniform(0, 199, 1300), rng.uniform(0, 209, 1300))
    whole = candidate_features(patches)
    some = candidate_features(patches.take(slice(700, 705)))
    np.testing.assert_array_equal(whole.iloc[700:705].to_numpy(), some.to_numpy())
    assert candidate_features(patches.take(slice(0, 0))).shape == (0, len(FEATURES))


def test_too_small_windows_are_refused():
    with pytest.raises(InputError, match="15 px"):
        candidate_features(Patches.empty(1, 5))
