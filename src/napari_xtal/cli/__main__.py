"""``python -m napari_xtal.cli``, the same as the command ``napari-xtal``."""

from napari_xtal.cli import main

main()
