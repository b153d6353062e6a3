"""Network files: what is kept, and everything that is refused."""

from __future__ import annotations

import json
import pickle
import zipfile

import numpy as np
import pytest

from napari_xtal.errors import InputError, MissingFileError, OutputError
from napari_xtal.peaks.verify import model_files
from napari_xtal.peaks.verify.cnn import PeakVerifier
from napari_xtal.peaks.verify.networks import make_network


@pytest.fixture
def saved(tmp_path):
    verifier = PeakVerifier(make_network("spot", 3), temperature=1.5, bias=0.2, device="cpu")
    verifier.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def rewritten(path, change):
    """Apply `change(tensors, metadata)` and write the result with a fitting hash."""
    tensors, metadata = model_files.read_model(path)
    change(tensors, metadata)
    metadata["hash"] = model_files.content_hash(tensors, metadata)
    model_files.write_model(path, tensors, metadata, overwrite=True)
    return path


def refused(path, text):
    with pytest.raises(InputError, match=text) as caught:
        PeakVerifier.load(path, device="cpu")
    message = str(caught.value)
    assert "\n" not in message and str(path) in message


def test_weights_and_metadata_survive(saved):
    again = PeakVerifier.load(saved, device="cpu")
    first = PeakVerifier(make_network("spot", 3), temperature=1.5, bias=0.2, device="cpu")
    assert again.hash == first.hash and len(again.hash) == 16
    assert (again.temperature, again.bias, again.threshold) == (1.5, 0.2, 0.5)
    for a, b in zip(again.network.parameters(), first.network.parameters(), strict=True):
        assert (a == b).all()


def test_the_hash_knows_weights_and_calibration(saved):
    tensors, metadata = model_files.read_model(saved)
    before = model_files.content_hash(tensors, metadata)
    assert model_files.content_hash(tensors, {**metadata, "report": 1, "hash": "x"}) == before
    assert model_files.content_hash(tensors, {**metadata, "temperature": 1.6}) != before
    tensors["head.1.weight"] = tensors["head.1.weight"] + np.float32(1e-6)
    assert model_files.content_hash(tensors, metadata) != before


def test_altered_weights_are_noticed(saved):
    content = bytearray(saved.read_bytes())
    content[-5] ^= 1
    saved.write_bytes(content)
    refused(saved, "altered")


def test_altered_metadata_are_noticed(saved):
    content = saved.read_bytes()
    assert content.count(rb"\"temperature\": 1.5") == 1
    saved.write_bytes(content.replace(rb"\"temperature\": 1.5", rb"\"temperature\": 2.5"))
    refused(saved, "altered")


@pytest.mark.parametrize("size", [0, 4, 9, 300, 5000, -1])
def test_truncated(saved, size):
    saved.write_bytes(saved.read_bytes()[:size])
    refused(saved, "truncated|damaged")


def test_other_kinds_of_files(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps({"weights": [1.0]}))
    refused(path, "pickle")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.pkl", b"\x80\x04.")
    refused(path, "zip archive")
    path.write_text("weights: 1, 2, 3, more text than eight")
    refused(path, "not a safetensors file")
    path.write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    refused(path, "header claims")
    path.write_bytes((4).to_bytes(8, "little") + b"{" * 40)
    refused(path, "header is damaged")
    refused(tmp_path, "not a file")
    with pytest.raises(MissingFileError, match="no such model"):
        PeakVerifier.load(tmp_path / "none.safetensors")


def test_a_safetensors_file_of_somebody_else(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "other.safetensors"
    for metadata in (None, {"format": "pt"}, {model_files.KEY: "[1]"}, {model_files.KEY: "{"}):
        save_file({"a": np.zeros(3, np.float32)}, path, metadata)
        refused(path, "no model of napari-xtal")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t, m: t.pop("head.1.bias"), "'head.1.bias' .* missing"),
        (lambda t, m: t.update(extra=np.zeros(2, "f4")), "'extra' is not part"),
        (lambda t, m: t.update({"head.1.bias": np.zeros(3, "f4")}), r"shape \(3,\)"),
        (lambda t, m: t.update({"head.1.bias": np.zeros(48, "f8")}), "float64"),
        (lambda t, m: m.update(architecture="resnet"), "architecture 'resnet'"),
        (lambda t, m: m.update(architecture="founding"), "window|channels|missing"),
        (lambda t, m: m.update(kind="svm"), "holds a svm"),
        (lambda t, m: m.update(half=7), "half side 7"),
        (lambda t, m: m.update(channels=[1]), "channels"),
        (lambda t, m: m.update(format=99), "format 99"),
        (lambda t, m: m.update(normalisation="minmax"), "normalised as 'minmax'"),
        (lambda t, m: m.update(temperature=0.0), "out of range"),
        (lambda t, m: m.update(bias=float("nan")), "out of range"),
        (lambda t, m: m.update(threshold=2.0), "not a probability"),
        (lambda t, m: m.pop("threshold"), "'threshold' is missing"),
        (lambda t, m: m.update(report={"format": 99}), "report"),
    ],
)
def test_mismatches_are_named(saved, change, text):
    try:
        path = rewritten(saved, change)
    except InputError:
        pytest.fail("the file could not be prepared")
    refused(path, text)


def test_not_finite_weights(saved):
    tensors, metadata = model_files.read_model(saved)
    tensors["head.1.bias"][3] = np.nan
    metadata["hash"] = model_files.content_hash(tensors, metadata)
    model_files.write_model(saved, tensors, metadata, overwrite=True)
    refused(saved, "NaN")


def test_nothing_is_overwritten_unasked(saved):
    before = saved.read_bytes()
    verifier = PeakVerifier(make_network("spot", 4), device="cpu")
    with pytest.raises(OutputError, match="exists already"):
        verifier.save(saved)
    assert saved.read_bytes() == before
    with pytest.raises(OutputError, match="safetensors"):
        verifier.save(saved.with_suffix(".pt"))
    verifier.save(saved, overwrite=True)
    assert PeakVerifier.load(saved, device="cpu").hash == verifier.hash


def test_metadata_are_readable_json(saved):
    size = int.from_bytes(saved.read_bytes()[:8], "little")
    header = json.loads(saved.read_bytes()[8 : 8 + size])
    metadata = json.loads(header["__metadata__"][model_files.KEY])
    assert metadata["classes"] == ["not-peak", "peak"] and metadata["half"] == 13
