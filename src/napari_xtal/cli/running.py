"""What surrounds the work of a command: output checks, progress, Ctrl-C, a screen."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari_xtal.errors import InputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def check_outputs(
    paths: list[Path], overwrite: bool, suffixes: tuple[str, ...], inputs: list[Path] | None = None
) -> None:
    """Refuse outputs that cannot be written, before any work is done.

    Raises
    ------
    OutputError
        When an ending is unknown, the file exists (and may not be replaced), is one of
        the inputs, or its folder is missing or not writable.
    """
    sources = {path.resolve() for path in inputs or []}
    for path in paths:
        if path.suffix.lower() not in suffixes:
            raise OutputError(f"{path}: unknown output type; use one of {', '.join(suffixes)}")
        if path.resolve() in sources:
            raise OutputError(f"{path} is an input; give the output another name")
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists; give --overwrite to replace it")
        if not path.parent.is_dir():
            raise OutputError(f"{path}: the folder {path.parent} does not exist; make it first")
        if not os.access(path.parent, os.W_OK):
            raise OutputError(f"{path}: no permission to write to {path.parent}")


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C ask for an orderly end (partial results kept), the second one kill."""
    pressed = False

    def on_interrupt(_signal: int, _frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    try:
        before = signal.signal(signal.SIGINT, on_interrupt)
    except ValueError:  # not in the main thread: nobody presses keys there
        yield lambda: False
        return
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def progress_bar(text: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a bar with rate and time left on stderr; yields ``progress(done, total)``."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=quiet
    ) as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def has_screen() -> bool:
    """Whether a window can be shown (macOS and Windows always have a screen)."""
    return not sys.platform.startswith("linux") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


def restart_on_virtual_screen(arguments: list[str]) -> None:
    """Replace this process by itself under Xvfb.

    Qt must use its xcb plug-in there: with "offscreen" the OpenGL canvas stays empty.
    """
    xvfb = shutil.which("xvfb-run")
    if xvfb is None:
        raise InputError(
            "there is no screen (DISPLAY is not set) and no xvfb-run to stand in for it; "
            "install the package xvfb, or run `napari-xtal simulate` and `find-peaks` instead"
        )
    screen = ["-a", "-s", "-screen 0 1920x1200x24 +extension GLX"]
    command = [xvfb, *screen, sys.executable, "-m", "napari_xtal.cli", *arguments]
    os.execve(xvfb, command, {**os.environ, "QT_QPA_PLATFORM": "xcb"})
