"""Single particles: the optics against formulae, the run against its own truth."""

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_xtal import open_frames
from napari_xtal.errors import OutputError, ParameterError
from napari_xtal.simulate import ParticleRun, bragg_run, particle_detector, particle_run
from napari_xtal.simulate.crystal import random_quaternion, rotation_matrix
from napari_xtal.simulate.particles_model import SHAPES, droplet_amplitude, particle_model
from napari_xtal.simulate.particles_scene import Body, Optics, Scene

#: The same angles as the 256 x 256 detector with a sixteenth of its pixels.
SMALL = {"n_pixels": 64, "pixel_size_m": 1200e-6, "gap": 2, "hole": 4}
Q_MAX = 0.06
UPRIGHT = np.array([1.0, 0.0, 0.0, 0.0])


def small(name="halves", **changes):
    return particle_detector(name, **{**SMALL, **changes})


def directions(n, seed=0):
    q = np.random.default_rng(seed).standard_normal((3, n))
    return (q / np.linalg.norm(q, axis=0)).astype(np.float32)


def drop(position=(0, 0, 0), size=60.0, light=1.0):
    return Body("droplet", size, UPRIGHT, np.array(position, dtype=float), light)


def pictures(path):
    with h5py.File(path) as file:
        good = file["entry_1/data_1/mask"][:] == 0
        return file["entry_1/data_1/data"][:].astype(float), good


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("particles") / "run.cxi"
    return particle_run(path, 300, detector=small(), saturation=None, seed=5)


# The model


def test_a_sphere_scatters_as_the_formula_says():
    model = particle_model("sphere", 70.0, Q_MAX, structure=0.0)
    q = directions(4000) * np.random.default_rng(1).uniform(0, 0.055, 4000).astype(np.float32)
    core = 70 * (1 - 2 * 0.09)
    exact = droplet_amplitude(q, np.full(3, 35.0)) - 0.25 * droplet_amplitude(
        q, np.full(3, core / 2)
    )
    error = np.abs(model.amplitude(q, np.eye(3)) - exact)
    assert error.max() < 0.015 * np.abs(exact).max()
    outer = np.linalg.norm(q, axis=0) > 0.03
    assert np.sqrt((error[outer] ** 2).mean()) < 0.05 * np.sqrt((exact[outer] ** 2).mean())


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_has_the_volume_of_its_size(shape):
    model = particle_model(shape, 70.0, Q_MAX, structure=0.0)
    forward = model.amplitude(np.zeros((3, 1), dtype=np.float32), np.eye(3))[0].real
    # The core is lighter than the shell: between a full sphere and one without a core.
    assert 0.75 < forward / (np.pi / 6 * 70**3) < 1


def test_a_real_density_gives_friedel_pairs():
    model = particle_model("decorated", 70.0, Q_MAX)
    q = directions(500) * np.float32(0.05)
    turn = rotation_matrix(random_quaternion(np.random.default_rng(2)))
    ahead, behind = model.amplitude(q, turn), model.amplitude(-q, turn)
    np.testing.assert_allclose(ahead, behind.conj(), atol=1e-3 * np.abs(model.transform).max())


def test_an_icosahedron_looks_the_same_from_its_axes_and_not_from_others():
    model = particle_model("icosahedron", 70.0, Q_MAX, structure=0.0)
    q = directions(2000) * np.float32(0.045)
    still = np.abs(model.amplitude(q, np.eye(3)))
    # x, y and z are twofold axes, (1, 1, 1) a threefold one: it permutes the axes.
    threefold = np.array([[0, 0, 1.0], [1, 0, 0], [0, 1, 0]])
    turned = np.abs(model.amplitude(q, threefold))
    quarter = np.array([[0, -1.0, 0], [1, 0, 0], [0, 0, 1]])
    other = np.abs(model.amplitude(q, quarter))
    assert np.corrcoef(still, turned)[0, 1] > 0.999
    assert np.corrcoef(still, other)[0, 1] < 0.9


@given(st.integers(0, 2**32 - 1))
def test_turning_the_particle_is_turning_the_pattern(seed):
    model = particle_model("cube", 70.0, Q_MAX)
    turn = rotation_matrix(random_quaternion(np.random.default_rng(seed)))
    q = directions(200, seed) * np.float32(0.04)
    turned = model.amplitude((turn @ q).astype(np.float32), turn)
    np.testing.assert_allclose(
        turned, model.amplitude(q, np.eye(3)), atol=1e-3 * np.abs(model.transform).max()
    )


