"""Running a float or QDQ graph with ONNX Runtime: calibration's and evaluation's float executor.

ONNX and ONNX Runtime are imported by the first session: compiled networks run without them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from qcomp.errors import CompileError
from qcomp.ir.evaluate import checked_inputs
from qcomp.ir.graph import Graph
from qcomp.ir.tensor import Array, TensorId

_ERROR = 3

# Pad_Fusion takes the zeros before a MaxPool for padding, which never wins, and makes pools with
# padding beyond the kernel, which onnxruntime then refuses.
_WRONG_OPTIMIZERS = ["Pad_Fusion"]


@contextmanager
def _as_compile_error(graph: Graph) -> Iterator[None]:
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

    QDQ graphs run in float arithmetic, as written: nothing is fused into integer kernels.
    """

    def __init__(
        self, graph: Graph, *, extra_outputs: Sequence[TensorId] = (), threads: int | None = None
    ) -> None:
        import onnxruntime

        from qcomp.exporters.onnx.model import export_onnx

        model = export_onnx(graph, extra_outputs=extra_outputs)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERROR
        options.intra_op_num_threads = 0 if threads is None else threads
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        options.add_session_config_entry("session.force_spinning_stop", "1")  # between runs
        self._graph = graph
        self._names = [output.name for output in model.graph.output]
        if not self._names:  # onnxruntime wants at least one
            return
        with _as_compile_error(graph):
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=_WRONG_OPTIMIZERS,
            )

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by public name, extra outputs by tensor id."""
        checked_inputs(self._graph, inputs)
        if not self._names:
            return {}
        with _as_compile_error(self._graph):
            results = self._session.run(self._names, dict(inputs))
        return dict(zip(self._names, results, strict=True))
