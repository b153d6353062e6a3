"""How the shipped weights are made: ``python -m napari_xtal.peaks.training``."""
