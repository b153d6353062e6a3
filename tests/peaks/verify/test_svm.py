from __future__ import annotations

import json
import pickle
import sys
import warnings
import zipfile

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from napari_xtal.errors import InputError, MissingFileError, OutputError, ParameterError
from napari_xtal.peaks.verify import svm_machine, svm_search
from napari_xtal.peaks.verify.features import FEATURES, candidate_features
from napari_xtal.peaks.verify.patches import Patches, extract_patches
from napari_xtal.peaks.verify.svm import SvmVerifier, fit_svm
from napari_xtal.peaks.verify.verifier import load_verifier

NAMES = list(FEATURES)
GRID = {"C": [1.0], "gamma": [0.01], "pca": False}


def toy(n=400, n_groups=8, shift=3.0, share=0.3, seed=0):
    """Rows of noise in which one feature tells the classes apart."""
    rng = np.random.default_rng(seed)
    is_peak = rng.random(n) < share
    values = rng.normal(size=(n, len(NAMES)))
    values[:, NAMES.index("neighbours")] += shift * is_peak
    return pd.DataFrame(values, columns=NAMES), is_peak, rng.integers(0, n_groups, n)


@pytest.fixture(scope="module")
def model():
    features, is_peak, groups = toy()
    return fit_svm(features, is_peak, groups, grid=GRID)


def spots_on_frames(seed=0, n_frames=6):
    """Windows of round spots, and of hot pixels and noise."""
    rng = np.random.default_rng(seed)
    parts, labels, groups = [], [], []
    y, x = np.mgrid[:300, :300]
    for frame in range(n_frames):
        expected = np.full((300, 300), 6.0)
        places = [(r, c) for r in range(25, 300, 50) for c in range(25, 300, 50)]
        kinds = rng.integers(0, 3, len(places))
        for (r, c), kind in zip(places, kinds, strict=True):
            if kind == 0:
                expected += 40 * np.exp(-0.5 * ((y - r) ** 2 + (x - c) ** 2) / 1.2**2)
            elif kind == 1:
                expected[r, c] += 250
        image = rng.poisson(expected).astype(np.uint16)
        parts.append(extract_patches(image, *np.transpose(places)))
        labels.append(kinds == 0)
        groups.append(np.full(len(places), frame))
    return Patches.join(parts), np.concatenate(labels), np.concatenate(groups)


def test_real_windows_are_told_apart():
    patches, is_peak, groups = spots_on_frames()
    train = groups < 4
    fitted = fit_svm(candidate_features(patches.take(train)), is_peak[train], groups[train],
                     grid=GRID)  # fmt: skip
    probability = fitted.predict_patches(patches.take(~train))
    verdict, truth = probability >= fitted.threshold, is_peak[~train]
    f1 = 2 * np.sum(verdict & truth) / (np.sum(verdict) + np.sum(truth))
    assert f1 >= 0.95
    assert probability.dtype == np.float32 and probability.min() >= 0 and probability.max() <= 1


def test_masked_centres_get_zero_with_one_warning(model):
    image = np.random.default_rng(0).poisson(5, (60, 60)).astype(np.uint16)
    good = np.ones(image.shape, bool)
    good[20:40, 20:40] = False
    table = pd.DataFrame({"row": [30.0, 10.0, 500.0], "col": [30.0, 10.0, 10.0]})
    with pytest.warns(UserWarning, match="2 of 3"):
        probability = model.predict(image, table, good)
    assert probability[0] == 0 and probability[2] == 0 and probability[1] > 0
    assert model.predict_patches(Patches.empty(0)).shape == (0,)
    with pytest.raises(InputError, match="27 px"):
        model.predict_patches(Patches.empty(2, 9))


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_same_seed_same_weights(kernel):
    features, is_peak, groups = toy(200)
    a, b = (fit_svm(features, is_peak, groups, kernel=kernel, grid=GRID if kernel == "rbf"
            else {"C": [0.1], "pca": True}) for _ in range(2))  # fmt: skip
    assert a.hash == b.hash and a.metadata == b.metadata
    np.testing.assert_array_equal(a.predict_features(features), b.predict_features(features))
    scores = a.metadata["cross_validation"]
    assert len(scores["folds"]) == 5
    assert scores["mean"] == pytest.approx(np.mean(scores["folds"]))
    assert scores["sd"] == pytest.approx(np.std(scores["folds"]))
    assert a.metadata["parameters"]["kernel"] == kernel
    assert a.metadata["parameters"]["C"] in (0.1, 1.0)


