"""The kernels of a program in the language of a device."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources

from qcomp.targets.tvm.api.code import Code, device_code
from qcomp.targets.tvm.emit.compiler import cuda_image, nvcc
from qcomp.targets.tvm.emit.device import text_in_c
from qcomp.targets.tvm.emit.pieces import words_in_c
from qcomp.targets.tvm.machine import Machine
from qcomp.targets.tvm.program import Program

_LOG = logging.getLogger(__name__)


def source_of(file: str) -> str:
    """A file of qcomp/targets/tvm/c."""
    return (resources.files("qcomp.targets.tvm") / "c" / file).read_text("utf-8")


def functions(i64: str, storage: str) -> str:
    """What kernels call, in a language's own words for an integer of 64 bits and a function."""
    return f"#define FUNCTION {storage}\ntypedef {i64} qcomp_i64;\n{source_of('functions.h')}"


@dataclass(frozen=True)
class Language:
    """driver: what a machine must have, by the name of `drivers`. file: the launcher's functions of
    the device. suffix: of the source's file. prelude: what the kernels call. embedded: C that
    defines what the launcher hands to the driver, of the source.
    """

    driver: str
    file: str
    suffix: str
    prelude: str
    machine: Machine
    embedded: Callable[[str], str]


@dataclass(frozen=True)
class DeviceSource:
    """`files` by name, for readers; `in_launcher` is C."""

    code: Code
    files: Mapping[str, str]
    in_launcher: str

    @staticmethod
    def of(program: Program, language: Language, name: str) -> DeviceSource:
        schedules = {kernel.name: kernel.schedule for kernel in program.kernels}
        code = device_code(schedules, language.machine.kind, language.machine.options)
        text = f"{language.prelude}\n{code.text}"
        return DeviceSource(code, {f"{name}.{language.suffix}": text}, language.embedded(text))


def image_of(architectures: tuple[str, ...]) -> Callable[[str], str]:
    """C of what nvcc makes of the source, for these architectures; of the source itself without
    nvcc, which NVRTC compiles for its device when the library is opened.
    """

    def embedded(text: str) -> str:
        if nvcc() is None:
            _LOG.warning("no nvcc in PATH: NVRTC has to compile the kernels where they run")
            return f"#define KERNELS_AS_SOURCE\n{source_text(text)}"
        return "\n".join(words_in_c("kernel_image", cuda_image(text, architectures), "static "))

    return embedded


def source_text(text: str) -> str:
    """The source itself, which the driver builds."""
    return text_in_c("kernel_source", text)
