"""Which packages are TVM, and what is said where they are missing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from qcomp.errors import TargetError

# tensorize of later versions of apache-tvm-ffi ends the process.
PACKAGES: Mapping[str, str] = {
    "apache-tvm": "0.27.0.post1",
    "apache-tvm-ffi": "0.1.14.post1",
}


def require(failure: str | None) -> None:
    """TargetError that says what to install, where TVM is missing or another one.

    failure: why it could not be imported.
    """
    found = {package: _version(package) for package in PACKAGES}
    if found == dict(PACKAGES) and failure is None:
        return
    wanted = " ".join(f"{package}=={number}" for package, number in PACKAGES.items())
    told = ", ".join(f"{package} {number or 'is missing'}" for package, number in found.items())
    raise TargetError(
        f"this target needs TVM: {told}{'' if failure is None else f' ({failure})'}; "
        f"expected: pip install 'qcomp[tvm]', which is {wanted}"
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