def test_a_larger_particle_has_a_finer_pattern():
    model = particle_model("icosahedron", 70.0, Q_MAX)
    q = directions(100) * np.float32(0.03)
    larger = model.amplitude(q, np.eye(3), scale=1.2)
    same = 1.2**3 * model.amplitude((1.2 * q).astype(np.float32), np.eye(3))
    np.testing.assert_allclose(larger, same, rtol=1e-3, atol=1)


def test_q_beyond_the_model_is_refused():
    model = particle_model("icosahedron", 70.0, Q_MAX)
    with pytest.raises(ParameterError, match="larger q_max"):
        model.amplitude(directions(10) * np.float32(0.1), np.eye(3))


def test_structure_has_its_own_seed():
    models = [particle_model("icosahedron", 70.0, Q_MAX, structure_seed=k) for k in (0, 1)]
    assert not np.allclose(models[0].transform, models[1].transform)


def test_a_droplet_scatters_as_the_sum_over_its_volume():
    axes = np.array([20.0, 30.0, 45.0])
    turn = rotation_matrix(random_quaternion(np.random.default_rng(3)))
    step = 1.0
    grid = np.stack(np.meshgrid(*3 * [np.arange(-46, 47, step)], indexing="ij")).reshape(3, -1)
    inside = ((grid / axes[:, None]) ** 2).sum(axis=0) <= 1
    points = turn @ grid[:, inside]
    q = (directions(20) * np.linspace(0, 0.03, 20)).astype(np.float32)
    summed = np.cos(2 * np.pi * q.T @ points).sum(axis=1) * step**3
    np.testing.assert_allclose(droplet_amplitude(q, axes, turn), summed, atol=0.003 * summed[0])


def test_a_droplet_has_no_seam_near_zero_angle():
    q = np.zeros((3, 2000), dtype=np.float32)
    q[0] = np.linspace(0, 0.004, 2000)
    values = droplet_amplitude(q, np.full(3, 30.0))
    assert (np.diff(values) <= 1e-6 * values[0]).all()


# Several bodies


def test_two_bodies_make_fringes():
    q = np.zeros((3, 400), dtype=np.float32)
    q[0] = np.linspace(0, 0.02, 400)
    optics = Optics(q, pixel=1e-9)
    alone = optics.intensity(Scene("water", "drop", (drop(),)), None)
    pair = Scene("water", "drops", (drop((-50, 0, 0)), drop((50, 0, 0))))
    expected = 4 * alone * np.cos(np.pi * q[0] * 100) ** 2
    np.testing.assert_allclose(optics.intensity(pair, None), expected, atol=1e-4 * expected[0])


def test_pixels_average_fringes_that_are_finer():
    pair = Scene("water", "drops", (drop((0, 0, 0)), drop((900, 300, 0), light=0.5)))
    width = 5e-4
    across = (np.arange(41) - 20) / 41 * width
    centre = np.array([0.008, 0.005, 0.0])
    dense = centre[:, None, None] + np.stack([*np.meshgrid(across, across), np.zeros((41, 41))])
    fine = Optics(dense.reshape(3, -1).astype(np.float32), pixel=1e-9).intensity(pair, None)
    coarse = Optics(centre[:, None].astype(np.float32), pixel=width).intensity(pair, None)
    assert coarse[0] == pytest.approx(fine.mean(), rel=0.02)
    assert np.ptp(fine) > fine.mean()  # there was something to average


def test_far_bodies_add_without_interference():
    q = directions(300) * np.float32(0.02)
    q[2] = 0
    far = Scene("water", "drops", (drop(), drop((2000, 0, 0))))
    # 2000 nm times this pixel is one full period.
    optics = Optics(q, pixel=1 / 2000)
    alone = optics.intensity(Scene("water", "drop", (drop(),)), None)
    np.testing.assert_allclose(optics.intensity(far, None), 2 * alone, rtol=1e-4)