def test_probabilities_are_calibrated():
    features, is_peak, groups = toy(3000, 20, shift=1.5)
    fitted = fit_svm(features[:2000], is_peak[:2000], groups[:2000], kernel="linear",
                     grid={"C": [0.01], "pca": False})  # fmt: skip
    probability = fitted.predict_features(features[2000:])
    truth = is_peak[2000:]
    # Natural shares, although training was thinned.
    assert probability.mean() == pytest.approx(truth.mean(), abs=0.04)
    high = probability > 0.7
    assert truth[high].mean() == pytest.approx(probability[high].mean(), abs=0.1)


def test_weights_shift_the_probability():
    features, is_peak, groups = toy(600, shift=1.0)
    options = {"kernel": "linear", "grid": {"C": [0.01], "pca": False}}
    plain = fit_svm(features, is_peak, groups, **options).predict_features(features)
    weight = np.where(is_peak, 10.0, 1.0)
    heavy = fit_svm(features, is_peak, groups, weight=weight, **options)
    assert heavy.predict_features(features).mean() > plain.mean() + 0.2


def test_the_informative_feature_is_the_most_important(model):
    table = model.importance
    assert list(table.columns) == ["feature", "importance", "sd"]
    assert len(table) == len(NAMES)
    assert table["feature"][0] == "neighbours"
    assert table["importance"][0] > 10 * abs(table["importance"][1:]).max()


def test_grid_search_takes_the_best_setting_and_logs_all():
    features, is_peak, groups = toy(300)
    # XOR of two features: only a curved boundary can tell.
    is_peak = (features["centre"] > 0) ^ (features["width"] > 0)
    features[[name for name in NAMES if name not in ("centre", "width")]] = 0.0
    seen = []
    fitted = fit_svm(features, is_peak, groups, kernel="rbf",
                     grid={"C": [1.0], "gamma": [1e-4, 1.0], "pca": True},
                     progress=lambda done, total: seen.append((done, total)))  # fmt: skip
    tried = pd.DataFrame(fitted.metadata["search"])
    best = tried.sort_values("ap").iloc[-1]
    assert len(tried) == 4 and tried["pca"].sum() == 2
    assert fitted.metadata["parameters"]["gamma"] == best["gamma"] == 1.0
    assert [done for done, _ in seen] == [1, 2, 3, 4, 5] and seen[-1][1] == 5


def test_scaling_and_components_never_see_held_out_rows():
    features, is_peak, groups = toy(200)
    held_out = groups == 0
    strange = features.copy()
    strange.loc[held_out] += 1000
    fold = [(np.flatnonzero(~held_out), np.flatnonzero(held_out))] * 2
    means = []
    for table in (features, strange):
        found = svm_search.search(
            table.to_numpy(), is_peak, np.ones(200), fold, kernel="linear",
            grid={"C": [0.1], "pca": True}, ratio=3.0, seed=0,
        )  # fmt: skip
        means.append(found.models[0]["scale"].mean_)
    np.testing.assert_array_equal(*means)


