"""napari-xtal: find, verify and classify X-ray detector frames in napari.

The names below are the public interface; each loads its module when first used,
so that importing the package stays cheap.
"""

from __future__ import annotations

import importlib
from typing import Any

try:
    from napari_xtal._version import version as __version__
except ImportError:  # a checkout that was never installed
    __version__ = "0+unknown"

_PUBLIC = {
    "open_frames": "napari_xtal.io.source",
    "FrameSource": "napari_xtal.io.source",
    "find_peaks": "napari_xtal.peaks.find",
    "find_peaks_in": "napari_xtal.peaks.find",
    "PeakFinder": "napari_xtal.peaks.find",
    "PeakFinderParams": "napari_xtal.peaks.parameters",
    "PeakVerifier": "napari_xtal.peaks.verify.cnn",
    "SvmVerifier": "napari_xtal.peaks.verify.svm",
    "load_verifier": "napari_xtal.peaks.verify.verifier",
    "train_verifier": "napari_xtal.peaks.verify.train",
    "match_peaks": "napari_xtal.peaks.match",
    "Session": "napari_xtal.session.store",
    "write_cxi": "napari_xtal.io.peak_lists",
    "write_csv": "napari_xtal.io.peak_lists",
    "write_lst": "napari_xtal.io.peak_lists",
    "read_peaks": "napari_xtal.io.peak_lists",
}
_ROOMS = ("detector", "io", "peaks", "session", "simulate")

__all__ = ["__version__", *_PUBLIC, *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"napari_xtal.{name}")
    raise AttributeError(f"module 'napari_xtal' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
