"""All that qcomp uses of TVM, under names of its own: TVM renames much from version to version.

Nothing else imports it. These modules can be imported without TVM; what needs it asks
`qcomp.targets.tvm.packages` first.
"""

from __future__ import annotations

try:
    import tvm as _tvm  # noqa: F401
    import tvm_ffi as _tvm_ffi  # noqa: F401

    MISSING = None
except ImportError as error:
    MISSING = str(error)
