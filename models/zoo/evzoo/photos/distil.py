"""Teaches a small network what a larger one makes of the same photos."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .chain import Chain
from .convnext import CHANNELS, ConvNext
from .fitting import Schedule, each, train
from .mobilenet import FEATURES
from .model import Corpus


class Student(nn.Module):
    """A network with a layer that guesses its teacher's features from its own."""

    def __init__(self, classes: int):
        super().__init__()
        self.network = ConvNext(classes)
        self.guess = nn.Linear(CHANNELS[-1], FEATURES)

    @property
    def head(self) -> nn.Linear:
        """The network's own."""
        return self.network.classifier


def imitate(student: Student, teacher: nn.Module, plan: Schedule, corpus: Corpus, chain: Chain) -> Student:
    """Learns the makes and the teacher's features, on the photos of known make.

    The teacher sees each photo once and whole, because to show it every view would cost more than the student itself.
    Features are standardised first, or the few that vary much would be all that is learned.
    """
    features = torch.from_numpy(each(teacher.features, corpus.makes, chain))
    wanted = (features - features.mean(0)) / (features.std(0) + 0.05)
    labels = torch.from_numpy(corpus.makes.labels)

    def loss(student: Student, views: torch.Tensor, index: np.ndarray) -> torch.Tensor:
        # Half the bits are precise enough for a first stage, and quicker.
        with torch.autocast("cpu", torch.bfloat16):
            own = student.network.features(views)
        own = own.float()
        value = functional.smooth_l1_loss(student.guess(own), wanted[index])
        return value + functional.cross_entropy(student.head(own), labels[index], label_smoothing=0.1)

    return train(student, plan, corpus.makes, chain, loss, 0, "imitation")