def test_where_a_lone_body_stands_changes_nothing():
    q = directions(50) * np.float32(0.02)
    here, there = (
        Optics(q, 5e-4).intensity(Scene("water", "drop", (drop(at),)), None)
        for at in ((0, 0, 0), (400, -300, 100))
    )
    np.testing.assert_array_equal(here, there)


# The run


def test_the_file_opens_with_its_ids_geometry_and_mask(run):
    detector = small()
    src = open_frames(run.path)
    assert len(src) == 300
    assert src.shape == (64, 64)
    assert src.dtype == np.uint16
    assert src.metadata.photon_energy_ev == pytest.approx(1600)
    assert src.metadata.distance_m == pytest.approx(0.74)
    assert src.metadata.pixel_size_m == pytest.approx(1200e-6)
    assert src.metadata.beam_centre == pytest.approx(detector.beam_centre)
    np.testing.assert_array_equal(src.good, detector.good)
    src.close()
    with h5py.File(run.path) as file:
        stored = file["entry_1/experiment_identifier"][:].astype(str)
    np.testing.assert_array_equal(stored, run.frames["event_id"])
    assert stored[299] == "seed5-000299"


def test_classes_come_in_their_shares(run):
    counts = run.frames["label"].value_counts()
    assert counts.to_dict() == {"single": 135, "multiple": 90, "water": 75}
    kinds = run.frames.groupby("label")["kind"].unique()
    assert set(kinds["single"]) == {"bare", "coated"}
    assert set(kinds["multiple"]) == {"aggregate", "separate"}
    assert set(kinds["water"]) == {"drop", "oval", "drops", "mist", "buried"}


def test_number_of_particles_fits_the_class(run):
    frames = run.frames
    assert (frames.loc[frames["label"] == "single", "n_particles"] == 1).all()
    assert frames.loc[frames["label"] == "multiple", "n_particles"].isin([2, 3, 4]).all()
    water = frames[frames["label"] == "water"]
    assert (water["n_particles"] == (water["kind"] == "buried")).all()
    listed = run.particles[run.particles["kind"] == "particle"].groupby("frame").size()
    np.testing.assert_array_equal(listed.reindex(frames.index, fill_value=0), frames["n_particles"])


def test_tables_agree_and_are_read_back(run):
    first = run.particles.groupby("frame").first()
    for name in ("size_nm", "x_nm", "z_nm", "fluence"):
        np.testing.assert_array_equal(first[name], run.frames[name])
    turn = run.particles.loc[run.particles["kind"] == "particle", ["q_w", "q_x", "q_y", "q_z"]]
    np.testing.assert_allclose(np.linalg.norm(turn, axis=1), 1)
    again = ParticleRun.open(run.path)
    pd.testing.assert_frame_equal(again.frames, run.frames)
    pd.testing.assert_frame_equal(again.particles, run.particles)


def test_particles_touch_in_aggregates_and_never_overlap(run):
    multiple = run.frames.index[run.frames["label"] == "multiple"]
    for frame, bodies in run.particles.groupby("frame"):
        if frame not in multiple:
            continue
        at = bodies[["x_nm", "y_nm", "z_nm"]].to_numpy()
        reach = (bodies["size_nm"].to_numpy()[:, None] + bodies["size_nm"].to_numpy()) / 2
        ratio = np.linalg.norm(at[:, None] - at, axis=2) / reach
        np.fill_diagonal(ratio, np.inf)
        assert ratio.min() > 0.998
        if run.frames.loc[frame, "kind"] == "aggregate":
            assert ratio.min(axis=1).max() < 1.002


def test_counts_are_the_expected_ones(run):
    frames, good = pictures(run.path)
    counts = frames[:, good].sum(axis=1)
    expected = run.frames["photons"] + run.frames["background"] * good.sum()
    # The brightest droplet can fill 16 bit.
    fits = frames[:, good].max(axis=1) < 65534
    assert fits.sum() >= 295
    z = ((counts - expected) / np.sqrt(expected))[fits]
    assert np.abs(z).max() < 4.5
    assert z.std() == pytest.approx(1, abs=0.15)


def test_photons_are_those_of_one_particle_in_the_middle_of_the_focus(tmp_path):
    run = particle_run(
        tmp_path / "run.cxi", 60, detector=small(), shares={"single": 1}, size_spread=0,
        photons=5e4, hit_threshold=0, seed=1,
    )  # fmt: skip
    bare = run.frames[run.frames["kind"] == "bare"]
    ratio = bare["photons"] / (5e4 * bare["fluence"])
    assert ratio.mean() == pytest.approx(1, abs=0.05)
    assert ratio.std() < 0.1  # orientations differ a little


