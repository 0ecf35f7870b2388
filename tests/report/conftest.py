"""Small networks, compiled once."""

from __future__ import annotations

import pytest
from compiled_once import CompiledOnce


@pytest.fixture(scope="session")
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> CompiledOnce:
    return CompiledOnce(tmp_path_factory)
