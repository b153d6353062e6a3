"""Simulated frames with known truth."""

from napari_xtal.simulate.bragg import BraggRun, bragg_run
from napari_xtal.simulate.detectors import Detector, make_detector
from napari_xtal.simulate.particles import particle_run
from napari_xtal.simulate.particles_detector import particle_detector
from napari_xtal.simulate.particles_truth import ParticleRun
from napari_xtal.simulate.scenes import SceneFrame, ladder_frame

__all__ = [
    "BraggRun",
    "Detector",
    "ParticleRun",
    "SceneFrame",
    "bragg_run",
    "ladder_frame",
    "make_detector",
    "particle_detector",
    "particle_run",
]
