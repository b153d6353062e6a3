"""Training: it learns, repeats itself exactly, stops when told, and refuses bad labels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from verifier_windows import counts

from napari_xtal.errors import InputError, ParameterError
from napari_xtal.peaks.verify.augment import Augmentation, augmented
from napari_xtal.peaks.verify.fit import (
    FitParams,
    LabelledPatches,
    calibrate,
    fit_network,
)
from napari_xtal.peaks.verify.networks import ARCHITECTURES, make_network
from napari_xtal.peaks.verify.patches import HALF, Patches

QUICK = FitParams(epochs=4, batch=32)


def toy(n=120, seed=0, height=25.0):
    """Half spots, half noise or hot pixels."""
    spots = counts(3.0, n // 2, seed, height)
    others = counts(3.0, n // 2, seed + 1)
    others.values[::2, HALF, HALF] += 60
    return LabelledPatches(Patches.join([spots, others]), np.arange(n) < n // 2)


def weights(network):
    return torch.cat([p.detach().ravel() for p in network.parameters()])


def accuracy(network, data):
    network.eval()
    with torch.inference_mode():
        logits = network(*(torch.from_numpy(a) for a in network.inputs(data.patches)))
    return ((logits[:, 1] > logits[:, 0]).numpy() == data.is_peak).mean()


def mean_loss(network, data):
    network.eval()
    with torch.inference_mode():
        logits = network(*(torch.from_numpy(a) for a in network.inputs(data.patches)))
        target = torch.from_numpy(data.is_peak.astype(np.int64))
        return float(torch.nn.functional.cross_entropy(logits, target))


def test_it_learns_and_the_loss_falls():
    fit = fit_network(make_network("spot"), toy(400), toy(seed=9), QUICK, device="cpu")
    assert fit.loss["train"][-1] < 0.5 * fit.loss["train"][0]
    assert len(fit.loss["validation"]) == len(fit.loss["train"]) == 4
    assert accuracy(fit.network, toy(seed=50)) > 0.95 and not fit.cancelled


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_it_can_learn_32_windows_by_heart(name):
    data = toy(32)
    params = FitParams(epochs=40, patience=40, batch=16, augmentation=None)
    fit = fit_network(make_network(name), data, data, params, device="cpu")
    assert accuracy(fit.network, data) == 1


def test_the_same_seed_gives_the_same_weights():
    def run(seed, threads=2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return weights(
                fit_network(
                    make_network("spot"), toy(), toy(seed=9), QUICK, seed=seed, device="cpu"
                ).network
            )
        finally:
            torch.set_num_threads(before)

    state = torch.get_rng_state()
    first = run(4)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(first, run(4, threads=1)) and not torch.equal(first, run(5))


def test_the_best_epoch_is_kept_and_training_stops_early():
    # Labels of the validation set are the opposite: learning makes it worse before long.
    data = toy()
    wrong = LabelledPatches(data.patches, ~data.is_peak)
    params = dataclasses.replace(QUICK, epochs=30, patience=3, learning_rate=5e-3)
    network = make_network("spot")
    start = mean_loss(network, wrong)
    fit = fit_network(network, data, wrong, params, device="cpu")
    losses = fit.loss["validation"]
    assert len(losses) == fit.best_epoch + 1 + 3 < 30
    best = min([start, *losses])
    assert mean_loss(fit.network, wrong) == pytest.approx(best, rel=1e-5) and losses[-1] > best


def test_progress_and_cancel():
    calls = []
    fit = fit_network(
        make_network("spot"), toy(), toy(seed=9), QUICK, device="cpu",
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert calls[0] == (1, 16) and calls[-1] == (16, 16) and not fit.cancelled
    calls.clear()
    fit = fit_network(
        make_network("spot"), toy(), toy(seed=9), QUICK, device="cpu",
        progress=lambda done, total: calls.append(done), cancel=lambda: len(calls) >= 9,
    )  # fmt: skip
    assert fit.cancelled and calls == list(range(1, 10))
    # Two whole epochs and a piece of the third are there; the best of them is kept.
    assert len(fit.loss["validation"]) == 3 and 0 <= fit.best_epoch <= 2
    network = make_network("spot")
    start = weights(network).clone()
    fit = fit_network(network, toy(), toy(seed=9), QUICK, device="cpu", cancel=lambda: True)
    assert fit.cancelled and torch.equal(weights(network), start) and fit.loss["train"] == []


def test_an_anchor_and_frozen_layers_hold_the_weights():
    def moved(**options):
        network = make_network("spot")
        start = {k: v.clone() for k, v in network.state_dict().items()}
        params = dataclasses.replace(QUICK, weight_decay=0.0, **options)
        fit_network(network, toy(), toy(seed=9), params, device="cpu")
        now = network.state_dict()
        return {k: float((now[k] - start[k]).norm()) for k in start}

    free, held, frozen = moved(), moved(anchor=1.0), moved(freeze_early=True)
    assert sum(held.values()) < 0.8 * sum(free.values())
    assert all((v == 0) == k.startswith(("fine", "coarse")) for k, v in frozen.items())


def test_weights_of_samples_decide():
    data = toy()
    flipped = LabelledPatches(
        Patches.join([data.patches, data.patches]),
        np.concatenate([data.is_peak, ~data.is_peak]),
        np.repeat([1.0, 0.0], len(data)).astype("f4"),
    )
    fit = fit_network(
        make_network("spot"), flipped, toy(seed=9), dataclasses.replace(QUICK, epochs=6),
        device="cpu",
    )  # fmt: skip
    assert accuracy(fit.network, toy(seed=50)) > 0.9


def test_bad_labels_are_refused():
    data, network = toy(), make_network("spot")
    empty = LabelledPatches(Patches.empty(0), np.zeros(0, bool))
    one_class = LabelledPatches(data.patches, np.ones(len(data), bool))
    masked = LabelledPatches(Patches.empty(2), np.array([True, False]))
    small = LabelledPatches(Patches.empty(2, 5), np.array([True, False]))
    for train, validation, text in (
        (empty, data, "no labelled peaks for training"),
        (data, empty, "no labelled peaks for validation"),
        (one_class, data, "all 120 training labels are peak"),
        (LabelledPatches(data.patches, ~one_class.is_peak), data, "labels are not-peak"),
        (masked, data, "2 windows are masked"),
        (small, data, "half side 5"),
    ):
        with pytest.raises(InputError, match=text):
            fit_network(network, train, validation, QUICK, device="cpu")
    with pytest.raises(InputError, match="values of 'is_peak'"):
        LabelledPatches(data.patches, data.is_peak[:5])
    with pytest.raises(InputError, match="calibrate"):
        calibrate(network, empty)


@pytest.mark.parametrize(
    "options", [{"epochs": 0}, {"batch": -1}, {"learning_rate": float("nan")}, {"anchor": -1.0}]
)
def test_bad_parameters_are_named(options):
    with pytest.raises(ParameterError, match=next(iter(options))):
        FitParams(**options)


def test_calibration_finds_the_temperature():
    class Known(torch.nn.Module):
        """Logits are the value in the corner of the window."""

        def __init__(self):
            super().__init__()
            self.factor = torch.nn.Parameter(torch.tensor(3.0))

        def inputs(self, patches):
            return (patches.values[:, 0, 0],)

        def forward(self, x):
            return torch.stack([torch.zeros_like(x), self.factor * (x - 0.5)], dim=1)

    rng = np.random.default_rng(0)
    values = rng.normal(0, 2, 20_000).astype("f4")
    patches = Patches.empty(len(values), 1)
    patches.values[:, 0, 0] = values
    labels = rng.random(len(values)) < 1 / (1 + np.exp(-values))
    temperature, bias = calibrate(Known(), LabelledPatches(patches, labels))
    assert temperature == pytest.approx(3, rel=0.1) and bias == pytest.approx(0.5, abs=0.1)
    # Without an error among a few labels it must not become certain.
    few = LabelledPatches(patches.take(slice(0, 6)), values[:6] > 0)
    assert calibrate(Known(), few)[0] > 0.3


class TestAugmentation:
    def test_it_changes_windows_and_repeats_itself(self):
        data = toy()
        a, b = (augmented(data.patches, data.is_peak, np.random.default_rng(1)) for _ in range(2))
        assert (a.values == b.values).all() and (a.usable == b.usable).all()
        assert (a.values != data.patches.values).any() and not a.usable.all()
        assert np.isfinite(a.values).all() and (a.values[~a.usable] == 0).all()
        assert a.has_signal.all()

    def test_only_turns_when_all_else_is_off(self):
        none = Augmentation(**{f.name: 0.0 for f in dataclasses.fields(Augmentation)})
        data = toy()
        turned = augmented(data.patches, data.is_peak, np.random.default_rng(1), none)
        assert turned.usable.all()
        centre = (slice(None), HALF, HALF)
        assert (turned.values[centre] == data.patches.values[centre]).all()
        before, after = data.patches.values.reshape(120, -1), turned.values.reshape(120, -1)
        assert (np.sort(before, axis=1) == np.sort(after, axis=1)).all()
        forms = [np.rot90(w, k) for w in (np.arange(9).reshape(3, 3),) for k in range(4)]
        assert len({f.tobytes() for f in forms + [f.T for f in forms]}) == 8

    def test_counts_stay_counts(self):
        data = toy()
        every = Augmentation(shift=1, noise=1, hot=1, edge=1, dead=1, neighbour=1, stretch=1)
        changed = augmented(data.patches, data.is_peak, np.random.default_rng(1), every)
        assert (changed.values == np.rint(changed.values)).all()

    def test_a_stretched_spot_stays_where_it_is_and_becomes_longer(self):
        only = Augmentation(shift=0, noise=0, hot=0, edge=0, dead=0, neighbour=0, stretch=1)
        spots = counts(3.0, 200, height=200.0)
        changed = augmented(spots, np.ones(200, bool), np.random.default_rng(1), only)
        assert changed.values.sum() > 1.3 * spots.values.sum()
        offset = np.arange(-HALF, HALF + 1)
        mass = changed.values - 3
        centre = (mass * offset).sum(axis=(1, 2)) / mass.sum(axis=(1, 2))
        assert np.abs(centre).mean() < 0.5
        same = augmented(spots, np.zeros(200, bool), np.random.default_rng(1), only)
        assert same.values.sum() == spots.values.sum()

    def test_nothing_in_nothing_out(self):
        none = augmented(Patches.empty(0), np.zeros(0, bool), np.random.default_rng(0))
        assert len(none) == 0
        blank = augmented(Patches.empty(5), np.ones(5, bool), np.random.default_rng(0))
        assert not blank.usable.any() and (blank.values == 0).all()
