"""Peak finder settings in the words of other programs.

The window's *Copy settings as* menu and the command line hand these texts on. What the
other program has no equivalent for is said in a comment, never dropped silently.

Sources of names, units and defaults: ``indexamajig(1)``, the documentation of
``dials.find_spots`` and of OM's ``monitor.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable

from napari_xtal.peaks.parameters import PeakFinderParams


def effective_min_snr(params: PeakFinderParams) -> float:
    """Return the SNR cut that other programs should be given.

    Parameters
    ----------
    params : PeakFinderParams
        Settings; `min_snr` 0 means "derived" there.

    Returns
    -------
    float
        `min_snr` where it is set, else 5, the default of CrystFEL.
    """
    return params.min_snr if params.min_snr > 0 else 5.0


def to_indexamajig(params: PeakFinderParams) -> str:
    """Return options of CrystFEL's ``indexamajig`` (peakfinder8) with the same meaning.

    Parameters
    ----------
    params : PeakFinderParams
        Settings of the peak finder.

    Returns
    -------
    str
        Comment lines, then one option per line joined by backslashes, fit for a shell script.
    """
    notes = []
    threshold = params.threshold
    if params.method == "significance":
        notes.append(
            "the significance method has no equivalent in indexamajig; to keep exactly these peaks, "
            "save them as CXI and use --peaks=cxi"
        )
        notes.append(
            f"false_peaks_per_frame = {params.false_peaks_per_frame:g} has no equivalent; "
            "--min-snr stands in for it"
        )
    if params.method == "threshold":
        notes.append("threshold + local maxima: nearest is peakfinder8 with the same threshold")
    notes += _lost(params, "peakfinder8")
    if params.min_distance and params.method != "peakfinder8":
        notes.append(f"min_distance = {params.min_distance:g} px has no equivalent")
    options = [
        "--peaks=peakfinder8",
        f"--threshold={threshold:g}",
        f"--min-snr={effective_min_snr(params):g}",
        f"--min-pix-count={params.min_pix_count}",
        f"--max-pix-count={params.max_pix_count}",
        f"--local-bg-radius={params.local_bg_radius}",
        f"--min-res={max(params.min_res, params.beam_stop_radius):g}",
    ]
    # 0 is "no limit" only since CrystFEL 0.12; leaving the option out is right for all versions
    # from there on, and a large number for the older ones.
    options.append(f"--max-res={params.max_res:g}" if params.max_res else "--max-res=100000")
    return _commented(notes) + " \\\n".join(options) + "\n"


def to_dials(params: PeakFinderParams) -> str:
    """Return a ``find_spots.phil`` for ``dials.find_spots`` close to these settings.

    Parameters
    ----------
    params : PeakFinderParams
        Settings of the peak finder.

    Returns
    -------
    str
        PHIL text with comment lines.
    """
    notes = [
        "DIALS finds spots by dispersion; kernel and sigmas are its own, so peaks will differ",
    ]
    if params.method == "significance":
        notes.append(
            f"false_peaks_per_frame = {params.false_peaks_per_frame:g} has no equivalent; "
            "raise sigma_strong for fewer spots"
        )
    if params.min_res or params.max_res:
        notes.append(
            f"min_res = {params.min_res:g} px, max_res = {params.max_res:g} px: DIALS wants d_max and "
            "d_min in angstrom; set them for your geometry"
        )
    if params.beam_stop_radius:
        notes.append(
            f"beam_stop_radius = {params.beam_stop_radius:g} px: mask it by an untrusted circle"
        )
    notes += _lost(params, "dials", beam_stop=False)
    notes.append(f"max_peaks = {params.max_peaks} has no equivalent")
    sigma = effective_min_snr(params) if params.min_snr else 3.0
    kernel = params.local_bg_radius
    lines = [
        "spotfinder {",
        "  threshold {",
        "    algorithm = dispersion_extended",
        "    dispersion {",
        f"      kernel_size = {kernel} {kernel}",
        f"      sigma_strong = {sigma:g}",
        f"      global_threshold = {max(params.threshold, 0):g}",
        "    }",
        "  }",
        "  filter {",
        f"    min_spot_size = {params.min_pix_count}",
        f"    max_spot_size = {params.max_pix_count}",
        "  }",
        "}",
    ]
    return _commented(notes) + "\n".join(lines) + "\n"


def to_om(params: PeakFinderParams) -> str:
    """Return the ``peakfinder8_peak_detection`` section of OM's ``monitor.yaml``.

    Parameters
    ----------
    params : PeakFinderParams
        Settings of the peak finder.

    Returns
    -------
    str
        YAML text with comment lines.
    """
    notes = []
    if params.method != "peakfinder8":
        notes.append(f"method '{params.method}' has no equivalent; OM searches by peakfinder8")
    if params.method == "significance":
        notes.append(
            f"false_peaks_per_frame = {params.false_peaks_per_frame:g} has no equivalent; "
            "minimum_snr stands in for it"
        )
    notes += _lost(params, "peakfinder8")
    values = {
        "max_num_peaks": params.max_peaks,
        "adc_threshold": f"{params.threshold:g}",
        "minimum_snr": f"{effective_min_snr(params):g}",
        "min_pixel_count": params.min_pix_count,
        "max_pixel_count": params.max_pix_count,
        "local_bg_radius": params.local_bg_radius,
        "min_res": round(max(params.min_res, params.beam_stop_radius)),
        "max_res": round(params.max_res) if params.max_res else 100000,
    }
    body = "\n".join(f"  {name}: {value}" for name, value in values.items())
    return _commented(notes) + "peakfinder8_peak_detection:\n" + body + "\n"


#: Menu entry -> conversion.
EXPORTS: dict[str, Callable[[PeakFinderParams], str]] = {
    "indexamajig options": to_indexamajig,
    "DIALS find_spots.phil": to_dials,
    "OM monitor.yaml": to_om,
    "TOML": PeakFinderParams.to_toml,
}


def _lost(params: PeakFinderParams, target: str, *, beam_stop: bool = True) -> list[str]:
    """Name the settings that no other program knows and that differ from "off"."""
    notes = []
    if params.median_filter and params.method == "threshold":
        notes.append(f"median_filter = {params.median_filter} px has no equivalent here")
    if params.method == "significance" and params.reject_single_pixels:
        notes.append("reject_single_pixels has no equivalent; min. pixels = 2 is the usual crutch")
    if beam_stop and params.beam_stop_radius and target == "peakfinder8":
        notes.append(
            f"beam_stop_radius = {params.beam_stop_radius:g} px was put into the minimum radius"
        )
    return notes


def _commented(notes: list[str]) -> str:
    return "".join(f"# {note}\n" for note in notes)
