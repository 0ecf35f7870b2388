"""From object files to libraries: `.a` always, `.so` where a linker exists."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from qcomp.errors import TargetError
from qcomp.targets.base import Artifact
from qcomp.targets.cpu.library.archive import archive
from qcomp.targets.cpu.process.host import Host

# Compilers and linkers for a machine, in order of preference.
_NATIVE = ("cc", "gcc", "clang", "ld")
_CROSS = ("{machine}-linux-gnu-gcc", "{machine}-linux-gnu-ld", "ld.lld")


def static_library(artifact: Artifact) -> bytes:
    """Bytes of libNAME.a."""
    return archive(artifact.files)


def linker(triple: str, host: Host) -> list[str] | None:
    """The command that links a shared library for a machine, or None."""
    machine = triple.split("-")[0]
    if host.is_of(triple):
        names = ([os.environ["CC"]] if os.environ.get("CC", "").strip() else []) + list(_NATIVE)
    else:
        names = [n.format(machine=machine) for n in _CROSS]
    for name in names:
        program, *flags = shlex.split(name)
        if path := shutil.which(program):
            bare = Path(path).name.endswith(("ld", "ld.lld"))
            return [path, *flags, "-shared"] if bare else [path, *flags, "-shared", "-nostdlib"]
    return None


def shared_library(artifact: Artifact, directory: Path, host: Host) -> Path | None:
    """Link libNAME.so in `directory`; None where `host` has no linker for it."""
    command = linker(artifact.requires.triple, host)
    if command is None:
        return None
    library = directory / f"lib{artifact.name}.so"
    options = ["-soname", library.name, "-z", "noexecstack", "-z", "text"]
    if "-nostdlib" in command:  # a compiler, which hands them to its linker
        options = [f"-Wl,{','.join(options)}"]
    with tempfile.TemporaryDirectory(prefix="qcomp-") as folder:
        sources = [Path(folder) / name for name in artifact.files]
        for source, content in zip(sources, artifact.files.values(), strict=True):
            source.write_bytes(content)
        done = subprocess.run(
            [*command, *options, "-o", str(library), *map(str, sources)],
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
    if done.returncode != 0:
        raise TargetError(f"{command[0]} can't link {library.name}: {done.stderr.strip()}")
    return library
