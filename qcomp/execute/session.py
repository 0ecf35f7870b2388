"""Running a float or QDQ graph with ONNX Runtime: calibration's and evaluation's float executor.

ONNX and ONNX Runtime are imported by the first session: compiled networks run without them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from qcomp.errors import CompileError
from qcomp.ir.evaluate import checked_inputs
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Array, TensorId
from qcomp.processors import usable_processors
from qcomp.quant.rounding import Rounding

NONE: Mapping[str, Array] = {}

_ERROR = 3
_PACKED = 1 << 26  # bytes of weights that may be there twice: packed for products too

# Pad_Fusion takes the zeros before a MaxPool for padding, which never wins, and makes pools with
# padding beyond the kernel, which onnxruntime then refuses.
_WRONG_OPTIMIZERS = ["Pad_Fusion"]


def _without_telemetry() -> None:
    """Before the import, which else makes files in the user's home and reports to Microsoft.

    A value that the user has given stays. onnxruntime, docs/Privacy.md.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


@contextmanager
def _as_compile_error(graph: Graph) -> Iterator[None]:
    _without_telemetry()
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    refusals = (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.NotImplemented,
        state.RuntimeException,
    )
    try:
        yield
    except refusals as error:
        raise CompileError(f"onnxruntime can't run @{graph.name}: {error}") from error


class FloatSession:
    """The graph, ready to run; `extra_outputs` come back under their tensor ids.

    QDQ graphs run in float arithmetic, as written: nothing is fused into integer kernels. How
    quantized tensors that are open are rounded is said for each run.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        extra_outputs: Sequence[TensorId] = (),
        open_tensors: Sequence[TensorId] = (),
        channels_first: Collection[TensorId] = (),
        threads: int | None = None,
    ) -> None:
        """channels_first: inputs and outputs [N, H, W, C], by their ids, that lie in memory as
        [N, C, H, W], as convolutions compute them. What comes back is a view of that, and goes into
        another session as quickly.
        """
        _without_telemetry()
        import onnxruntime

        from qcomp.exporters.onnx.model import export_with_arrays

        exported = export_with_arrays(
            graph,
            extra_outputs=extra_outputs,
            open_tensors=open_tensors,
            channels_first=channels_first,
        )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERROR
        usable = usable_processors()  # onnxruntime counts all of the machine
        options.intra_op_num_threads = usable if threads is None else threads
        # There are many sessions, whose threads would take the processor from the one that runs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        options.add_session_config_entry("session.force_spinning_stop", "1")  # between runs
        self._graph = graph
        self._first = frozenset(channels_first)
        self._names = [output.name for output in exported.model.graph.output]
        if not self._names:  # onnxruntime wants at least one
            return
        self._arrays = exported.arrays  # of which the session has no copy
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(a) for a in self._arrays.values()]
        options.add_external_initializers(list(self._arrays), values)
        for name, value in zip(self._arrays, values, strict=True):
            options.add_initializer(name, value)  # else there would be a copy for running
        if sum(array.nbytes for array in self._arrays.values()) > _PACKED:
            options.add_session_config_entry("session.disable_prepacking", "1")
        with _as_compile_error(graph):
            self._session = onnxruntime.InferenceSession(
                exported.model.SerializeToString(),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=_WRONG_OPTIMIZERS,
            )

    def run(
        self, inputs: Mapping[str, Array], parameters: Mapping[str, Array] = NONE
    ) -> dict[str, Array]:
        """Outputs by public name, extra outputs by tensor id; `parameters` of all open tensors."""
        checked_inputs(self._graph, inputs)
        if not self._names:
            return {}
        turned = {n: inputs[n].transpose(0, 3, 1, 2) for n in self._first & inputs.keys()}
        with _as_compile_error(self._graph):
            results = self._session.run(self._names, {**inputs, **turned, **parameters})
        found = dict(zip(self._names, results, strict=True))
        return found | {n: found[n].transpose(0, 2, 3, 1) for n in self._first & found.keys()}

    def parameters(self, roundings: Mapping[TensorId, Rounding]) -> Mapping[str, Array]:
        """How open tensors are rounded, as `run` takes it: arrays that broadcast to the tensors."""
        from qcomp.exporters.onnx.writer import OPEN_FIELDS, open_name

        return {
            open_name(id, field): getattr(rounding, field).reshape(_shape(self._graph, id))
            for id, rounding in roundings.items()
            for field in OPEN_FIELDS
        }


def _shape(graph: Graph, id: TensorId) -> tuple[int, ...]:
    rank = graph.type(id).rank
    return (*[1] * (rank - 1), -1) if rank else ()
