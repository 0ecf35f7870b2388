"""TFLite's files are written, and run, by a package that only these tests need."""

import pytest

pytest.importorskip("ai_edge_litert", reason="pip install ai-edge-litert")
