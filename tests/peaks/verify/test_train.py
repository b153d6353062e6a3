"""Learning from labels: reproducible, never worse than the start, scored on held-out groups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from labelled_run import make_run

from napari_xtal.errors import InputError, ParameterError
from napari_xtal.peaks.verify import finetune
from napari_xtal.peaks.verify.cnn import PeakVerifier
from napari_xtal.peaks.verify.labels import collect_labels
from napari_xtal.peaks.verify.networks import make_network
from napari_xtal.peaks.verify.svm import SvmVerifier
from napari_xtal.peaks.verify.train import BEFORE, model_info, train_verifier
from napari_xtal.peaks.verify.verifier import load_verifier


@pytest.fixture(scope="module")
def made():
    return make_run()


@pytest.fixture(scope="module")
def start():
    """Return a verifier that has learnt nothing yet."""
    return PeakVerifier(make_network("spot", seed=3), device="cpu")


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(finetune, "TUNING", replace(finetune.TUNING, epochs=3, patience=3))


def weights(verifier):
    return {k: v.numpy().copy() for k, v in verifier.network.state_dict().items()}


def same_weights(one, other):
    return all((one[k] == other[k]).all() for k in one)


# labels ----------------------------------------------------------------------------------


def test_labels_of_every_source_are_used_and_others_are_not(made):
    run, table = made
    table = table.copy()
    table.loc[:2, "source"] = ["manual", "import", "auto"]
    table.loc[3:5, "label"] = ["unsure", "unlabelled", "my own"]
    labels = collect_labels(run, table)
    assert len(labels) == len(table) - 3
    used = table["label"].isin(["peak", "not-peak"])
    assert (labels.is_peak == (table["label"][used] == "peak")).all()
    assert (labels.frames == table["frame"][used]).all()
    centre = labels.patches.values[:, labels.patches.half, labels.patches.half]
    first = table[used].iloc[0]
    assert centre[0] == run.images[first["frame"], int(first["row"]), int(first["col"])]
    assert labels.notes == []
    assert labels.unit == "frame"


def test_masked_and_unreadable_places_are_left_out_with_a_note():
    good = np.ones((120, 120), bool)
    good[15:26, 15:26] = False
    run, table = make_run(broken=[4], good=good)
    labels = collect_labels(run, table)
    lost = ((table["frame"] == 4) | ((table["row"] < 25) & (table["col"] < 25))).sum()
    assert len(labels) == len(table) - lost
    assert labels.notes[0].startswith(f"{lost} of {len(table)} labels lie on masked pixels")
    assert labels.patches.has_signal.all()


def test_labels_on_many_files_are_held_out_file_by_file():
    run, table = make_run(n_frames=6, files=[f"f{k // 2}.h5" for k in range(6)])
    assert collect_labels(run, table).unit == "frame"
    run, table = make_run(n_frames=6, files=[f"f{min(k, 4)}.h5" for k in range(6)])
    labels = collect_labels(run, table)
    assert labels.unit == "file"
    assert len(np.unique(labels.groups)) == 5
    assert len(np.unique(labels.groups[labels.frames >= 4])) == 1
    own = collect_labels(run, table, groups=table["frame"] % 2)
    assert (own.unit, len(np.unique(own.groups))) == ("group", 2)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ((0, 0), "no labelled peaks: label at least 10 positions 'peak' and 10 'not-peak'"),
        ((30, 0), "30 'peak' and 0 'not-peak'; label 10 more 'not-peak'"),
        ((4, 7), "4 'peak' and 7 'not-peak'; label 6 more 'peak' and 3 more 'not-peak'"),
    ],
)
def test_too_few_labels_say_what_to_label_next(made, keep, message):
    run, table = made
    parts = [
        table[table["label"] == name].head(n)
        for name, n in zip(("peak", "not-peak"), keep, strict=True)
    ]
    import pandas as pd

    with pytest.raises(InputError, match=message):
        train_verifier(run, pd.concat(parts))


def test_too_few_groups_say_what_to_label_next(made, start):
    run, table = made
    with pytest.raises(InputError, match="lie on 1 frame.* 2 folds .*label 'peak' on 1 frame more"):
        train_verifier(run, table.assign(frame=0), start=start)
    with pytest.raises(ParameterError, match="3 values for 80 rows"):
        train_verifier(run, table, groups=[1, 2, 3], start=start)


def test_all_labels_masked_is_one_message(start):
    run, table = make_run(good=np.zeros((120, 120), bool))
    with pytest.raises(InputError, match="no labelled peaks .80 of 80 labels lie on masked"):
        train_verifier(run, table, start=start)


# network ---------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_weights(made, start, short, tmp_path):
    run, table = made
    before = weights(start)
    one, two, other = (train_verifier(run, table, start=start, seed=s) for s in (0, 0, 1))
    assert same_weights(weights(one), weights(two))
    assert one.hash == two.hash != other.hash
    assert not same_weights(weights(one), weights(other))
    one.save(tmp_path / "one.safetensors")
    two.save(tmp_path / "two.safetensors")
    files = [(tmp_path / f"{name}.safetensors").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]
    assert same_weights(before, weights(start))
    assert start.report is None


SWAPPED = {"peak": "not-peak", "not-peak": "peak"}


def test_it_learns_and_the_report_tells_how_much(made, start):
    run, table = made
    done = []
    # Spots that the user does not want: no network says so by itself.
    table = table.assign(label=table["label"].map(SWAPPED))
    verifier = train_verifier(
        run, table, start=start, progress=lambda at, total: done.append((at, total))
    )
    report = verifier.report
    assert (report.n, report.n_peaks, report.n_frames) == (80, 40, 5)
    baselines = report.baselines.set_index("name")
    assert report.ap.value > 0.95 > baselines.loc[BEFORE, "ap"]
    assert {"plain threshold (SNR)", "never a peak"} <= set(baselines.index)
    assert report.loss["train"][-1] < report.loss["train"][0]
    assert any("saw no label of its frame (5 folds)" in note for note in report.notes)
    # Better on frames it has never seen, too.
    unseen, truth = make_run(n_frames=2, seed=9)
    said = verifier.predict_in(unseen, truth)
    assert ((said < 0.5) == (truth["label"] == "peak")).mean() > 0.9
    assert all(b >= a for (a, _), (b, _) in zip(done, done[1:], strict=False))
    assert done[-1][0] == done[-1][1] == 100


def test_labels_without_sense_leave_the_start_as_it_is(made, start, short):
    run, table = made
    shuffled = table.assign(label=np.random.default_rng(1).permutation(table["label"]))
    verifier = train_verifier(run, shuffled, start=start)
    assert verifier.metadata["training"]["share"] == 0
    assert same_weights(weights(verifier), weights(start))
    assert any("its weights are kept" in note for note in verifier.report.notes)
    # The order of peaks is that of the start.
    ap = verifier.report.baselines.set_index("name").loc[BEFORE, "ap"]
    assert verifier.report.ap.value == pytest.approx(ap)


def test_the_default_is_where_training_begins(made, short):
    run, table = made
    verifier = train_verifier(run, table)
    default = PeakVerifier.load("default")
    training = verifier.metadata["training"]
    assert training["started_from"] == default.hash
    assert training["labels"] == {"peak": 40, "not-peak": 40}
    info = model_info(verifier)
    assert (info["kind"], info["hash_of_weights"], info["frames"]) == ("cnn", verifier.hash, 5)
    again = train_verifier(run, table, start=default)
    assert again.hash == verifier.hash


def test_a_trained_model_is_read_back_with_its_report(made, start, short, tmp_path):
    run, table = made
    verifier = train_verifier(run, table, start=start)
    verifier.save(tmp_path / "mine.safetensors")
    back = load_verifier(tmp_path / "mine.safetensors")
    assert back.hash == verifier.hash
    assert back.report.to_dict() == verifier.report.to_dict()
    image, good = run.images[0], run.good
    assert (back.predict(image, table, good) == verifier.predict(image, table, good)).all()
    further = train_verifier(run, table, start=tmp_path / "mine.safetensors")
    assert further.metadata["training"]["started_from"] == verifier.hash


def test_cancelling_keeps_the_start_until_there_is_something_better(made, start, short):
    run, table = made
    asked = []

    def soon():
        asked.append(1)
        return len(asked) > 20

    verifier = train_verifier(run, table, start=start, cancel=soon)
    assert same_weights(weights(verifier), weights(start))
    assert any("cancelled" in note for note in verifier.report.notes)
    with pytest.raises(InputError, match="cancelled before there was a model"):
        train_verifier(run, table, start=start, cancel=lambda: True)


def test_cancelling_the_last_part_keeps_what_was_learnt(made, start, short):
    run, table = made
    at = []
    verifier = train_verifier(
        run, table, start=start, progress=lambda done, _: at.append(done),
        cancel=lambda: bool(at) and at[-1] >= 90,
    )  # fmt: skip
    assert any("cancelled" in note for note in verifier.report.notes)
    assert verifier.report.loss["train"]


def test_from_scratch(made, monkeypatch):
    run, table = made
    monkeypatch.setattr(finetune, "FRESH", replace(finetune.FRESH, epochs=2, patience=2))
    one, two = (train_verifier(run, table, start="scratch", seed=5) for _ in range(2))
    assert one.hash == two.hash
    assert one.metadata["training"]["started_from"] == "scratch"
    assert BEFORE not in set(one.report.baselines["name"])


def test_a_share_of_the_way():
    a, b = make_network("spot", 0), make_network("spot", 1)
    half = finetune.between(a, b, 0.5).state_dict()
    for name, value in half.items():
        assert np.allclose(value, (a.state_dict()[name] + b.state_dict()[name]) / 2)
    for share, end in ((0.0, a), (1.0, b)):
        got = finetune.between(a, b, share).state_dict()
        assert all((got[k] == v).all() for k, v in end.state_dict().items())


# support vector machine ------------------------------------------------------------------


@pytest.fixture(scope="module")
def few():
    """Return a run of two frames: little for the grid search to do."""
    return make_run(n_frames=2)


@pytest.fixture(scope="module")
def machine(few):
    return train_verifier(*few, kind="svm", start="scratch")


def test_svm(few, machine, tmp_path):
    assert isinstance(machine, SvmVerifier)
    assert machine.report.ap.value > 0.95
    assert BEFORE not in set(machine.report.baselines["name"])
    assert len(machine.report.importance) == len(machine.metadata["features"])
    machine.save(tmp_path / "mine.skops")
    back = load_verifier(tmp_path / "mine.skops")
    assert back.hash == machine.hash == train_verifier(*few, kind="svm", start="scratch").hash
    assert model_info(back)["labels"] == {"peak": 16, "not-peak": 16}


def test_an_svm_that_is_no_better_is_not_taken(few, machine):
    run, table = few
    report = machine.report
    # It has learnt from these very labels: hard to beat on them.
    kept = train_verifier(run, table, kind="svm", start=machine)
    assert kept.hash == machine.hash
    assert (kept.predict_in(run, table) == machine.predict_in(run, table)).all()
    assert any("the start model is kept" in note for note in kept.report.notes)
    assert kept.report.baselines["name"][0] == BEFORE
    assert machine.report is report is not kept.report
    wrong = table.assign(label=table["label"].map(SWAPPED))
    assert train_verifier(run, wrong, kind="svm", start=machine).hash != machine.hash


def test_an_svm_needs_labels_outside_each_fold(few):
    run, table = few
    here = np.flatnonzero((table["label"] == "peak") & (table["frame"] == 1))
    with pytest.raises(InputError, match="nearly all labels 'peak' lie on the same frames"):
        train_verifier(run, table.drop(index=here[2:]), kind="svm", start="scratch")


# arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kind": "forest"}, ParameterError, "kind 'forest': choose cnn or svm"),
        ({"seed": -1}, ParameterError, "seed"),
        ({"start": "absent.safetensors"}, InputError, "absent.safetensors"),
        ({"start": "model.pkl"}, InputError, "model.pkl"),
        ({"kind": "svm", "start": "CNN"}, ParameterError, "a svm cannot begin with it"),
    ],
)
def test_wrong_arguments(made, start, options, error, message):
    run, table = made
    if options.get("start") == "CNN":
        options = {**options, "start": start}
    with pytest.raises(error, match=message):
        train_verifier(run, table, **options)
