"""Settings handed to other programs keep their meaning and name what is lost."""

from __future__ import annotations

import pytest

from napari_xtal.peaks.export_settings import EXPORTS, to_dials, to_indexamajig, to_om
from napari_xtal.peaks.parameters import PRESETS, PeakFinderParams

PF8 = PeakFinderParams(
    method="peakfinder8", threshold=250, min_snr=6, min_pix_count=2, max_pix_count=30,
    local_bg_radius=4, min_res=10, max_res=1000,
)  # fmt: skip


def _options(text: str) -> dict[str, str]:
    words = [w for line in text.splitlines() if not line.startswith("#") for w in line.split()]
    return dict(w.lstrip("-").split("=", 1) for w in words if w.startswith("--"))


def test_peakfinder8_settings_map_one_to_one_to_indexamajig():
    text = to_indexamajig(PF8)
    assert not text.startswith("#")
    assert _options(text) == {
        "peaks": "peakfinder8", "threshold": "250", "min-snr": "6", "min-pix-count": "2",
        "max-pix-count": "30", "local-bg-radius": "4", "min-res": "10", "max-res": "1000",
    }  # fmt: skip


def test_significance_says_that_it_has_no_equivalent():
    text = to_indexamajig(PeakFinderParams(false_peaks_per_frame=3))
    assert "false_peaks_per_frame = 3 has no equivalent" in text
    assert "--peaks=cxi" in text
    assert _options(text)["min-snr"] == "5"


def test_indexamajig_text_is_one_shell_command():
    lines = [ln for ln in to_indexamajig(PF8).splitlines() if not ln.startswith("#")]
    assert all(ln.endswith("\\") for ln in lines[:-1])
    assert not lines[-1].endswith("\\")


def test_beam_stop_becomes_the_minimum_radius():
    text = to_indexamajig(PF8.replace(beam_stop_radius=40))
    assert _options(text)["min-res"] == "40"
    assert "beam_stop_radius = 40 px was put into the minimum radius" in text


def test_om_section_is_yaml_with_om_names():
    lines = [ln for ln in to_om(PF8).splitlines() if not ln.startswith("#")]
    assert lines[0] == "peakfinder8_peak_detection:"
    values = dict(ln.strip().split(": ") for ln in lines[1:])
    assert values == {
        "max_num_peaks": "2048", "adc_threshold": "250", "minimum_snr": "6",
        "min_pixel_count": "2", "max_pixel_count": "30", "local_bg_radius": "4",
        "min_res": "10", "max_res": "1000",
    }  # fmt: skip


def test_dials_phil_has_balanced_scopes_and_names_what_is_lost():
    text = to_dials(PF8)
    assert text.count("{") == text.count("}") == 4
    assert "sigma_strong = 6" in text
    assert "global_threshold = 250" in text
    assert "min_res = 10 px, max_res = 1000 px: DIALS wants d_max and d_min" in text


def test_negative_threshold_is_no_global_threshold_in_dials():
    assert "global_threshold = 0" in to_dials(PF8.replace(threshold=-10))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("target", EXPORTS)
def test_every_preset_exports_everywhere(preset, target):
    text = EXPORTS[target](PRESETS[preset])
    assert text.endswith("\n")
    assert "None" not in text
