"""Detector models: panels, masks, positions, noise."""

import numpy as np
import pytest

from napari_xtal.errors import ParameterError
from napari_xtal.simulate.detectors import DETECTORS, digitise, expose, make_detector


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "panels"),
    [
        ("eiger4m", (2167, 2070), "uint16", 8),
        ("xfel1m", (970, 1110), "float32", 30),
        ("demo", (512, 512), "uint16", 4),
    ],
)
def test_models_are_as_documented(name, shape, dtype, panels):
    detector = make_detector(name)
    assert detector.shape == detector.panel_map.shape == detector.good.shape == shape
    assert detector.dtype == np.dtype(dtype)
    assert len(detector.panels) == panels
    assert set(np.unique(detector.panel_map)) - {-1} == set(range(panels))


@pytest.mark.parametrize("name", DETECTORS)
def test_gaps_dead_pixels_and_beam_stop_are_masked(name):
    detector = make_detector(name)
    assert not detector.good[detector.panel_map < 0].any()
    assert detector.dead.any()
    assert not detector.good[detector.dead].any()
    assert not detector.good[detector.radius < detector.beam_stop].any()
    assert detector.good.mean() > 0.9


@pytest.mark.parametrize("name", DETECTORS)
def test_positions_and_slab_are_inverse(name):
    detector = make_detector(name)
    rng = np.random.default_rng(0)
    rows, cols = (rng.integers(0, n, 500) for n in detector.shape)
    on_panel = detector.panel_map[rows, cols] >= 0
    rows, cols = rows[on_panel], cols[on_panel]
    x, y = (part[rows, cols].astype(float) for part in detector.positions)
    row, col, panel = detector.to_slab(x, y)
    np.testing.assert_allclose(row, rows, atol=1e-3)
    np.testing.assert_allclose(col, cols, atol=1e-3)
    np.testing.assert_array_equal(panel, detector.panel_map[rows, cols])


def test_positions_in_gaps_have_no_slab_position():
    detector = make_detector("demo")
    gap = np.argwhere(detector.panel_map < 0)[::500]
    x, y = (part[tuple(gap.T)].astype(float) for part in detector.positions)
    row, col, panel = detector.to_slab(x, y)
    assert np.isnan(row).all()
    assert np.isnan(col).all()
    assert (panel == -1).all()


def test_panels_in_the_laboratory_do_not_overlap():
    detector = make_detector("xfel1m")
    x, y = (part.ravel().astype(float) for part in detector.positions)
    # Every pixel centre is claimed by exactly the panel it lies on.
    _, _, panel = detector.to_slab(x[::37], y[::37])
    np.testing.assert_array_equal(panel, detector.panel_map.ravel()[::37])


@pytest.mark.parametrize("name", DETECTORS)
def test_beam_centre_is_where_the_radius_starts(name):
    detector = make_detector(name)
    row, col = detector.beam_centre
    # The beam may pass between panels; on the nearest one distances count from the centre.
    nearest = np.argmin(np.where(detector.panel_map >= 0, detector.radius, np.inf))
    on = np.argwhere(detector.panel_map == detector.panel_map.ravel()[nearest])[::97]
    distance = np.hypot(on[:, 0] - row, on[:, 1] - col)
    np.testing.assert_allclose(distance, detector.radius[tuple(on.T)], atol=1e-2)
    assert distance.min() < 40


def test_noise_of_the_integrating_detector():
    detector = make_detector("xfel1m")
    rng = np.random.default_rng(1)
    expected = np.full(detector.shape, 2.0, dtype=np.float32)
    adu = expose(detector, expected, rng)
    assert adu.mean() == pytest.approx(60, rel=0.02)
    panel = adu[detector.panel_map == 3]
    assert panel.var() == pytest.approx(30**2 * 2 + 8**2, rel=0.03)
    levels = [adu[detector.panel_map == k].mean() for k in range(30)]
    # Spread of panel means: the common mode (2 ADU), not the 0.2 ADU of counting noise.
    assert 1 < np.std(levels) < 3.5


def test_stored_counts_are_integers_with_marked_gaps():
    detector = make_detector("demo")
    adu = np.full(detector.shape, 1e9, dtype=np.float32)
    adu[0, 0] = -3
    image = digitise(detector, adu)
    assert image.dtype == np.uint16
    assert image[0, 0] == 0
    off = (detector.panel_map < 0) | detector.dead
    assert (image[off] == 65535).all()
    assert image[~off].max() == 65534


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"name": "pilatus"}, "pilatus"),
        ({"name": "demo", "distance_m": -1.0}, "distance_m"),
        ({"name": "demo", "photon_energy_ev": 0.0}, "photon_energy_ev"),
        ({"name": "demo", "dead_fraction": 0.7}, "dead_fraction"),
        ({"name": "demo", "read_noise": -1.0}, "read_noise"),
    ],
)
def test_bad_parameters_are_named(arguments, named):
    with pytest.raises(ParameterError, match=named):
        make_detector(**arguments)
