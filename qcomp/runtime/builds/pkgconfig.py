"""`pkg-config NAME`, where PKG_CONFIG_PATH is the directory, which may be moved."""

from __future__ import annotations

from qcomp.runtime.builds.package import Package
from qcomp.targets.base import ABI


def pkg_config(package: Package) -> str:
    """The static library by its file, so that programs need nothing when they run."""
    return f"""\
Name: {package.name}
Description: An integer network, compiled by qcomp
Version: {ABI}
Cflags: -I${{pcfiledir}}
Libs: ${{pcfiledir}}/{package.static}{package.link_flags}
"""
