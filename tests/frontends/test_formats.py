"""An importer is chosen by the mark of the file, and the route begins at the form that it gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import qcomp
from qcomp import frontends
from qcomp.errors import ModelError
from qcomp.frontends import FORMATS, Format, format_of, import_model, inspect_model
from qcomp.frontends.inspect import inspection_of
from qcomp.frontends.model import ImportedModel, Importer, Inspector
from qcomp.ir.form import Form
from qcomp.ir.parse import parse

MARK = b"TOY3"
TEXT = """graph @toy(%x: i8[1,4] qparams=(0.5, 0, -128, 127)) {
  %y = q_maximum(%x, %x) {qmin=0, qmax=127} : i8[1,4] qparams=(0.5, 0, -128, 127)
  return y=%y
}"""
FILE = b"\0\0\0\0" + MARK + TEXT.encode()


def import_toy(
    model: Any, *, bind: Mapping[str, int] | None, bind_values: Mapping[str, Any] | None
) -> ImportedModel:
    """The text of an integer graph behind the mark."""
    content = model if isinstance(model, bytes) else Path(model).read_bytes()
    return ImportedModel(parse(content[8:].decode()), Form.INTEGER, ("a toy",))


def toy() -> Importer:
    return import_toy


def toy_inspector() -> Inspector:
    return lambda model, bind, bind_values: inspection_of(
        import_toy(model, bind=bind, bind_values=bind_values).graph, "toy 3", ["MAX"], (), ()
    )


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Format:
    """A format whose mark stands behind four bytes, as TensorFlow Lite's does."""
    known = Format(MARK, 4, toy, toy_inspector)
    monkeypatch.setattr(frontends, "FORMATS", {"toy": known, **FORMATS})
    return known


def test_an_integer_model_of_another_format_is_compiled_as_it_is(
    listed: Format, tmp_path: Path
) -> None:
    path = tmp_path / "net.toy"
    path.write_bytes(FILE)
    net = qcomp.compile(path)
    assert "a toy" in net.notes
    assert (net.name, [op.mnemonic for op in net.graph.ops()]) == ("net", ["q_maximum"])
    x = np.array([[-1.0, 0.5, 3.0, -64.0]], np.float32)
    assert_array_equal(net(x), np.maximum(x, 0))


def test_the_mark_decides_and_not_the_name(listed: Format, tmp_path: Path) -> None:
    cases = {
        "marked.onnx": (FILE, listed),
        "cut.toy": (FILE[:7], FORMATS["ONNX"]),
        "elsewhere.toy": (MARK + FILE, FORMATS["ONNX"]),
        "empty": (b"", FORMATS["ONNX"]),
    }
    for name, (content, expected) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert format_of(path) is expected, name
        assert format_of(str(path)) is expected, name
        assert format_of(content) is expected, name
    assert import_model(FILE).form is Form.INTEGER


@pytest.mark.parametrize("name", ["missing", ".", "a\0b"])
def test_what_can_not_be_read_is_a_matter_of_its_importer(name: str, tmp_path: Path) -> None:
    path = str(tmp_path / name)
    assert format_of(path) is FORMATS["ONNX"]
    with pytest.raises((ModelError, ValueError)):
        import_model(path)


def test_an_object_that_is_no_file_is_the_importers_of_onnx() -> None:
    assert format_of(object()) is FORMATS["ONNX"]


def test_each_format_describes_its_models(listed: Format) -> None:
    inspection = inspect_model(FILE)
    assert (inspection.version, dict(inspection.operators)) == ("toy 3", {"MAX": 1})
    assert [layer.mnemonic for layer in inspection.layers] == ["q_maximum"]