def test_fluence_is_log_uniform_without_a_hit_finder(tmp_path):
    run = particle_run(
        tmp_path / "run.cxi", 400, detector=small(n_pixels=32, pixel_size_m=2400e-6),
        shares={"single": 1}, fluence_range=100, hit_threshold=0,
    )  # fmt: skip
    share = -np.log(run.frames["fluence"] / run.frames["pulse"]) / np.log(100)
    assert share.between(0, 1).all()
    steps = np.abs(np.sort(share) - (np.arange(400) + 0.5) / 400)
    assert steps.max() < 1.63 / np.sqrt(400)  # Kolmogorov, 1 %


def test_the_hit_finder_leaves_few_weak_frames(run, tmp_path):
    faint = particle_run(
        tmp_path / "faint.cxi", 100, detector=small(), photons=2e4, hit_threshold=300, seed=5
    )
    assert 0 < (run.frames["photons"] < 1000).mean() < 0.06
    assert (faint.frames["photons"] < 1000).mean() > 0.25
    assert faint.frames["photons"].min() < 300


def test_brightness_alone_does_not_tell_the_classes(run):
    frames, good = pictures(run.path)
    bright = np.log(frames[:, good].sum(axis=1))
    labels = run.frames["label"].to_numpy()
    order = np.abs(bright[:, None] - bright).argsort(axis=1)[:, 1:26]
    votes = np.stack([(labels[order] == label).sum(axis=1) for label in np.unique(labels)])
    assert (np.unique(labels)[votes.argmax(axis=0)] == labels).mean() < 0.65


def test_water_comes_with_more_diffuse_background(run):
    level = (run.frames["background"] / run.frames["pulse"]).groupby(run.frames["label"]).mean()
    assert level["water"] > 1.05 * level["single"]


def test_same_arguments_give_the_same_file(tmp_path):
    contents = []
    for name in ("a.cxi", "b.cxi"):
        particle_run(tmp_path / name, 5, detector=small(), seed=7)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    other = particle_run(tmp_path / "other.cxi", 5, detector=small(), seed=8)
    assert not np.array_equal(pictures(other.path)[0], pictures(tmp_path / "a.cxi")[0])


def test_a_frame_does_not_depend_on_the_ones_before(tmp_path):
    arguments = {"detector": small(), "shares": {"multiple": 1}, "seed": 3}
    short = particle_run(tmp_path / "short.cxi", 2, **arguments)
    long = particle_run(tmp_path / "long.cxi", 4, **arguments)
    np.testing.assert_array_equal(pictures(short.path)[0], pictures(long.path)[0][:2])


def test_another_detector_and_particle_change_the_frames(tmp_path):
    moved = small("quadrants", n_pixels=60, gap=3, hole=6, centre=(2.5, -1.0))
    run = particle_run(tmp_path / "q.cxi", 3, detector=moved, particle="cube", size_nm=90)
    src = open_frames(run.path)
    assert src.shape == (60, 60)
    assert src.metadata.beam_centre == pytest.approx((32.0, 28.5))
    assert run.frames["size_nm"].max() > 80
    src.close()


def test_quadrants_leave_a_hole_and_gaps():
    detector = particle_detector("quadrants", n_pixels=100, gap=4, hole=10)
    on = detector.panel_map >= 0
    assert not on[45:55, 45:55].any()
    assert len(detector.panels) == 4
    assert on.sum() == 100**2 - 10**2 - 4 * 4 * 45


def test_halves_leave_a_hole_and_a_gap():
    on = particle_detector(n_pixels=100, gap=4, hole=10).panel_map >= 0
    assert not on[45:55, 45:55].any()
    assert not on[48:52].any()
    assert on.sum() == 100**2 - 10**2 - 4 * 90
    assert (particle_detector(n_pixels=100, gap=0, hole=0).panel_map >= 0).all()


