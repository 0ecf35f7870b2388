"""The C compiler of this machine: what it makes of generated C, and of objects."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from qcomp.errors import TargetError
from qcomp.targets.cpu.library.link import versioned, write_versioned

_NAMES = ("cc", "gcc", "clang")
_FLAGS = ("-std=c99", "-O2", "-fPIC", "-w", "-c")


def compiler() -> list[str]:
    """The command, CC first; TargetError without one."""
    asked = os.environ.get("CC", "").strip()
    for name in ([asked] if asked else []) + list(_NAMES):
        program, *flags = shlex.split(name)
        if path := shutil.which(program):
            return [path, *flags]
    raise TargetError(f"this target needs a C compiler; expected CC, or one of {', '.join(_NAMES)}")


def compiled(sources: Mapping[str, str], main: str, flags: Sequence[str] = ()) -> bytes:
    """The object of the source `main`, which may include the others."""
    with tempfile.TemporaryDirectory(prefix="qcomp-") as folder:
        for name, text in sources.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        made = Path(folder) / "made.o"
        run_tool([*compiler(), *_FLAGS, *flags, main, "-o", str(made)], Path(folder))
        return made.read_bytes()


def linked(objects: Mapping[str, bytes], library: Path, libraries: Sequence[str]) -> None:
    """A shared library of objects by file name."""
    with tempfile.TemporaryDirectory(prefix="qcomp-") as folder:
        for name, content in objects.items():
            (Path(folder) / name).write_bytes(content)
        options = [
            f"-Wl,-soname,{versioned(library.name)},-z,noexecstack",
            "-o",
            str(library.absolute()),
        ]
        needed = [f"-l{name}" for name in libraries]
        run_tool([*compiler(), "-shared", *options, *objects, *needed], Path(folder))
    write_versioned(library)


def nvcc() -> str | None:
    """CUDA's compiler, of version 12 or 13."""
    return shutil.which("nvcc")


def cuda_image(source: str, architectures: Sequence[str]) -> bytes:
    """A cubin of CUDA's C++, or a fatbin of several; needs nvcc."""
    program = nvcc()
    assert program is not None
    if len(architectures) == 1:
        what = ["-cubin", f"-arch={architectures[0]}"]
    else:
        codes = (f"-gencode=arch=compute_{a[3:]},code={a}" for a in architectures)
        what = ["-fatbin", *codes]
    with tempfile.TemporaryDirectory(prefix="qcomp-") as folder:
        (Path(folder) / "kernels.cu").write_text(source, encoding="utf-8")
        command = [program, "-O3", "-w", *what, "kernels.cu", "-o", "kernels.image"]
        run_tool(command, Path(folder))
        return (Path(folder) / "kernels.image").read_bytes()


def run_tool(command: Sequence[str], folder: Path) -> None:
    """TargetError with what the tool says where it fails."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip()[:4000]
        raise TargetError(f"{Path(command[0]).name} fails: {reason}")
