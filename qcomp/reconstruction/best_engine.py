"""The choice of the engine."""

from __future__ import annotations

from qcomp.reconstruction.engine import Engine, NumpyEngine


def best_engine() -> Engine:
    """Torch where it is installed, on its accelerator where there is one; else numpy."""
    try:
        from qcomp.reconstruction.torch_engine import TorchEngine
    except ImportError:
        return NumpyEngine()
    return TorchEngine()
