"""What the processor and the kernel offer, asked by generated code: cpuid, xgetbv, arch_prctl.

For x86-64; only the permission for tiles is Linux's. The instructions are bytes, `prologue data` of
functions, since LLVM can take inline assembly only for the family of the machine that it runs on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from qcomp.targets.cpu import llvm_ir as ir
from qcomp.targets.cpu.emit.builder import I32, I64, Value, i64
from qcomp.targets.cpu.emit.machine_code import machine_code
from qcomp.targets.cpu.machine import Isa
from qcomp.targets.cpu.platform import ObjectFormat
from qcomp.targets.cpu.x86.permission import (
    ARCH_REQ_XCOMP_PERM,
    SYS_ARCH_PRCTL,
    XFEATURE_XTILEDATA,
)

EAX, EBX, ECX, EDX = range(4)


@dataclass(frozen=True)
class Bit:
    """One bit of what cpuid(leaf, subleaf) returns in a register."""

    leaf: int
    subleaf: int
    register: int
    bit: int


_OSXSAVE = Bit(1, 0, ECX, 27)  # xgetbv is there
_AMX = ("amx-tile", "amx-int8")

# LLVM's names. Intel SDM, volume 2, CPUID.
CPUID = {
    "sse3": Bit(1, 0, ECX, 0),
    "ssse3": Bit(1, 0, ECX, 9),
    "sse4.1": Bit(1, 0, ECX, 19),
    "sse4.2": Bit(1, 0, ECX, 20),
    "popcnt": Bit(1, 0, ECX, 23),
    "avx": Bit(1, 0, ECX, 28),
    "avx2": Bit(7, 0, EBX, 5),
    "avx512f": Bit(7, 0, EBX, 16),
    "avx512dq": Bit(7, 0, EBX, 17),
    "avx512bw": Bit(7, 0, EBX, 30),
    "avx512vl": Bit(7, 0, EBX, 31),
    "avx512vbmi": Bit(7, 0, ECX, 1),
    "avx512vnni": Bit(7, 0, ECX, 11),
    "amx-tile": Bit(7, 0, EDX, 24),
    "amx-int8": Bit(7, 0, EDX, 25),
    "avxvnni": Bit(7, 1, EAX, 4),
}


def state_bits(feature: str) -> int:
    """The state that the kernel must save for a feature: bits of XCR0 (SDM, volume 1, 13.3)."""
    if feature in _AMX:
        return 0b11 << 17  # the tile configuration and the tiles
    if feature.startswith("avx512"):
        return 0b1110_0110  # SSE, AVX, mask registers, high halves, registers 16-31
    return 0b110 if feature.startswith("avx") else 0


@dataclass
class _Processor:
    """Asks cpuid once for each leaf."""

    b: ir.IRBuilder
    _leaves: dict[tuple[int, int], Value] = field(default_factory=dict)

    def has(self, bit: Bit) -> Value:
        """i1; a leaf that the processor lacks is all zeros, not what it returns for it."""
        b = self.b
        word = self._register(bit.leaf, bit.subleaf, bit.register)
        is_set = b.trunc(b.lshr(word, ir.Constant(I32, bit.bit)), ir.IntType(1))
        return b.and_(is_set, self._exists(bit.leaf, bit.subleaf))

    def _exists(self, leaf: int, subleaf: int) -> Value:
        """The highest leaf is told by leaf 0, the highest subleaf by subleaf 0."""
        asked, wanted = ((leaf, 0), subleaf) if subleaf else ((0, 0), leaf)
        highest = self._register(*asked, EAX)
        exists = self.b.icmp_unsigned(">=", highest, ir.Constant(I32, wanted))
        return self.b.and_(exists, self._exists(leaf, 0)) if subleaf else exists

    def _register(self, leaf: int, subleaf: int, register: int) -> Value:
        if (leaf, subleaf) not in self._leaves:
            self._leaves[leaf, subleaf] = _cpuid(self.b, leaf, subleaf)
        pair = self.b.extract_value(self._leaves[leaf, subleaf], register // 2)
        return self.b.trunc(self.b.lshr(pair, i64(register % 2 * 32)), I32)


def emit_supports(b: ir.IRBuilder, isa: Isa) -> Value:
    """i1: whether this machine runs code for an x86 instruction set.

    The processor must have every feature and the kernel save its registers; tiles are asked for.
    """
    supported = emit_has(b, isa.required)
    if isa.machine.needs_permission:
        return _only_if(b, supported, lambda: _ask_for_tiles(b))
    return supported


def emit_amx_permitted(b: ir.IRBuilder) -> Value:
    """i1: whether this process may use the tile registers; asks the kernel where there are any.

    The permission is the process's, threads and children included, and lasts; asking again is
    harmless. Linux answers with an error where it does not know of it (before 5.16) or refuses.
    """
    return _only_if(b, emit_has(b, _AMX), lambda: _ask_for_tiles(b))


def emit_has(b: ir.IRBuilder, features: Iterable[str]) -> Value:
    """i1: whether the processor has these features and the kernel saves their registers.

    xgetbv is a fault where the kernel does not allow it, so it is asked in a block of its own.
    """
    processor, states = _Processor(b), 0
    able: Value = ir.Constant(ir.IntType(1), 1)
    for feature in features:
        able = b.and_(able, processor.has(CPUID[feature]))
        states |= state_bits(feature)
    if not states:
        return able
    saved = lambda: b.icmp_unsigned("==", b.and_(_xcr0(b), i64(states)), i64(states))  # noqa: E731
    return _only_if(b, b.and_(able, processor.has(_OSXSAVE)), saved)


def _only_if(b: ir.IRBuilder, condition: Value, question: Callable[[], Value]) -> Value:
    """condition && question(), which is not asked otherwise."""
    before = b.block
    with b.if_then(condition):
        answer = question()
        asked = b.block
    result = b.phi(ir.IntType(1))
    result.add_incoming(ir.Constant(ir.IntType(1), 0), before)
    result.add_incoming(answer, asked)
    return result


# cpuid(leaf, subleaf) -> {eax | ebx << 32, ecx | edx << 32}
_MOVES = {
    "System V": "89f8 89f1",  # mov %edi, %eax; mov %esi, %ecx
    "Windows": "89c8 89d1",  # mov %ecx, %eax; mov %edx, %ecx
}
_CPUID = {
    abi: bytes.fromhex(
        "53"  # push %rbx
        f"{moves}"
        "0fa2"  # cpuid: clears the upper halves too
        "48c1e320 4809d8"  # shl $32, %rbx; or %rbx, %rax
        "48c1e220 4809ca"  # shl $32, %rdx; or %rcx, %rdx
        "5b c3"  # pop %rbx; ret
    )
    for abi, moves in _MOVES.items()
}
# xgetbv() -> XCR0
_XGETBV = bytes.fromhex(
    "31c9 0f01d0"  # xor %ecx, %ecx; xgetbv
    "48c1e220 4809d0"  # shl $32, %rdx; or %rdx, %rax
    "c3"  # ret
)
# syscall(number, first, second)
SYSCALL = bytes.fromhex(
    "4889f8 4889f7 4889d6"  # mov %rdi, %rax; mov %rsi, %rdi; mov %rdx, %rsi
    "0f05 c3"  # syscall; ret
)


def _cpuid(b: ir.IRBuilder, leaf: int, subleaf: int) -> Value:
    """{eax | ebx << 32, ecx | edx << 32}."""
    type = ir.StructType(I64, I64)
    arguments = [ir.Constant(I32, leaf), ir.Constant(I32, subleaf)]
    abi = "Windows" if b.module.format is ObjectFormat.COFF else "System V"
    return machine_code(b, "cpuid", _CPUID[abi], type, arguments)


def _xcr0(b: ir.IRBuilder) -> Value:
    """The states that the kernel saves, i64."""
    return machine_code(b, "xgetbv", _XGETBV, I64, ())


def _ask_for_tiles(b: ir.IRBuilder) -> Value:
    """arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0."""
    numbers = [i64(n) for n in (SYS_ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)]
    return b.icmp_signed("==", machine_code(b, "syscall", SYSCALL, I64, numbers), i64(0))
