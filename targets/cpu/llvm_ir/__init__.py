"""LLVM's intermediate representation as text, which kernels are written in.

An instruction is a line of text as soon as it is made. The objects of llvmlite.ir, whose names
these are, take longer to make and to print than LLVM takes to generate code from them.
"""

from qcomp.targets.cpu.llvm_ir.builder import IRBuilder
from qcomp.targets.cpu.llvm_ir.module import (
    Block,
    Callee,
    Function,
    GlobalVariable,
    Module,
    Phi,
    Pointed,
    Switch,
)
from qcomp.targets.cpu.llvm_ir.types import (
    ArrayType,
    FunctionType,
    IntType,
    PointerType,
    StructType,
    Type,
    VectorType,
    VoidType,
)
from qcomp.targets.cpu.llvm_ir.values import (
    Constant,
    Value,
    bytes_of,
    distance,
    undefined,
    vector_of,
    zero,
)

__all__ = [
    "ArrayType",
    "Block",
    "Callee",
    "Constant",
    "Function",
    "FunctionType",
    "GlobalVariable",
    "IRBuilder",
    "IntType",
    "Module",
    "Phi",
    "Pointed",
    "PointerType",
    "StructType",
    "Switch",
    "Type",
    "Value",
    "VectorType",
    "VoidType",
    "bytes_of",
    "distance",
    "undefined",
    "vector_of",
    "zero",
]
