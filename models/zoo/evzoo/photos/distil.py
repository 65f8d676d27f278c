"""Teaches a small network what a larger one makes of the same views."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .chain import Chain
from .convnext import CHANNELS, ConvNext
from .data import Photos
from .fitting import Schedule, each, train
from .mobilenet import FEATURES
from .model import MAKE, Corpus


class Student(nn.Module):
    """A network with a layer that guesses its teacher's features from its own."""

    def __init__(self, classes: int, drop: float):
        super().__init__()
        self.network = ConvNext(classes, drop)
        self.guess = nn.Linear(CHANNELS[-1], FEATURES)

    @property
    def head(self) -> nn.Linear:
        """The network's own."""
        return self.network.classifier


def shrink(views: torch.Tensor, size: int) -> torch.Tensor:
    """The teacher's views as the student sees them."""
    small = functional.interpolate(views, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return small.contiguous(memory_format=torch.channels_last)


def imitate(student: Student, teacher: nn.Module, plan: Schedule, size: int, corpus: Corpus, chain: Chain) -> Student:
    """Learns the teacher's features and the makes, on the photos of known make.

    Features are standardised first, or the few that vary much would be all that is learned.
    """
    features = torch.from_numpy(each(teacher.features, corpus.makes, chain))
    mean, deviation = features.mean(0), features.std(0) + 1e-3
    labels = torch.from_numpy(corpus.makes.labels)

    def loss(student: Student, views: torch.Tensor, index: np.ndarray) -> torch.Tensor:
        with torch.no_grad():
            wanted = (teacher.features(views) - mean) / deviation
        # Half the bits are precise enough for a first stage, and half as long.
        with torch.autocast("cpu", torch.bfloat16):
            own = student.network.features(shrink(views, size))
        own = own.float()
        value = functional.smooth_l1_loss(student.guess(own), wanted)
        return value + 0.2 * functional.cross_entropy(student.head(own), labels[index], label_smoothing=0.1)

    return train(student, plan, corpus.makes, chain, loss, 0, "imitation")


def tutor(network: ConvNext, teacher: nn.Module, plan: Schedule, size: int, corpus: Corpus, index: np.ndarray, note: str):
    """Learns the classes from the vehicle photos at `index` and from what the teacher says of these and other photos."""
    vehicles, makes = corpus.train.take(index), corpus.makes
    together = Photos(vehicles.images + makes.images, vehicles.labels, vehicles.classes, [], vehicles.hashes)
    same = np.flatnonzero(makes.labels == makes.classes.index(MAKE))
    other = np.flatnonzero(makes.labels != makes.classes.index(MAKE))
    half, labels = plan.batch // 2, torch.from_numpy(vehicles.labels)

    def batches(rng: np.random.Generator) -> Iterator[np.ndarray]:
        order = rng.permutation(len(vehicles))
        for part in order[: len(order) // half * half].reshape(-1, half):
            extra = np.r_[rng.choice(same, half // 2, replace=False), rng.choice(other, half - half // 2, replace=False)]
            yield np.r_[part, len(vehicles) + extra]

    def loss(network: ConvNext, views: torch.Tensor, index: np.ndarray) -> torch.Tensor:
        with torch.no_grad():
            wanted = torch.softmax(teacher(views), dim=1)
        logits = network(shrink(views, size))
        value = functional.cross_entropy(logits[:half], labels[index[:half]], label_smoothing=0.1)
        return value + functional.cross_entropy(logits, wanted)

    return train(network, plan, together, Chain(), loss, 0, note, batches)
