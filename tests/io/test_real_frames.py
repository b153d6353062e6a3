"""Real frames, when they are at hand (environment variable XTAL_DATA)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from napari_xtal.detector.frame import FrameStatus
from napari_xtal.errors import InputError
from napari_xtal.io.peak_lists import read_peaks
from napari_xtal.io.source import open_frames

ROOT = Path(os.environ.get("XTAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def real(name: str) -> Path:
    if not (ROOT / name).exists():
        pytest.skip(f"{name} is not here; set XTAL_DATA")
    return ROOT / name


@pytest.mark.parametrize(
    ("name", "n", "shape", "dtype", "good"),
    [
        ("dials-thaumatin-grid/thaumatin_grid_13frames.h5", 13, (2527, 2463), "i4", 0.9154),
        ("dials-thaumatin-grid/thau_3_2_0010.cbf.bz2", 1, (2527, 2463), "i4", 0.9154),
        ("dials-lcysteine/lcyst_01_10frames.h5", 10, (1679, 1475), "i4", 0.9202),
        ("dials-lcysteine/l-cyst_01_00003.cbf", 1, (1679, 1475), "i4", 0.9202),
        ("dials-rayonix-kapton/rayonix_mx340_hit.h5", 1, (1920, 1920), "u2", 0.9984),
        ("jungfraujoch-module/jungfrau_module_13frames.cxi", 13, (512, 1024), "f4", 0.9902),
        ("hexrd-ruby-dexela/ruby_dexela_ff2_40frames.h5", 40, (3888, 3072), "u2", 1.0),
        ("powder-rings/ceria_50x30_740mm_000005_Pilatus2M.hdf5", 1, (1679, 1475), "i4", 0.9179),
        ("powder-rings/Fe3O4C_M1_map_1_P1_E1_001.tif", 1, (1043, 981), "i4", 0.9260),
        ("io-hdf5-layouts/testasapo1_1009_00002_m1_part00000.nxs", 10, (516, 1554), "i2", 0.9787),
        ("spipy-spi/spi_adu_dev.h5", 7, (260, 257), "f4", 0.9782),
        ("spipy-spi/spi_patterns_dev.h5", 34, (128, 128), "u2", 0.9814),
        ("lcls2-cspad-sensor/cxitut13_r10_32_cspadAsic.npy", 1, (185, 388), "f4", 1.0),
    ],
)
def test_every_frame_file_opens(name, n, shape, dtype, good):
    src = open_frames(real(name))
    assert (len(src), src.shape, src.dtype) == (n, shape, np.dtype(dtype))
    frame = src.frame(n - 1)
    assert frame.ok
    assert src.good.mean() == pytest.approx(good, abs=2e-3)
    assert frame.good.mean() == pytest.approx(good, abs=2e-3)


def test_thaumatin_metadata_agrees_between_hdf5_and_cbf():
    stack = open_frames(real("dials-thaumatin-grid/thaumatin_grid_13frames.h5"))
    single = open_frames(real("dials-thaumatin-grid/thau_3_2_0010.cbf.bz2"))
    for name in ("photon_energy_ev", "distance_m", "pixel_size_m", "beam_centre"):
        assert getattr(stack.metadata, name) == pytest.approx(getattr(single.metadata, name))
    assert stack.metadata.beam_centre == pytest.approx((1306.46, 1261.11))
    # An overflow code beside the beam stop: above the count cut-off, not masked.
    frame = stack.frame(1)
    assert frame.saturated[1319, 1262] and frame.good[1319, 1262]
    np.testing.assert_array_equal(stack[6], single[0])  # source frame 10


def test_swung_detector_has_no_beam_centre():
    src = open_frames(real("dials-lcysteine/l-cyst_01_00003.cbf"))
    assert src.metadata.two_theta_deg == 30 and src.radius() is None and src.inv_d() is None


def test_virtual_dataset_without_its_sources():
    src = open_frames(real("io-hdf5-layouts/demoh5_dataset.h5"))
    assert src.shape == (2048, 2048)
    assert {src.frame(k).status for k in range(len(src))} == {FrameStatus.MISSING_SOURCE}


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("io-hdf5-layouts/ma4500_demoh5.h5", "links to other files"),
        ("io-hdf5-layouts/Test_spec.nxs", "no images"),
        ("dials-rayonix-kapton/hit-20181213155134902.cbf", "pycbf"),
        ("crystfel-stream/crystfel_test.stream", "stream"),
        ("jungfraujoch-module/mod5_raw0.bin", "not HDF5"),
    ],
)
def test_files_that_are_no_frames(name, match):
    with pytest.raises(InputError, match=match):
        open_frames(real(name))


def test_peak_list_of_a_real_cxi():
    path = real("jungfraujoch-module/jungfrau_module_13frames.cxi")
    tab, src = read_peaks(path), open_frames(path)
    counts = tab.groupby("frame").size()
    assert len(counts) == 13 and counts.between(80, 250).all()
    # The position lies on the bright pixel, so rows and columns are not exchanged.
    image = src[0]
    first = tab[tab["frame"] == 0]
    at_peak = image[first["row"].round().astype(int), first["col"].round().astype(int)]
    assert np.median(at_peak) > 5 * np.median(image)
