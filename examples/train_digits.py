"""Train the digits network that the demo and the tests use, and export it to ONNX.

Needs the extra `train`: pip install -e '.[train]'. Writes, beside this file,

    digits.onnx              the trained network, opset 17, BatchNormalization kept apart
    digits_calibration.npz   image: calibration images, a part of the training images
    digits_test.npz          images, labels: the test images and what they show

The network has what real ones have: convolutions with batch normalisation and ReLU6, a depthwise
separable block inside a residual addition, a global average pool and a fully connected layer. The
ONNX file is written node by node, so that no exporter's version decides how it looks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

HERE = Path(__file__).resolve().parent
SEED = 7
EPOCHS = 160
BATCH = 64
CALIBRATION_IMAGES = 100

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalisation and, where asked, ReLU6."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, act: bool
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(outputs)
        self.act = act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm(self.conv(x))
        return y.clamp(0, 6) if self.act else y


class DigitsNet(nn.Module):
    """1x8x8 images to ten logits; an inverted residual block in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(1, 16, 3, act=True)
        self.expand = ConvNorm(16, 48, 1, act=True)
        self.depthwise = ConvNorm(48, 48, 3, groups=48, act=True)
        self.project = ConvNorm(48, 16, 1, act=False)
        self.down = ConvNorm(16, 40, 3, stride=2, act=True)
        self.head = nn.Linear(40, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.project(self.depthwise(self.expand(x)))
        x = self.down(x)
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


def data() -> tuple[Images, Labels, Images, Labels]:
    """Training and test images, f32 [N,1,8,8] in [0, 1], and their labels; six to four."""
    digits = load_digits()
    images = (digits.images.astype(np.float32) / 16.0)[:, None]
    labels = digits.target.astype(np.int64)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=0.4, random_state=SEED, stratify=labels
    )
    return train_x, train_y, test_x, test_y


def shifted(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The batch moved by up to one pixel in each direction, the only augmentation."""
    dy, dx = torch.randint(-1, 2, (2,), generator=generator).tolist()
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    return padded[:, :, 1 + dy : 9 + dy, 1 + dx : 9 + dx]


def train(images: Images, labels: Labels) -> DigitsNet:
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    generator = torch.Generator().manual_seed(SEED)
    net = DigitsNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    for epoch in range(EPOCHS):
        for batch in torch.randperm(len(x), generator=generator).split(BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(shifted(x[batch], generator)), y[batch])
            loss.backward()
            optimizer.step()
        schedule.step()
        if epoch % 20 == 19:
            print(f"epoch {epoch + 1}: loss {loss.item():.4f}")
    return net.eval()


class Exporter:
    """Collects the nodes and constants of an ONNX graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: torch.Tensor | NDArray[np.float32]) -> str:
        array = value.detach().numpy() if isinstance(value, torch.Tensor) else value
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op_type: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [output], output, **attributes))
        return output

    def conv_norm(self, name: str, x: str, layer: ConvNorm) -> str:
        conv, norm = layer.conv, layer.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        (kernel, _), (stride, _) = conv.kernel_size, conv.stride
        y = self.node(
            "Conv",
            [x, self.constant(f"{name}.weight", conv.weight)],
            f"{name}.conv",
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
            group=conv.groups,
        )
        parameters = {
            "gamma": norm.weight,
            "beta": norm.bias,
            "mean": norm.running_mean,
            "var": norm.running_var,
        }
        names = [self.constant(f"{name}.{k}", v) for k, v in parameters.items()]
        y = self.node("BatchNormalization", [y, *names], f"{name}.norm", epsilon=norm.eps)
        return self.node("Clip", [y, "zero", "six"], f"{name}.relu6") if layer.act else y


def export(net: DigitsNet) -> onnx.ModelProto:
    e = Exporter()
    e.constant("zero", np.float32(0).reshape(()))
    e.constant("six", np.float32(6).reshape(()))
    stem = e.conv_norm("stem", "image", net.stem)
    block = e.conv_norm("expand", stem, net.expand)
    block = e.conv_norm("depthwise", block, net.depthwise)
    block = e.conv_norm("project", block, net.project)
    x = e.conv_norm("down", e.node("Add", [stem, block], "residual"), net.down)
    x = e.node("Flatten", [e.node("GlobalAveragePool", [x], "pool")], "flat", axis=1)
    weight, bias = (
        e.constant("head.weight", net.head.weight),
        e.constant("head.bias", net.head.bias),
    )
    e.node("Gemm", [x, weight, bias], "logits", transB=1)
    graph = helper.make_graph(
        e.nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        e.constants,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="qcomp"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    train_x, train_y, test_x, test_y = data()
    net = train(train_x, train_y)
    with torch.no_grad():
        answers = net(torch.from_numpy(test_x)).argmax(1).numpy()
    print(f"top-1 on {len(test_y)} test images: {np.mean(answers == test_y):.4f}")
    onnx.save(export(net), HERE / "digits.onnx")
    np.savez_compressed(HERE / "digits_calibration.npz", image=train_x[:CALIBRATION_IMAGES])
    np.savez_compressed(HERE / "digits_test.npz", images=test_x, labels=test_y)


if __name__ == "__main__":
    main()
