"""The house rules: what a room may import, one manifest, a version."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import napari_xtal

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = Path(napari_xtal.__file__).parent
CORE_ROOMS = ("detector", "io", "peaks", "session", "simulate")
WINDOW = {
    "PyQt5",
    "PyQt6",
    "PySide6",
    "qtpy",
    "napari",
    "magicgui",
    "pyqtgraph",
    "superqt",
    "vispy",
}
HEAVY = {"torch", "numba", "sklearn", "skimage", "dask", "fabio"}


def imported_by(statement: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has after `statement`."""
    code = f"{statement}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def core_modules() -> list[str]:
    modules = ["napari_xtal.errors", "napari_xtal.files"]
    for room in CORE_ROOMS:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
            modules.append(name.removesuffix(".__init__"))
    return modules


@pytest.mark.parametrize("room", ["napari_xtal", *(f"napari_xtal.{r}" for r in CORE_ROOMS)])
def test_a_core_package_imports_no_window_and_nothing_heavy(room: str) -> None:
    assert not imported_by(f"import {room}") & (WINDOW | HEAVY)


def test_no_core_module_imports_the_window() -> None:
    statement = "\n".join(f"import {name}" for name in core_modules())
    assert not imported_by(statement) & WINDOW


def test_command_line_help_needs_no_window_and_nothing_heavy() -> None:
    assert not imported_by("import napari_xtal.cli") & (WINDOW | HEAVY)


def test_public_names_resolve() -> None:
    for name in napari_xtal.__all__:
        assert getattr(napari_xtal, name) is not None
        assert name in dir(napari_xtal)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = napari_xtal.no_such_name


def test_version_is_present() -> None:
    assert re.match(r"\d+\.\d+", napari_xtal.__version__)


def test_manifest_at_the_top_is_the_one_in_the_package() -> None:
    top = REPOSITORY / "napari.yaml"
    assert top.is_symlink()
    assert top.resolve() == REPOSITORY / "src" / "napari_xtal" / "napari.yaml"


def test_manifest_validates_and_its_commands_exist() -> None:
    from npe2 import PluginManifest

    manifest = PluginManifest.from_distribution("napari-xtal")
    manifest.validate_imports()
    commands = {c.id for c in manifest.contributions.commands}
    assert all(command.startswith("napari-xtal.") for command in commands)
    names = [w.display_name for w in manifest.contributions.widgets]
    assert names == ["Peak finder", "Peak review"]


def test_every_pinned_version_is_a_version() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", pin) for pin in pins)
    assert "torch==2.13.0" in pins
    assert len(pins) == len({pin.partition("==")[0].lower().replace("_", "-") for pin in pins})


def test_parameter_reference_page_is_up_to_date() -> None:
    import importlib.util

    script = REPOSITORY / "docs" / "make_parameters.py"
    spec = importlib.util.spec_from_file_location("make_parameters", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.TARGET.read_text(encoding="utf-8") == module.page(), f"run {script}"
