"""Making the shipped weights: who is learnt from, how much it counts, and the command."""

from __future__ import annotations

import numpy as np
import pytest
from verifier_windows import counts

from napari_xtal.errors import InputError
from napari_xtal.peaks.training.__main__ import main
from napari_xtal.peaks.training.candidates import LabelledCandidates
from napari_xtal.peaks.training.shipped import (
    MOST_WEIGHT,
    REAL_SHARE,
    Recipe,
    balanced_weights,
    is_simulated,
    scores_by_source,
    split,
    train_shipped,
)
from napari_xtal.peaks.verify.cnn import PeakVerifier
from napari_xtal.peaks.verify.fit import FitParams
from napari_xtal.peaks.verify.patches import Patches


def candidates(source, n_frames, per_frame=8, seed=0, only=None):
    n = n_frames * per_frame
    is_peak = np.arange(n) % 2 == 0 if only is None else np.full(n, only)
    patches = counts(5.0, n, seed)
    patches.values[is_peak] += counts(0.0, int(is_peak.sum()), height=40).values
    return LabelledCandidates(
        patches, is_peak, np.where(is_peak, 15, 4.5).astype("f4"), np.full(n, source, "U32"),
        np.repeat(np.arange(n_frames), per_frame), np.ones(n, "f4"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def mixed():
    return LabelledCandidates.concat(
        [
            candidates("simulated-a", 20),
            candidates("simulated-b", 12, seed=1),
            candidates("real-many", 10, seed=2),
            candidates("real-single", 1, seed=3),
            candidates("real-blank", 2, seed=4, only=False),
        ]
    )


def test_frames_stay_together_and_an_excluded_source_is_only_tested(mixed):
    parts = split(mixed, ["real-many"], seed=3)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(mixed)))
    groups = [set(mixed.group[p].tolist()) for p in parts]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    train, validation, test = (mixed.take(p) for p in parts)
    assert set(validation.source) == {"simulated-a", "simulated-b"}
    assert (test.source == "real-many").sum() == 80
    assert "real-many" not in train.source and {"real-single", "real-blank"} <= set(train.source)
    again = split(mixed, ["real-many"], seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    assert not np.array_equal(split(mixed, seed=4)[0], split(mixed, seed=3)[0])


def test_every_source_counts_what_it_should(mixed):
    weight = balanced_weights(mixed)
    assert (weight > 0).all() and weight.max() <= MOST_WEIGHT * 1.5 * weight.mean()
    real = ~is_simulated(mixed.source)
    share = weight[real].sum() / weight.sum()
    assert 0.6 * REAL_SHARE < share <= REAL_SHARE + 1e-6
    many = mixed.source == "real-many"
    peaks, others = (weight[many & (mixed.is_peak == k)].sum() for k in (True, False))
    assert peaks == pytest.approx(others, rel=1e-5)
    # Faint candidates of the scenes are rarely peaks on real frames.
    sim = is_simulated(mixed.source)
    assert weight[sim & ~mixed.is_peak].min() > 3 * weight[sim & mixed.is_peak].max()


def test_a_small_training_is_complete_and_repeatable(mixed, tmp_path):
    recipe = Recipe(exclude=("real-many",), fit=FitParams(epochs=6, batch=32, balance=0.0))
    first, again = (train_shipped(mixed, recipe) for _ in range(2))
    verifier = first.verifier
    assert verifier.hash == again.verifier.hash
    assert verifier.metadata["sources"] == [
        "real-blank",
        "real-single",
        "simulated-a",
        "simulated-b",
    ]
    assert len(verifier.metadata["training_hash"]) == 16
    row = first.by_source.loc["real-many"]
    assert row["held_out"] and row["n"] == 80 and row["ap"] > 0.95 and row["ap_snr"] == 1
    assert verifier.report is not None and len(verifier.report.loss["train"]) == 6
    verifier.save(tmp_path / "a.safetensors")
    loaded = PeakVerifier.load(tmp_path / "a.safetensors", device="cpu")
    assert loaded.report.ap.value == pytest.approx(verifier.report.ap.value)


def test_scores_of_a_source_with_one_class():
    table = scores_by_source(candidates("powder", 2, only=False), np.linspace(0, 1, 16))
    assert np.isnan(table.loc["powder", "ap"]) and table.loc["powder", "accepted_others"] == 0.5
    table = scores_by_source(candidates("good", 2, only=True), np.linspace(0, 1, 16))
    assert np.isnan(table.loc["good", "accepted_others"])


def test_an_unknown_source_is_named(mixed):
    with pytest.raises(InputError, match="'real-other' is not among real-blank"):
        train_shipped(mixed, Recipe(exclude=("real-other",)))


def test_the_command_writes_a_verifier(mixed, tmp_path, capsys):
    mixed.save(tmp_path / "some.npz")
    out = tmp_path / "made.safetensors"
    arguments = ["--out", str(out), "--simulated", "0", "--candidates", str(tmp_path / "some.npz")]
    assert main([*arguments, "--epochs", "1", "--exclude-source", "real-single"]) == 0
    printed = capsys.readouterr().out
    verifier = PeakVerifier.load(out, device="cpu")
    assert verifier.hash in printed and "real-single" in printed
    patches = Patches.join([mixed.patches])
    assert len(verifier.predict_patches(patches)) == len(mixed)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--simulated", "0"], "nothing to learn from"),
        (["--simulated", "0", "--candidates", "none.npz"], "none.npz"),
        (["--simulated", "0", "--candidates", "x.npz", "--epochs", "0"], "epochs"),
    ],
)
def test_bad_arguments_exit_with_two(arguments, text, tmp_path, capsys):
    assert main(["--out", str(tmp_path / "a.safetensors"), *arguments]) == 2
    message = capsys.readouterr().err
    assert text in message and message.count("\n") == 1 and not list(tmp_path.iterdir())
