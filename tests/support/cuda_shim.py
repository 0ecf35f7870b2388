"""Builds a driver of CUDA that runs a network's kernels on this processor."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

_SHIM = Path(__file__).with_name("cuda_shim.cpp")
_KERNEL = re.compile(r"__global__ void (?:__launch_bounds__\(\d+\) )?(\w+)\(([^)]*)\)")


def shim(cxx: str, source: str, folder: Path) -> Path:
    """The library to name in QCOMP_CUDA, of the text of NAME.cu."""
    kernels = [(m[1], m[2].split(",")) for m in _KERNEL.finditer(source)]
    lines = [source, "struct shim_kernel { const char *name; void (*run)(void **); };"]
    lines.append("static const shim_kernel shim_kernels[] = {")
    for name, parameters in kernels:
        types = [p.strip().rpartition(" ")[0].replace("__restrict__", "") for p in parameters]
        values = ", ".join(f"*({type} *)a[{n}]" for n, type in enumerate(types))
        lines.append(f'  {{"{name}", [](void **a) {{ {name}({values}); }}}},')
    (folder / "shim_kernels.inc").write_text("\n".join([*lines, "};", ""]))
    made = folder / "libcuda_shim.so"
    command = [cxx, "-std=c++17", "-O1", "-w", "-fPIC", "-shared", f"-I{folder}", str(_SHIM)]
    subprocess.run([*command, "-o", str(made)], check=True)
    return made
