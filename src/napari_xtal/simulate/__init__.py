"""Simulated frames with known truth."""

from napari_xtal.simulate.bragg import BraggRun, bragg_run

__all__ = ["BraggRun", "bragg_run"]
