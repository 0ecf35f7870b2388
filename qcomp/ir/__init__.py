"""The intermediate representation: typed ops and tensors in a networkx graph."""

from qcomp.ir.dot import to_dot
from qcomp.ir.form import Form
from qcomp.ir.graph import Graph
from qcomp.ir.parse import ParseError, parse
from qcomp.ir.tensor import DType, Tensor, TensorId, TensorType, constant
from qcomp.ir.verify import verify

__all__ = [
    "DType",
    "Form",
    "Graph",
    "ParseError",
    "Tensor",
    "TensorId",
    "TensorType",
    "constant",
    "parse",
    "to_dot",
    "verify",
]
