"""What every verifier can do: judge candidates by the window around them."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from napari_xtal.errors import InputError
from napari_xtal.peaks.table import validate
from napari_xtal.peaks.verify.patches import (
    HALF,
    Patches,
    extract_patches,
    for_each_frame,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray

    from napari_xtal.detector.frame import Frame
    from napari_xtal.peaks.find import FrameSourceLike
    from napari_xtal.peaks.verify.report import VerifierReport


class Verifier(ABC):
    """A model that gives every candidate the probability to be a Bragg peak.

    A prediction depends on the frame, its mask and the position only, so that the window,
    the command line and Python agree.

    Attributes
    ----------
    kind : str
        ``cnn`` or ``svm``.
    hash : str
        First 16 hexadecimal digits of the SHA-256 over everything that matters for the
        predictions.
    threshold : float
        Probability from which a candidate counts as a peak.
    metadata : dict
        Where the model comes from: training data, versions, seed.
    report : VerifierReport or None
        How it did on data held out of its training.
    """

    kind: ClassVar[str]
    hash: str
    threshold: float
    metadata: dict[str, Any]
    report: VerifierReport | None
    #: Half side of the window the model looks at [px].
    half: int = HALF

    @abstractmethod
    def predict_patches(self, patches: Patches) -> NDArray[np.float32]:
        """Return the probability of each window's centre, (n,) in [0, 1].

        A window whose centre is unusable gets 0.
        """

    @abstractmethod
    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the model to a file (`napari_xtal.files.new_file` for the rules)."""

    @classmethod
    @abstractmethod
    def load(cls, path: str | os.PathLike[str] = "default") -> Self:
        """Read a model from a file, or the shipped one by the name ``default``."""

    def predict(
        self, image: NDArray[Any], table: pd.DataFrame, good: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Judge candidates of one frame.

        Parameters
        ----------
        image : (ss, fs) ndarray
            Frame [ADU].
        table : DataFrame
            Peak table; only ``row`` and ``col`` count.
        good : (ss, fs) ndarray of bool, optional
            True where a pixel may be used; without it see `find_peaks`.

        Returns
        -------
        (n,) ndarray of float32
            Probabilities in [0, 1] in the order of the table. Where no pixel of the centre
            is usable it is 0, with one warning.

        Raises
        ------
        InputError
            When the table lacks positions or the shapes do not fit.
        """
        patches = self._patches(image, table, good)
        n_blind = int(np.count_nonzero(~patches.has_signal))
        if n_blind:
            warnings.warn(
                f"{n_blind} of {len(patches)} peaks lie on masked pixels or outside the frame; "
                "their probability is 0",
                UserWarning,
                stacklevel=2,
            )
        return self.predict_patches(patches)

    def _predict_frame(self, frame: Frame, table: pd.DataFrame) -> NDArray[np.float32]:
        """Judge one frame of a run, in a worker thread and without a warning."""
        return self.predict_patches(self._patches(frame.image, table, frame.good))

    def _patches(
        self, image: NDArray[Any], table: pd.DataFrame, good: NDArray[np.bool_] | None
    ) -> Patches:
        for name in ("row", "col"):
            if name not in table.columns:
                raise InputError(f"peak table: column '{name}' is missing; give row and col")
        rows, cols = (table[name].to_numpy(float) for name in ("row", "col"))
        return extract_patches(image, rows, cols, good, half=self.half)

    def predict_in(
        self,
        src: FrameSourceLike,
        table: pd.DataFrame,
        progress: Callable[[int, int], None] | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> NDArray[np.float64]:
        """Judge candidates of a whole run, every frame read once, in threads.

        Parameters
        ----------
        src : FrameSource
            Frames.
        table : DataFrame
            Peak table.
        progress : callable, optional
            Called with (done, total) after each frame, from this thread.
        cancel : callable, optional
            Asked after each frame; True stops and returns what is there.

        Returns
        -------
        (n,) ndarray of float64
            Probabilities in the order of the table, NaN where the frame could not be read
            or was not reached.

        Raises
        ------
        InputError
            When the table is not valid or names frames the run does not have.
        """
        result = np.full(len(validate(table, len(src))), np.nan)

        def work(frame: Frame, rows: NDArray[np.int64], part: pd.DataFrame) -> None:
            result[rows] = self._predict_frame(frame, part)

        for_each_frame(src, table, work, progress=progress, cancel=cancel)
        return result


def load_verifier(path: str | os.PathLike[str] = "default") -> Verifier:
    """Read a verifier of either kind.

    Parameters
    ----------
    path : path-like
        ``.safetensors`` (network), ``.skops`` (support vector machine), or ``default`` and
        ``default-svm`` for the shipped ones.

    Raises
    ------
    InputError
        When the file is none of these, or cannot be used.
    """
    name = str(path)
    suffix = Path(name).suffix.lower()
    if name == "default" or suffix == ".safetensors":
        from napari_xtal.peaks.verify.cnn import PeakVerifier

        return PeakVerifier.load(path)
    if name == "default-svm" or suffix == ".skops":
        from napari_xtal.peaks.verify.svm import SvmVerifier

        return SvmVerifier.load("default" if name == "default-svm" else path)
    raise InputError(
        f"{name}: no verifier; give a .safetensors or .skops file, 'default' or 'default-svm'"
    )
