"""Libraries for devices on this machine: whether it can run them, linking, loading."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qcomp.errors import TargetError
from qcomp.ir.graph import Graph
from qcomp.targets.base import (
    Artifact,
    Emulated,
    Linked,
    Profile,
    Requirements,
)
from qcomp.targets.cpu.library.archive import archive, members
from qcomp.targets.cpu.process.host import this_host
from qcomp.targets.identity import check_artifact
from qcomp.targets.layout import Layout
from qcomp.targets.tvm.drivers import DRIVERS
from qcomp.targets.tvm.emit.compiler import linked
from qcomp.targets.tvm.entry import DeviceEntry, opened


@dataclass(frozen=True)
class DeviceRuntime:
    """`driver` is a key of DRIVERS."""

    driver: str

    def lacking(self, requires: Requirements) -> str | None:
        """The kind of processor of the launcher, then the driver, then a device."""
        host = this_host()
        if not host.is_of(requires.triple):
            return f"code for {requires.triple} can't run on {host.processor}, {host.system}"
        return DRIVERS[self.driver]()

    def load(self, artifact: Artifact, graph: Graph, library: Path | None) -> DeviceEntry:
        if (lacking := self.lacking(artifact.requires)) is not None:
            raise TargetError(f"{artifact.name} can't run on this machine: {lacking}")
        arguments = len(graph.inputs) + len(graph.outputs) + 1
        if library is not None:
            entry = DeviceEntry(opened(library), artifact.name, arguments)
            entry.expect(artifact)
            return entry
        with tempfile.TemporaryDirectory(prefix="qcomp-") as folder:
            made = self.link(artifact, Path(folder)).shared
            assert made is not None
            return DeviceEntry(opened(Path(folder) / made), artifact.name, arguments)

    def profile(self, artifact: Artifact, graph: Graph) -> Profile:
        raise TargetError(
            f"{artifact.name} is for {artifact.target}; times by layers are the CPU's"
        )

    def layouts(self, artifact: Artifact, graph: Graph) -> Sequence[Layout]:
        """Not told by a device's library."""
        return ()

    def emulator(self, artifact: Artifact) -> Callable[[str], Emulated]:
        lacking = self.lacking(artifact.requires)
        raise TargetError(f"{artifact.name} can't run on this machine: {lacking}")

    def link(self, artifact: Artifact, directory: Path) -> Linked:
        """Both libraries."""
        static, shared = f"lib{artifact.name}.a", f"lib{artifact.name}.so"
        (directory / static).write_bytes(archive(artifact.files))
        linked(artifact.files, directory / shared, artifact.requires.libraries)
        return Linked(static, shared)

    def files(self, directory: Path, linked: Linked) -> Mapping[str, bytes]:
        return members((directory / linked.static).read_bytes())

    def check(self, artifact: Artifact, graph: Graph) -> None:
        check_artifact(artifact, graph)

    def thread_pool(self) -> Mapping[str, bytes]:
        """None: a device shares its work by itself."""
        return {}
