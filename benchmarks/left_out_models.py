"""Verifiers that never saw a source, made where missing, and the shipped ones.

The models of a source are made as the shipped ones are (`napari_xtal.peaks.training`), of
the same candidates less those of the source. The baseline network of the founding recipe
is shipped by nobody, so its model of all sources is made here, too.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.labelled_candidates import TRAINING_SETS, labelled
from napari_xtal.errors import InputError
from napari_xtal.peaks.training.candidates import LabelledCandidates
from napari_xtal.peaks.training.labelling import simulated_candidates
from napari_xtal.peaks.verify.verifier import Verifier, load_verifier

FOLDER = Path("build") / "verification"
#: Kind of verifier -> end of its files' names, and the name of the shipped one.
KINDS = {
    "svm": (".skops", "default-svm"),
    "cnn": (".safetensors", "default"),
    "founding": ("-founding.safetensors", None),
}
DEFAULT_KINDS = ("svm", "cnn")
#: Simulated scenes and seed; as in the shipped models.
N_SCENES, SEED = 1000, 0


def trained_on(verifier: Verifier) -> tuple[str, ...]:
    """Return the sources that a verifier was trained on, from its metadata."""
    metadata = verifier.metadata
    sources = metadata.get("sources") or metadata.get("training", {}).get("sources")
    if not sources:
        raise InputError(f"verifier {verifier.hash}: its metadata do not name its 'sources'")
    return tuple(str(s) for s in sources)


class Models:
    """Verifiers by source and kind; a source is never judged by a model that saw it.

    Parameters
    ----------
    folder : Path
        Where ``<source>.safetensors`` and ``.skops`` lie, and where missing ones are put.
    kinds : list of str
        Keys of `KINDS`; those without shipped weights are left out with a message.
    """

    def __init__(self, folder: Path, kinds: list[str]) -> None:
        self.folder = folder
        self.shipped: dict[str, Verifier] = {}
        for kind in kinds:
            name = KINDS[kind][1]
            try:
                self.shipped[kind] = (
                    self._made("all", kind, None) if name is None else load_verifier(name)
                )
            except (InputError, ImportError) as error:
                print(f"{kind}: left out: {error}", file=sys.stderr)
        self._sources = {kind: trained_on(v) for kind, v in self.shipped.items()}

    def verifiers(self, source: str) -> dict[str, Verifier]:
        """Return kind -> verifier that never saw `source`; the shipped one where that is it."""
        return {
            kind: self._made(source, kind, source) if source in self._sources[kind] else shipped
            for kind, shipped in self.shipped.items()
        }

    def _made(self, name: str, kind: str, left_out: str | None) -> Verifier:
        """Return a model from the folder, trained now if it is not there."""
        path = self.folder / f"{name}{KINDS[kind][0]}"
        if not path.exists():
            print(f"training {path} (some minutes)", file=sys.stderr, flush=True)
            started = time.perf_counter()
            if kind == "svm":
                self._train_svm(path, left_out)
            else:
                self._train_network(path, kind, left_out)
            print(f"  {time.perf_counter() - started:.0f} s", file=sys.stderr)
        try:
            verifier = load_verifier(path)
        except InputError as error:
            raise InputError(f"{error}; delete {path} to have it made anew") from error
        if left_out in trained_on(verifier):
            raise InputError(f"{path}: was trained on {left_out}; delete it to have it made anew")
        return verifier

    def _candidates(self) -> Path:
        """Return the file of all candidates, made now if it is not there."""
        path = self.folder / "candidates.npz"
        if not path.exists():
            print(f"simulating {N_SCENES} scenes (minutes)", file=sys.stderr, flush=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            parts = [labelled(name) for name in TRAINING_SETS]
            LabelledCandidates.concat([*parts, simulated_candidates(N_SCENES, SEED)]).save(path)
        return path

    def _train_network(self, path: Path, kind: str, left_out: str | None) -> None:
        """Train in a process of its own, which gives its memory back."""
        command = [
            sys.executable, "-m", "napari_xtal.peaks.training", "--simulated", "0",
            "--candidates", str(self._candidates()), "--out", str(path), "--seed", str(SEED),
        ]  # fmt: skip
        if left_out is not None:
            command += ["--exclude-source", left_out]
        if kind == "founding":
            command += ["--architecture", "founding"]
        subprocess.run(command, check=True)

    def _train_svm(self, path: Path, left_out: str | None) -> None:
        from napari_xtal.peaks.training.svm import train_default_svm

        candidates = LabelledCandidates.load(self._candidates())
        candidates = candidates.take(candidates.source != left_out)
        train_default_svm(candidates, SEED).save(path)
