"""How the kernels are compiled: without interpreter lock, one thread, cached."""

from __future__ import annotations

from typing import Any

#: Kernels that Python calls.
JIT: dict[str, Any] = {"nogil": True, "cache": True, "boundscheck": False, "error_model": "numpy"}
#: Called from compiled code only: wrappers for Python would double the compilation.
INNER: dict[str, Any] = {
    **JIT,
    "cache": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
#: Re-ordered sums vectorise; NaN and infinity keep their meaning.
INNER_FAST: dict[str, Any] = {**INNER, "fastmath": {"reassoc", "nsz", "contract", "arcp"}}
