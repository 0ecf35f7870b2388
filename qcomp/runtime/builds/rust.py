"""A crate NAME-sys whose folder is the directory itself: what the header declares."""

from __future__ import annotations

from qcomp.runtime.builds.package import Package
from qcomp.targets.base import ABI

_TYPES = {"int8": "i8", "int16": "i16", "int32": "i32"}


def rust_crate(package: Package) -> dict[str, str]:
    """Cargo.toml, build.rs and lib.rs; no dependencies, no_std."""
    return {
        "Cargo.toml": _manifest(package),
        "build.rs": _build(package),
        "lib.rs": _library(package),
    }


def _manifest(package: Package) -> str:
    return f"""\
[package]
name = "{package.name}-sys"
version = "{ABI}.0.0"
edition = "2021"
links = "{package.name}"
build = "build.rs"

[lib]
name = "{package.name}_sys"
path = "lib.rs"
"""


def _build(package: Package) -> str:
    needed = "".join(
        f'    println!("cargo:rustc-link-lib={library}");\n' for library in package.libraries
    )
    return f"""\
fn main() {{
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    println!("cargo:rustc-link-search=native={{folder}}");
    println!("cargo:rustc-link-lib=static={package.name}");
{needed}    println!("cargo:rerun-if-changed={package.static}");
}}
"""


def _library(package: Package) -> str:
    arguments = [
        f"input{i}: *const {_TYPES[info.dtype]}" for i, info in enumerate(package.inputs)
    ] + [f"output{i}: *mut {_TYPES[info.dtype]}" for i, info in enumerate(package.outputs)]
    functions = [f"pub fn {package.name}_run({', '.join(arguments)}, arena: *mut c_void) -> c_int;"]
    if package.opens:
        functions += [
            f"pub fn {package.name}_open(arena: *mut c_void, device: *const c_char) -> c_int;",
            f"pub fn {package.name}_close(arena: *mut c_void);",
        ]
    functions += [
        f"pub fn {package.name}_set_parallel_for("
        "function: Option<ParallelFor>, user: *mut c_void);",
        f"pub fn {package.name}_init() -> c_int;",
        f"pub fn {package.name}_abi() -> c_int;",
        f"pub fn {package.name}_sizes() -> *const Sizes;",
    ]
    declared = "\n".join(f"    {function}" for function in functions)
    constants = "\n".join(_constants(package))
    return f"""\
//! {package.name}, made by qcomp: the functions of {package.name}.h, which says what they promise.
#![no_std]
#![allow(non_upper_case_globals)]

use core::ffi::{{{"c_char, " if package.opens else ""}c_int, c_void}};

pub const OK: c_int = 0;
pub const BAD_ARENA: c_int = 1;
pub const BAD_CPU: c_int = 2;
pub const BAD_INPUT: c_int = 11;

/// real = scale * (q - zero_point), where the header's helpers do no more.
{constants}

pub type Task = unsafe extern "C" fn(context: *mut c_void, begin: i32, end: i32);
pub type ParallelFor =
    unsafe extern "C" fn(user: *mut c_void, task: Task, context: *mut c_void, count: i32);

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Sizes {{
    pub arena_bytes: u64,
    pub arena_align: u64,
    pub weights_bytes: u64,
    pub model: u64,
    pub inputs: i32,
    pub outputs: i32,
}}

extern "C" {{
{declared}
}}
"""


def _constants(package: Package) -> list[str]:
    memory = package.memory
    lines = [
        f"pub const ARENA_BYTES: usize = {memory.arena};",
        f"pub const ARENA_ALIGN: usize = {memory.align};",
    ]
    for kind, tensors in (("INPUT", package.inputs), ("OUTPUT", package.outputs)):
        for i, info in enumerate(tensors):
            shape = ", ".join(map(str, info.shape))
            lines += [
                f"pub const {kind}{i}_SIZE: usize = {info.size};",
                f"pub const {kind}{i}_SHAPE: [usize; {len(info.shape)}] = [{shape}];",
                f"pub const {kind}{i}_SCALE: f32 = {info.scale!r};",
                f"pub const {kind}{i}_ZERO_POINT: i32 = {info.zero_point};",
            ]
    return lines
