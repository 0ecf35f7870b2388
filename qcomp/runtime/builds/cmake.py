"""`find_package(NAME)`, where CMAKE_PREFIX_PATH or NAME_DIR is the directory."""

from __future__ import annotations

from qcomp.runtime.builds.package import Package
from qcomp.targets.base import ABI


def cmake_config(package: Package) -> str:
    """Targets NAME::NAME, the static library, and NAME::shared where there is one."""
    lines = [f"# {package.name}, made by qcomp: NAME::NAME is its static library."]
    lines += _target(package, f"{package.name}::{package.name}", "STATIC", package.static)
    if package.shared is not None:
        lines += _target(package, f"{package.name}::shared", "SHARED", package.shared)
    return "\n".join(lines) + "\n"


def _target(package: Package, target: str, kind: str, library: str) -> list[str]:
    properties = [
        f'IMPORTED_LOCATION "${{CMAKE_CURRENT_LIST_DIR}}/{library}"',
        'INTERFACE_INCLUDE_DIRECTORIES "${CMAKE_CURRENT_LIST_DIR}"',
    ]
    if library.endswith(".dll"):
        properties.append(f'IMPORTED_IMPLIB "${{CMAKE_CURRENT_LIST_DIR}}/{library}.lib"')
    if package.libraries:
        properties.append(f'INTERFACE_LINK_LIBRARIES "{";".join(package.libraries)}"')
    return [
        f"if(NOT TARGET {target})",
        f"  add_library({target} {kind} IMPORTED)",
        f"  set_target_properties({target} PROPERTIES",
        *(f"    {line}" for line in properties),
        "  )",
        "endif()",
    ]


def cmake_version() -> str:
    """The version is that of the interface; each version is another one."""
    return f"""\
set(PACKAGE_VERSION "{ABI}")
if(PACKAGE_FIND_VERSION_MAJOR STREQUAL "" OR PACKAGE_FIND_VERSION_MAJOR EQUAL {ABI})
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
if(PACKAGE_FIND_VERSION STREQUAL PACKAGE_VERSION)
  set(PACKAGE_VERSION_EXACT TRUE)
endif()
"""
