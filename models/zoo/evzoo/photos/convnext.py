"""ConvNeXt V2, with the tensors named and laid out as Hugging Face saves them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from .chain import Chain

DEPTHS = (2, 2, 6, 2)
CHANNELS = (40, 80, 160, 320)
"""Of the Atto, table 11 of the paper (Woo 2023)."""


class Response(nn.Module):
    """Global response normalisation over the last dimension of `[N, H, W, C]`."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.bias = nn.Parameter(torch.zeros(1, 1, 1, channels))

    def forward(self, x):
        """One step."""
        energy = torch.linalg.vector_norm(x, ord=2, dim=(1, 2), keepdim=True)
        share = energy / (energy.mean(dim=-1, keepdim=True) + 1e-6)
        return self.weight * (x * share) + self.bias + x


class Norm(nn.LayerNorm):
    """Layer norm over the channels of `[N, C, H, W]`."""

    def forward(self, x):
        """One step."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Depthwise convolution, then two products around GELU and response normalisation."""

    def __init__(self, channels: int):
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.layernorm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.grn = Response(4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)

    def forward(self, x):
        """One step."""
        y = self.layernorm(self.dwconv(x).permute(0, 2, 3, 1))
        return x + self.pwconv2(self.grn(functional.gelu(self.pwconv1(y)))).permute(0, 3, 1, 2)


class ConvNext(nn.Module):
    """Body and linear head; `features` are the normalised pooled channels that the head sees."""

    def __init__(self, classes: int):
        super().__init__()
        embeddings, stages = nn.Module(), []
        embeddings.patch_embeddings = nn.Conv2d(3, CHANNELS[0], 4, 4)
        embeddings.layernorm = Norm(CHANNELS[0], eps=1e-6)
        for index, (depth, channels) in enumerate(zip(DEPTHS, CHANNELS)):
            stage = nn.Module()
            before = CHANNELS[index - 1]
            down = [Norm(before, eps=1e-6), nn.Conv2d(before, channels, 2, 2)] if index else []
            stage.downsampling_layer = nn.ModuleList(down)
            stage.layers = nn.ModuleList(Block(channels) for _ in range(depth))
            stages.append(stage)
        body = nn.Module()
        body.embeddings, body.encoder = embeddings, nn.Module()
        body.encoder.stages = nn.ModuleList(stages)
        body.layernorm = nn.LayerNorm(CHANNELS[-1], eps=1e-12)
        self.convnextv2 = body
        self.classifier = nn.Linear(CHANNELS[-1], classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.to(memory_format=torch.channels_last)

    @property
    def head(self) -> nn.Linear:
        """The linear head, named as in the other network."""
        return self.classifier

    def features(self, x):
        """Pooled and normalised features, `[N, 320]`."""
        body = self.convnextv2
        x = body.embeddings.layernorm(body.embeddings.patch_embeddings(x))
        for stage in body.encoder.stages:
            for layer in (*stage.downsampling_layer, *stage.layers):
                x = layer(x)
        return body.layernorm(x.mean((2, 3)))

    def forward(self, x):
        """Logits."""
        return self.classifier(self.features(x))


def save(network: ConvNext, classes: tuple[str, ...], chain: Chain, folder: Path, dtype=torch.float32) -> None:
    """The directory as `ConvNextV2ForImageClassification.save_pretrained` and its image processor write it."""
    tensors = {name: value.detach().to(dtype).contiguous() for name, value in network.state_dict().items()}
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    config = {
        "architectures": ["ConvNextV2ForImageClassification"],
        "depths": list(DEPTHS),
        "drop_path_rate": 0.0,
        "hidden_act": "gelu",
        "hidden_sizes": list(CHANNELS),
        "id2label": {str(index): name for index, name in enumerate(classes)},
        "image_size": chain.crop,
        "initializer_range": 0.02,
        "label2id": {name: index for index, name in enumerate(classes)},
        "layer_norm_eps": 1e-12,
        "model_type": "convnextv2",
        "num_channels": 3,
        "num_stages": len(DEPTHS),
        "patch_size": 4,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }
    processor = {
        "crop_pct": chain.crop / chain.resize,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(chain.mean),
        "image_processor_type": "ConvNextImageProcessor",
        "image_std": list(chain.std),
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": chain.crop},
    }
    for name, content in (("config.json", config), ("preprocessor_config.json", processor)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def load(folder: Path) -> ConvNext:
    """The network of a directory."""
    config = json.loads((folder / "config.json").read_text())
    network = ConvNext(len(config["id2label"]))
    network.load_state_dict({name: value.float() for name, value in load_file(str(folder / "model.safetensors")).items()})
    return network.eval()
