"""Parameters of the peak finders: one documented model for window, CLI and provenance."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from napari_xtal.errors import InputError, ParameterError

Method = Literal["significance", "threshold", "peakfinder8"]
METHODS: tuple[Method, ...] = ("significance", "threshold", "peakfinder8")
BACKGROUNDS = ("auto", "radial", "local")


def _param(
    default: Any, title: str, unit: str, low: float, high: float, methods: str, doc: str
) -> Any:
    """Return a dataclass field that carries what a form or ``--help`` needs."""
    return field(
        default=default,
        metadata={
            "title": title,
            "unit": unit,
            "min": low,
            "max": high,
            "methods": tuple(METHODS if methods == "all" else methods.split()),
            "doc": doc,
        },
    )


_S, _T, _P = "significance", "threshold", "peakfinder8"


@dataclass(frozen=True)
class PeakFinderParams:
    """Parameters of a peak search; the names are those of CrystFEL where it has one.

    The field metadata (title, unit, min, max, methods, doc) builds the form of
    the window and the options of the command line. ``None`` and 0 mean "off"
    where the text says so.

    Raises
    ------
    ParameterError
        When a value is out of its range or of the wrong type.
    """

    method: Method = field(
        default="significance",
        metadata={
            "title": "Method",
            "unit": "",
            "methods": METHODS,
            "choices": METHODS,
            "doc": "significance: calibrated likelihood ratio of a spot over radial and local "
            "background (default). threshold: values above `threshold` that are 2-D local maxima. "
            "peakfinder8: the tests and parameters of CrystFEL's and Cheetah's peakfinder8.",
        },
    )
    false_peaks_per_frame: float = _param(
        1.0, "False peaks per frame", "peaks", 1e-4, 1e4, _S,
        "Expected number of reports caused by noise alone on one frame; sets the significance cut.",
    )  # fmt: skip
    min_snr: float = _param(
        0.0, "Min. SNR", "", 0.0, 1000.0, f"{_S} {_P}",
        "Lowest SNR of a peak. significance: 0 = derived from `false_peaks_per_frame`. "
        "peakfinder8: multiples of the radial sigma and of the local one; 0 = 5, CrystFEL's default.",
    )  # fmt: skip
    relative_snr: float = _param(
        0.082, "Relative SNR", "", 0.0, 1.0, _S,
        "On frames of strong diffraction, where diffuse scattering, tails and minor lattices make "
        "more reports than noise does, peaks need this share of the SNR of the frame's strong "
        "peaks (median of its 100 strongest). Relaxed by the square root of "
        "`false_peaks_per_frame` where that is above 1; without effect when `min_snr` is set; "
        "0 = off.",
    )  # fmt: skip
    threshold: float = _param(
        0.0, "Threshold", "ADU", -1e9, 1e9, "all",
        "Lowest pixel value of a peak's highest pixel in data units (significance: 0 = off).",
    )  # fmt: skip
    min_pix_count: int = _param(
        1, "Min. pixels", "px", 1, 100_000, "all",
        "Fewest connected pixels of a peak (peakfinder8 in CrystFEL: 2).",
    )  # fmt: skip
    max_pix_count: int = _param(
        500, "Max. pixels", "px", 1, 1_000_000, "all",
        "Most connected pixels of a peak (peakfinder8 in CrystFEL: 200).",
    )  # fmt: skip
    local_bg_radius: int = _param(
        3, "Local background radius", "px", 1, 50, f"{_S} {_P}",
        "significance: the background ring starts this far outside the core of the spot. "
        "peakfinder8: the background disc has twice this radius.",
    )  # fmt: skip
    min_distance: float = _param(
        3.0, "Min. distance", "px", 0.0, 200.0, f"{_S} {_T}",
        "Two peaks nearer than this are one; the stronger one is kept.",
    )  # fmt: skip
    min_res: float = _param(
        0.0, "Min. radius", "px", 0.0, 1e5, "all",
        "Nearest distance of a peak from the beam centre; 0 = off.",
    )  # fmt: skip
    max_res: float = _param(
        0.0, "Max. radius", "px", 0.0, 1e5, "all",
        "Largest distance of a peak from the beam centre; 0 = off.",
    )  # fmt: skip
    beam_stop_radius: float = _param(
        0.0, "Beam stop radius", "px", 0.0, 1e5, "all",
        "Pixels nearer to the beam centre are not used at all; 0 = off.",
    )  # fmt: skip
    median_filter: int = _param(
        0, "Median filter", "px", 0, 101, "threshold",
        "Side of a running median that is subtracted first; 0 = off, else odd.",
    )  # fmt: skip
    background: str = field(
        default="auto",
        metadata={
            "title": "Background",
            "unit": "",
            "methods": (_S,),
            "choices": BACKGROUNDS,
            "doc": "auto: radial where the beam centre is known, corrected and refined locally; "
            "local: no use of the beam centre; radial: as auto, but the beam centre is required.",
        },
    )
    reject_single_pixels: bool = field(
        default=True,
        metadata={
            "title": "Reject hot pixels",
            "unit": "",
            "methods": (_S,),
            "doc": "Drop single pixels whose neighbours do not share the signal (hot pixels, zingers).",
        },
    )
    max_peaks: int = _param(
        2048, "Max. peaks", "peaks", 1, 1_000_000, "all",
        "Most peaks per frame; the strongest are kept.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            value, meta = getattr(self, f.name), f.metadata
            if "choices" in meta:
                if value not in meta["choices"]:
                    raise ParameterError(
                        f"{f.name} = {value!r}: choose one of {', '.join(meta['choices'])}"
                    )
            elif isinstance(f.default, bool):
                if not isinstance(value, bool):
                    raise ParameterError(f"{f.name} = {value!r}: give true or false")
            else:
                self._check_number(f, value)
        if self.min_pix_count > self.max_pix_count:
            raise ParameterError(
                f"min_pix_count = {self.min_pix_count} is above max_pix_count = {self.max_pix_count}"
            )
        if self.max_res and self.min_res >= self.max_res:
            raise ParameterError(f"min_res = {self.min_res} is not below max_res = {self.max_res}")
        if self.median_filter and self.median_filter % 2 == 0:
            raise ParameterError(f"median_filter = {self.median_filter}: give an odd number or 0")

    def _check_number(self, f: dataclasses.Field[Any], value: Any) -> None:
        """Coerce integral values and refuse what is not a number in range."""
        whole = isinstance(f.default, int)
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ParameterError(f"{f.name} = {value!r} is not a number") from None
        if isinstance(value, bool) or (whole and not number.is_integer()):
            raise ParameterError(f"{f.name} = {value!r}: give a whole number")
        low, high = f.metadata["min"], f.metadata["max"]
        if not math.isfinite(number) or not low <= number <= high:
            raise ParameterError(
                f"{f.name} = {value!r} is out of range: give {low:g} to {high:g} "
                f"{f.metadata['unit']}".rstrip()
            )
        object.__setattr__(self, f.name, int(number) if whole else number)

    def replace(self, **changes: Any) -> PeakFinderParams:
        """Return a copy with some values changed.

        Raises
        ------
        ParameterError
            When a name is unknown or a value out of range.
        """
        return self.from_dict({**self.to_dict(), **changes})

    def to_dict(self) -> dict[str, Any]:
        """Return all parameters by name."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PeakFinderParams:
        """Build parameters from a dictionary; names not given take their default.

        Raises
        ------
        ParameterError
            When a name is unknown or a value out of range.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ParameterError(
                f"unknown peak finder parameter {', '.join(unknown)}; known: {', '.join(sorted(known))}"
            )
        return cls(**values)

    def to_toml(self) -> str:
        """Return the parameters as a TOML table ``[peak_finder]``, each with its unit and meaning."""
        lines = ["[peak_finder]"]
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            text = f'"{value}"' if isinstance(value, str) else str(value).lower()
            unit = f" [{f.metadata['unit']}]" if f.metadata["unit"] else ""
            lines.append(f"{f.name} = {text}  # {f.metadata['title']}{unit}")
        return "\n".join(lines) + "\n"

    @classmethod
    def from_toml(cls, text: str) -> PeakFinderParams:
        """Read what `to_toml` wrote (or any TOML with a table ``[peak_finder]``).

        Raises
        ------
        ParameterError
            When the text is no TOML, has no such table, or a value is wrong.
        """
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ParameterError(f"peak finder parameters are not valid TOML: {error}") from None
        table = data.get("peak_finder")
        if not isinstance(table, dict):
            raise ParameterError("peak finder parameters: the table [peak_finder] is missing")
        return cls.from_dict(table)

    def save(self, path: str | Path) -> None:
        """Write the parameters to a TOML file (see `to_toml`)."""
        Path(path).write_text(self.to_toml(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> PeakFinderParams:
        """Read parameters from a TOML file.

        Raises
        ------
        InputError
            When the file cannot be read.
        ParameterError
            When its content is wrong; the message names the file.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot read peak finder parameters: {error}") from error
        try:
            return cls.from_toml(text)
        except ParameterError as error:
            raise ParameterError(f"{path}: {error}") from None


#: Named starting points. Values of the peakfinder8 presets are those programs' defaults.
PRESETS: dict[str, PeakFinderParams] = {
    "Default (1 false peak per frame)": PeakFinderParams(),
    "Sensitive (100 false peaks per frame)": PeakFinderParams(false_peaks_per_frame=100.0),
    "Strict (1 false peak in 100 frames)": PeakFinderParams(false_peaks_per_frame=0.01),
    "CrystFEL peakfinder8": PeakFinderParams(
        method="peakfinder8", threshold=800, min_snr=5, min_pix_count=2, max_pix_count=200,
        local_bg_radius=3,
    ),
    "OM peakfinder8 (JUNGFRAU 4M)": PeakFinderParams(
        method="peakfinder8", threshold=250, min_snr=6, min_pix_count=2, max_pix_count=30,
        local_bg_radius=4, min_res=10, max_res=1000,
    ),
    "Threshold + local maxima": PeakFinderParams(
        method="threshold", threshold=100, min_pix_count=1, max_pix_count=200
    ),
}  # fmt: skip
