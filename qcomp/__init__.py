"""qcomp: from a trained float network to an integer-only C library.

>>> import qcomp
>>> net = qcomp.compile("mobilenet_v2.onnx", target="native", calibration=batches)
>>> logits = net(images)
>>> net.save("build/")
"""

from qcomp.compiler import compile
from qcomp.config import QuantizationConfig
from qcomp.errors import (
    CalibrationError,
    CompileError,
    ModelError,
    OutputError,
    PassError,
    RecipeError,
    TargetError,
    UnsupportedOp,
    VerifyError,
)
from qcomp.network import CompiledNetwork, TensorInfo
from qcomp.precision.mixed import MixedPrecision
from qcomp.precision.run import sensitivity
from qcomp.precision.search import mixed_precision
from qcomp.precision.table import SensitivityTable
from qcomp.store import load

__version__ = "0.1.0"

__all__ = [
    "CalibrationError",
    "CompileError",
    "CompiledNetwork",
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
    "load",
    "mixed_precision",
    "sensitivity",
]
