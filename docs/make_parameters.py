"""Write docs/reference/parameters.md from the metadata of the peak finder's parameters."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from napari_xtal.peaks.parameters import METHODS, PRESETS, PeakFinderParams

TARGET = Path(__file__).parent / "reference" / "parameters.md"

HEAD = """# Peak finder parameters

<!-- Written by docs/make_parameters.py from PeakFinderParams; edit the docstrings there. -->

The same names are used in the window, in Python (`PeakFinderParams(min_snr=8)`), on the command
line (`--min-snr 8`) and in TOML files (`min_snr = 8` below `[peak_finder]`). Where CrystFEL has a
parameter of this meaning, the name is CrystFEL's. Radii and distances are in pixels.
"""


def page() -> str:
    """Return the page as Markdown."""
    parts = [HEAD]
    for method in METHODS:
        parts.append(f"\n## Method `{method}`\n")
        parts.append("| parameter | default | range | unit | meaning |\n|---|---|---|---|---|")
        for field in dataclasses.fields(PeakFinderParams):
            meta = field.metadata
            if method not in meta["methods"] or field.name == "method":
                continue
            span = ", ".join(meta["choices"]) if "choices" in meta else ""
            if "min" in meta:
                span = f"{meta['min']:g} … {meta['max']:g}"
            default = str(field.default).lower()
            parts.append(
                f"| `{field.name}` | {default} | {span or 'true, false'} | {meta['unit']} "
                f"| {meta['doc']} |"
            )
        parts.append("")
    parts.append("## Presets\n")
    parts.append("| preset | differs from the defaults in |\n|---|---|")
    default = PeakFinderParams().to_dict()
    for name, preset in PRESETS.items():
        changed = [f"`{k} = {v}`" for k, v in preset.to_dict().items() if v != default[k]]
        parts.append(f"| {name} | {', '.join(changed) or 'nothing'} |")
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
    print(f"wrote {TARGET}")
