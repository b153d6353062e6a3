"""The network verifier: shapes, agreement of all ways to ask, the shipped weights."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest
import torch
from verifier_windows import Run, counts

from napari_xtal.errors import InputError, XtalError
from napari_xtal.peaks.find import find_peaks
from napari_xtal.peaks.table import empty_table, make_table
from napari_xtal.peaks.verify.cnn import DEFAULT, PeakVerifier, best_device
from napari_xtal.peaks.verify.networks import ARCHITECTURES, make_network
from napari_xtal.peaks.verify.patches import HALF, Patches, extract_patches
from napari_xtal.peaks.verify.verifier import load_verifier

RNG = np.random.default_rng(5)


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def verifier(request):
    return PeakVerifier(make_network(request.param), device="cpu")


@pytest.fixture(scope="module")
def frame():
    image = RNG.poisson(4.0, (180, 200)).astype(np.uint16)
    for row, col in ((30, 40), (90, 150), (150, 60)):
        image[row - 1 : row + 2, col - 1 : col + 2] += np.uint16(40)
    return image


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_shapes_and_size(name):
    network = make_network(name)
    patches = counts(n=5)
    arrays = network.inputs(patches)
    assert tuple(a.shape[1] for a in arrays) == network.channels
    assert network(*(torch.from_numpy(a) for a in arrays)).shape == (5, 2)
    assert all(p.requires_grad for p in network.early)


def test_fresh_weights_follow_the_seed():
    state = torch.get_rng_state()
    a, b, c = (make_network("spot", seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    weights = [n.state_dict()["head.1.weight"] for n in (a, b, c)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    with pytest.raises(InputError, match="'huge' is unknown"):
        make_network("huge")


def test_a_prediction_does_not_depend_on_its_company(verifier):
    patches = counts(n=600, height=5)
    together = verifier.predict_patches(patches)
    rows = RNG.permutation(600)
    assert verifier.predict_patches(patches.take(rows)) == pytest.approx(together[rows], abs=1e-6)
    alone = [verifier.predict_patches(patches.take(slice(k, k + 1)))[0] for k in range(20)]
    assert alone == pytest.approx(together[:20], abs=1e-6)
    assert (verifier.predict_patches(patches) == together).all()
    assert together.dtype == np.float32 and together.min() >= 0 and together.max() <= 1


def test_the_frame_the_mask_and_the_position_are_all_that_counts(verifier, frame):
    table = find_peaks(frame)
    good = np.ones(frame.shape, bool)
    good[:, :20] = False
    p = verifier.predict(frame, table, good)
    patches = extract_patches(frame, table["row"], table["col"], good)
    assert (p == verifier.predict_patches(patches)).all()
    other = table.assign(snr=0.0, label="peak", frame=7)[["col", "row", "snr", "frame"]]
    assert (p == verifier.predict(frame, other, good)).all()


def test_masked_positions_get_zero_and_one_warning(verifier, frame):
    good = np.ones(frame.shape, bool)
    good[25:35, 35:45] = False
    table = make_table(frame=0, row=[30.0, 90.0, -40.0], col=[40.0, 150.0, 10.0])
    with pytest.warns(UserWarning, match="2 of 3 peaks lie on masked") as caught:
        p = verifier.predict(frame, table, good)
    assert len(caught) == 1 and p[0] == p[2] == 0 and p[1] > 0


def test_no_peaks_give_no_probabilities(verifier, frame):
    assert verifier.predict(frame, empty_table()).shape == (0,)
    assert verifier.predict_patches(Patches.empty(0)).shape == (0,)


def test_bad_input(verifier, frame):
    with pytest.raises(InputError, match="'col' is missing"):
        verifier.predict(frame, make_table(frame=0, row=[1.0], col=[1.0]).drop(columns="col"))
    with pytest.raises(InputError, match="must agree"):
        verifier.predict(frame, make_table(frame=0, row=[1.0], col=[1.0]), np.ones((3, 3), bool))
    with pytest.raises(InputError, match="half side 5"):
        verifier.predict_patches(Patches.empty(1, 5))


def test_a_run_gives_what_its_frames_give(verifier):
    run = Run()
    table = make_table(
        frame=RNG.integers(0, 3, 40), row=RNG.uniform(0, 39, 40), col=RNG.uniform(0, 49, 40)
    )
    calls = []
    threads = torch.get_num_threads()
    p = verifier.predict_in(run, table, lambda done, total: calls.append((done, total)))
    assert torch.get_num_threads() == threads and calls[-1] == (3, 3)
    assert np.isnan(p[table["frame"] == 1]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for k in (0, 2):
            rows = (table["frame"] == k).to_numpy()
            one = verifier.predict(run.images[k], table[rows], run.good)
            assert p[rows] == pytest.approx(one, abs=1e-6)


def test_a_cancelled_run_leaves_nan(verifier):
    class Long(Run):
        def __len__(self):
            return 40

        def frame(self, index):
            return super().frame(2 * (index % 2))

    table = make_table(frame=np.arange(40), row=20.0, col=20.0)
    p = verifier.predict_in(Long(), table, cancel=lambda: True)
    assert 0 < np.isnan(p).sum() < 40


def test_threads_are_given_back_when_two_predict_at_once(verifier):
    before = torch.get_num_threads()
    patches = counts(n=700)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(verifier.predict_patches(patches)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((r == results[0]).all() for r in results) and len(results) == 3
    seen = []
    probe = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    probe.start()
    probe.join()
    assert seen == [before] and torch.get_num_threads() == before


def test_the_calibration_moves_probabilities():
    patches = counts(n=30, height=8)
    network = make_network("spot")
    plain, cool, up = (
        PeakVerifier(network, device="cpu", **k).predict_patches(patches).astype(float)
        for k in ({}, {"temperature": 0.5}, {"bias": 1.0})
    )
    logit = np.log(plain / (1 - plain))
    assert cool == pytest.approx(1 / (1 + np.exp(-2 * logit)), abs=1e-5)
    assert up == pytest.approx(1 / (1 + np.exp(-logit - 1)), abs=1e-5)


class TestDefault:
    def test_it_is_small_read_once_and_described(self):
        assert DEFAULT.stat().st_size < 300_000
        verifier = PeakVerifier.load("default", device="cpu")
        assert PeakVerifier.load(device="cpu") is verifier is load_verifier("default") or (
            torch.cuda.is_available()
        )
        for key in ("training_hash", "sources", "versions", "seed", "architecture"):
            assert verifier.metadata[key] or key == "seed"
        # Held-out scenes are made difficult: the finder's SNR alone does not get far there.
        plain = verifier.report.baselines.set_index("name").loc["plain threshold (SNR)"]
        assert verifier.report.ap.low > plain["ap"] + 0.1

    def test_clear_spots_are_peaks_and_noise_and_hot_pixels_are_not(self):
        verifier = PeakVerifier.load("default", device="cpu")
        spots, noise = counts(5.0, n=60, height=60), counts(5.0, n=200, seed=3)
        hot = counts(5.0, n=60, seed=4)
        hot.values[:, HALF, HALF] = 400
        assert (verifier.predict_patches(spots) > 0.5).mean() > 0.95
        assert (verifier.predict_patches(noise) > 0.5).mean() < 0.02
        assert (verifier.predict_patches(hot) > 0.5).mean() < 0.05

    @pytest.mark.parametrize(("gain", "offset"), [(0.3, -500.0), (40.0, 900.0)])
    def test_gain_and_offset_do_not_matter(self, gain, offset):
        verifier = PeakVerifier.load("default", device="cpu")
        patches = counts(5.0, n=50, height=12)
        changed = Patches((patches.values * gain + offset).astype("f4"), patches.usable)
        assert verifier.predict_patches(changed) == pytest.approx(
            verifier.predict_patches(patches), abs=0.01
        )


def test_names_that_are_no_verifier():
    for name in ("model.pt", "model.pkl", "svm"):
        with pytest.raises(InputError, match="no verifier"):
            load_verifier(name)
    with pytest.raises(XtalError, match="no such model"):
        load_verifier("none.safetensors")


@pytest.mark.parametrize(
    ("cuda", "mps", "device"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_fastest_device_is_chosen(monkeypatch, cuda, mps, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert best_device() == device
