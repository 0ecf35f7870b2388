"""Modules of PyTorch are compiled as they are; files of torch are not opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import qcomp
from qcomp.errors import ModelError

torch: Any = pytest.importorskip("torch", reason="pip install 'qcomp[torch]'")
pytest.importorskip("onnxscript", reason="pip install 'qcomp[torch]'")
nn: Any = getattr(torch, "nn", None)
pytestmark = pytest.mark.filterwarnings("ignore")


class SqueezeExcite(nn.Module):  # type: ignore[misc]
    """A block of MobileNetV3."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(4, 16, 1), nn.BatchNorm2d(16), nn.Hardswish())
        self.depthwise = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.Hardswish()
        )
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1),
            nn.Hardsigmoid(),
        )  # fmt: skip
        self.project = nn.Conv2d(16, 4, 1)

    def forward(self, x: Any) -> Any:
        y = self.depthwise(self.expand(x))
        return x + self.project(y * self.gate(y))


class UNet(nn.Module):  # type: ignore[misc]
    """A transposed convolution and a bilinear resize on the way up."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU())
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.last = nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, x: Any) -> Any:
        a = self.down(x)
        b = torch.relu(self.up(self.deep(a)))
        y = self.last(torch.cat([a, b], 1))
        return nn.functional.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)


class Audio(nn.Module):  # type: ignore[misc]
    """Convolutions over time."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(4, 12, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv1d(12, 12, 3, dilation=2, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1),
            nn.Flatten(), nn.Linear(12, 5),
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        return self.layers(x)


class Dense(nn.Module):  # type: ignore[misc]
    """A block of DenseNet."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(4 + 4 * i, 4, 3, padding=1) for i in range(3))

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = torch.cat([x, torch.relu(layer(x))], 1)
        return x


MODULES = {
    "squeeze and excite": (SqueezeExcite, (1, 4, 8, 8)),
    "UNet": (UNet, (1, 4, 8, 8)),
    "audio": (Audio, (1, 4, 32)),
    "dense block": (Dense, (1, 4, 6, 6)),
}


def samples(shape: tuple[int, ...], count: int = 8) -> list[Any]:
    rng = np.random.default_rng(1)
    return [rng.normal(size=shape).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_compiled(name: str) -> None:
    kind, shape = MODULES[name]
    torch.manual_seed(0)
    module, data = kind(), samples(shape)
    module.train()
    config = qcomp.QuantizationConfig(activation_bits=16, recipe="fast")
    net = qcomp.compile(module, calibration=data, config=config)
    assert module.training
    module.eval()
    for x in data:
        got, exact = np.asarray(net(x)), module(torch.as_tensor(x)).detach().numpy()
        assert_array_equal(got, np.asarray(net.specification(x)))
        noise = np.square(got - exact).sum() / np.square(exact).sum()
        assert 10 * np.log10(noise) < -40


def test_an_exported_program_has_its_own_inputs() -> None:
    module, (x, *_) = Dense().eval(), samples((1, 4, 6, 6))
    program = torch.export.export(module, (torch.as_tensor(x),))
    net = qcomp.compile(program, calibration=[x])
    assert np.asarray(net(x)).shape == (1, 16, 6, 6)


def test_a_module_without_shapes_is_an_error() -> None:
    with pytest.raises(ModelError, match="needs example_inputs, a tuple with an array for each"):
        qcomp.compile(Dense(), calibration=iter(samples((1, 4, 6, 6))))


def test_what_torch_can_not_export_is_an_error_in_one_line() -> None:
    with pytest.raises(ModelError, match=r"torch\.onnx\.export can't export the module: .+"):
        qcomp.compile(Dense(), example_inputs=(np.zeros((1, 3, 6, 6), np.float32),))


def test_files_of_torch_are_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(Dense().state_dict(), path)
    with pytest.raises(
        ModelError, match=r"zip archive, as torch\.save writes; accepted: the module"
    ):
        qcomp.compile(path)
