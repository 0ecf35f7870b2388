"""From object files to libraries: a static one always, a shared one where a linker exists."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from qcomp.errors import TargetError
from qcomp.targets.base import ABI, Artifact
from qcomp.targets.cpu.library.archive import archive
from qcomp.targets.cpu.library.objects import defined_symbols, format_of
from qcomp.targets.cpu.library.taps import RUN_TAPPED, TENSORS
from qcomp.targets.cpu.platform import ObjectFormat
from qcomp.targets.cpu.process.host import Host
from qcomp.targets.cpu.process.zig import zig

# Compilers and linkers of ELF for a machine, in order of preference; pip's ziglang comes last.
_NATIVE = ("cc", "gcc", "clang", "ld")
_CROSS = ("{gnu}-gcc", "{gnu}-ld", "ld.lld")
# Linkers of the other formats, which zig has under the same names.
_LINKERS = {ObjectFormat.COFF: "lld-link", ObjectFormat.WASM: "wasm-ld"}
_APPLE = {
    "arm64-apple-macosx11.0.0": "aarch64-macos.11.0",
    "arm64-apple-ios13.0.0": "aarch64-ios.13.0",
    "x86_64-apple-macosx11.0.0": "x86_64-macos.11.0",
}
_COFF_MACHINES = {"x86_64": "x64", "aarch64": "arm64"}
_FUNCTIONS = ("run", RUN_TAPPED, "init", "set_parallel_for", "set_isa", "abi", "sizes")
_ARRAYS = ("inputs", "outputs", TENSORS)


def static_library(artifact: Artifact) -> bytes:
    """Bytes of the static library."""
    return archive(artifact.files)


def format_of_files(artifact: Artifact) -> ObjectFormat:
    return format_of(next(iter(artifact.files.values())))


def static_name(format: ObjectFormat, name: str) -> str:
    return f"{name}.lib" if format is ObjectFormat.COFF else f"lib{name}.a"


def shared_name(format: ObjectFormat, name: str) -> str:
    match format:
        case ObjectFormat.ELF:
            return f"lib{name}.so"
        case ObjectFormat.MACH_O:
            return f"lib{name}.dylib"
        case ObjectFormat.COFF:
            return f"{name}.dll"
        case ObjectFormat.WASM:
            return f"{name}.wasm"


def versioned(library: str) -> str:
    """How programs that are linked with a shared library of ELF ask for it."""
    return f"{library}.{ABI}"


def write_versioned(library: Path) -> None:
    """The name that programs ask for, beside the library: a link, or else a copy."""
    other = library.with_name(versioned(library.name))
    try:
        other.symlink_to(library.name)
    except (OSError, NotImplementedError):  # Windows, for users without the right
        shutil.copyfile(library, other)


def gnu_prefix(triple: str) -> str:
    """How Debian's cross compilers and binutils for a machine begin."""
    machine = triple.split("-")[0]
    return "arm-linux-gnueabihf" if machine == "armv7" else f"{machine}-linux-gnu"


def linker(triple: str, format: ObjectFormat, host: Host) -> list[str] | None:
    """The command that links a shared library for a machine, or None."""
    if format is ObjectFormat.MACH_O:
        return zig("cc", "-target", _APPLE[triple], "-dynamiclib", "-nostdlib")
    if format is not ObjectFormat.ELF:
        path = shutil.which(_LINKERS[format])
        return [path] if path else zig(_LINKERS[format])
    if host.is_of(triple):
        names = ([os.environ["CC"]] if os.environ.get("CC", "").strip() else []) + list(_NATIVE)
    else:
        names = [n.format(gnu=gnu_prefix(triple)) for n in _CROSS]
    for name in names:
        program, *flags = shlex.split(name)
        if path := shutil.which(program):
            bare = Path(path).name.endswith(("ld", "ld.lld"))
            return [path, *flags, "-shared"] if bare else [path, *flags, "-shared", "-nostdlib"]
    return zig("ld.lld", "-shared")


def shared_library(artifact: Artifact, directory: Path, host: Host) -> Path | None:
    """Link the shared library in `directory`; None where `host` has no linker for it.

    For Windows there is an import library NAME.dll.lib beside it.
    """
    format = format_of_files(artifact)
    command = linker(artifact.requires.triple, format, host)
    if command is None:
        return None
    library = directory / shared_name(format, artifact.name)
    options = _OPTIONS[format](artifact, library, command)
    with tempfile.TemporaryDirectory(prefix="qcomp-") as folder:
        sources = [Path(folder) / name for name in artifact.files]
        for source, content in zip(sources, artifact.files.values(), strict=True):
            source.write_bytes(content)
        done = subprocess.run(
            [*command, *options, *map(str, sources)],
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip()
        raise TargetError(f"{command[0]} can't link {library.name}: {reason}")
    if format is ObjectFormat.ELF:
        write_versioned(library)
    return library


def _elf(artifact: Artifact, library: Path, command: Sequence[str]) -> list[str]:
    options = ["-soname", versioned(library.name), "-z", "noexecstack", "-z", "text"]
    if "-nostdlib" in command:  # a compiler, which hands them to its linker
        options = [f"-Wl,{','.join(options)}"]
    return [*options, "-o", str(library)]


def _mach_o(artifact: Artifact, library: Path, command: Sequence[str]) -> list[str]:
    return ["-install_name", f"@rpath/{library.name}", "-o", str(library)]


def _coff(artifact: Artifact, library: Path, command: Sequence[str]) -> list[str]:
    functions, arrays = _public(artifact)
    machine = _COFF_MACHINES[artifact.requires.triple.split("-")[0]]
    exports = [*functions, *(f"{array},DATA" for array in arrays)]
    return [
        "/dll", "/noentry", f"/machine:{machine}", f"/out:{library}",
        f"/implib:{library}.lib", *(f"/export:{export}" for export in exports),
    ]  # fmt: skip


def _wasm(artifact: Artifact, library: Path, command: Sequence[str]) -> list[str]:
    """A module for hosts that place arrays behind __heap_base."""
    functions, arrays = _public(artifact)
    exports = ["--export-table", *(f"--export={s}" for s in (*functions, *arrays, "__heap_base"))]
    return ["--no-entry", *exports, "-o", str(library)]


_OPTIONS: Mapping[ObjectFormat, Callable[[Artifact, Path, Sequence[str]], list[str]]] = {
    ObjectFormat.ELF: _elf,
    ObjectFormat.MACH_O: _mach_o,
    ObjectFormat.COFF: _coff,
    ObjectFormat.WASM: _wasm,
}


def _public(artifact: Artifact) -> tuple[list[str], list[str]]:
    """The functions and arrays that the header declares."""
    defined = {s for content in artifact.files.values() for s in defined_symbols(content)}
    runs = tuple(f"run_{length}" for length in artifact.lengths[1:])
    functions, arrays = (
        [s for s in (f"{artifact.name}_{part}" for part in parts) if s in defined]
        for parts in (_FUNCTIONS + runs, _ARRAYS)
    )
    return functions, arrays
