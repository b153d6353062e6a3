"""The network verifier: what the window, the command line and Python ask for probabilities."""

from __future__ import annotations

import importlib.metadata
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch

from napari_xtal.errors import InputError
from napari_xtal.peaks.find import n_processors
from napari_xtal.peaks.verify import model_files
from napari_xtal.peaks.verify.networks import ARCHITECTURES, make_network
from napari_xtal.peaks.verify.torch_threads import one_thread_each, use_one
from napari_xtal.peaks.verify.verifier import Verifier

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    import pandas as pd
    from numpy.typing import NDArray

    from napari_xtal.detector.frame import Frame
    from napari_xtal.peaks.find import FrameSourceLike
    from napari_xtal.peaks.verify.networks import Network
    from napari_xtal.peaks.verify.patches import Patches
    from napari_xtal.peaks.verify.report import VerifierReport

#: The weights that come with the package.
DEFAULT = Path(__file__).parent.parent / "weights" / "default.safetensors"
#: Names of the network's two outputs.
CLASSES = ("not-peak", "peak")
#: Windows per pass: small enough for the caches of one core, large for a graphics card.
BATCH_CPU, BATCH_GPU = 256, 8192

_loaded: dict[str, PeakVerifier] = {}
_loading = threading.Lock()


def best_device() -> str:
    """Return the name of the fastest device torch can use: cuda, mps or cpu."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


class PeakVerifier(Verifier):
    """Judges candidates by a small convolutional network.

    Parameters
    ----------
    network : Network
        A trained network.
    temperature, bias : float
        Calibration: the probability is sigmoid((logit difference) / temperature + bias).
    threshold : float
        Probability from which a candidate counts as a peak.
    metadata : dict, optional
        Where the weights come from (JSON values).
    report : VerifierReport, optional
        How it did on held-out data.
    device : str, optional
        ``cuda``, ``mps`` or ``cpu``; default: the fastest there is.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_xtal.peaks.find import find_peaks
    >>> frame = np.random.default_rng(0).poisson(5.0, (256, 256)).astype(np.uint16)
    >>> frame[100:102, 50:52] += 40
    >>> probability = PeakVerifier.load("default").predict(frame, find_peaks(frame))
    >>> probability.shape
    (1,)
    """

    kind: ClassVar[str] = "cnn"

    def __init__(
        self,
        network: Network,
        *,
        temperature: float = 1.0,
        bias: float = 0.0,
        threshold: float = 0.5,
        metadata: dict[str, Any] | None = None,
        report: VerifierReport | None = None,
        device: str | None = None,
    ) -> None:
        self.device = torch.device(device or best_device())
        self.network = network.to(self.device).eval()
        self.half = network.window_half
        self.temperature = float(temperature)
        self.bias = float(bias)
        self.threshold = float(threshold)
        self.report = report
        self.metadata = {**(metadata or {}), **self._description()}
        self.hash = model_files.content_hash(self._tensors(), self.metadata)
        self.metadata["hash"] = self.hash

    def _description(self) -> dict[str, Any]:
        return {
            "format": model_files.FORMAT,
            "kind": self.kind,
            "architecture": self.network.architecture,
            "normalisation": model_files.NORMALISATION,
            "half": self.half,
            "channels": list(self.network.channels),
            "classes": list(CLASSES),
            "temperature": self.temperature,
            "bias": self.bias,
            "threshold": self.threshold,
        }

    def _tensors(self) -> dict[str, NDArray[np.float32]]:
        return {k: v.cpu().numpy() for k, v in self.network.state_dict().items()}

    def predict_patches(self, patches: Patches) -> NDArray[np.float32]:
        """Return the probability of each window's centre, (n,) in [0, 1].

        A window whose centre is unusable gets 0.

        Raises
        ------
        InputError
            When the windows have another size than the network takes.
        """
        if patches.half != self.half:
            raise InputError(
                f"patches: windows of half side {patches.half} px; this model takes {self.half}"
            )
        result = np.empty(len(patches), np.float32)
        cpu = self.device.type == "cpu"
        batch = BATCH_CPU if cpu else BATCH_GPU

        def work(start: int) -> None:
            if cpu:
                use_one()
            part = slice(start, start + batch)
            result[part] = self._probability(patches.take(part))

        starts = range(0, len(patches), batch)
        if len(starts) == 1:
            result[:] = self._probability(patches)
        elif not cpu:
            for start in starts:
                work(start)
        elif starts:
            with one_thread_each(), ThreadPoolExecutor(n_processors(), "verify") as pool:
                list(pool.map(work, starts))
        result[~patches.has_signal] = 0
        return result

    def _probability(self, patches: Patches) -> NDArray[np.float32]:
        inputs = [torch.from_numpy(x).to(self.device) for x in self.network.inputs(patches)]
        with torch.inference_mode():
            logits = self.network(*inputs)
            difference = (logits[:, 1] - logits[:, 0]) / self.temperature + self.bias
            return np.asarray(torch.sigmoid(difference).cpu().numpy())

    def predict_in(
        self,
        src: FrameSourceLike,
        table: pd.DataFrame,
        progress: Callable[[int, int], None] | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> NDArray[np.float64]:
        """Judge candidates of a whole run; see `Verifier.predict_in`."""
        with one_thread_each():
            return super().predict_in(src, table, progress, cancel)

    def _predict_frame(self, frame: Frame, table: pd.DataFrame) -> NDArray[np.float32]:
        if self.device.type == "cpu":
            use_one()
        return super()._predict_frame(frame, table)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write weights, metadata and report to a ``.safetensors`` file.

        Raises
        ------
        OutputError
            When the file exists or cannot be written.
        """
        metadata = dict(self.metadata)
        metadata.pop("report", None)
        if self.report is not None:
            metadata["report"] = self.report.to_dict()
        model_files.write_model(path, self._tensors(), metadata, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str] = "default", *, device: str | None = None) -> Self:
        """Read a verifier.

        Parameters
        ----------
        path : path-like
            A ``.safetensors`` file, or ``default`` for the weights of the package, which
            are read once.
        device : str, optional
            ``cuda``, ``mps`` or ``cpu``; default: the fastest there is.

        Raises
        ------
        InputError
            When the file cannot be used: another kind or architecture, missing or altered
            weights, damage.
        """
        if str(path) != "default":
            return cls._read(Path(path), device)
        name = device or best_device()
        with _loading:
            if name not in _loaded:
                _loaded[name] = cls._read(DEFAULT, device)
            return _loaded[name]  # type: ignore[return-value]

    @classmethod
    def _read(cls, path: Path, device: str | None) -> Self:
        tensors, metadata = model_files.read_model(path)
        report = metadata.pop("report", None)
        network = _fitting_network(path, tensors, metadata)
        verifier = cls(
            network,
            temperature=metadata["temperature"],
            bias=metadata["bias"],
            threshold=metadata["threshold"],
            metadata=metadata,
            device=device,
        )
        if report is not None:
            from napari_xtal.peaks.verify.report import VerifierReport

            try:
                verifier.report = VerifierReport.from_dict(report)
            except InputError as error:
                raise InputError(f"{path}: {error}") from error
        return verifier


