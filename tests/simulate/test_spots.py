"""Spot shapes and the meaning of their signal-to-noise ratio."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_xtal.simulate.detectors import Detector, Panel, expose
from napari_xtal.simulate.spots import add_spots, pixel_variance, spot_shapes, unit_snr


def small_detector(gain=1.0, read_noise=0.0, dtype="uint16", panels=None):
    """A detector of 64 x 64 pixels whose beam lies far to the left."""
    return Detector(
        name="small",
        shape=(64, 64),
        dtype=np.dtype(dtype),
        panels=panels or (Panel((0, 64), (0, 64), (500.0, -32.0)),),
        dead=np.zeros((64, 64), dtype=bool),
        beam_stop=0.0,
        pixel_size_m=75e-6,
        distance_m=0.1,
        photon_energy_ev=12400.0,
        gain=gain,
        read_noise=read_noise,
    )


@settings(max_examples=40, deadline=None)
@given(
    row=st.floats(25, 40),
    col=st.floats(25, 40),
    sigma=st.floats(0.25, 1.5),
    ratio=st.floats(1.0, 1.6),
)
def test_shape_has_the_asked_moments(row, col, sigma, ratio):
    stretch = sigma * np.sqrt(ratio**2 - 1)
    shapes = spot_shapes(
        small_detector(), np.array([row]), np.array([col]), np.array([sigma]), np.array([stretch])
    )
    weight = shapes.weight[0]
    rows, cols = np.divmod(shapes.index[0], 64)
    assert shapes.recorded[0] == pytest.approx(1.0, abs=1e-4)
    assert (weight >= 0).all()
    # Integration over pixels keeps the centre on average over sub-pixel phases only.
    assert weight @ rows == pytest.approx(row, abs=0.3 if sigma < 0.5 else 0.03)
    assert weight @ cols == pytest.approx(col, abs=0.3 if sigma < 0.5 else 0.03)
    if sigma > 0.6:
        # The beam lies 500 px to the left, so the radius runs along the columns.
        across = weight @ (rows - row) ** 2
        along = weight @ (cols - col) ** 2
        assert across == pytest.approx(sigma**2 + 1 / 12, abs=0.06 * sigma**2 + 0.02)
        assert along == pytest.approx((sigma * ratio) ** 2 + 1 / 12, rel=0.08, abs=0.02)


def test_light_is_not_recorded_beyond_the_panel():
    panels = (
        Panel((0, 64), (0, 32), (500.0, -32.0)),
        Panel((0, 64), (32, 64), (540.0, -32.0)),
    )
    detector = small_detector(panels=panels)
    shapes = spot_shapes(detector, np.array([30.0]), np.array([31.5 - 1e-6]), np.array([1.0]))
    cols = shapes.index[0][shapes.weight[0] > 0] % 64
    assert cols.max() == 31
    assert shapes.recorded[0] == pytest.approx(0.5, abs=1e-3)


def test_no_spots_give_empty_shapes():
    none = np.empty(0)
    shapes = spot_shapes(small_detector(), none, none, none)
    assert shapes.recorded.shape == (0,)
    photons = np.ones((64, 64), dtype=np.float32)
    assert unit_snr(small_detector(), shapes, photons).shape == (0,)


@pytest.mark.parametrize(
    ("gain", "read_noise", "dtype", "level"),
    [(1.0, 0.0, "uint16", 0.4), (1.0, 0.0, "uint16", 5.0), (30.0, 8.0, "float32", 0.5)],
)
def test_a_matched_filter_reaches_the_snr(gain, read_noise, dtype, level):
    detector = small_detector(gain, read_noise, dtype)
    rng = np.random.default_rng(3)
    row, col = (a.ravel() for a in np.meshgrid([16.2, 32.5, 48.9], [15.7, 32.1, 49.4]))
    background = np.full((64, 64), level, dtype=np.float32)
    sigma = rng.uniform(0.5, 1.1, 9)
    shapes = spot_shapes(detector, row, col, sigma, 0.5 * sigma)
    wished = np.array([4, 5, 6, 8, 10, 12, 15, 20, 30], dtype=float)
    signal = wished / unit_snr(detector, shapes, background)
    expected = background.copy()
    add_spots(expected, shapes, signal)

    variance = pixel_variance(detector, background.reshape(-1)[shapes.index])
    matched = shapes.weight / variance

    def outputs(scene):
        draws = np.stack([expose(detector, scene, rng).reshape(-1) for _ in range(1500)])
        return np.einsum("dnk,nk->dn", draws[:, shapes.index] / gain - level, matched)

    noise = outputs(background).std(axis=0)
    reached = outputs(expected).mean(axis=0) / noise
    np.testing.assert_allclose(reached, wished, rtol=0.08)
    assert np.mean(reached / wished) == pytest.approx(1.0, abs=0.02)
