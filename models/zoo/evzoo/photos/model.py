"""What a photo model's `train.py` states about itself, and the photos that all of them learn from."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from torch import nn

from ..data import DataFolder
from ..errors import ZooError
from .chain import Chain
from .data import MAKES, VEHICLES, Photos, photos, without_near
from .fitting import each
from .mobilenet import pretrained

ZOO = Path(__file__).resolve().parents[2]
BACKBONE = "backbone_mobilenetv2_imagenet/mobilenet_v2_1.0_224_imagenet.onnx"
MAKE = "Tesla"
"""The make that both data sets hold."""


@dataclass
class Corpus:
    """Everything that is learned from or measured on."""

    train: Photos
    test: Photos
    makes: Photos
    """Photos of which only the make is known; none is a near duplicate of a photo above."""
    others: Photos
    """Test photos of makes that are no class."""
    backbone: bytes
    digest: str
    reuse: bool = True
    """Whether networks that were trained before may stand in for training them."""
    stages: dict[str, nn.Module] = field(default_factory=dict)
    """What all folds begin with, trained once."""
    baseline_features: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def read(cls, data: DataFolder, reuse: bool) -> Corpus:
        """Reads the data sets."""
        train, test = photos(data, VEHICLES, "train"), photos(data, VEHICLES, "test")
        makes = without_near(without_near(photos(data, MAKES, "train"), train), test)
        others = photos(data, MAKES, "test")
        others = others.take(np.flatnonzero(others.labels != others.classes.index(MAKE)))
        backbone = data.read(BACKBONE)
        return cls(train, test, makes, others, backbone, data.digest, reuse)

    def baseline(self, train: np.ndarray, test: Photos | np.ndarray) -> np.ndarray:
        """The frozen backbone with a linear head: logistic regression on pooled features of the photos and their mirror
        images; probabilities for training photos at positions, or for the test photos."""
        if not self.baseline_features:
            body, chain = pretrained(self.backbone, len(self.train.classes)), Chain()
            self.baseline_features = {
                "train": each(body.features, self.train, chain),
                "mirrored": each(body.features, self.train, chain, mirrored=True),
                "test": each(body.features, self.test, chain),
            }
        own = self.baseline_features
        seen = np.concatenate([own["train"][train], own["mirrored"][train]])
        head = LogisticRegression(C=0.01, max_iter=5000).fit(seen, np.tile(self.train.labels[train], 2))
        return head.predict_proba(own["test"] if isinstance(test, Photos) else own["train"][test])

    def naive(self, train: np.ndarray, count: int) -> np.ndarray:
        """How frequent each class is among the training photos; the most frequent one is the answer."""
        share = np.bincount(self.train.labels[train], minlength=len(self.train.classes)) / len(train)
        return np.tile(share, (count, 1))


class PhotoModel:
    """Base of the photo models; `train.py` holds a subclass named `Model`."""

    name: str
    description: str
    backend: str
    license = "Apache-2.0"
    nature = "real"
    chain: Chain
    bar: int | None = None
    """Photos that have to be named rightly beyond the baseline's."""
    memory: str
    latency: str
    file: str
    library: str
    card: dict[str, str] = {}

    @property
    def folder(self) -> Path:
        """Where the model's files are."""
        return ZOO / self.name

    def fit(self, corpus: Corpus, train: np.ndarray, note: str) -> nn.Module:
        """Trains on the vehicle photos at these positions, and on photos that are on neither side of a split."""
        raise NotImplementedError

    def stages(self, corpus: Corpus) -> list[nn.Module]:
        """What is trained once for all folds."""
        return []

    def write(self, network: nn.Module, corpus: Corpus, folder: Path) -> list[str]:
        """Writes the artifact; its files."""
        raise NotImplementedError

    def answerer(self, folder: Path):
        """A function from pictures' numbers to logits, by the files in a folder."""
        raise NotImplementedError

    def preprocessing(self) -> dict:
        """`[preprocessing]` of the manifest."""
        raise NotImplementedError

    def variants(self, corpus: Corpus, networks: list, final: nn.Module) -> list[dict]:
        """Other forms of the artifact, measured."""
        return []


@cache
def load_model(name: str) -> PhotoModel:
    """The model of this name, from `<name>/train.py`."""
    if name not in names():
        raise ZooError(f"no photo model `{name}`; there are: {', '.join(names())}")
    spec = importlib.util.spec_from_file_location(f"evzoo_models.{name.replace('-', '_')}", ZOO / name / "train.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Model()


def names() -> list[str]:
    """Names of all photo models."""
    return sorted(file.parent.name for file in ZOO.glob("vehicle-classifier*/train.py"))