def _fitting_network(
    path: Path, tensors: dict[str, NDArray[np.float32]], metadata: dict[str, Any]
) -> Network:
    """Return the network a file describes, with its weights."""
    name = metadata["architecture"]
    if metadata["kind"] != PeakVerifier.kind or name not in ARCHITECTURES:
        raise InputError(
            f"{path}: holds a {metadata['kind']} of architecture '{name}'; "
            f"this version knows {', '.join(ARCHITECTURES)}"
        )
    network = make_network(name)
    if metadata["half"] != network.window_half or metadata["channels"] != list(network.channels):
        raise InputError(
            f"{path}: made for windows of half side {metadata['half']} px and channels "
            f"{metadata['channels']}; '{name}' takes {network.window_half} and {list(network.channels)}"
        )
    wanted = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    for key, shape in wanted.items():
        if key not in tensors:
            raise InputError(f"{path}: tensor '{key}' of architecture '{name}' is missing")
        if tensors[key].shape != shape:
            raise InputError(
                f"{path}: tensor '{key}' has shape {tensors[key].shape}, '{name}' needs {shape}"
            )
    unknown = sorted(set(tensors) - set(wanted))
    if unknown:
        raise InputError(f"{path}: tensor '{unknown[0]}' is not part of architecture '{name}'")
    network.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in tensors.items()})
    return network


def versions() -> dict[str, str]:
    """Return the versions of the packages that shape a trained model."""
    return {name: importlib.metadata.version(name) for name in ("napari-xtal", "numpy", "torch")}
