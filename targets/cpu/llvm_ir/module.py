"""Modules, their variables and functions, and the blocks that a function's lines are kept in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from qcomp.targets.cpu.llvm_ir.types import FunctionType, IntType, PointerType, Type
from qcomp.targets.cpu.llvm_ir.values import Value, named
from qcomp.targets.cpu.platform import Platform

_POINTER = PointerType()


class Line(Protocol):
    """An instruction: its text, or what has one when the function is complete."""

    def __str__(self) -> str: ...


class Callee(Protocol):
    """What can be called: a function, or a pointer to one of a known type."""

    @property
    def ref(self) -> str: ...

    @property
    def function_type(self) -> FunctionType: ...


@dataclass(frozen=True, eq=False)
class Pointed:
    """A function known by a pointer."""

    pointer: Value
    function_type: FunctionType

    @property
    def ref(self) -> str:
        return self.pointer.ref


class Module:
    """For one platform; `globals` are variables and functions by name, in order.

    `attributes` are those of every function that it defines.
    """

    def __init__(self, name: str, platform: Platform) -> None:
        self.name, self.triple, self.format = name, platform.triple, platform.format
        self.pointer_bytes = platform.pointer_bytes
        self.word = IntType(8 * platform.pointer_bytes)
        self.globals: dict[str, GlobalVariable | Function] = {}
        self.attributes: tuple[str, ...] = ()

    def add_global(self, value: GlobalVariable | Function) -> None:
        if value.name in self.globals:
            raise ValueError(f"{self.name} has a global {value.name} already")
        self.globals[value.name] = value

    def get_unique_name(self, name: str) -> str:
        """This name, or the first of NAME.1, NAME.2, ... that is not taken."""
        found, number = name, 0
        while found in self.globals:
            number += 1
            found = f"{name}.{number}"
        return found

    def constant(self, name: str, content: Value, align: int) -> GlobalVariable:
        """A constant of the module's own, defined on first use."""
        known = self.globals.get(name)
        if isinstance(known, GlobalVariable):
            return known
        made = GlobalVariable(self, content.type, name)
        made.initializer, made.align = content, align
        made.global_constant, made.linkage = True, "internal"
        return made

    def function(self, name: str, type: FunctionType) -> Function:
        """The function of this name, declared on first use."""
        known = self.globals.get(name)
        return known if isinstance(known, Function) else Function(self, type, name)

    def get_function(self, name: str) -> Function:
        """One that there is."""
        found = self.globals[name]
        assert isinstance(found, Function), name
        return found

    def __str__(self) -> str:
        definitions = (value.definition() for value in self.globals.values())
        return "\n".join([f'target triple = "{self.triple}"', *definitions])


class GlobalVariable(Value):
    """A pointer to a variable, which is defined in this module if it has an initializer."""

    __slots__ = (
        "align",
        "global_constant",
        "initializer",
        "linkage",
        "name",
        "storage_class",
        "value_type",
    )

    def __init__(self, module: Module, type: Type, name: str) -> None:
        super().__init__(_POINTER, named("@", name))
        self.name, self.value_type = name, type
        self.linkage, self.storage_class, self.global_constant = "", "", False
        self.initializer: Value | None = None
        self.align: int | None = None
        module.add_global(self)

    def definition(self) -> str:
        linkage = self.linkage or ("external" if self.initializer is None else "")
        kind = "constant" if self.global_constant else "global"
        content = "" if self.initializer is None else self.initializer.ref
        words = (linkage, self.storage_class, kind, self.value_type.text, content)
        align = "" if self.align is None else f", align {self.align}"
        return f"{self.ref} = {' '.join(word for word in words if word)}{align}"


class Argument(Value):
    __slots__ = ("_attributes",)

    def __init__(self, type: Type, ref: str) -> None:
        super().__init__(type, ref)
        self._attributes: list[str] = []

    def add_attribute(self, attribute: str) -> None:
        self._attributes.append(attribute)

    def declaration(self) -> str:
        return " ".join((self.type.text, *self._attributes, self.ref))


class Function(Value):
    """A function, which is defined in this module if it has blocks."""

    __slots__ = ("_names", "args", "attributes", "blocks", "function_type", "last", "linkage",
                 "module", "name")  # fmt: skip

    def __init__(self, module: Module, type: FunctionType, name: str) -> None:
        super().__init__(_POINTER, named("@", name))
        self.module, self.name, self.function_type = module, name, type
        self.linkage = ""
        self.attributes: set[str] = set()
        self.blocks: list[Block] = []
        self._names: dict[str, int] = {}  # and the number that was added last
        self.last = 0
        self.args = tuple(Argument(t, self.new_ref()) for t in type.args)
        module.add_global(self)

    def new_ref(self) -> str:
        """An operand's name that the function does not have yet."""
        self.last += 1
        return f"%.{self.last}"

    def new_name(self, name: str) -> str:
        """The same for a name that says something; a number is added where it is taken."""
        found = name
        while found in self._names:
            self._names[name] += 1
            found = f"{name}.{self._names[name]}"
        self._names[found] = 0
        return found

    def append_basic_block(self, name: str) -> Block:
        block = Block(self, self.new_name(name))
        self.blocks.append(block)
        return block

    def definition(self) -> str:
        words = ("define" if self.blocks else "declare", self.linkage)
        result, attributes = self.function_type.return_type.text, sorted(self.attributes)
        arguments = ", ".join(argument.declaration() for argument in self.args)
        common = self.module.attributes if self.blocks else ()
        head = (*words, result, f"{self.ref}({arguments})", *common, *attributes)
        lines = [" ".join(word for word in head if word)]
        if self.blocks:
            lines += ["{", *(block.text() for block in self.blocks), "}"]
        return "\n".join(lines)


class Block(Value):
    """Lines of a function that run one after the other; the last one goes elsewhere."""

    __slots__ = ("function", "is_terminated", "lines", "name")

    def __init__(self, function: Function, name: str) -> None:
        self.ref = named("%", name)
        self.function, self.name = function, name
        self.lines: list[Line] = []
        self.is_terminated = False

    def text(self) -> str:
        return "\n  ".join([f"{self.ref[1:]}:", *map(str, self.lines)])


class Phi(Value):
    """The value that belongs to the block where the run comes from."""

    __slots__ = ("line",)

    def __init__(self, type: Type, ref: str) -> None:
        super().__init__(type, ref)
        self.line = PhiLine(f"{ref} = phi {type.text}")

    def add_incoming(self, value: Value, block: Block) -> None:
        self.line.incoming.append(f"[{value.ref}, {block.ref}]")


class PhiLine:
    """Grows until the function is complete."""

    def __init__(self, head: str) -> None:
        self._head = head
        self.incoming: list[str] = []

    def __str__(self) -> str:
        return f"{self._head} {', '.join(self.incoming)}"


class Switch:
    """Goes to the block of a value's case."""

    def __init__(self, value: Value, default: Block) -> None:
        self._head = f"switch {value}, label {default.ref}"
        self._cases: list[str] = []

    def add_case(self, value: Value, block: Block) -> None:
        self._cases.append(f"{value}, label {block.ref}")

    def __str__(self) -> str:
        return f"{self._head} [{' '.join(self._cases)}]"
