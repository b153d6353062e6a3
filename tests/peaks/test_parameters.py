"""The parameter model: ranges, TOML, presets, messages."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_xtal.errors import InputError, ParameterError
from napari_xtal.peaks.parameters import METHODS, PRESETS, PeakFinderParams

FIELDS = {f.name: f for f in dataclasses.fields(PeakFinderParams)}
NUMBERS = [name for name, f in FIELDS.items() if "min" in f.metadata]


def _values(name):
    f = FIELDS[name]
    if "choices" in f.metadata:
        return st.sampled_from(f.metadata["choices"])
    if isinstance(f.default, bool):
        return st.booleans()
    low, high = f.metadata["min"], f.metadata["max"]
    if isinstance(f.default, int):
        return st.integers(int(low), int(high))
    return st.floats(low, high)


@st.composite
def parameters(draw):
    values = draw(st.fixed_dictionaries({}, optional={name: _values(name) for name in FIELDS}))
    low, high = values.get("min_pix_count", 1), values.get("max_pix_count", 500)
    values["min_pix_count"], values["max_pix_count"] = sorted((low, min(high, 100_000)))
    if values.get("max_res") and values.get("min_res", 0.0) >= values["max_res"]:
        values["min_res"] = 0.0
    if values.get("median_filter", 0) % 2 == 0:
        values["median_filter"] = 0
    return PeakFinderParams(**values)


@given(parameters())
def test_toml_round_trip(params):
    assert PeakFinderParams.from_toml(params.to_toml()) == params


@given(parameters())
def test_dictionary_round_trip(params):
    assert PeakFinderParams.from_dict(params.to_dict()) == params
    assert params.replace() == params


def test_defaults_are_within_their_own_ranges():
    assert PeakFinderParams().to_dict() == {name: f.default for name, f in FIELDS.items()}


@pytest.mark.parametrize("name", NUMBERS)
def test_ends_of_a_range_pass_and_what_lies_beyond_fails(name):
    f = FIELDS[name]
    low, high = f.metadata["min"], f.metadata["max"]
    companions = {"min_pix_count": {"max_pix_count": 1_000_000}, "min_res": {"max_res": 0}}
    others = companions.get(name, {})
    for value in (low, high):
        assert getattr(PeakFinderParams(**{name: value}, **others), name) == value
    for value in (low - 1, high + 1):
        with pytest.raises(ParameterError, match=rf"{name} = .* out of range: give"):
            PeakFinderParams(**{name: value}, **others)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "many", None, [1], True])
def test_what_is_no_number_is_refused_by_name(name, value):
    with pytest.raises(ParameterError, match=f"^{name} = "):
        PeakFinderParams(**{name: value})


def test_whole_numbers():
    params = PeakFinderParams(min_pix_count=np.int64(3), max_pix_count=20.0, threshold=5)
    assert params.min_pix_count == 3
    assert type(params.max_pix_count) is int
    assert type(params.threshold) is float
    with pytest.raises(ParameterError, match="min_pix_count = 2.5: give a whole number"):
        PeakFinderParams(min_pix_count=2.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "guess"}, "method = 'guess': choose one of significance, threshold"),
        ({"background": "none"}, "background = 'none': choose one of auto"),
        ({"reject_single_pixels": 1}, "reject_single_pixels = 1: give true or false"),
        ({"min_pix_count": 9, "max_pix_count": 8}, "min_pix_count = 9 is above max_pix_count = 8"),
        ({"min_res": 50, "max_res": 50}, "min_res = 50.* is not below max_res"),
        ({"median_filter": 4}, "median_filter = 4: give an odd number or 0"),
    ],
)
def test_values_that_do_not_go_together(values, message):
    with pytest.raises(ParameterError, match=message):
        PeakFinderParams(**values)


def test_unknown_names_are_listed_with_the_known_ones():
    with pytest.raises(ParameterError, match=r"minsnr, treshold; known: .*min_snr.*threshold"):
        PeakFinderParams.from_dict({"treshold": 5, "minsnr": 5, "min_snr": 5})
    with pytest.raises(ParameterError, match="min_snrr"):
        PeakFinderParams().replace(min_snrr=4)


def test_parameters_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PeakFinderParams().min_snr = 3
    params = PeakFinderParams()
    assert params.replace(min_snr=7).min_snr == 7
    assert params.min_snr == 0
    assert hash(params) == hash(PeakFinderParams())


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_a_round_trip(name):
    assert PeakFinderParams.from_toml(PRESETS[name].to_toml()) == PRESETS[name]


def test_presets_cover_every_method():
    assert {p.method for p in PRESETS.values()} == set(METHODS)
    assert PeakFinderParams() in PRESETS.values()


def test_crystfel_preset_has_crystfels_defaults():
    p = PRESETS["CrystFEL peakfinder8"]
    assert (p.threshold, p.min_snr, p.min_pix_count, p.max_pix_count, p.local_bg_radius) == (
        800, 5, 2, 200, 3,
    )  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_every_parameter_is_documented_for_a_form(name):
    meta = FIELDS[name].metadata
    assert meta["title"]
    assert len(meta["doc"]) > 10
    assert set(meta["methods"]) <= set(METHODS)
    assert meta["methods"]


def test_file_round_trip(tmp_path):
    params = PRESETS["OM peakfinder8 (JUNGFRAU 4M)"]
    params.save(tmp_path / "p.toml")
    assert PeakFinderParams.load(tmp_path / "p.toml") == params


def test_file_with_other_tables_and_few_values(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text("[other]\nx = 1\n[peak_finder]\nmin_snr = 6\n")
    assert PeakFinderParams.load(path) == PeakFinderParams(min_snr=6)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, InputError, "cannot read"),
        (b"\xff\xfe\x00", InputError, "cannot read"),
        (b"min_snr = ", ParameterError, "not valid TOML"),
        (b"min_snr = 5", ParameterError, r"table \[peak_finder\] is missing"),
        (b"peak_finder = 5", ParameterError, r"table \[peak_finder\] is missing"),
        (b"[peak_finder]\nmin_snr = -1", ParameterError, "min_snr = -1 is out of range"),
        (b"[peak_finder]\nsnr = 1", ParameterError, "unknown peak finder parameter snr"),
    ],
)
def test_errors_of_a_file_name_it(tmp_path, content, error, message):
    path = tmp_path / "settings.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=rf"settings\.toml: .*{message}"):
        PeakFinderParams.load(path)
