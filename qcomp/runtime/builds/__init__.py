"""Files by which builds find a compiled network: CMake, pkg-config, C, Python, Rust."""

from qcomp.runtime.builds.files import BINDINGS, build_files, expect_bindings

__all__ = ["BINDINGS", "build_files", "expect_bindings"]
