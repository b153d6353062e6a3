"""Image files through fabio: CBF, TIFF, EDF, MarCCD, SMV …, also compressed."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.errors import InputError
from napari_xtal.io.hdf5 import check_file
from napari_xtal.io.layouts.base import Block, DecodedImage, FileFrames
from napari_xtal.io.layouts.cbf import open_bytes, read_cbf
from napari_xtal.io.layouts.stack import frame_dtype, value_rules
from napari_xtal.io.links import LinkPolicy
from napari_xtal.io.metadata import DetectorMetadata, parse_mini_header, positive

if TYPE_CHECKING:
    from napari_xtal.detector.mask import ValueRules

SUFFIXES = (".cbf", ".tif", ".tiff", ".edf", ".mccd", ".img", ".mar2300", ".mar3450", ".sfrm",
            ".gfrm", ".osc", ".esperanto", ".h3r")  # fmt: skip
_COMPRESSED = (".gz", ".bz2")
_HEAD = 1 << 16


def matches(path: str) -> bool:
    """Whether the name is that of an image file, possibly compressed."""
    return _suffix(path) in SUFFIXES


def _suffix(path: str) -> str:
    name = Path(path)
    if name.suffix.lower() in _COMPRESSED:
        name = name.with_suffix("")
    return name.suffix.lower()


def open_file(path: str, policy: LinkPolicy) -> FileFrames:
    """Describe the frames of one image file."""
    check_file(path)
    head = _head(path)
    if _is_text(head):
        raise InputError(f"{path}: a text file, not an image")
    image, n_frames, header = _load(path, 0, policy.max_frame_bytes)
    if image.ndim != 2 or 0 in image.shape:
        raise InputError(f"{path}: holds an array of shape {image.shape}, not an image")
    dtype = frame_dtype(image.dtype)
    suffix = _suffix(path)
    metadata = _metadata(suffix, header)
    rules: ValueRules = value_rules(image.dtype, metadata, has_mask=False, negative_codes=True)
    return FileFrames(
        path=path,
        layout=suffix.lstrip(".").upper().replace("TIFF", "TIF"),
        blocks=(Block("", n_frames, ndim=2 if n_frames == 1 else 3),),
        shape=(int(image.shape[0]), int(image.shape[1])),
        dtype=dtype,
        rules=rules,
        kind="image",
        metadata=metadata,
    )


def read_frame(path: str, k: int, dtype: np.dtype[Any]) -> DecodedImage:
    """Read image `k` of a file."""
    image = _load(path, k)[0]
    if not np.can_cast(image.dtype, dtype, "same_kind"):
        raise InputError(f"{path}: holds {image.dtype}, the other files of the run {dtype}")
    return DecodedImage(np.ascontiguousarray(image, dtype=dtype))


def _load(
    path: str, k: int, max_bytes: int = LinkPolicy.max_frame_bytes
) -> tuple[np.ndarray, int, dict[str, str]]:
    if _suffix(path) == ".cbf":
        image, text = read_cbf(path, max_bytes)
        return image, 1, {"header": text}
    import fabio

    # fabio reports recoverable oddities through logging; ours is the exception below.
    logging.getLogger("fabio").setLevel(logging.CRITICAL)
    try:
        with fabio.open(path) as image:
            n_frames = max(int(image.nframes), 1)
            if k >= n_frames:
                raise InputError(f"{path}: has {n_frames} images, image {k} was asked for")
            frame = image if k == 0 else image.getframe(k)
            data = frame.data
            if data is None:
                raise InputError(f"{path}: no image could be decoded")
            header = {str(key): str(value) for key, value in dict(frame.header).items()}
            return np.asarray(data), n_frames, header
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path}: the image is too large for the memory") from error
    except Exception as error:  # fabio's readers raise whatever their parsing meets
        text = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise InputError(
            f"{path}: damaged or unknown image file ({text}); check it or convert it to CBF, "
            "TIFF or HDF5"
        ) from error


def _head(path: str) -> bytes:
    """Return the beginning of the (decompressed) file."""
    try:
        with open_bytes(path) as file:
            return file.read(_HEAD)
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: damaged compressed file ({error})") from error


def _is_text(head: bytes) -> bool:
    # EDF, SMV and CBF begin with a text header; anything else all printable is text.
    sample = head[:2048]
    if sample.lstrip().startswith((b"{", b"###CBF")):
        return False
    return all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in sample)


def _metadata(suffix: str, header: dict[str, str]) -> DetectorMetadata:
    found = parse_mini_header("\n".join(header.values()))
    if found.pixel_size_m is None and suffix == ".edf":
        return _edf_metadata(header)
    return found


def _edf_metadata(header: dict[str, str]) -> DetectorMetadata:
    """Read the SAXS keywords of ESRF's EDF files (metres; dimension 1 is fast)."""

    def value(key: str) -> float | None:
        match = re.match(r"\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)", header.get(key, ""))
        try:
            return float(match.group(1)) if match else None
        except ValueError:
            return None

    wavelength = positive(value("WaveLength"))
    fast, slow = value("Center_1"), value("Center_2")
    return DetectorMetadata(
        photon_energy_ev=12398.41984e-10 / wavelength if wavelength else None,
        distance_m=positive(value("SampleDistance")),
        pixel_size_m=positive(value("PSize_1")),
        beam_centre=(slow - 0.5, fast - 0.5) if fast is not None and slow is not None else None,
    )
