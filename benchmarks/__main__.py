"""``python -m benchmarks``: what can be measured, and how."""

TEXT = """\
Benchmarks of napari-xtal (peers: pip install --no-deps ondamonitor)

  python -m benchmarks.real_frames   recall against off-lattice reports on real frames
                                     (XTAL_DATA: folder of the data), all finders in one run
  python -m benchmarks.ladder        recall per SNR at 1 false report per 4.2 Mpx, hard scenes,
                                     false peaks reported against asked for (simulated frames)
  python -m pytest benchmarks/test_speed.py
                                     milliseconds per frame and ratios to peakfinder8

Each takes --help (the last: pytest-benchmark's options)."""

if __name__ == "__main__":
    print(TEXT)