def test_an_integrating_detector_has_gain_noise_and_a_full_well(tmp_path):
    detector = small(integrating=True, gain=25.0, read_noise=4.0, common_mode=0.0)
    run = particle_run(
        tmp_path / "adu.cxi", 40, detector=detector, background=0.0, saturation=150, seed=2
    )
    frames, good = pictures(run.path)
    assert frames[:, good].max() == 150 * 25
    faintest = int(run.frames["photons"].idxmin())
    assert (frames[faintest][good] < -1).any()
    fits = frames[:, good].max(axis=1) < 140 * 25
    photons = frames[:, good].sum(axis=1)[fits] / 25
    # Read noise of 4 / 25 photon in some 4000 pixels: 10 photons.
    expected = run.frames["photons"][fits]
    assert (np.abs(photons - expected) < 5 * np.sqrt(expected + 100)).all()


def test_background_scales(tmp_path):
    means = []
    for level in (1.0, 2.0):
        run = particle_run(tmp_path / f"{level}.cxi", 3, detector=small(), background=level)
        means.append(run.frames["background"].mean())
    assert means[1] == pytest.approx(2 * means[0], rel=1e-5)
    # Some 700 photons in the whole frame, however many pixels share them.
    assert 300 < means[0] * small().good.sum() < 1500


def test_progress_and_an_interrupted_run(tmp_path):
    calls = []

    def stop_at_two(done, total):
        calls.append((done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        particle_run(tmp_path / "run.cxi", 3, detector=small(), progress=stop_at_two)
    assert calls == [(1, 3), (2, 3)]
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept(tmp_path):
    path = tmp_path / "run.cxi"
    path.write_text("precious")
    with pytest.raises(OutputError, match="overwrite"):
        particle_run(path, 1, detector=small())
    assert path.read_text() == "precious"


def test_other_truth_is_no_particle_run(tmp_path):
    bragg_run(tmp_path / "bragg.cxi", 1)
    with pytest.raises(ParameterError, match=r"bragg\.cxi.*particle_run"):
        ParticleRun.open(tmp_path / "bragg.cxi")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"n_frames": 0}, "n_frames"),
        ({"seed": -1}, "seed"),
        ({"particle": "torus"}, "torus"),
        ({"detector": "unknown"}, "unknown"),
        ({"size_nm": 0}, "size_nm"),
        ({"size_nm": 5000, "separation_nm": 9000}, "choose a smaller particle"),
        ({"size_spread": 0.5}, "size_spread"),
        ({"structure": 2}, "structure"),
        ({"structure_seed": -1}, "structure_seed"),
        ({"shares": {"single": 1, "ice": 1}}, "shares"),
        ({"shares": {}}, "shares"),
        ({"shares": {"single": -1, "water": 2}}, "shares"),
        ({"n_particles": {1: 1.0}}, "n_particles"),
        ({"n_particles": {}}, "n_particles"),
        ({"aggregates": 1.5}, "aggregates"),
        ({"separation_nm": 10}, "separation_nm"),
        ({"photons": float("nan")}, "photons"),
        ({"fluence_range": 0.5}, "fluence_range"),
        ({"waist_nm": 0}, "waist_nm"),
        ({"waist_nm": 5, "shares": {"multiple": 1}}, "waist_nm"),
        ({"hit_threshold": -1}, "hit_threshold"),
        ({"hit_threshold": 1e12}, "hit_threshold"),
        ({"background": float("inf")}, "background"),
        ({"saturation": 0}, "saturation"),
        ({"compression": "zip"}, "compression"),
    ],
)
def test_bad_parameters_are_named_and_nothing_is_written(tmp_path, arguments, named):
    arguments = {"n_frames": 1, "detector": small(n_pixels=32, pixel_size_m=2400e-6), **arguments}
    with pytest.raises(ParameterError, match=named):
        particle_run(tmp_path / "run.cxi", **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"name": "strip"}, "strip"),
        ({"n_pixels": 8}, "n_pixels"),
        ({"gap": -1}, "gap"),
        ({"hole": 200}, "hole"),
        ({"centre": (200, 0)}, "centre"),
        ({"distance_m": 0}, "distance_m"),
        ({"dead_fraction": 0.9}, "dead_fraction"),
        ({"integrating": True, "gain": 0}, "gain"),
        ({"read_noise": -1}, "read_noise"),
    ],
)
def test_bad_detectors_are_named(arguments, named):
    with pytest.raises(ParameterError, match=named):
        particle_detector(**arguments)
