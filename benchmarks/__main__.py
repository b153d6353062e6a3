"""``python -m benchmarks``: what can be measured, and how; ``all`` measures it."""

import subprocess
import sys

TEXT = """\
Benchmarks of napari-xtal (peers: pip install --no-deps ondamonitor)

  python -m benchmarks.real_frames   recall against off-lattice reports on real frames
                                     (XTAL_DATA: folder of the data), all finders in one run
  python -m benchmarks.ladder        recall per SNR at 1 false report per 4.2 Mpx, hard scenes,
                                     false peaks reported against asked for (simulated frames)
  python -m benchmarks.verification  finder alone, + SVM, + CNN: every real source (judged by
                                     models made without it), simulated SNR ladder, powder and
                                     blanks, candidates per second; --fine-tuning
  python -m benchmarks.labelled_candidates
                                     candidates on real frames, labelled by the lattice: data
                                     for `python -m napari_xtal.peaks.training`
  python -m pytest benchmarks/test_speed.py
                                     milliseconds per frame and ratios to peakfinder8
  python -m benchmarks.window_latency
                                     from a slider to redrawn peaks (needs a screen)
  python -m benchmarks all           all but the last and the labels, one after the other (an hour)

Each takes --help (that of pytest: pytest-benchmark's options)."""

COMMANDS = (
    ["benchmarks.real_frames"],
    ["benchmarks.ladder"],
    ["benchmarks.ladder", "--detector", "xfel1m"],
    ["benchmarks.verification", "--fine-tuning"],
    ["pytest", "benchmarks/test_speed.py", "-q", "-s"],
)

if __name__ == "__main__":
    if sys.argv[1:] != ["all"]:
        print(TEXT)
        sys.exit(0)
    sys.exit(
        max(subprocess.run([sys.executable, "-m", *c], check=False).returncode for c in COMMANDS)
    )
