"""Experiment values of a run in one set of units: eV, metres, pixels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.io.links import Resolver, read_small

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

#: Planck constant times speed of light [eV Angstrom].
HC_EV_ANGSTROM = 12398.41984
#: One electron volt [J].
EV_JOULE = 1.602176634e-19

_LENGTH = {
    "m": 1.0, "meter": 1.0, "metre": 1.0, "meters": 1.0, "metres": 1.0,
    "cm": 1e-2, "mm": 1e-3, "millimeter": 1e-3, "millimetre": 1e-3,
    "um": 1e-6, "µm": 1e-6, "μm": 1e-6, "micron": 1e-6, "microns": 1e-6,
    "micrometer": 1e-6, "micrometre": 1e-6, "nm": 1e-9, "nanometer": 1e-9,
    "a": 1e-10, "å": 1e-10, "angstrom": 1e-10, "angstroms": 1e-10, "ang": 1e-10, "pm": 1e-12,
}  # fmt: skip
_ENERGY = {"ev": 1.0, "kev": 1e3, "mev": 1e6, "j": 1 / EV_JOULE, "joule": 1 / EV_JOULE}


@dataclass(frozen=True)
class DetectorMetadata:
    """What is known about detector and beam; None where the file does not say.

    Attributes
    ----------
    photon_energy_ev : float or None
        Photon energy [eV]; the median where the file has one value per frame.
    distance_m : float or None
        Sample to detector [m].
    pixel_size_m : float or None
        Pixel size along the fast axis [m].
    beam_centre : (float, float) or None
        (row, col) in pixels, integer = pixel centre. Files count from the corner of the
        first pixel, so 0.5 is subtracted; some programs write pixel-centre indices
        without saying so, which leaves an ambiguity of half a pixel.
    saturation_value : float or None
        Highest valid value (inclusive) [ADU].
    underload_value : float or None
        Lowest valid value (inclusive) [ADU].
    bit_depth : int or None
        Bits of a pixel as declared by the file.
    two_theta_deg : float
        Swing of the detector arm [degree]; with a swing the direct beam does not meet
        the detector where the header says, so `beam_centre` is None.
    description : str
        Name of the detector.
    per_frame : mapping
        Arrays with one value per frame of the file, for example ``photon_energy_ev``.
    """

    photon_energy_ev: float | None = None
    distance_m: float | None = None
    pixel_size_m: float | None = None
    beam_centre: tuple[float, float] | None = None
    saturation_value: float | None = None
    underload_value: float | None = None
    bit_depth: int | None = None
    two_theta_deg: float = 0.0
    description: str = ""
    per_frame: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def corner_to_index(x: float, y: float) -> tuple[float, float]:
    """Turn a corner-based position (x, y) into (row, col) with integer = pixel centre."""
    return (y - 0.5, x - 0.5)


def energy_from_wavelength(wavelength_m: Any) -> Any:
    """Photon energy [eV] of a wavelength [m]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return HC_EV_ANGSTROM * 1e-10 / np.asarray(wavelength_m, dtype=float)


def scale_of(units: str, kind: str, default: str) -> float:
    """Factor from `units` to metres (kind ``length``) or eV (kind ``energy``)."""
    table = _LENGTH if kind == "length" else _ENERGY
    name = units.strip().lower()
    return table.get(name, table[default])


def units_of(dataset: h5py.Dataset) -> str:
    """Return the ``units`` attribute as text, empty when absent or unreadable."""
    for name in ("units", "unit"):
        try:
            value = dataset.attrs.get(name)
        except (OSError, RuntimeError, KeyError, ValueError, TypeError):
            continue
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.flat[0]
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, str):
            return value[:64]
    return ""


def numbers(
    view: Resolver, names: Iterable[str], kind: str = "", default: str = ""
) -> NDArray[np.float64] | None:
    """Return the values of the first dataset of `names` that holds finite numbers.

    Lengths come back in metres, energies in eV. `default` is the unit of a dataset
    without a ``units`` attribute.
    """
    for name in names:
        dataset = view.dataset(name)
        if dataset is None or dataset.dtype.kind not in "iuf":
            continue
        value = read_small(dataset)
        if value is None or value.size == 0 or not np.isfinite(value).any():
            continue
        result = np.asarray(value, dtype=float).ravel()
        if kind:
            result = result * scale_of(units_of(dataset), kind, default)
        return result
    return None


def number(view: Resolver, names: Iterable[str], kind: str = "", default: str = "") -> float | None:
    """Return one value (the median of the finite ones), see `numbers`."""
    values = numbers(view, names, kind, default)
    if values is None:
        return None
    return float(np.median(values[np.isfinite(values)]))


def text(view: Resolver, name: str) -> str:
    """Return a short string dataset, empty when absent."""
    dataset = view.dataset(name)
    if dataset is None or dataset.dtype.kind not in "SO" or dataset.size not in (1,):
        return ""
    value = read_small(dataset)
    if value is None:
        return ""
    item = value.flat[0]
    if isinstance(item, bytes):
        item = item.decode("utf-8", "replace")
    return str(item)[:200]


def positive(value: float | None) -> float | None:
    """Return `value` when it is a positive finite number, else None."""
    return value if value is not None and np.isfinite(value) and value > 0 else None


def per_frame(values: NDArray[np.float64] | None, n_frames: int) -> NDArray[np.float64] | None:
    """Return `values` when there is one per frame (and more than one)."""
    return values if values is not None and n_frames > 1 and values.size == n_frames else None


_NUMBER = r"([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)"


def parse_mini_header(header: str) -> DetectorMetadata:
    """Read the comment header of a miniCBF (also found in PILATUS TIFF files).

    Lines such as ``# Beam_xy (1231.5, 1263.5) pixels`` as written by DECTRIS cameras.
    """

    def find(pattern: str) -> tuple[float, ...] | None:
        match = re.search(pattern, header)
        try:
            return tuple(float(group) for group in match.groups()) if match else None
        except ValueError:
            return None

    def first(pattern: str) -> float | None:
        found = find(pattern)
        return found[0] if found else None

    wavelength = positive(first(rf"Wavelength[ =:]+{_NUMBER}\s*A"))
    beam = find(rf"Beam_xy[ =:]*\(\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\)")
    swing = first(rf"Detector_2theta[ =:]+{_NUMBER}") or 0.0
    name = re.search(r"Detector:\s*([^\r\n]*)", header)
    cutoff = positive(first(rf"Count_cutoff[ =:]+{_NUMBER}"))
    return DetectorMetadata(
        photon_energy_ev=float(energy_from_wavelength(wavelength * 1e-10)) if wavelength else None,
        distance_m=positive(first(rf"Detector_distance[ =:]+{_NUMBER}\s*m")),
        pixel_size_m=positive(first(rf"Pixel_size[ =:]+{_NUMBER}\s*m")),
        beam_centre=corner_to_index(*beam) if beam and abs(swing) < 0.01 else None,
        saturation_value=cutoff,
        two_theta_deg=swing,
        description=name.group(1).strip()[:100] if name else "",
    )
