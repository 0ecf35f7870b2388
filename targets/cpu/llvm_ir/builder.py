"""The instructions: each appends a line to a block and returns the value that the line names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache

from qcomp.targets.cpu.llvm_ir.module import Block, Callee, Module, Phi, Switch
from qcomp.targets.cpu.llvm_ir.types import (
    FunctionType,
    IntType,
    PointerType,
    Type,
    VectorType,
    VoidType,
)
from qcomp.targets.cpu.llvm_ir.values import Constant, Value, vector_of

_I1, _I32, _POINTER, _VOID = IntType(1), IntType(32), PointerType(), VoidType()
_RELATIONS = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


def _binary(operation: str) -> Callable[[IRBuilder, Value, Value], Value]:
    def method(self: IRBuilder, x: Value, y: Value) -> Value:
        _expect_same(operation, x, y)
        return self.result(x.type, f"{operation} {x.type.text} {x.ref}, {y.ref}")

    return method


def _cast(operation: str) -> Callable[[IRBuilder, Value, Type], Value]:
    def method(self: IRBuilder, x: Value, type: Type) -> Value:
        """The value itself where it has the type."""
        if x.type is type:
            return x
        return self.result(type, f"{operation} {x.type.text} {x.ref} to {type.text}")

    return method


def _expect_same(operation: str, x: Value, y: Value) -> None:
    if x.type is not y.type:
        raise TypeError(f"{operation} of {x} and {y}; accepted: operands of one type")


@lru_cache(4096)
def _mask(lanes: Sequence[int]) -> str:
    """Which lanes a shuffle takes; few are different."""
    return str(vector_of(_I32, lanes))


class IRBuilder:
    """Writes at the end of a block."""

    def __init__(self, block: Block) -> None:
        self.position_at_end(block)

    def position_at_end(self, block: Block) -> None:
        self.block, self.function, self._lines = block, block.function, block.lines

    @property
    def module(self) -> Module:
        return self.function.module

    def append_basic_block(self, name: str) -> Block:
        return self.function.append_basic_block(name)

    def result(self, type: Type, text: str) -> Value:
        """A line whose result has a name."""
        function = self.function
        function.last += 1
        ref = f"%.{function.last}"  # as new_ref; for nearly every line there is
        self._lines.append(f"{ref} = {text}")
        return Value(type, ref)

    # Arithmetic and casts

    add, sub, mul, udiv = _binary("add"), _binary("sub"), _binary("mul"), _binary("udiv")
    shl, lshr, ashr = _binary("shl"), _binary("lshr"), _binary("ashr")
    and_, or_, xor = _binary("and"), _binary("or"), _binary("xor")
    trunc, zext, sext, bitcast = _cast("trunc"), _cast("zext"), _cast("sext"), _cast("bitcast")
    ptrtoint, inttoptr = _cast("ptrtoint"), _cast("inttoptr")

    def not_(self, x: Value) -> Value:
        """Of an integer."""
        return self.xor(x, Constant(x.type, -1))

    def icmp_signed(self, relation: str, x: Value, y: Value) -> Value:
        return self._compare("s", relation, x, y)

    def icmp_unsigned(self, relation: str, x: Value, y: Value) -> Value:
        return self._compare("u", relation, x, y)

    def _compare(self, sign: str, relation: str, x: Value, y: Value) -> Value:
        _expect_same(relation, x, y)
        name = _RELATIONS[relation]
        code = name if relation in ("==", "!=") else sign + name
        is_vector = isinstance(x.type, VectorType)
        type = VectorType(_I1, x.type.count) if is_vector else _I1
        return self.result(type, f"icmp {code} {x.type.text} {x.ref}, {y.ref}")

    def select(self, condition: Value, x: Value, y: Value) -> Value:
        _expect_same("select", x, y)
        return self.result(x.type, f"select {condition}, {x}, {y}")

    def ctlz(self, x: Value, zero_is_undefined: Value) -> Value:
        """The number of leading zeros, of an integer or of each in a vector."""
        type = FunctionType(x.type, [x.type, _I1])
        overload = x.type.text
        if isinstance(x.type, VectorType):
            overload = f"v{x.type.count}{x.type.element.text}"
        function = self.module.function(f"llvm.ctlz.{overload}", type)
        return self.call(function, [x, zero_is_undefined])

    # Vectors and structures

    def extract_element(self, vector: Value, index: Value) -> Value:
        return self.result(vector.type.element, f"extractelement {vector}, {index}")

    def insert_element(self, vector: Value, value: Value, index: Value) -> Value:
        return self.result(vector.type, f"insertelement {vector}, {value}, {index}")

    def shuffle_vector(self, x: Value, y: Value, lanes: Sequence[int]) -> Value:
        """Lanes of the elements of x, followed by those of y."""
        _expect_same("shuffle", x, y)
        if not 0 <= min(lanes) <= max(lanes) < 2 * x.type.count:
            raise IndexError(f"lanes {lanes} of two {x.type}")
        type, of = VectorType(x.type.element, len(lanes)), x.type.text
        text = f"shufflevector {of} {x.ref}, {of} {y.ref}, {_mask(tuple(lanes))}"
        return self.result(type, text)

    def extract_value(self, structure: Value, index: int) -> Value:
        return self.result(structure.type.elements[index], f"extractvalue {structure}, {index}")

    # Memory

    def alloca(self, type: Type, align: int | None = None) -> Value:
        """A pointer to memory that lives as long as the function runs."""
        text = "" if align is None else f", align {align}"
        return self.result(_POINTER, f"alloca {type.text}{text}")

    def load(self, pointer: Value, type: Type, align: int) -> Value:
        return self.result(type, f"load {type.text}, {pointer}, align {align}")

    def store(self, value: Value, pointer: Value, align: int) -> None:
        self._lines.append(f"store {value}, {pointer}, align {align}")

    def load_atomic(self, pointer: Value, ordering: str, align: int, type: Type) -> Value:
        text = f"load atomic {type.text}, {pointer} {ordering}, align {align}"
        return self.result(type, text)

    def store_atomic(self, value: Value, pointer: Value, ordering: str, align: int) -> None:
        self._lines.append(f"store atomic {value}, {pointer} {ordering}, align {align}")

    def gep(self, pointer: Value, index: Value, element: Type) -> Value:
        """The address of an element of an array, which lies inside of the array."""
        text = f"getelementptr inbounds {element.text}, {pointer}, {index}"
        return self.result(_POINTER, text)

    def opaque(self, pointer: Value) -> Value:
        """The same pointer, of which LLVM doesn't know it: what was loaded by it is loaded anew."""
        return self.result(_POINTER, f'call ptr asm "", "=r,0"({pointer})')

    # Control

    def call(self, function: Callee, arguments: Sequence[Value]) -> Value:
        """The result; of a function without one, what nobody may use."""
        type = function.function_type
        wanted, given = list(type.args), [x.type for x in arguments]
        if wanted != given:
            raise TypeError(f"{function.ref} is called with {given}; accepted: {wanted}")
        text = f"call {type.return_type.text} {function.ref}({', '.join(map(str, arguments))})"
        if type.return_type is _VOID:
            self._lines.append(text)
            return Value(type.return_type, "void")
        return self.result(type.return_type, text)

    def phi(self, type: Type, name: str = "") -> Phi:
        function = self.function
        phi = Phi(type, f"%{function.new_name(name)}" if name else function.new_ref())
        self._lines.append(phi.line)
        return phi

    def _end(self, line: str | Switch) -> None:
        if self.block.is_terminated:
            raise ValueError(f"{line} comes after the end of {self.block.name}")
        self.block.is_terminated = True
        self._lines.append(line)

    def branch(self, target: Block) -> None:
        self._end(f"br label {target.ref}")

    def cbranch(self, condition: Value, yes: Block, no: Block) -> None:
        self._end(f"br {condition}, label {yes.ref}, label {no.ref}")

    def switch(self, value: Value, default: Block) -> Switch:
        switch = Switch(value, default)
        self._end(switch)
        return switch

    def ret(self, value: Value) -> None:
        self._end(f"ret {value}")

    def ret_void(self) -> None:
        self._end("ret void")

    def unreachable(self) -> None:
        self._end("unreachable")

    @contextmanager
    def goto_entry_block(self) -> Iterator[None]:
        """What is written inside comes at the end of the function's first block."""
        block, entry = self.block, self.function.blocks[0]
        self.block, self._lines = entry, []
        yield
        end = len(entry.lines) - entry.is_terminated
        entry.lines[end:end] = self._lines
        self.position_at_end(block)

    @contextmanager
    def if_then(self, condition: Value) -> Iterator[None]:
        """What is written inside runs if an i1 is true."""
        inside, after = self._parts("if", "endif")
        self.cbranch(condition, inside, after)
        with self._until(inside, after):
            yield
        self.position_at_end(after)

    @contextmanager
    def if_else(
        self, condition: Value
    ) -> Iterator[tuple[AbstractContextManager[None], AbstractContextManager[None]]]:
        """Two places: what is written in the one runs if an i1 is true, in the other if not."""
        yes, no, after = self._parts("if", "else", "endif")
        self.cbranch(condition, yes, no)
        yield self._until(yes, after), self._until(no, after)
        self.position_at_end(after)

    def _parts(self, *names: str) -> Sequence[Block]:
        """Blocks that are named after the first part of this one's name."""
        first = self.block.name.partition(".")[0]
        return [self.append_basic_block(f"{first}.{name}") for name in names]

    @contextmanager
    def _until(self, inside: Block, after: Block) -> Iterator[None]:
        self.position_at_end(inside)
        yield
        if not self.block.is_terminated:
            self.branch(after)