def test_pca_map_is_fitted_to_training_rows_only(model):
    features, is_peak, groups = toy()
    before = model.pca_map(features)
    rows = svm_machine.downsample(is_peak, 3.0, 0)
    scaled = (features - features.iloc[rows].mean()) / features.iloc[rows].std(ddof=0)
    expected = PCA(2, svd_solver="full").fit(scaled.to_numpy()[rows]).transform(scaled.to_numpy())
    np.testing.assert_allclose(abs(before), abs(expected), atol=1e-8)
    model.pca_map(features + 100)
    np.testing.assert_array_equal(model.pca_map(features), before)


def test_downsampling_keeps_the_minority_and_the_ratio():
    is_peak = np.arange(1000) % 20 == 0
    rows = svm_machine.downsample(is_peak, 3.0, seed=1)
    assert is_peak[rows].sum() == 50 and (~is_peak[rows]).sum() == 150
    np.testing.assert_array_equal(rows, svm_machine.downsample(is_peak, 3.0, seed=1))
    assert not np.array_equal(rows, svm_machine.downsample(is_peak, 3.0, seed=2))
    assert (is_peak[svm_machine.downsample(~is_peak, 2.0, 0)]).sum() == 50
    assert len(svm_machine.downsample(is_peak, None, 0)) == 1000
    with pytest.raises(ParameterError, match="1 or more"):
        svm_machine.downsample(is_peak, 0.5, 0)


def test_a_machine_that_does_not_converge_says_so(monkeypatch):
    monkeypatch.setattr(svm_machine, "LINEAR_ITERATIONS", 1)
    features, is_peak, groups = toy(200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = fit_svm(features, is_peak, groups, kernel="linear", grid={"C": [10.0]})
    assert any("did not converge" in note for note in fitted.metadata["notes"])


def test_cancel_keeps_the_best_so_far():
    features, is_peak, groups = toy(200)
    done = []
    fitted = fit_svm(features, is_peak, groups, kernel="linear",
                     progress=lambda k, n: done.append(k), cancel=lambda: True)  # fmt: skip
    assert len(fitted.metadata["search"]) == 1
    assert any("cancelled" in note for note in fitted.metadata["notes"])
    assert fitted.metadata["cross_validation"]["mean"] > 0.8


def test_labels_without_meaning_are_told():
    features, is_peak, groups = toy(200, shift=0, seed=4)
    # Held-out decisions run against the labels when the folds contradict each other.
    slope, intercept = svm_machine.platt(-1.0 * is_peak, is_peak, np.ones(200))
    assert slope == 0
    assert 1 / (1 + np.exp(-intercept)) == pytest.approx(is_peak.mean(), abs=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, y, g: (f, np.ones_like(y), g), "'not-peak'"),
        (lambda f, y, g: (f, np.zeros_like(y), g), "'peak'"),
        (lambda f, y, g: (f[:0], y[:0], g[:0]), "no labelled"),
        (lambda f, y, g: (f, np.arange(len(y)) < 3, g), "only 3 labels 'peak'"),
        (lambda f, y, g: (f, y, y.astype(int)), "on 1 frame"),
        (lambda f, y, g: (f, y[:5], g), "labels of shape"),
        (lambda f, y, g: (f, y, g[:5]), "groups"),
        (lambda f, y, g: (f.drop(columns="width"), y, g), "width"),
        (lambda f, y, g: (f.mask(f > 1), y, g), "NaN"),
    ],
)
def test_labels_that_cannot_be_learnt_from_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        fit_svm(*change(*toy(60)), grid=GRID)


