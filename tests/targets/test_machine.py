"""A machine is one record: emitters ask it, and one that they have never heard of works."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcomp.ir.ops import QConv2d, QDense
from qcomp.quant.fixed_point import Form, Requantize
from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I8, I32, Value, load, raw, shuffle, vector
from qcomp.targets.cpu.emit.dot import Operand, for_every_channel
from qcomp.targets.cpu.emit.gemm_vectors import VectorGemms
from qcomp.targets.cpu.emit.tile_products import EachStep
from qcomp.targets.cpu.generic.machine import portable, widening_gemm_costs
from qcomp.targets.cpu.isa import (
    AARCH64,
    AARCH64_DOTPROD,
    AARCH64_I8MM,
    ARM_LADDER,
    AVX2,
    X86_LADDER,
)
from qcomp.targets.cpu.kernels.gemm import Packing
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.process.host import native
from qcomp.targets.cpu.storage import Storage
from qcomp.targets.cpu.vectors import Vectors
from qcomp.targets.cpu.x86 import machine as x86

CPU = Path(__file__).parents[2] / "targets" / "cpu"
FAMILIES = ("qcomp.targets.cpu.x86", "qcomp.targets.cpu.arm", "qcomp.targets.cpu.generic")
NOT_DATA = ("llvmlite", "qcomp.targets.cpu.emit", "qcomp.targets.cpu.llvm_ir")
SMALL = Vectors(128, 16)


@dataclass(frozen=True)
class ToyDot:
    """Products of u8 by i8, widened to 32 bits at once."""

    vectors: Vectors
    row: int = 0
    widens: bool = True
    together: int = 2

    def same(self, b: ir.IRBuilder, pointer: Value, groups: int) -> list[Operand]:
        both = load(b, raw(pointer), vector(I32, groups))
        return [self.every(b, b.extract_element(both, ir.Constant(I32, n))) for n in range(groups)]

    def every(self, b: ir.IRBuilder, four: Value) -> Operand:
        return self.apart(b, for_every_channel(b, four, self.vectors))

    def mixed(self, b: ir.IRBuilder, pointer: Value, starts: Sequence[int]) -> Operand:
        raise AssertionError("row is 0")

    def apart(self, b: ir.IRBuilder, x: Value) -> Operand:
        return (b.zext(x, vector(I32, self.vectors.bytes)),)

    def weights(self, b: ir.IRBuilder, pointer: Value) -> Operand:
        bytes_ = load(b, pointer, vector(I8, self.vectors.bytes))
        return (b.sext(bytes_, vector(I32, self.vectors.bytes)),)

    def add(self, b: ir.IRBuilder, acc: Value, x: Operand, w: Operand) -> Value:
        products = b.mul(x[0], w[0])
        for k in range(4):
            part = shuffle(b, products, products, range(k, self.vectors.bytes, 4))
            acc = b.add(acc, part)
        return acc


def toy() -> Isa:
    """This processor as a machine of its own: stored bytes, a dot product, panels of 8 channels."""
    plain = portable(SMALL, x86.LAYOUT, x86.CLOCK)
    machine = replace(
        plain,
        storage=Storage.BIASED,
        dot=ToyDot(SMALL),
        products=EachStep(ToyDot(SMALL)),
        gemms=(VectorGemms(Packing(panel=8, group=4), widening_gemm_costs(SMALL)),),
    )
    return Isa("toy", native().platform, "", machine)


@pytest.mark.parametrize("form", [Form.NARROW, Form.WIDE], ids=lambda form: form.value)
@pytest.mark.parametrize("groups", [1, 21])
def test_a_machine_made_here_computes_convolutions(kit: Any, form: Form, groups: int) -> None:
    multiplier, shift = (900, 7) if form is Form.NARROW else (2**30 + 7, 43)
    tables = [np.full(42 // (2 if groups > 1 else 1), v, np.int32) for v in (9, multiplier, shift)]
    weight = np.maximum(kit.i8(len(tables[0]), 3, 3, 21 // groups), -127)
    op = partial(QConv2d, x_zero_point=-4, requantize=Requantize(form, -3), groups=groups)
    x = kit.i8(1, 6, 7, 21)
    kit.check(op, x, *map(kit.fixed, (weight, *tables)), zero_point=-4, isas=[toy()])


@pytest.mark.parametrize("depth", [4, 9, 32])
def test_a_machine_made_here_computes_dense_layers(kit: Any, depth: int) -> None:
    tables = [np.full(19, v, np.int32) for v in (9, 900, 7)]
    weight = np.maximum(kit.i8(19, depth), -127)
    op = partial(QDense, x_zero_point=7, requantize=Requantize(Form.NARROW, -3))
    x = kit.i8(3, depth)
    kit.check(op, x, *map(kit.fixed, (weight, *tables)), zero_point=7, isas=[toy()])


def imported(path: Path) -> set[str]:
    """The names that a module takes from others, with the modules that they are of."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {
        f"{node.module}.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_what_kernels_are_is_data_without_llvm() -> None:
    for path in sorted((CPU / "kernels").glob("*.py")):
        names = imported(path)
        assert not [n for n in names if n.startswith(NOT_DATA)], path


@pytest.mark.parametrize("room", ["emit", "kernels", "lower"])
def test_emitters_and_lowering_know_no_family(room: str) -> None:
    for path in sorted((CPU / room).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert not [name for name in imported(path) if name.startswith(FAMILIES)], path
        assert "llvm.x86" not in text, path
        assert "llvm.aarch64" not in text, path


def test_variants_of_one_library_agree_how_their_weights_lie() -> None:
    machines = [isa.machine for isa in X86_LADDER]
    assert len({machine.depthwise.layout for machine in machines}) == 1
    assert len({family.packing for machine in machines for family in machine.gemms}) == 1
    assert len({machine.blocks for machine in machines}) == 1
    arm = [isa.machine for isa in ARM_LADDER]
    assert len({family.packing for machine in arm for family in machine.gemms}) == 1


def test_a_machine_is_planned_for_by_its_own_costs() -> None:
    assert AVX2.machine.depthwise.tiles != AVX2.machine.depthwise.layout
    assert AARCH64_DOTPROD.machine.depthwise.layout.vectors == AARCH64_DOTPROD.machine.vectors


def test_instruction_sets_are_values() -> None:
    """Workers in other processes get copies."""
    for isa in (*X86_LADDER, AARCH64, AARCH64_DOTPROD, AARCH64_I8MM):
        assert pickle.loads(pickle.dumps(isa)) == isa
