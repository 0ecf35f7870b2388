"""What this machine is, which code it runs and emulates, and what it links with."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from qcomp.errors import TargetError
from qcomp.targets.cpu.library.link import linker
from qcomp.targets.cpu.platform import ObjectFormat
from qcomp.targets.cpu.process.emulator import tools_for
from qcomp.targets.cpu.process.host import NATIVE, native_of, this_host

_EMULATED = {
    "aarch64": "aarch64-unknown-linux-gnu",
    "armv7": "armv7-unknown-linux-gnueabihf",
    "riscv64": "riscv64-unknown-linux-gnu",
    "wasm32": "wasm32-unknown-unknown",
}


def report() -> Mapping[str, object]:
    """By plain names and values, as JSON has them."""
    host = this_host()
    native = None
    with suppress(TargetError):
        native = native_of(host, "").name
    triple = f"{host.family or host.processor}-unknown-linux-gnu"
    command = linker(triple, ObjectFormat.ELF, host)
    return {
        "system": host.system,
        "processor": host.processor,
        "native": native,
        "native_set_by": NATIVE,
        "instruction_sets": [isa.name for isa in host.runs()],
        "linker": None if command is None else " ".join(command),
        "emulated": _emulated(),
    }


def _emulated() -> dict[str, str]:
    """Targets of other machines whose code can be run here, with what runs it."""
    found = {}
    for name, triple in _EMULATED.items():
        with suppress(TargetError):
            found[name] = tools_for(triple).told
    return found