@pytest.mark.parametrize(
    "options",
    [
        {"weight": np.zeros(60)},
        {"kernel": "poly"},
        {"grid": {"C": [-1.0]}},
        {"grid": {"D": [1]}},
        {"downsample_ratio": 0},
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ParameterError):
        fit_svm(*toy(60), **options)


def test_one_frame_is_possible_but_noted():
    features, is_peak, _ = toy(100)
    fitted = fit_svm(features, is_peak, np.zeros(100), grid=GRID)
    assert any("one frame" in note for note in fitted.metadata["notes"])


def test_saved_and_loaded_is_the_same(model, tmp_path):
    path = tmp_path / "model.skops"
    model.save(path)
    assert set(skops.io.get_untrusted_types(file=path)) == set()
    features, _, _ = toy(seed=3)
    again = load_verifier(path)
    assert isinstance(again, SvmVerifier)
    assert again.hash == model.hash and again.metadata == model.metadata
    assert again.kind == "svm" and again.report is None
    np.testing.assert_array_equal(
        again.predict_features(features), model.predict_features(features)
    )
    np.testing.assert_array_equal(again.pca_map(features), model.pca_map(features))
    with pytest.raises(OutputError, match="exists"):
        model.save(path)
    model.save(path, overwrite=True)
    with pytest.raises(OutputError, match=r"\.skops"):
        model.save(tmp_path / "model.pkl")


def rewritten(path, change):
    """Save a model whose content was changed, as somebody else could."""
    content = skops.io.load(path, trusted=[])
    change(content)
    skops.io.dump(content, path)


def with_metadata(**values):
    def change(content):
        content["metadata"] = json.dumps({**json.loads(content["metadata"]), **values})

    return change


def with_other_weights(content):
    content["pipeline"]["scale"].mean_ = content["pipeline"]["scale"].mean_ + 1e-3


def with_other_estimator(content):
    content["pipeline"] = LogisticRegression()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_metadata(features_version=0), "other features"),
        (with_metadata(features=NAMES[::-1]), "other features"),
        (with_metadata(versions={"scikit-learn": "0.24.2"}), "scikit-learn 0.24.2"),
        (with_metadata(calibration=[100.0, 0.0]), "changed after"),
        (with_metadata(calibration="no"), "damaged|changed"),
        (with_metadata(proof={"features": [], "decisions": []}), "damaged"),
        (with_metadata(half=None), "damaged"),
        (lambda c: c.update(metadata="{"), "metadata"),
        (lambda c: c.update(format="another"), "layout"),
        (lambda c: c.pop("pipeline"), "no trained machine"),
        (with_other_weights, "changed after"),
        (with_other_estimator, "LogisticRegression"),
    ],
)
def test_changed_files_are_refused_in_one_line(model, tmp_path, change, message):
    path = tmp_path / "model.skops"
    model.save(path)
    rewritten(path, change)
    with pytest.raises(InputError, match=message) as caught:
        SvmVerifier.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


class Trap:
    def __reduce__(self):
        return (sys.exit, (3,))


def test_pickles_and_foreign_files_are_refused(model, tmp_path):
    path = tmp_path / "model.skops"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match="pickle"):
        SvmVerifier.load(path)
    path.write_bytes(b"no model")
    with pytest.raises(InputError, match=r"no \.skops"):
        SvmVerifier.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "b")
    with pytest.raises(InputError, match="damaged or no"):
        SvmVerifier.load(path)
    path.unlink()
    with pytest.raises(MissingFileError, match="no such file"):
        SvmVerifier.load(path)
    with pytest.raises(InputError):
        SvmVerifier.load(tmp_path)


def test_damaged_files_are_refused(model, tmp_path):
    path = tmp_path / "model.skops"
    model.save(path)
    whole = path.read_bytes()
    for keep in (10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:keep])
        with pytest.raises(InputError):
            SvmVerifier.load(path)
    for place in range(40, len(whole) - 40, len(whole) // 12):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            text = SvmVerifier.load(path).hash
        except InputError as error:
            text = str(error)
        # One line, or the same model: a flipped byte in a field that zip readers skip.
        assert text == model.hash or (str(path) in text and "\n" not in text)


def test_the_shipped_model_knows_a_spot():
    shipped = load_verifier("default-svm")
    patches, is_peak, _ = spots_on_frames(seed=5, n_frames=2)
    probability = shipped.predict_patches(patches)
    assert probability[is_peak].mean() > 0.8
    assert probability[~is_peak].mean() < 0.2
