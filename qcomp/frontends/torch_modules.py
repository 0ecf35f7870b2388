"""PyTorch modules and exported programs, as ONNX by torch's own exporter.

A module is taken from the program that made it. Files of torch hold pickles, which run what is in
them when they are read, so none is opened here.
"""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np
import onnx

from qcomp.errors import ModelError


def is_torch(model: Any) -> bool:
    """Whether it is a module or an exported program; who has one has imported torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module | torch.export.ExportedProgram)


def exported(model: Any, example_inputs: Any, calibration: Any) -> onnx.ModelProto:
    """The ONNX model of a torch.nn.Module or a torch.export.ExportedProgram.

    example_inputs: arrays or tensors, one for each argument of `forward`, with the shapes that the
        network is compiled for; None: the first of a list of calibration samples. An exported
        program has its own. ModelError where torch can't export the module.
    """
    import torch

    if isinstance(model, torch.export.ExportedProgram):
        return _exported(model, None)
    given = _first(calibration) if example_inputs is None else example_inputs
    if isinstance(given, np.ndarray | torch.Tensor):
        given = (given,)
    if not isinstance(given, tuple | list):
        raise ModelError(
            "a PyTorch module needs example_inputs, a tuple with an array for each argument of its "
            "forward; with one argument a list of calibration samples does"
        )
    with _evaluating(model):
        return _exported(model, tuple(torch.as_tensor(x) for x in given))


def _first(calibration: Any) -> Any:
    """The first of samples that can be asked for again."""
    if isinstance(calibration, list | tuple) and calibration:
        return calibration[0] if not isinstance(calibration[0], dict) else None
    return None


@contextlib.contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Batch normalization and dropout as they are when the network is used."""
    training = {name: module.training for name, module in model.named_modules()}
    model.eval()
    try:
        yield
    finally:
        for name, module in model.named_modules():
            module.training = training[name]


def _exported(model: Any, inputs: tuple[Any, ...] | None) -> onnx.ModelProto:
    import torch

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                model, inputs or (), dynamo=True, external_data=False, verbose=False
            )
            assert program is not None
            proto: onnx.ModelProto = program.model_proto
            return proto
        except Exception as error:  # whatever the module and the exporter raise
            told = str(error).strip().splitlines() or [type(error).__name__]
            raise ModelError(f"torch.onnx.export can't export the module: {told[0]}") from error


def refuse_archive(model: Any, **given: Any) -> NoReturn:
    """ModelError for a file of torch, which is neither imported nor described."""
    label = "the model" if isinstance(model, bytes) else str(model)
    raise ModelError(f"{label} is a zip archive, as torch.save writes; {_ACCEPTED}")


_ACCEPTED = (
    "accepted: the module itself, qcomp.compile(module, example_inputs=(x,)), or an .onnx file, "
    "torch.onnx.export(module, (x,), 'net.onnx', dynamo=True)"
)
