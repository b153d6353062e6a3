"""Support vector machines as files: skops, of which only listed types are ever built."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_xtal.errors import InputError, MissingFileError, OutputError
from napari_xtal.files import new_file
from napari_xtal.peaks.verify.features import FEATURES, FEATURES_VERSION

if TYPE_CHECKING:
    import os

    from napari_xtal.peaks.verify.svm import SvmVerifier

#: Layout of the files; others are refused.
FORMAT = "napari-xtal svm 1"
#: Every type that a file may name. Nothing else is built, whatever skops itself trusts.
TRUSTED_TYPES = frozenset({
    "builtins.dict", "builtins.list", "builtins.tuple", "builtins.str",
    "numpy.ndarray", "numpy.float64", "numpy.int64",
    "sklearn.pipeline.Pipeline",
    "sklearn.preprocessing._data.StandardScaler",
    "sklearn.decomposition._pca.PCA",
    "sklearn.svm._classes.LinearSVC",
    "sklearn.svm._classes.SVC",
})  # fmt: skip
#: No model of ours comes near; stops archives that unpack to fill the memory.
MAX_BYTES = 256 * 2**20
#: How well a file's own examples must be reproduced.
TOLERANCE = 1e-6

DEFAULT_PATH = Path(__file__).parents[1] / "weights" / "default.skops"


def write_svm(model: SvmVerifier, path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Write a model to a ``.skops`` file.

    Raises
    ------
    OutputError
        When the file exists, cannot be written, or has another suffix.
    """
    import skops.io

    if Path(path).suffix.lower() != ".skops":
        raise OutputError(f"{path}: a support vector machine is saved as .skops")
    content = {
        "format": FORMAT,
        "metadata": json.dumps(
            {
                **model.metadata,
                "threshold": model.threshold,
                "hash": model.hash,
                "report": None if model.report is None else model.report.to_dict(),
            },
            allow_nan=False,
        ),
        "pipeline": model.pipeline,
        "projection": model.projection,
    }
    with new_file(path, overwrite=overwrite) as temporary:
        skops.io.dump(content, temporary, compression=zipfile.ZIP_DEFLATED)


def read_svm(path: str | os.PathLike[str]) -> SvmVerifier:
    """Read a model that `write_svm` wrote.

    Parameters
    ----------
    path : path-like
        File, or ``default`` for the shipped model.

    Raises
    ------
    InputError
        When the file is missing, damaged, no such model, or does not fit this version.
    """
    path = DEFAULT_PATH if str(path) == "default" else Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: there is no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    _check_types(path, data)
    content = _build(path, data)
    metadata = _metadata(path, content)
    return _verifier(path, content, metadata)


def _check_types(path: Path, data: bytes) -> None:
    """Refuse what is no skops file or names a type that is not listed."""
    import skops.io

    if not data.startswith(b"PK\x03\x04"):
        what = "a pickle, which could run code" if data[:1] == b"\x80" else "no .skops file"
        raise InputError(f"{path}: is {what}; give a model saved by napari-xtal")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(item.file_size for item in archive.infolist()) > MAX_BYTES:
                raise InputError(f"{path}: unpacks to more than {MAX_BYTES >> 20} MiB; refused")
            damaged = archive.testzip()
            schema = json.loads(archive.read("schema.json")) if damaged is None else {}
        if damaged is not None:
            raise InputError(f"{path}: is damaged ({damaged}); get it anew")
        others = _named_types(schema) - TRUSTED_TYPES
        others |= set(skops.io.get_untrusted_types(data=data)) - TRUSTED_TYPES
    except InputError:
        raise
    except Exception as error:  # zipfile and skops raise many kinds on damaged files
        raise InputError(f"{path}: is damaged or no .skops file ({_short(error)})") from error
    if others:
        raise InputError(
            f"{path}: holds types a verifier does not need ({', '.join(sorted(others)[:3])}); "
            "it was not opened"
        )


def _named_types(node: Any) -> set[str]:
    """Return every type that a skops schema names."""
    if isinstance(node, list):
        return set().union(*map(_named_types, node))
    if not isinstance(node, dict):
        return set()
    found = set().union(*map(_named_types, node.values()))
    if "__class__" in node or "__loader__" in node:
        found.add(f"{node.get('__module__')}.{node.get('__class__')}")
    return found


def _build(path: Path, data: bytes) -> dict[str, Any]:
    """Build the objects of a file whose types were checked."""
    import skops.io
    from sklearn.exceptions import InconsistentVersionWarning

    try:
        with warnings.catch_warnings():
            # The file's own examples decide whether another version still computes the same.
            warnings.simplefilter("ignore", InconsistentVersionWarning)
            content = skops.io.loads(data, trusted=[])
    except Exception as error:  # as above
        raise InputError(f"{path}: is damaged ({_short(error)}); get it anew") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        known = content.get("format") if isinstance(content, dict) else None
        raise InputError(
            f"{path}: is no verifier of this version (layout {known!r}, expected '{FORMAT}')"
        )
    return content


def _metadata(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata after comparing features and versions with the present ones."""
    import sklearn

    try:
        metadata = json.loads(content["metadata"])
        made_with, names = metadata["versions"]["scikit-learn"], metadata["features"]
        version = metadata["features_version"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its metadata are damaged ({_short(error)})") from error
    if version != FEATURES_VERSION or names != list(FEATURES):
        raise InputError(
            f"{path}: was trained on other features (version {version}, now {FEATURES_VERSION}); "
            "train it anew"
        )
    if str(made_with).split(".")[0] != sklearn.__version__.split(".")[0]:
        raise InputError(
            f"{path}: was made with scikit-learn {made_with}, installed is "
            f"{sklearn.__version__}; train it anew"
        )
    return dict(metadata)


def _verifier(path: Path, content: dict[str, Any], metadata: dict[str, Any]) -> SvmVerifier:
    """Put the model together and let it prove itself."""
    from sklearn.pipeline import Pipeline

    from napari_xtal.peaks.verify.report import VerifierReport
    from napari_xtal.peaks.verify.svm import SvmVerifier

    pipeline, projection = content.get("pipeline"), content.get("projection")
    if not isinstance(pipeline, Pipeline) or not isinstance(projection, Pipeline):
        raise InputError(f"{path}: holds no trained machine; get it anew")
    try:
        known, report = metadata.pop("hash"), metadata.pop("report")
        model = SvmVerifier(
            pipeline,
            projection,
            metadata,
            None if report is None else VerifierReport.from_dict(report),
        )
        proof = metadata["proof"]
        features = np.asarray(proof["features"], np.float64)
        same = np.allclose(
            pipeline.decision_function(features), proof["decisions"], TOLERANCE, TOLERANCE
        )
        _ = projection.transform(features), model.importance
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # damaged machines fail in many ways
        raise InputError(f"{path}: is damaged ({_short(error)}); get it anew") from error
    if known != model.hash:
        raise InputError(f"{path}: was changed after it was saved (hash {model.hash} != {known})")
    if not same:
        raise InputError(
            f"{path}: predicts other values than when it was made with scikit-learn "
            f"{metadata['versions']['scikit-learn']}; train it anew"
        )
    return model


def _short(error: BaseException) -> str:
    """Return the first line of an error, cut short."""
    text = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {text[:100]}" if text else type(error).__name__
