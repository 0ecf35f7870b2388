"""qcomp: from a trained float network to an integer-only C library.

>>> import qcomp
>>> net = qcomp.compile("mobilenet_v2.onnx", target="native", calibration=batches)
>>> logits = net(images)
>>> net.save("build/")

The compiler, with numpy, ONNX and LLVM behind it, is imported when a name of it is first used.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qcomp.errors import (
    CalibrationError,
    CompileError,
    ExtensionError,
    FindingsError,
    ModelError,
    OutputError,
    PassError,
    RecipeError,
    TargetError,
    UnsupportedOp,
    VerifyError,
)
from qcomp.version import VERSION

if TYPE_CHECKING:
    import qcomp.data as data
    from qcomp.compiler import compile
    from qcomp.config import QuantizationConfig
    from qcomp.evaluation.record import Evaluation
    from qcomp.evaluation.run import evaluate
    from qcomp.precision.mixed import MixedPrecision
    from qcomp.precision.run import sensitivity
    from qcomp.precision.search import mixed_precision
    from qcomp.precision.table import SensitivityTable
    from qcomp.runtime.interface import TensorInfo
    from qcomp.runtime.load import load
    from qcomp.runtime.network import CompiledNetwork

__version__ = VERSION

__all__ = [
    "CalibrationError",
    "CompileError",
    "CompiledNetwork",
    "Evaluation",
    "ExtensionError",
    "FindingsError",
    "MixedPrecision",
    "ModelError",
    "OutputError",
    "PassError",
    "QuantizationConfig",
    "RecipeError",
    "SensitivityTable",
    "TargetError",
    "TensorInfo",
    "UnsupportedOp",
    "VerifyError",
    "compile",
    "data",
    "evaluate",
    "load",
    "mixed_precision",
    "sensitivity",
]

# The imports under TYPE_CHECKING, for the interpreter; tests/test_imports.py compares the two.
_HOMES: Mapping[str, str] = {
    "CompiledNetwork": "qcomp.runtime.network",
    "Evaluation": "qcomp.evaluation.record",
    "MixedPrecision": "qcomp.precision.mixed",
    "QuantizationConfig": "qcomp.config",
    "SensitivityTable": "qcomp.precision.table",
    "TensorInfo": "qcomp.runtime.interface",
    "compile": "qcomp.compiler",
    "evaluate": "qcomp.evaluation.run",
    "load": "qcomp.runtime.load",
    "mixed_precision": "qcomp.precision.search",
    "sensitivity": "qcomp.precision.run",
}


_MODULES = ("data",)


def __getattr__(name: str) -> Any:
    """Import a public name at its first use (PEP 562)."""
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
