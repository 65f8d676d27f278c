"""MobileNetV2 without its batch norms, which the ImageNet backbone has folded into the convolutions."""

from __future__ import annotations

import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional

FEATURES = 1280
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks and stride, as in table 2 of the paper (Sandler 2018)."""


class Layer(nn.Module):
    """A convolution with ReLU6 or none."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1, active: bool = True):
        super().__init__()
        # Keras pads a strided convolution at the bottom and right only.
        self.pad = stride == 2
        self.convolution = nn.Conv2d(before, after, kernel, stride, 0 if self.pad else kernel // 2, groups=groups)
        self.active = active

    def forward(self, x):
        """One step."""
        x = self.convolution(functional.pad(x, (0, 1, 0, 1)) if self.pad else x)
        # The gradient of `clamp` is several times as slow.
        return functional.relu6(x) if self.active else x


class Block(nn.Module):
    """An inverted residual."""

    def __init__(self, before: int, after: int, stride: int, expansion: int):
        super().__init__()
        wide = before * expansion
        expand = [Layer(before, wide, 1)] if expansion > 1 else []
        self.body = nn.Sequential(*expand, Layer(wide, wide, 3, stride, wide), Layer(wide, after, 1, active=False))
        self.residual = stride == 1 and before == after

    def forward(self, x):
        """One step."""
        return x + self.body(x) if self.residual else self.body(x)


class MobileNet(nn.Module):
    """Body and linear head; `features` are the pooled channels that the head sees."""

    def __init__(self, classes: int):
        super().__init__()
        layers, channels = [Layer(3, 32, 3, 2)], 32
        for expansion, after, count, stride in STAGES:
            for index in range(count):
                layers.append(Block(channels, after, stride if index == 0 else 1, expansion))
                channels = after
        self.body = nn.Sequential(*layers, Layer(channels, FEATURES, 1))
        self.head = nn.Linear(FEATURES, classes)

    def features(self, x):
        """Pooled features, `[N, 1280]`."""
        return self.body(x).mean((2, 3))

    def forward(self, x):
        """Logits."""
        return self.head(self.features(x))


def pretrained(content: bytes, classes: int) -> MobileNet:
    """The network with the backbone's weights and an empty head."""
    graph = onnx.load_from_string(content).graph
    weights = {entry.name: numpy_helper.to_array(entry) for entry in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    network = MobileNet(classes)
    layers = [layer.convolution for layer in network.modules() if isinstance(layer, Layer)]
    if len(nodes) != len(layers):
        raise ValueError(f"the backbone has {len(nodes)} convolutions, not {len(layers)}")
    with torch.no_grad():
        for node, layer in zip(nodes, layers):
            layer.weight.copy_(torch.tensor(weights[node.input[1]]))
            layer.bias.copy_(torch.tensor(weights[node.input[2]]))
        nn.init.zeros_(network.head.weight)
        nn.init.zeros_(network.head.bias)
    return network.to(memory_format=torch.channels_last)
